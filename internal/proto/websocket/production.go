package websocket

import (
	"tcpcopy/internal/proto"
	"tcpcopy/internal/proto/http1"
)

// production counts the messages of production's server. If it misses bytes, it reads no more of
// the connection.
type production struct {
	lost bool
	at   uint64 // the server's bytes below were read

	http     *http1.Answers // until the upgrade
	head     []byte         // of the answer that is coming in
	answers  uint64         // final answers before the upgrade
	upgraded bool
	agreed   extensions
	scratch  []proto.Answer

	headers headers
	f       frame
	left    uint64   // bytes of the payload that are to come
	ends    []uint64 // where messages end that no turn has passed
	passed  uint64   // how many ends were passed

	ahead proto.Ahead
}

const (
	aheadMost = 64 // runs of bytes that wait for those before them
	// maxEnds is how many messages end that no turn has passed. Of more, the older half counts as
	// seen: a client that is silent for so long is one that its server pushes to.
	maxEnds = 1 << 12
)

// lose ends the reading.
func (r *production) lose() {
	*r = production{lost: true, upgraded: r.upgraded, agreed: r.agreed, answers: r.answers}
}

// feed reads captured bytes, which begin at the offset off.
func (r *production) feed(off uint64, p []byte) {
	if r.lost || off+uint64(len(p)) <= r.at {
		return
	}
	if off > r.at {
		if !r.ahead.Keep(off, p, aheadMost) {
			r.lose()
		}
		return
	}
	r.read(p[r.at-off:])
	for !r.lost {
		p, ok := r.ahead.Next(r.at)
		if !ok {
			return
		}
		r.read(p)
	}
}

// read reads the next bytes.
func (r *production) read(p []byte) {
	if !r.upgraded {
		p = r.readHTTP(p)
	}
	for len(p) > 0 && !r.lost {
		n := min(r.left, uint64(len(p)))
		if n == 0 {
			used, ok := r.headers.next(p, &r.f)
			r.at += uint64(used)
			if p = p[used:]; !ok {
				return
			}
			if r.f.check(false) != nil {
				r.lose()
				return
			}
			r.left = r.f.length
		}
		r.left -= n
		r.at += n
		p = p[n:]
		if r.left == 0 && r.f.endsMessage() {
			if len(r.ends) == maxEnds {
				r.pass(maxEnds / 2)
			}
			r.ends = append(r.ends, r.at)
		}
	}
}

// readHTTP reads what precedes the upgrade, and returns what follows it.
func (r *production) readHTTP(p []byte) (frames []byte) {
	if r.http == nil {
		r.http = http1.NewAnswers()
	}
	list, err := r.http.Feed(p, r.scratch[:0])
	r.scratch = list
	if err != nil {
		r.lose()
		return nil
	}
	from := 0
	for i := range list {
		end := int(list[i].End - r.at)
		r.head = keepHead(r.head, p[from:end])
		if from = end; list[i].Status != 101 {
			r.head = r.head[:0]
			if !list[i].Interim {
				r.answers++
			}
			continue
		}
		var h handshake
		h.read(r.head)
		r.upgraded, r.agreed = h.accepts(), h.extensions
		r.http, r.head, r.scratch = nil, nil, nil
		r.at += uint64(end)
		if !r.upgraded {
			r.lose()
		}
		return p[end:]
	}
	r.head = keepHead(r.head, p[from:])
	r.at += uint64(len(p))
	return nil
}

// keepHead appends to a head as much as may be kept.
func keepHead(head, p []byte) []byte {
	return append(head, p[:min(len(p), maxHead-len(head))]...)
}

// messages returns how many messages a client had seen that had seen so many of the server's bytes.
// known is false if they were not read. seen never falls.
func (r *production) messages(seen uint64) (n uint64, known bool) {
	if r.at < seen {
		r.lose() // bytes were not captured that the client has seen
	}
	if r.lost || !r.upgraded {
		return 0, false
	}
	i := 0
	for i < len(r.ends) && r.ends[i] <= seen {
		i++
	}
	r.pass(i)
	return r.passed, true
}

// pass forgets where the first n messages end.
func (r *production) pass(n int) {
	r.ends = r.ends[:copy(r.ends, r.ends[n:])]
	r.passed += uint64(n)
}

// awaits reports whether bytes below seen were not captured yet.
func (r *production) awaits(seen uint64) bool {
	return !r.lost && r.at < seen && (r.at > 0 || r.ahead.Size() > 0)
}
