package tcp

import (
	"time"

	"tcpcopy/internal/core/mono"
)

// setPace sets the pacing rate from the bandwidth. Until the pipe is full the rate only grows,
// since what arrives now reflects what was sent earlier (§4.2.1).
func (c *Conn) setPace(gain uint64) {
	b := c.bbr
	if !b.rttSeen && c.srtt > 0 {
		c.paceFromRTT()
	}
	if r := c.paceRate(b.bw.get(), gain); b.full || r > c.bbr.pace.rate {
		c.bbr.pace.rate = r
	}
}

// quantum returns how many bytes pacing sends at once (§4.2.2).
func (c *Conn) quantum() uint64 {
	return max(c.bbr.pace.rate*uint64(paceQuantum)/uint64(time.Second), 2*uint64(c.mss))
}

// bbrInflight returns how many bytes should be in flight for a gain: the gain times the capacity of
// the path, and room for the quanta at both ends (§4.2.3.2).
func (c *Conn) bbrInflight(gain uint64) uint64 {
	b := c.bbr
	if b.minRTT == 0 {
		return uint64(c.initialWindow())
	}
	n := b.bdp(b.minRTT)*gain/gainUnit + 3*c.quantum()
	if b.mode == bbrProbeBW && b.cycle == 0 {
		n += 2 * uint64(c.mss)
	}
	return n
}

// bdp returns how many bytes the bandwidth delivers in d, at most bbrMostWindow.
func (b *bbr) bdp(d time.Duration) uint64 {
	bw := min(b.bw.get(), 1<<36)
	return min(bw*uint64(min(max(d, 0), 100*time.Second)/time.Microsecond)/1e6, bbrMostWindow)
}

// bbrSetWindow sets the congestion window after an acknowledgment of arrived bytes. The window
// approaches the model's target by as much as arrives (§4.2.3.6); in the first round of a recovery,
// as much is sent as arrives (§4.2.3.4).
func (c *Conn) bbrSetWindow(arrived, gain uint64) {
	b := c.bbr
	least := bbrMinSegments * uint64(c.mss)
	w := uint64(c.cwnd)
	if n := uint64(b.sample.lost); n > 0 {
		w = max(w, n+uint64(c.mss)) - n
	}
	target := c.bbrInflight(gain) + b.extra.window(b)
	switch {
	case b.conserve:
		w = max(w, uint64(c.pipe())+arrived)
	case b.full:
		w = max(min(w+arrived, target), least)
	case w < target || c.bbr.rate.delivered < uint64(c.initialWindow()):
		w = max(w+arrived, least)
	}
	if b.mode == bbrProbeRTT {
		w = min(w, least)
	}
	c.cwnd = uint32(min(w, bbrMostWindow))
}

// bbrSaveWindow saves the window before a recovery or ProbeRTT reduces it.
func (c *Conn) bbrSaveWindow() {
	b := c.bbr
	if c.recovery == recoveryOpen && b.mode != bbrProbeRTT {
		b.priorCwnd = c.cwnd
		return
	}
	b.priorCwnd = max(b.priorCwnd, c.cwnd)
}

// bbrLosing begins a recovery: for one round, as many bytes are sent as arrive.
func (c *Conn) bbrLosing() {
	c.bbr.conserve = true
	c.bbr.roundEnd = c.bbr.rate.delivered
	c.cwnd = c.pipe() + uint32(c.mss)
}

// bbrRecovered ends a recovery.
func (c *Conn) bbrRecovered() {
	c.bbr.conserve = false
	c.cwnd = max(c.cwnd, c.bbr.priorCwnd)
}

// bbrTimeout handles the expiry of the retransmission timer, after which the pipe may not be full.
func (c *Conn) bbrTimeout() { c.bbr.fullBW, c.bbr.fullRounds = 0, 0 }

// extraAcked measures by how much acknowledged bytes exceed what the bandwidth delivers, because
// ACKs are aggregated. The window must be wider by as much for sending to continue between ACKs. It
// is the maximum of the last five to ten rounds.
type extraAcked struct {
	at    mono.Time // when this aggregate began
	acked uint64    // its bytes
	most  [2]uint64 // the maximum of this window of rounds, and of the last
	since uint32    // the round in which this window began
}

const (
	extraRounds = 5
	// extraFor bounds the excess to what the bandwidth delivers in that time.
	extraFor = 100 * time.Millisecond
)

// begin begins an aggregate.
func (e *extraAcked) begin(now mono.Time) { e.at, e.acked = now, 0 }

// add adds arrived bytes.
func (e *extraAcked) add(now mono.Time, b *bbr, arrived, cwnd uint32) {
	if b.newRound && b.round-e.since >= extraRounds {
		e.most = [2]uint64{0, e.most[0]}
		e.since = b.round
	}
	expected := b.bdp(now.Sub(e.at))
	if e.acked <= expected {
		e.begin(now)
		expected = 0
	}
	e.acked += uint64(arrived)
	e.most[0] = max(e.most[0], min(e.acked-expected, uint64(cwnd)))
}

// window returns by how many bytes the window is to be wider.
func (e *extraAcked) window(b *bbr) uint64 {
	if !b.full {
		return 0
	}
	return min(max(e.most[0], e.most[1]), b.bdp(extraFor))
}
