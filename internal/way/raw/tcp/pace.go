package tcp

import (
	"time"

	"tcpcopy/internal/core/mono"
)

// pacing spreads what is sent over time: so much a millisecond, for the owner's timers are no finer, and waking
// up for each segment would cost more than it is worth. Only BBR paces.
type pacing struct {
	rate uint64    // bytes a second
	at   mono.Time // when the next segment should leave
	end  mono.Time // this Poll may send while at is earlier
	held bool      // it was why this Poll did not send more
}

const (
	// paceQuantum is what goes at once, in time at the rate; two segments at least (§4.2.2 of BBR's draft, but
	// for its upper bound, which is that of a segmentation offload that raw sockets have not).
	paceQuantum = time.Millisecond
	// paceCredit is by how much more than a quantum a wake-up that pacing had asked for may be late without loss of
	// speed.
	paceCredit = 2 * time.Millisecond
)

// takes is how long n bytes take at the rate.
func (p *pacing) takes(n uint32) time.Duration {
	return time.Duration(uint64(n) * uint64(time.Second) / max(p.rate, 1))
}

// openPacing begins a Poll. What follows an idle time begins with an initial window (RFC 6928 §2), which nobody
// paces: a request needs no timer.
func (c *Conn) openPacing(now mono.Time) {
	p := &c.bbr.pace
	idle := c.una == c.nxt
	if idle && c.nxt < c.released {
		c.bbrRestart(now)
	}
	quantum := max(paceQuantum, 2*p.takes(uint32(c.mss)))
	late := time.Duration(0)
	if p.held {
		late = quantum + paceCredit
	}
	p.at = max(p.at, now.Add(-late))
	if idle {
		p.at = min(now, now.Add(quantum-p.takes(c.initialWindow())))
	}
	p.end = p.at
	if p.at <= now {
		p.end = now.Add(quantum)
	}
	p.held = false
}

// mayLeave says whether pacing lets a segment go now.
func (c *Conn) mayLeave() bool {
	if c.bbr == nil || c.bbr.pace.at < c.bbr.pace.end {
		return true
	}
	c.bbr.pace.held = true
	return false
}

// left notes that n bytes have gone.
func (p *pacing) left(n uint32) { p.at = p.at.Add(p.takes(n)) }
