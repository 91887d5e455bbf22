package http2

import (
	"math"

	"tcpcopy/internal/proto"
)

// production reads the frames of production's server as far as is needed to know where streams
// end. If it misses bytes, it reads no more of the connection.
type production struct {
	lost  bool
	at    uint64 // the server's bytes below were read
	head  [headerLen]byte
	have  int // bytes of head
	left  int // bytes of the payload that are to come
	h     header
	ends  []streamEnd // which no client has seen yet
	ahead proto.Ahead
}

// streamEnd is where a stream ends.
type streamEnd struct {
	off    uint64 // the offset behind it
	stream uint32
}

// maxEnds bounds the ends that the client has not seen.
const maxEnds = 1 << 14

// lose ends the reading.
func (r *production) lose() { *r = production{lost: true} }

// feed reads captured bytes, which begin at the offset off.
func (r *production) feed(off uint64, p []byte) {
	if r.lost || off+uint64(len(p)) <= r.at {
		return
	}
	if off > r.at {
		if !r.ahead.Keep(off, p, math.MaxInt) {
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
	for len(p) > 0 {
		if r.left > 0 {
			n := min(r.left, len(p))
			r.left -= n
			r.at += uint64(n)
			p = p[n:]
			if r.left == 0 {
				r.end()
			}
			continue
		}
		n := copy(r.head[r.have:], p)
		r.have += n
		r.at += uint64(n)
		p = p[n:]
		if r.have < headerLen {
			return
		}
		r.have, r.h = 0, parseHeader(&r.head)
		if r.left = r.h.length; r.left == 0 {
			r.end()
		}
	}
}

// end notes where a frame ends that ends a stream. A header block may go on in other frames: then
// the client sees the end a little later.
func (r *production) end() {
	switch h := &r.h; {
	case h.kind == frameReset,
		(h.kind == frameData || h.kind == frameHeaders) && h.has(flagEndStream):
		if len(r.ends) == maxEnds {
			r.lose()
			return
		}
		r.ends = append(r.ends, streamEnd{r.at, h.stream})
	}
}

// Awaits is of proto.Streams.
func (c *Client) Awaits(seen uint64) bool {
	r := &c.server
	return !r.lost && r.at < seen && (r.at > 0 || r.ahead.Size() > 0)
}

// noteSeen notes how much of production's server the client had seen before it sent what is read
// next. Without production's answers, any stream that the client had opened before it saw more may
// have ended.
func (c *Client) noteSeen(seen uint64) {
	if seen <= c.seen {
		return
	}
	c.seen = seen
	if r := &c.server; r.at >= seen && !r.lost {
		n := 0
		for n < len(r.ends) && r.ends[n].off <= seen {
			if s := c.byClient[r.ends[n].stream]; s != nil {
				c.sawEnd(s)
			}
			n++
		}
		r.ends = r.ends[:copy(r.ends, r.ends[n:])]
		return
	}
	c.server.lose() // bytes were not captured that the client has seen
	for _, s := range c.list {
		if s.id != 0 && s.began < seen {
			c.sawEnd(s)
		}
	}
}
