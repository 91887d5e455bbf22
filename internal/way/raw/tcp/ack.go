package tcp

import (
	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/packet"
)

// delivery is what one acknowledgment tells about the bytes that have arrived.
type delivery struct {
	bytes    uint32    // newly acknowledged, cumulatively or selectively
	acked    uint32    // newly acknowledged cumulatively
	sacked   uint32    // newly acknowledged selectively
	segs     int       // segments acknowledged cumulatively
	at       mono.Time // when the newest of these was last sent
	resent   bool      // one of these was sent more than once
	sackedAt mono.Time // when the newest was sent of those acknowledged selectively and sent once
	twice    bool      // a segment arrived twice (RFC 2883)
	probeDup bool      // that segment was the tail loss probe
}

// pipe returns the estimated number of bytes in the network (RFC 6675 §4).
func (c *Conn) pipe() uint32 {
	return uint32(c.nxt-c.una) - c.sacked - c.lost
}

// processAck processes the acknowledgment, the window and the SACK blocks of an acceptable segment.
// It returns false if the rest of the segment must be dropped.
func (c *Conn) processAck(now mono.Time, s *packet.Segment) bool {
	d := s.Ack.Sub(c.seq(c.una))
	if d > int(c.nxt-c.una) || -d > int(c.maxWnd) {
		// It acknowledges what was never sent, or is too old (RFC 5961 §5.2).
		c.challenge(now, s)
		return false
	}
	if d < 0 {
		return true // another overtook it
	}
	ack := c.una + uint64(d)
	held := c.wnd
	c.updateWindow(s, ack)
	var got delivery
	if c.bbr != nil {
		c.startSample()
	}
	if d > 0 {
		c.advance(now, s, ack, &got)
	}
	if c.sackOK {
		c.processSACK(now, s, &got)
	} else if d == 0 && c.flight.len() > 0 && s.SeqLen() == 0 && c.wnd == held {
		c.dupAck(&got) // RFC 5681 §2
	}
	if c.bbr != nil {
		c.finishSample(now, &got)
	}
	c.measure(now, s, &got)
	c.checkProbe(s, ack, &got)
	c.tryUndo(s, &got)
	lost := c.lost
	c.detectLoss(now, &got)
	if c.bbr != nil {
		c.bbr.sample.lost = c.lost - lost
	}
	c.react(now, &got)
	if d > 0 {
		c.progressAt = now
		c.trustMTU()
		c.rearm(now)
	} else if c.limit == limitWindow {
		c.progressAt = now // the target is alive and has no room
	}
	return true
}

// updateWindow updates the target's window, unless the segment is older than the one that set it
// (RFC 9293 §3.10.7.4).
func (c *Conn) updateWindow(s *packet.Segment, ack uint64) {
	if !c.wl1.Less(s.Seq) && !(c.wl1 == s.Seq && c.wl2 <= ack) {
		return
	}
	c.wnd = uint32(s.Window) << c.sndShift
	c.maxWnd = max(c.maxWnd, c.wnd)
	c.wl1, c.wl2 = s.Seq, ack
}

// advance removes the segments from flight that are acknowledged cumulatively.
func (c *Conn) advance(now mono.Time, s *packet.Segment, ack uint64, got *delivery) {
	got.acked = uint32(ack - c.una)
	for c.flight.len() > 0 {
		r := c.flight.at(0)
		n := uint32(min(r.end, ack) - c.una)
		if r.flags&segLost != 0 {
			c.lost -= n
		}
		if r.flags&segSacked != 0 {
			c.sacked -= n
		} else {
			got.bytes += n
		}
		if r.end > ack { // acknowledged in part
			break
		}
		if r.flags&segSacked != 0 {
			c.nsacked--
		} else {
			c.rackDelivered(now, s, r)
			if c.bbr != nil {
				c.arrived(now, r)
			}
			got.resent = got.resent || r.flags&segResent != 0
			got.at = max(got.at, r.at)
		}
		got.segs++
		c.una = r.end
		c.flight.pop()
	}
	c.una = ack
	if !c.sackOK {
		c.forgetDupAcks(got)
	}
}

// rearm sets the timers after an acknowledgment of new data (RFC 6298 §5.2, §5.3; RFC 8985 §7.2).
func (c *Conn) rearm(now mono.Time) {
	if c.una == c.nxt {
		c.rtoAt, c.probeAt, c.reoAt = mono.Never, mono.Never, mono.Never
		return
	}
	c.rtoAt = now.Add(c.timeout())
	c.armProbe(now)
}
