package tcp

import (
	"math"
	"time"

	"tcpcopy/internal/core/mono"
)

// cubic is the state of CUBIC (RFC 9438). Windows are in segments, as in the RFC.
type cubic struct {
	wMax  float64   // the window before the last reduction
	k     float64   // seconds from the epoch's start until wMax is reached again
	wEst  float64   // the window that Reno would have
	epoch mono.Time // when this epoch of congestion avoidance began; 0: it has not begun
}

const (
	cubicC    = 0.4
	cubicBeta = 0.7
	// cubicAlpha makes the Reno-friendly window's mean equal to Reno's (RFC 9438 §4.3).
	cubicAlpha = 3 * (1 - cubicBeta) / (1 + cubicBeta)
)

// stop ends the epoch, after a loss or an idle period.
func (q *cubic) stop() { q.epoch = 0 }

// reduced returns ssthresh for a loss at a window of cwnd bytes (RFC 9438 §4.6, §4.7).
func (q *cubic) reduced(cwnd, mss uint32) uint32 {
	q.stop()
	w := float64(cwnd) / float64(mss)
	if w < q.wMax { // fast convergence
		q.wMax = w * (1 + cubicBeta) / 2
	} else {
		q.wMax = w
	}
	return max(uint32(float64(cwnd)*cubicBeta), 2*mss)
}

// grow returns the window after acked bytes in congestion avoidance (RFC 9438 §4.2 to §4.5).
func (q *cubic) grow(now mono.Time, cwnd, acked, mss uint32, srtt time.Duration) uint32 {
	w := float64(cwnd) / float64(mss)
	if q.epoch == 0 {
		q.epoch = max(now, 1)
		q.wEst = w
		q.wMax = max(q.wMax, w)
		q.k = math.Cbrt((q.wMax - w) / cubicC)
	}
	segs := float64(acked) / float64(mss)
	t := now.Sub(q.epoch).Seconds()
	alpha := cubicAlpha
	if q.wEst >= q.wMax {
		alpha = 1
	}
	q.wEst += alpha * segs / w
	if at := q.at(t); at < q.wEst {
		return max(cwnd, uint32(q.wEst*float64(mss)))
	}
	target := min(max(q.at(t+srtt.Seconds()), w), 1.5*w)
	return cwnd + uint32((target-w)/w*float64(acked))
}

// at returns the cubic function at t seconds after the epoch's start (RFC 9438 §4.2).
func (q *cubic) at(t float64) float64 { return cubicC*math.Pow(t-q.k, 3) + q.wMax }
