package tcp

import (
	"time"

	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/packet"
)

const (
	dupThresh = 3 // RFC 5681 §3.2
	// ackDelay is how long a target may delay the ACK of a single segment (RFC 8985 §7.2).
	ackDelay = 200 * time.Millisecond
	// minProbe keeps a tail loss probe from preceding an ACK on a very short path.
	minProbe = 10 * time.Millisecond
	// minRTTLife is how long a minimum of the round trip remains valid (RFC 8985 §6.2).
	minRTTLife = 5 * time.Minute
	// reoPersist is for how many recoveries a widened reordering window persists (RFC 8985 §6.2).
	reoPersist = 16
)

// sentAfter reports whether the segment that ends at end and was sent at at follows the segment
// that ends at bend and was sent at bt (RFC 8985 §6.2).
func sentAfter(at mono.Time, end uint64, bt mono.Time, bend uint64) bool {
	return at > bt || at == bt && end > bend
}

// rackDelivered notes that the segment r has arrived, which s shows (RFC 8985 §6.2 steps 1 to 3).
func (c *Conn) rackDelivered(now mono.Time, s *packet.Segment, r *sent) {
	rtt := c.elapsed(now, r)
	if r.flags&segResent == 0 {
		if rtt < c.minRTT || c.minRTT == 0 || now.Sub(c.minRTTAt) > minRTTLife {
			c.minRTT, c.minRTTAt = max(rtt, 1), now
		}
		if r.end < c.fack {
			c.reoSeen = true
		}
	} else {
		// The earlier transmission may be the one that arrived.
		if c.tsOK && s.Opts.HasTS && int32(s.Opts.TSEcr-c.tsAt(r.at)) < 0 {
			return
		}
		if rtt < c.minRTT {
			return
		}
	}
	c.fack = max(c.fack, r.end)
	c.rackRTT = rtt
	if sentAfter(r.at, r.end, c.rackAt, c.rackEnd) {
		c.rackAt, c.rackEnd = r.at, r.end
	}
}

// reoWindow returns the reordering window: how long a segment may be delayed before it counts as
// lost (RFC 8985 §6.2 step 4).
func (c *Conn) reoWindow() time.Duration {
	if !c.reoSeen && (c.recovery != recoveryOpen || c.nsacked >= dupThresh) {
		return 0
	}
	return min(time.Duration(c.reoMult)*c.minRTT/4, c.srtt)
}

// widenReoWindow widens the reordering window after a spurious retransmission, once per round trip
// (RFC 8985 §6.2).
func (c *Conn) widenReoWindow() {
	if c.una < c.dsackRound {
		return
	}
	c.dsackRound = c.nxt
	c.reoMult = min(c.reoMult+1, 64)
	c.reoPersist = reoPersist
}

// rackDetect marks the segments as lost that were sent long enough before one that has arrived, and
// sets the reordering timer for the others (RFC 8985 §6.2 step 5).
func (c *Conn) rackDetect(now mono.Time) {
	c.reoAt = mono.Never
	if c.rackAt == 0 && c.rackEnd == 0 {
		return
	}
	wait := c.rackRTT + c.reoWindow()
	lostAt := now.Add(-wait) // segments sent then or earlier are lost
	start := c.una
	recs := c.flight.recs[c.flight.head:]
	for i := range recs {
		r := &recs[i]
		n := r.end - start
		start = r.end
		if r.flags&(segSacked|segLost) != 0 || !sentAfter(c.rackAt, c.rackEnd, r.at, r.end) {
			continue
		}
		if r.at <= lostAt {
			r.flags |= segLost
			c.lost += uint32(n)
		} else {
			c.reoAt = laterOf(c.reoAt, r.at.Add(wait))
		}
	}
}

// laterOf returns the later of two deadlines. Never counts as no deadline.
func laterOf(a, b mono.Time) mono.Time {
	if a == mono.Never || b > a {
		return b
	}
	return a
}

// armProbe sets the timer of the tail loss probe (RFC 8985 §7.2).
func (c *Conn) armProbe(now mono.Time) {
	c.probeAt = mono.Never
	if !c.sackOK || c.recovery != recoveryOpen || c.sacked > 0 || c.probeEnd != 0 ||
		c.una == c.nxt {
		return
	}
	wait := time.Second
	if c.srtt > 0 {
		wait = 2 * c.srtt
		if c.flight.len() == 1 {
			wait += ackDelay
		}
		wait = max(wait, minProbe)
	}
	c.probeAt = min(now.Add(wait), c.rtoAt)
}

// checkProbe determines whether an ACK shows that a tail loss probe has repaired a loss, to which
// congestion control must then react (RFC 8985 §7.4).
func (c *Conn) checkProbe(s *packet.Segment, ack uint64, got *delivery) {
	if c.probeEnd == 0 || ack < c.probeEnd {
		return
	}
	switch {
	case !c.probeResent, got.probeDup:
		c.probeEnd = 0
	case ack > c.probeEnd:
		c.probeEnd = 0
		c.ssthresh = c.reducedWindow()
		c.cwnd = min(c.cwnd, c.ssthresh) // which BBR leaves at its maximum
	case got.acked == 0 && s.Opts.NSACK == 0 && s.Len == 0:
		c.probeEnd = 0 // both transmissions arrived
	}
}
