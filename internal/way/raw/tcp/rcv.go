package tcp

import "tcpcopy/internal/core/packet"

// span is a range of the target's positions, from first up to but not including end.
type span struct{ first, end uint64 }

func (s span) empty() bool          { return s.first >= s.end }
func (s span) touches(t span) bool  { return s.first <= t.end && t.first <= s.end }
func (s span) contains(t span) bool { return s.first <= t.first && t.end <= s.end }

// maxSpans bounds the ranges that are kept out of order. Further ones are not noted, and so neither
// acknowledged nor reported; the target sends these again.
const maxSpans = 32

// receive notes that the target's positions [first, end) have arrived: data, and the FIN at end-1
// if fin is set. They reach into the window.
func (c *Conn) receive(first, end int64, fin bool) {
	if edge := int64(c.rcvNxt) + int64(c.rcvWindow); end > edge {
		end, fin = edge, false
	}
	if fin && c.rcvFin == 0 && uint64(end-1) >= c.highest() {
		c.rcvFin = uint64(end - 1)
	}
	if c.rcvFin != 0 { // nothing follows the FIN, whatever a later segment carries
		end = min(end, int64(c.rcvFin)+1)
	} else if fin {
		end--
	}
	c.dueAck()
	next := int64(c.rcvNxt)
	switch {
	case end <= next:
		c.duplicate(first, end)
	case first <= next:
		if first < next {
			c.noteDuplicate(first, next)
		}
		c.rcvNxt = uint64(end)
		c.absorb()
	case first < end:
		c.insert(span{uint64(first), uint64(end)})
		c.dupAckOut++
	}
}

// highest returns the position after the highest byte that arrived.
func (c *Conn) highest() uint64 {
	h := c.rcvNxt
	for _, s := range c.ooo {
		h = max(h, s.end)
	}
	return h
}

// duplicate answers a segment that had arrived before, and has it reported (RFC 2883).
func (c *Conn) duplicate(first, end int64) {
	c.noteDuplicate(first, end)
	c.dueAck()
}

// noteDuplicate has the next ACK report that the positions [first, end) arrived twice.
func (c *Conn) noteDuplicate(first, end int64) {
	if c.sackOK && end > first {
		c.dsack = span{uint64(max(first, 0)), uint64(max(end, 0))}
	}
}

// insert notes a range that arrived out of order, merged with the ranges that it touches. It goes
// to the front, since an ACK reports the most recent range first (RFC 2018 §4).
func (c *Conn) insert(s span) {
	for i := 0; i < len(c.ooo); {
		o := c.ooo[i]
		if !o.touches(s) {
			i++
			continue
		}
		if o.contains(s) {
			c.noteDuplicate(int64(s.first), int64(s.end))
		}
		s = span{min(s.first, o.first), max(s.end, o.end)}
		c.ooo = append(c.ooo[:i], c.ooo[i+1:]...)
	}
	if len(c.ooo) == maxSpans {
		return
	}
	if c.ooo == nil {
		c.ooo = make([]span, 0, 4)
	}
	c.ooo = append(c.ooo, span{})
	copy(c.ooo[1:], c.ooo)
	c.ooo[0] = s
}

// absorb moves rcvNxt past the ranges that it has reached.
func (c *Conn) absorb() {
	for i := 0; i < len(c.ooo); {
		o := c.ooo[i]
		if o.first > c.rcvNxt {
			i++
			continue
		}
		c.rcvNxt = max(c.rcvNxt, o.end)
		c.ooo = append(c.ooo[:i], c.ooo[i+1:]...)
		i = 0 // it may have reached a range that was passed over
	}
	if len(c.ooo) == 0 && cap(c.ooo) > 8 {
		c.ooo = nil
	}
}

// putSACK sets the SACK blocks of an ACK: a duplicate first (RFC 2883), then the ranges (RFC 2018
// §4).
func (c *Conn) putSACK(o *packet.Options) {
	room := uint8(packet.MaxSACKBlocks)
	if c.tsOK {
		room-- // timestamps leave room for three blocks in 40 bytes of options
	}
	if !c.dsack.empty() {
		o.SACK[0] = packet.SACKBlock{First: c.rseq(c.dsack.first), End: c.rseq(c.dsack.end)}
		o.NSACK = 1
		c.dsack = span{}
	}
	for _, s := range c.ooo {
		if o.NSACK == room {
			break
		}
		o.SACK[o.NSACK] = packet.SACKBlock{First: c.rseq(s.first), End: c.rseq(s.end)}
		o.NSACK++
	}
}
