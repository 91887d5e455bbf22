package tcp

import "tcpcopy/internal/core/mono"

// detectLoss marks what an acknowledgment shows to be lost: by RACK if the target reports SACK
// blocks, by NewReno's rules otherwise.
func (c *Conn) detectLoss(now mono.Time, got *delivery) {
	if c.sackOK {
		if got.twice {
			c.widenReoWindow()
		}
		if c.sacked > 0 || c.recovery != recoveryOpen {
			c.rackDetect(now)
		} else {
			c.reoAt = mono.Never
		}
		return
	}
	switch {
	case c.flight.len() == 0:
	case c.recovery == recoveryOpen && c.dupAcks >= dupThresh && c.una >= c.recoverTo:
		c.loseHead() // RFC 5681 §3.2
	case c.recovery == recoveryFast && got.acked > 0 && c.una < c.recoverTo:
		c.loseHead() // a partial acknowledgment (RFC 6582 §3.2)
	}
}

// loseHead marks the first segment in flight as lost.
func (c *Conn) loseHead() {
	r := c.flight.at(0)
	if r.flags&segLost != 0 {
		return
	}
	r.flags |= segLost
	c.lost += uint32(r.end - c.una)
	if !c.sackOK {
		c.countDupAcks()
	}
}

// react updates the state of recovery and the congestion window after an acknowledgment.
func (c *Conn) react(now mono.Time, got *delivery) {
	if c.recovery != recoveryOpen && c.una >= c.recoverTo {
		c.endRecovery()
	}
	if c.recovery == recoveryOpen && c.lost > 0 {
		c.enterRecovery(now)
	}
	switch {
	case c.cc == BBR:
		c.bbrAck(now, got)
	case c.recovery == recoveryFast:
		c.reduce(got)
	case got.acked > 0:
		c.grow(now, got.acked)
	}
}

// enterRecovery begins fast recovery (RFC 5681 §3.2, RFC 6675 §5, RFC 9937 §5).
func (c *Conn) enterRecovery(now mono.Time) {
	if c.needModel(now); c.bbr != nil {
		c.bbrSaveWindow()
		c.bbrLosing()
	}
	c.recovery = recoveryFast
	c.recoverTo = c.nxt
	c.rememberWindow()
	c.ssthresh = c.reducedWindow()
	c.prrDelivered, c.prrOut = 0, 0
	c.prrFlight = uint32(c.nxt - c.una)
	c.probeAt, c.probeEnd = mono.Never, 0
	c.forceHead = true
}

// endRecovery ends either kind of recovery.
func (c *Conn) endRecovery() {
	if c.bbr != nil {
		c.bbrRecovered()
	} else if c.recovery == recoveryFast {
		c.cwnd = max(c.ssthresh, uint32(c.mss))
	}
	if c.recovery == recoveryFast && c.reoPersist > 0 {
		if c.reoPersist--; c.reoPersist == 0 {
			c.reoMult = 1
		}
	}
	c.recovery = recoveryOpen
	c.forceHead = false
	if !c.sackOK {
		c.dupAcks = 0
		c.countDupAcks()
	}
}

// reduce sets the congestion window during fast recovery by proportional rate reduction (RFC 9937
// §5.2): bytes are sent in proportion to those that arrive, so that the window ends at ssthresh.
func (c *Conn) reduce(got *delivery) {
	if c.cc == BBR {
		return
	}
	if got.bytes == 0 && c.prrOut > 0 {
		return
	}
	c.prrDelivered += got.bytes
	pipe := c.pipe()
	var send int64
	if pipe > c.ssthresh {
		flight := int64(c.prrFlight)
		send = (int64(c.prrDelivered)*int64(c.ssthresh)+flight-1)/max(flight, 1) - int64(c.prrOut)
	} else {
		limit := max(int64(c.prrDelivered)-int64(c.prrOut), int64(got.bytes))
		if got.acked > 0 { // the repair makes progress
			limit += int64(c.mss)
		}
		send = min(int64(c.ssthresh)-int64(pipe), limit)
	}
	if c.prrOut == 0 {
		send = max(send, int64(c.mss)) // the first retransmission is sent at once
	}
	c.cwnd = pipe + uint32(max(send, 0))
}
