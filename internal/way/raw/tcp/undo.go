package tcp

import "tcpcopy/internal/core/packet"

// undo is the state of congestion control before a recovery, to be restored if nothing was lost:
// segments were delayed, or the timer was too short.
type undo struct {
	cwnd, ssthresh uint32
	ts             uint32 // our timestamp when the first segment was sent again
	resent         int32  // segments sent again that are not known to have arrived twice
	armed          bool   // a recovery has begun that may have been spurious
}

// rememberWindow notes the windows before a recovery reduces them.
func (c *Conn) rememberWindow() {
	if c.recovery == recoveryOpen || !c.undo.armed {
		c.undo = undo{cwnd: c.cwnd, ssthresh: c.ssthresh, armed: true}
		return
	}
	c.undo.armed = false // one recovery within another cannot be undone
}

// noteResent counts a segment that a recovery sends again.
func (c *Conn) noteResent(ts uint32) {
	if c.undo.resent == 0 {
		c.undo.ts = ts
	}
	c.undo.resent++
}

// tryUndo undoes a recovery that an acknowledgment shows to be spurious: it answers the first
// transmission of a segment that was sent again (RFC 3522), or all that was sent again has arrived
// twice (RFC 3708).
func (c *Conn) tryUndo(s *packet.Segment, got *delivery) {
	u := &c.undo
	if !u.armed || u.resent == 0 {
		return
	}
	delayed := c.recovery != recoveryOpen && got.acked > 0 && got.resent &&
		c.tsOK && s.Opts.HasTS && int32(s.Opts.TSEcr-u.ts) < 0
	if got.twice {
		u.resent--
	}
	if !delayed && u.resent > 0 {
		return
	}
	u.armed = false
	if c.recovery != recoveryOpen {
		c.endRecovery()
		c.unlose()
	}
	c.cwnd = max(c.cwnd, u.cwnd)
	c.ssthresh = max(c.ssthresh, u.ssthresh)
	if c.sackOK {
		c.reoSeen = true
	}
}

// unlose unmarks the segments that are marked as lost and were not sent again. They are
// acknowledged later, or found lost once more.
func (c *Conn) unlose() {
	for i := 0; c.lost > 0 && i < c.flight.len(); i++ {
		r := c.flight.at(i)
		if r.flags&segLost == 0 {
			continue
		}
		r.flags &^= segLost
		c.lost -= uint32(r.end - c.flight.start(i, c.una))
	}
	if !c.sackOK {
		c.countDupAcks()
	}
}
