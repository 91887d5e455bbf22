package tcp

import (
	"time"

	"tcpcopy/internal/core/mono"
)

// pacing spreads segments over time, in bursts of a millisecond: the owner's timers are no finer,
// and a wake-up for each segment costs more than it gains. Only BBR paces.
type pacing struct {
	rate uint64    // bytes per second
	at   mono.Time // when the next segment is due
	end  mono.Time // this Poll may send segments that are due before end
	held bool      // pacing kept this Poll from sending more
}

const (
	// paceQuantum is how much is sent at once, as time at the rate; at least two segments (§4.2.2
	// of BBR's draft, without the upper bound, which is for segmentation offload).
	paceQuantum = time.Millisecond
	// paceCredit is by how much more than a quantum a wake-up for pacing may be late without loss
	// of speed.
	paceCredit = 2 * time.Millisecond
)

// duration returns how long n bytes take at the rate.
func (p *pacing) duration(n uint32) time.Duration {
	return time.Duration(uint64(n) * uint64(time.Second) / max(p.rate, 1))
}

// openPacing begins a Poll. After an idle period, an initial window (RFC 6928 §2) is not paced, so
// that a request needs no timer.
func (c *Conn) openPacing(now mono.Time) {
	p := &c.bbr.pace
	idle := c.una == c.nxt
	if idle && c.nxt < c.released {
		c.bbrRestart(now)
	}
	quantum := max(paceQuantum, 2*p.duration(uint32(c.mss)))
	late := time.Duration(0)
	if p.held {
		late = quantum + paceCredit
	}
	p.at = max(p.at, now.Add(-late))
	if idle {
		p.at = min(now, now.Add(quantum-p.duration(c.initialWindow())))
	}
	p.end = p.at
	if p.at <= now {
		p.end = now.Add(quantum)
	}
	p.held = false
}

// paced reports whether pacing permits a segment to be sent now.
func (c *Conn) paced() bool {
	if c.bbr == nil || c.bbr.pace.at < c.bbr.pace.end {
		return true
	}
	c.bbr.pace.held = true
	return false
}

// spend notes that n bytes were sent.
func (p *pacing) spend(n uint32) { p.at = p.at.Add(p.duration(n)) }
