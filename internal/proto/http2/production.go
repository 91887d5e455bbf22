package http2

import (
	"math"

	"tcpcopy/internal/proto"
)

// production reads the frames of production's server as far as is needed to know where streams
// end, and messages of gRPC. If it misses bytes, it reads no more of the connection.
type production struct {
	lost    bool
	at      uint64 // the server's bytes below were read
	opening opening
	head    [headerLen]byte
	have    int // bytes of head
	left    int // bytes of the payload that are to come, of a frame that is not DATA
	h       header
	data    contents
	ends    []end // which no client has seen yet
	ahead   proto.Ahead

	socketContents
}

// end is where a stream ends or, if messages is not 0, so many messages of it, or, if bytes is not
// 0, so much content.
type end struct {
	off      uint64 // the offset behind it
	stream   uint32
	messages uint32
	bytes    uint32
}

// maxEnds bounds the ends that the client has not seen. Of more, the older half of the messages
// counts as seen: a client that is silent for so long is one that its server pushes to.
const maxEnds = 1 << 14

// lose ends the reading.
func (r *production) lose() {
	for _, s := range r.of {
		if s.socket != nil {
			s.socket.Lose()
		}
	}
	*r = production{lost: true, socketContents: socketContents{of: r.of}}
}

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
		n := 0
		switch {
		case !r.opening.done:
			n, err := r.opening.server(p)
			if err != nil {
				r.lose()
				return
			}
			r.at += uint64(n)
			p = p[n:]
			continue
		case r.data.left > 0:
			n, needed := r.data.run()
			n = min(n, len(p))
			if !r.readData(p[:n], needed) {
				r.lose()
				return
			}
			p = p[n:]
			continue
		case r.left > 0:
			n = min(r.left, len(p))
			r.readSettings(p[:n])
			r.left -= n
		default:
			n = copy(r.head[r.have:], p)
			if r.have += n; r.have == headerLen {
				r.have, r.h = 0, parseHeader(&r.head)
				if r.data.header(&r.h, true); r.h.kind != frameData {
					r.left = r.h.length
				}
			}
		}
		r.at += uint64(n)
		if p = p[n:]; r.have == 0 && r.left+r.data.left == 0 {
			r.endFrame()
		}
	}
}

// readData reads bytes of a DATA frame. It returns false if they cannot be.
func (r *production) readData(p []byte, needed bool) bool {
	r.readContent(p)
	before := r.data.whole
	if !needed {
		r.data.skip(len(p))
	} else if r.data.read(p) != nil {
		return false
	}
	r.at += uint64(len(p))
	if r.data.whole > before {
		r.messageEnd()
	}
	if r.data.left == 0 {
		r.endFrame()
	}
	return true
}

// messageEnd notes where a message ends. One without content is noted with the one before it.
func (r *production) messageEnd() {
	if n := len(r.ends) - 1; n >= 0 && r.ends[n].messages > 0 && r.ends[n].stream == r.h.stream &&
		r.at-r.ends[n].off == prefixLen {
		r.ends[n].off = r.at
		r.ends[n].messages++
		return
	}
	r.ends = append(r.ends, end{off: r.at, stream: r.h.stream, messages: 1})
}

// endFrame notes where a frame ends that ends a stream. A header block may go on in other frames:
// then the client sees the end a little later.
func (r *production) endFrame() {
	switch h := &r.h; {
	case h.kind == frameReset,
		(h.kind == frameData || h.kind == frameHeaders) && h.has(flagEndStream):
		r.ends = append(r.ends, end{off: r.at, stream: h.stream})
	}
}

// Server is of proto.Client.
func (c *Client) Server(off uint64, p []byte) {
	r := &c.server
	if r.feed(off, p); len(r.ends) <= maxEnds {
		return
	}
	messages, n := 0, 0
	for i := range r.ends {
		messages += int(min(r.ends[i].messages+r.ends[i].bytes, 1))
	}
	if messages < maxEnds/2 {
		r.lose()
		return
	}
	seen := messages / 2
	for _, e := range r.ends {
		if e.messages+e.bytes > 0 && seen > 0 {
			seen--
			c.sawPart(&e)
			continue
		}
		r.ends[n] = e
		n++
	}
	r.ends = r.ends[:n]
}

// sawPart notes that the client has seen messages or content of production, or may have.
func (c *Client) sawPart(e *end) {
	if s := c.byClient[e.stream]; s != nil {
		s.saw += uint64(e.messages)
		if s.socket != nil {
			s.socket.saw += uint64(e.bytes)
		}
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
			if e := &r.ends[n]; e.messages+e.bytes > 0 {
				c.sawPart(e)
			} else if s := c.byClient[e.stream]; s != nil {
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
