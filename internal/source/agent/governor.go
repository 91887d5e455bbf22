package agent

import (
	"math"
	"time"
)

// Bound is one of the bounds that an agent sheds sessions for.
type Bound uint8

// The bounds.
const (
	NoBound Bound = iota
	CPU           // --max-cpu
	Rate          // --max-mbps
)

// governor chooses the share of the sessions that is sent, so that the agent stays within its
// bounds. It goes by the cost of the last interval: a share that costs too much falls at once, in
// proportion, and rises slowly.
type governor struct {
	maxCPU  float64 // of one processor; 0: no bound
	maxRate float64 // bytes a second; 0: no bound

	share float64 // of the sessions, from 0 to 1
	cause Bound   // the bound that reduces share
}

const (
	aim       = 0.9  // of a bound, after it was exceeded
	roomBelow = 0.75 // of a bound: below it the share rises
	leastStep = 0.01 // of the share, when it rises
)

func newGovernor(maxCPU, maxRate float64) governor {
	return governor{maxCPU: maxCPU, maxRate: maxRate, share: 1}
}

// adjust changes the share by what was spent in the last interval, of length d: CPU time, and bytes
// for the connection.
func (g *governor) adjust(d, cpu time.Duration, bytes float64) {
	if d <= 0 {
		return
	}
	use, cause := 0.0, NoBound
	if g.maxCPU > 0 {
		use, cause = float64(cpu)/float64(d)/g.maxCPU, CPU
	}
	if g.maxRate > 0 {
		if r := bytes / d.Seconds() / g.maxRate; r > use {
			use, cause = r, Rate
		}
	}
	switch {
	case use > 1:
		g.share *= aim / use
		if g.share < leastStep/2 {
			g.share = 0
		}
		g.cause = cause
	case use < roomBelow && g.share < 1:
		g.share = min(1, g.share*1.1+leastStep)
		if g.share == 1 {
			g.cause = NoBound
		}
	}
}

// threshold returns the share as a bound on hashes: sessions below it are sent.
func (g *governor) threshold() uint64 { return uint64(math.Round(g.share * (1 << 32))) }
