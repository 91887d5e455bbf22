package tcp

import (
	"time"

	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/packet"
)

// Bounds of timeouts. minVar is Linux's lower bound on what is added to the smoothed round trip.
// RFC 6298's bound of one second for the whole timeout would delay every lost request by that much.
const (
	minVar     = 200 * time.Millisecond
	maxRTO     = 120 * time.Second
	maxPersist = 5 * time.Second
)

// rto returns the timeout without backoff (RFC 6298 §2).
func (c *Conn) rto() time.Duration {
	if c.srtt == 0 {
		if c.phase.synchronized() {
			return lateRTO
		}
		return synRTO
	}
	return min(c.srtt+max(4*c.rttvar, minVar), maxRTO)
}

// timeout returns the timeout with its current backoff (RFC 6298 §5.5).
func (c *Conn) timeout() time.Duration {
	return min(c.rto()<<min(c.backoff, 10), maxRTO)
}

// sampleRTT updates the estimates for a sample of the round trip (RFC 6298 §2).
func (c *Conn) sampleRTT(now mono.Time, r time.Duration) {
	r = max(r, 1)
	if c.srtt == 0 {
		c.srtt, c.rttvar = r, r/2
	} else {
		c.rttvar += ((c.srtt - r).Abs() - c.rttvar) / 4
		c.srtt += (r - c.srtt) / 8
	}
	if c.minRTT == 0 && !c.untimed {
		c.minRTT, c.minRTTAt = r, now
	}
	c.backoff = 0
	c.rttEnd = c.nxt
}

// measure samples the round trip if an acknowledgment permits: once for each window, from the
// newest segment that it acknowledges. If a segment was sent twice, its timestamp must show that
// the last transmission is acknowledged (RFC 6298 §3, §4); an ACK of the first may have been lost,
// and the time until the next ACK is not a round trip.
func (c *Conn) measure(now mono.Time, s *packet.Segment, got *delivery) {
	at := got.at
	if got.segs == 0 || c.una < c.rttEnd && c.backoff == 0 {
		at = 0
	}
	if got.resent && (!c.tsOK || !s.Opts.HasTS || int32(s.Opts.TSEcr-c.tsAt(at)) < 0) {
		at = 0
	}
	if at == 0 && c.backoff > 0 { // a SACK block gives a sample as well, and ends the backoff
		at = got.sackedAt
	}
	if at > 0 && !c.untimed {
		c.sampleRTT(now, now.Sub(at))
	}
}

// outstanding reports whether anything waits to be sent or acknowledged.
func (c *Conn) outstanding() bool {
	return c.una < c.nxt || c.nxt < c.released || c.finDue()
}

// timers runs the timers of a synchronized connection that are due. It reports whether a tail loss
// probe, and whether a probe of the target's window, is to be sent.
func (c *Conn) timers(now mono.Time) (tailProbe, windowProbe bool) {
	if c.outstanding() && now.Sub(c.progressAt) >= c.userTimeout {
		c.kill(CauseUserTimeout)
		return false, false
	}
	if c.reoAt.Reached(now) {
		c.rackDetect(now)
		if c.lost > 0 && c.recovery == recoveryOpen {
			c.enterRecovery(now)
			c.reduce(&delivery{})
		}
	}
	if c.probeAt.Reached(now) {
		c.probeAt = mono.Never
		tailProbe = true
		c.rtoAt = now.Add(c.timeout())
	}
	if c.rtoAt.Reached(now) {
		c.onTimeout(now)
	}
	if c.persistAt.Reached(now) {
		c.persistAt = mono.Never
		windowProbe = true
	}
	return tailProbe, windowProbe
}

// onTimeout handles the expiry of the retransmission timer (RFC 6298 §5.4 to §5.6, RFC 5681 §3.1,
// RFC 8985 §6.3).
func (c *Conn) onTimeout(now mono.Time) {
	c.rtoAt = mono.Never
	if c.flight.len() == 0 {
		return
	}
	c.suspectMTU()
	if c.flight.at(0).flags&segSacked != 0 {
		c.forgetSACK()
	}
	if c.recovery != recoveryLoss || c.backoff == 0 {
		c.rememberWindow()
		if c.needModel(now); c.bbr != nil {
			c.bbrSaveWindow()
			c.bbrTimeout()
		}
		c.ssthresh = c.reducedWindow()
	}
	c.recovery = recoveryLoss
	c.recoverTo = c.nxt
	c.probeAt, c.probeEnd, c.reoAt = mono.Never, 0, mono.Never
	c.dupAcks = 0
	if !c.sackOK {
		c.sacked = 0
	}
	wait := c.rackRTT + c.reoWindow()
	start := c.una
	for i := 0; i < c.flight.len(); i++ {
		r := c.flight.at(i)
		n := uint32(r.end - start)
		start = r.end
		if r.flags&(segSacked|segLost) != 0 {
			continue
		}
		if i > 0 && c.sackOK && c.rackRTT > 0 && !r.at.Add(wait).Reached(now) {
			continue // sent too recently to count as lost
		}
		r.flags |= segLost
		c.lost += n
	}
	c.cwnd = c.pipe() + uint32(c.mss)
	c.forceHead = true
	c.backoff = min(c.backoff+1, 20)
	c.rtoAt = now.Add(c.timeout())
}

// next returns when Poll must be called again if nothing happens before.
func (c *Conn) next() mono.Time {
	switch {
	case !c.phase.alive():
		return mono.Never
	case !c.phase.synchronized():
		at := c.rtoAt
		if c.syn == synHeld {
			at = mono.Never // until Leave
		}
		if c.connectTimeout > 0 {
			at = min(at, c.opened.Add(c.connectTimeout))
		}
		return at
	}
	at := min(min(c.rtoAt, c.probeAt), min(c.reoAt, c.persistAt))
	if c.bbr != nil && c.bbr.pace.held {
		at = min(at, c.bbr.pace.at)
	}
	if c.outstanding() {
		at = min(at, c.progressAt.Add(c.userTimeout))
	}
	return at
}
