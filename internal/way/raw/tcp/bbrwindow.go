package tcp

import (
	"time"

	"tcpcopy/internal/core/mono"
)

// setPace paces by the bandwidth. Until the pipe is full the rate only grows: what arrives now tells of what was
// sent before (§4.2.1).
func (c *Conn) setPace(gain uint64) {
	b := c.bbr
	if !b.rttSeen && c.srtt > 0 {
		c.paceFromRTT()
	}
	if r := c.paceRate(b.bw.get(), gain); b.full || r > c.bbr.pace.rate {
		c.bbr.pace.rate = r
	}
}

// quantum is what pacing sends at once, in bytes (§4.2.2).
func (c *Conn) quantum() uint64 {
	return max(c.bbr.pace.rate*uint64(paceQuantum)/uint64(time.Second), 2*uint64(c.mss))
}

// bbrInflight is how much should be on its way for a gain: so many times what the path holds, and room for what
// lies at either end, sent or acknowledged in quanta (§4.2.3.2).
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

// bdp is what the bandwidth delivers in d, in bytes, as far as a window may be wide.
func (b *bbr) bdp(d time.Duration) uint64 {
	bw := min(b.bw.get(), 1<<36)
	return min(bw*uint64(min(max(d, 0), 100*time.Second)/time.Microsecond)/1e6, bbrMostWindow)
}

// bbrSetWindow sets the congestion window after an acknowledgment (§4.2.3.6): towards what the model says by as
// much as arrives, and, in the first round of a recovery, so that no more goes than arrives (§4.2.3.4).
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

// bbrSaveWindow notes the window before a recovery or ProbeRTT narrows it.
func (c *Conn) bbrSaveWindow() {
	b := c.bbr
	if c.recovery == recoveryOpen && b.mode != bbrProbeRTT {
		b.priorCwnd = c.cwnd
		return
	}
	b.priorCwnd = max(b.priorCwnd, c.cwnd)
}

// bbrLosing begins a recovery: for a round, as much goes as arrives.
func (c *Conn) bbrLosing() {
	c.bbr.conserve = true
	c.bbr.roundEnd = c.bbr.rate.delivered
	c.cwnd = c.pipe() + uint32(c.mss)
}

// bbrRecovered ends one.
func (c *Conn) bbrRecovered() {
	c.bbr.conserve = false
	c.cwnd = max(c.cwnd, c.bbr.priorCwnd)
}

// bbrTimeout is for the expiry of the retransmission timer: what the bandwidth was is in doubt.
func (c *Conn) bbrTimeout() { c.bbr.fullBW, c.bbr.fullRounds = 0, 0 }

// extraAcked is how much more arrives at times than the bandwidth would have it, because ACKs come in heaps: the
// window must be so much wider for sending to go on between them. It is the most of five to ten rounds.
type extraAcked struct {
	at    mono.Time // when this heap began
	acked uint64    // what it has
	most  [2]uint64 // in this window of rounds and the last
	since uint32    // the round that this window began with
}

const (
	extraRounds = 5
	// extraFor bounds it: what the bandwidth delivers in that time.
	extraFor = 100 * time.Millisecond
)

func (e *extraAcked) begin(now mono.Time) { e.at, e.acked = now, 0 }

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

// window is by how much the window is to be wider, in bytes.
func (e *extraAcked) window(b *bbr) uint64 {
	if !b.full {
		return 0
	}
	return min(max(e.most[0], e.most[1]), b.bdp(extraFor))
}
