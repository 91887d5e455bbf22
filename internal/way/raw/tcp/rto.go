package tcp

import (
	"time"

	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/packet"
)

// The bounds of the retransmission timeout. The lower one is Linux's, added to the smoothed round trip as
// there: RFC 6298's second would make every lost request wait that long.
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

// timeout returns the timeout as it stands, backed off (RFC 6298 §5.5).
func (c *Conn) timeout() time.Duration {
	return min(c.rto()<<min(c.backoff, 10), maxRTO)
}

// sampleRTT takes a measurement of the round trip (RFC 6298 §2).
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

// measure takes a sample where an acknowledgment gives one: once for each window, from the segment sent
// last, which is the one that the ACK answers. Where segments were sent twice it must be the last
// transmission that is answered, as its timestamp shows (RFC 6298 §3, §4): an ACK of the first may have
// been lost, and the time until another came is no round trip.
func (c *Conn) measure(now mono.Time, s *packet.Segment, got *delivery) {
	at := got.at
	if got.segs == 0 || c.una < c.rttEnd && c.backoff == 0 {
		at = 0
	}
	if got.resent && (!c.tsOK || !s.Opts.HasTS || int32(s.Opts.TSEcr-c.tsAt(at)) < 0) {
		at = 0
	}
	if at == 0 && c.backoff > 0 { // a SACK block answers as well, and ends the backoff
		at = got.sackedAt
	}
	if at > 0 && !c.untimed {
		c.sampleRTT(now, now.Sub(at))
	}
}

// outstanding says whether we wait for the target to acknowledge or take something.
func (c *Conn) outstanding() bool {
	return c.una < c.nxt || c.nxt < c.released || c.finDue()
}

// timers runs the timers of a synchronized connection that are due. It reports whether a tail loss probe,
// and whether a probe of the target's window, is to be sent.
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

// onTimeout is the expiry of the retransmission timer (RFC 6298 §5.4 to §5.6, RFC 5681 §3.1, RFC 8985 §6.3).
func (c *Conn) onTimeout(now mono.Time) {
	c.rtoAt = mono.Never
	if c.flight.len() == 0 {
		return
	}
	c.suspectMTU()
	if c.flight.at(0).flags&segSacked != 0 {
		c.renege()
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
			continue // sent too short a time ago to be judged
		}
		r.flags |= segLost
		c.lost += n
	}
	c.cwnd = c.pipe() + uint32(c.mss)
	c.forceHead = true
	c.backoff = min(c.backoff+1, 20)
	c.rtoAt = now.Add(c.timeout())
}

// next returns when Poll is to be called again if nothing happens before.
func (c *Conn) next() mono.Time {
	switch {
	case !c.phase.alive():
		return mono.Never
	case !c.phase.synchronized():
		at := c.rtoAt
		if c.syn == synHeld {
			at = mono.Never // for Leave
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
