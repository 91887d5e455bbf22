package sim

import (
	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/test/sim/trace"
	"tcpcopy/internal/way/raw/tcp"
)

// Record is a tcp.Source made of a client's segments.
type Record struct {
	Data []byte
	Ends []uint64 // where each segment ends, in order; none: the whole is one
}

// View returns at most max bytes from off on, within one segment.
func (r *Record) View(off uint64, max int) []byte {
	end := uint64(len(r.Data))
	for _, e := range r.Ends {
		if e > off {
			end = min(end, e)
			break
		}
	}
	if off >= end {
		return nil
	}
	return r.Data[off:min(end, off+uint64(max))]
}

// Client runs a tcp.Conn in a world: it sends what the connection wants sent down To, and wakes it
// when it wants to be woken.
type Client struct {
	Conn tcp.Conn
	To   *Path
	// Target is called for each packet that has come through To.
	Target func(b []byte)
	Trace  *trace.Trace // if not nil, notes what is sent and delivered
	Polls  int

	w    *World
	out  []packet.Segment
	wake mono.Time
}

// NewClient returns a client in w whose packets go down to.
func NewClient(w *World, to *Path) *Client {
	return &Client{w: w, To: to, wake: mono.Never}
}

// Deliver hands the connection what the target has sent, as a header without payload.
func (c *Client) Deliver(b []byte) {
	var s packet.Segment
	if err := packet.Decode(b, len(b), &s); err != nil {
		return
	}
	s.Payload = nil
	if c.Trace != nil {
		c.Trace.Add(c.w.Now(), &s)
	}
	c.Conn.Deliver(c.w.Now(), &s)
	c.Poll()
}

// Poll sends what is due, and plans when to do so again.
func (c *Client) Poll() {
	now := c.w.Now()
	for {
		var next mono.Time
		c.out, next = c.Conn.Poll(now, c.out[:0])
		c.Polls++
		for i := range c.out {
			if c.Trace != nil {
				c.Trace.Add(now, &c.out[i])
			}
			b := packet.Append(nil, &c.out[i])
			c.To.Send(c.w, len(b), func() { c.Target(b) })
		}
		if next > now {
			c.plan(next)
			return
		}
	}
}

func (c *Client) plan(at mono.Time) {
	if at == mono.Never {
		c.wake = mono.Never
		return
	}
	if at == c.wake {
		return
	}
	c.wake = at
	c.w.At(at, func() {
		if c.wake == at {
			c.wake = mono.Never
			c.Poll()
		}
	})
}
