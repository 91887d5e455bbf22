package session

import (
	"sort"

	"tcpcopy/internal/core/chunk"
	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/core/reasm"
	"tcpcopy/internal/proto"
)

// script is what a copy sends if its protocol makes the bytes: pieces in order, each of which
// stands for some of the client's bytes, or for none. Copy offsets count the bytes that the copy
// sends, as its stream does; client offsets are those of the session's reader.
type script struct {
	base      uint64 // client offset at which the copy begins
	pieces    []piece
	first     int    // pieces before it are settled
	end       uint64 // copy offset after the last piece
	released  uint64 // the stream may send the bytes below this copy offset
	taken     uint64 // the stream needs the bytes below this copy offset no more
	upTo      uint64 // client offset of the first byte that no piece stands for
	delivered uint64 // how many of the client's bytes were counted as delivered
	kept      int    // bytes of the pool's buffers in use
}

// piece is a run of the copy's bytes: some of the client's own, others in their place, or none.
type piece struct {
	out    uint64 // copy offset of its first byte
	client uint64 // client offset of the first byte that it stands for
	from   uint64 // client offset of its first byte, if it is the client's own
	n      int    // how many bytes the copy sends
	stands int    // how many of the client's bytes it stands for
	said   []byte // the bytes, from the pool; nil: the client's own
	why    ledger.Reason
}

// add appends the piece that a step makes.
func (x *script) add(pool *chunk.Pool, st *proto.Step, text []byte) {
	p := piece{out: x.end, client: x.upTo, from: x.upTo, stands: st.N}
	switch st.Kind {
	case proto.PassOn:
		if x.extend(st.N) {
			return
		}
		p.n = st.N
	case proto.Say:
		if p.n = st.To - st.From; p.n > 0 {
			p.said = pool.Get(p.n)
			copy(p.said, text[st.From:st.To])
			x.kept += cap(p.said)
		}
	case proto.Own:
		p.from, p.n = x.base+uint64(st.From), st.To-st.From
	case proto.LeaveOut:
		p.why = st.Reason
	}
	x.end += uint64(p.n)
	x.upTo += uint64(p.stands)
	x.pieces = append(x.pieces, p)
}

// extend adds n of the client's own bytes to the last piece. It returns false if the piece is not
// the client's own bytes, or they do not end where these begin.
func (x *script) extend(n int) bool {
	if len(x.pieces) == x.first {
		return false
	}
	p := &x.pieces[len(x.pieces)-1]
	if !p.own() || p.n != p.stands || p.client+uint64(p.stands) != x.upTo {
		return false
	}
	p.n += n
	p.stands += n
	x.end += uint64(n)
	x.upTo += uint64(n)
	return true
}

// own reports whether the piece is the client's own bytes.
func (p *piece) own() bool { return p.said == nil && p.n > 0 }

// view returns bytes of the copy; see Record.
func (x *script) view(r *reasm.Reader, off uint64, max int) []byte {
	live := x.pieces[x.first:]
	i := sort.Search(len(live), func(i int) bool { return live[i].out+uint64(live[i].n) > off })
	if i == len(live) || off < live[i].out {
		return nil
	}
	p, at := &live[i], off-live[i].out
	max = min(max, p.n-int(at))
	if p.own() {
		return r.View(p.from+at, max)
	}
	return p.said[at:][:max]
}

// next drops the first piece.
func (x *script) next(pool *chunk.Pool) {
	x.free(pool, &x.pieces[x.first])
	if x.first++; x.first == len(x.pieces) {
		x.pieces, x.first = x.pieces[:0], 0
	} else if x.first > 32 && x.first > len(x.pieces)/2 {
		x.pieces, x.first = x.pieces[:copy(x.pieces, x.pieces[x.first:])], 0
	}
}

// free returns the piece's buffer to the pool.
func (x *script) free(pool *chunk.Pool, p *piece) {
	if p.said != nil {
		x.kept -= cap(p.said)
		pool.Put(p.said)
		p.said = nil
	}
}

// close returns all buffers to the pool.
func (x *script) close(pool *chunk.Pool) {
	for i := range x.pieces[x.first:] {
		x.free(pool, &x.pieces[x.first+i])
	}
}

// account settles the client's bytes that the copy's first n bytes stand for: the stream has taken
// these.
func (s *Session) account(n uint64) {
	x := s.talk.script
	x.taken = max(x.taken, min(n, x.released))
	for x.first < len(x.pieces) {
		p := &x.pieces[x.first]
		if p.out+uint64(p.n) > x.taken {
			if p.own() && p.stands > 0 && x.taken > p.out {
				s.deliver(p.client + x.taken - p.out)
			}
			break
		}
		if end := p.client + uint64(p.stands); p.why != ledger.None {
			s.drop(end, p.why)
		} else {
			s.deliver(end)
		}
		x.next(s.env.Pool)
	}
	s.taken = s.settled
}

// deliver accounts for the client's bytes below the offset end as delivered: the target has them,
// or what stands for them.
func (s *Session) deliver(end uint64) {
	if end > s.settled {
		s.env.Count.Bytes.Delivered += end - s.settled
		s.talk.script.delivered += end - s.settled
		s.settled = end
		s.reader.Take(end)
	}
}

// unsent reports whether the stream was given bytes that it has not taken.
func (s *Session) unsent() bool {
	if s.talk.edits() {
		return s.talk.script.released > s.talk.script.taken
	}
	return s.released > s.taken
}

// handed returns how many bytes the stream was given.
func (s *Session) handed() uint64 {
	if s.talk.edits() {
		return s.talk.script.released
	}
	return s.released - s.base
}
