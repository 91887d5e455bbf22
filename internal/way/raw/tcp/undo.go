package tcp

import "tcpcopy/internal/core/packet"

// undo is what congestion control was before a recovery, for the case that nothing had been lost: segments
// were late or the timer too short.
type undo struct {
	cwnd, ssthresh uint32
	ts             uint32 // our timestamp when the first segment was sent again
	resent         int32  // segments sent again that are not known to have arrived twice
	armed          bool   // a recovery has begun that may have been for nothing
}

// rememberWindow notes the windows before a recovery reduces them.
func (c *Conn) rememberWindow() {
	if c.recovery == recoveryOpen || !c.undo.armed {
		c.undo = undo{cwnd: c.cwnd, ssthresh: c.ssthresh, armed: true}
		return
	}
	c.undo.armed = false // one recovery within another: too much has happened
}

// noteResent counts a segment that a recovery sends again.
func (c *Conn) noteResent(ts uint32) {
	if c.undo.resent == 0 {
		c.undo.ts = ts
	}
	c.undo.resent++
}

// tryUndo takes a recovery back that an acknowledgment shows to have been for nothing: it answers the first
// transmission of what was sent again (RFC 3522), or all that was sent again has arrived twice (RFC 3708).
func (c *Conn) tryUndo(s *packet.Segment, got *delivery) {
	u := &c.undo
	if !u.armed || u.resent == 0 {
		return
	}
	late := c.recovery != recoveryOpen && got.acked > 0 && got.resent &&
		c.tsOK && s.Opts.HasTS && int32(s.Opts.TSEcr-u.ts) < 0
	if got.duplicat {
		u.resent--
	}
	if !late && u.resent > 0 {
		return
	}
	u.armed = false
	if c.recovery != recoveryOpen {
		c.leaveRecovery()
		c.unlose()
	}
	c.cwnd = max(c.cwnd, u.cwnd)
	c.ssthresh = max(c.ssthresh, u.ssthresh)
	if c.sackOK {
		c.reoSeen = true
	}
}

// unlose takes back that segments are lost; what has not been sent again will be acknowledged, or found
// lost once more.
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
