package tcp

import (
	"time"

	"tcpcopy/internal/core/mono"
)

// bbr is the state of BBR version 1, as in Linux (draft-cardwell-iccrg-bbr-congestion-control-00,
// whose sections are named here), without its detection of policers. It models the bandwidth and
// the round trip of the path, and paces by these. Losses are repaired as without BBR and do not
// change the model.
type bbr struct {
	mode bbrMode
	// The model.
	bw       maxFilter // bytes per second
	minRTT   time.Duration
	minRTTAt mono.Time
	round    uint32 // round trips so far, counted by packets (§4.1.1.3)
	roundEnd uint64 // the round ends when a segment arrives that was sent with so much delivered
	newRound bool   // this ACK began a round
	// The pipe is full when the bandwidth has not grown for three rounds (§4.3.2.2).
	full       bool
	fullRounds uint8
	fullBW     uint64
	extra      extraAcked

	cycle       uint8 // the phase of ProbeBW
	cycleAt     mono.Time
	restarted   bool // sending resumed after an idle period, and none of it has arrived
	rttSeen     bool // the pacing rate is based on a measured round trip
	conserve    bool // in this round of recovery, as many bytes are sent as arrive
	probeRounds bool // a round has passed in ProbeRTT
	probeUntil  mono.Time
	priorCwnd   uint32 // cwnd before a recovery, or before ProbeRTT

	rate   rate
	sample sample // from the last acknowledgment
	pace   pacing
}

// bbrMode is a state of BBR (§4.3.1).
type bbrMode uint8

const (
	bbrStartup bbrMode = iota
	bbrDrain
	bbrProbeBW
	bbrProbeRTT
)

// Gains are in 256ths.
const (
	gainUnit  = 256
	gainHigh  = gainUnit*2885/1000 + 1 // 2/ln 2 doubles the rate in each round (§4.3.2.1)
	gainDrain = gainUnit * 1000 / 2885
	gainCwnd  = 2 * gainUnit
)

// bbrCycle are the pacing gains of ProbeBW's phases (§4.3.4.1).
var bbrCycle = [8]uint64{
	gainUnit * 5 / 4, gainUnit * 3 / 4, gainUnit, gainUnit, gainUnit, gainUnit, gainUnit, gainUnit,
}

const (
	bbrWindow      = 10 // rounds for which a bandwidth remains valid (§4.1.1.2)
	bbrFullRounds  = 3
	bbrMinRTTLife  = 10 * time.Second // §4.1.2.2
	bbrProbeRTTFor = 200 * time.Millisecond
	bbrMinSegments = 4 // §4.2.3.3
	// bbrMostWindow keeps windows far from the ends of 32 bits.
	bbrMostWindow = 1 << 30
)

// needModel begins to model the path if BBR is selected. It is called when a connection first has
// more to send than an initial window, or has lost something: smaller requests need no model, and
// pay nothing.
func (c *Conn) needModel(now mono.Time) {
	if c.cc != BBR || c.bbr != nil {
		return
	}
	b := &bbr{minRTT: c.minRTT, minRTTAt: now}
	c.bbr = b
	b.extra.at, b.rate.at, b.rate.sentAt = now, now, now
	for i := range c.flight.len() {
		b.rate.at = min(b.rate.at, c.flight.at(i).at)
	}
	b.rate.sentAt = b.rate.at
	for i := range c.flight.len() { // as if measured since the first of these was sent
		r := c.flight.at(i)
		r.sinceDelivery = micros(r.at.Sub(b.rate.at))
		r.sinceSent = r.sinceDelivery
	}
	c.paceFromRTT()
}

// paceFromRTT sets the pacing rate from the window and the round trip while no bandwidth is known
// (§4.2.1).
func (c *Conn) paceFromRTT() {
	rtt := time.Millisecond
	if c.srtt > 0 {
		rtt = c.srtt
		c.bbr.rttSeen = true
	}
	c.bbr.pace.rate = c.paceRate(uint64(c.cwnd)*uint64(time.Second)/uint64(rtt), gainHigh)
}

// paceRate returns the pacing rate for a bandwidth and a gain, in bytes per second. It is 1 %
// lower, so that queues drain.
func (c *Conn) paceRate(bw, gain uint64) uint64 {
	return max(bw*gain/gainUnit*99/100, uint64(c.mss))
}

// bbrRestart resumes sending after an idle period, at no more than the bandwidth (§4.3.4.4).
func (c *Conn) bbrRestart(now mono.Time) {
	b := c.bbr
	if b.rate.limited == 0 {
		return
	}
	b.restarted = true
	b.extra.begin(now)
	switch b.mode {
	case bbrProbeBW:
		c.setPace(gainUnit)
	case bbrProbeRTT:
		c.bbrProbedRTT(now)
	}
}

// bbrAck updates the model, the pacing rate and the window after an acknowledgment of new bytes.
func (c *Conn) bbrAck(now mono.Time, got *delivery) {
	if c.bbr == nil || got.bytes == 0 {
		return
	}
	b, s := c.bbr, &c.bbr.sample
	c.bbrMeasure(s)
	if s.interval > 0 {
		b.extra.add(now, b, got.bytes, c.cwnd)
	}
	if b.mode == bbrProbeBW && c.bbrPhaseOver(now, s) {
		b.nextPhase(now)
	}
	b.checkFull(s)
	c.bbrCheckDrain(now)
	c.bbrRTT(now, s)
	pace, window := b.gains()
	c.setPace(pace)
	c.bbrSetWindow(uint64(got.bytes), window)
}

// bbrMeasure adds a sample of the bandwidth to the model (§4.1.1.5).
func (c *Conn) bbrMeasure(s *sample) {
	b := c.bbr
	b.newRound = false
	if s.interval == 0 {
		return
	}
	if int32(s.prior-uint32(b.roundEnd)) >= 0 {
		b.roundEnd = c.bbr.rate.delivered
		b.round++
		b.newRound = true
		b.conserve = false
	}
	if bw := s.perSecond(); !s.limited || bw >= b.bw.get() {
		b.bw.add(bbrWindow, b.round, bw)
	}
}

// checkFull determines whether the pipe is full, at the end of Startup's growth (§4.3.2.2).
func (b *bbr) checkFull(s *sample) {
	if b.full || !b.newRound || s.limited {
		return
	}
	if bw := b.bw.get(); bw >= b.fullBW*5/4 {
		b.fullBW, b.fullRounds = bw, 0
		return
	}
	b.fullRounds++
	b.full = b.fullRounds >= bbrFullRounds
}

// bbrCheckDrain enters Drain after Startup, and ProbeBW after Drain (§4.3.3).
func (c *Conn) bbrCheckDrain(now mono.Time) {
	b := c.bbr
	if b.mode == bbrStartup && b.full {
		b.mode = bbrDrain
	}
	if b.mode == bbrDrain && uint64(c.pipe()) <= c.bbrInflight(gainUnit) {
		c.bbrEnterProbeBW(now)
	}
}

// bbrEnterProbeBW enters ProbeBW in any phase except the one that sends less (§4.3.4.2). The
// initial sequence number serves as the random choice.
func (c *Conn) bbrEnterProbeBW(now mono.Time) {
	b := c.bbr
	b.mode = bbrProbeBW
	b.cycle = uint8(len(bbrCycle)-1) - uint8(uint32(c.isn)>>8%7)
	b.nextPhase(now)
}

// nextPhase enters ProbeBW's next phase.
func (b *bbr) nextPhase(now mono.Time) {
	b.cycle = (b.cycle + 1) % uint8(len(bbrCycle))
	b.cycleAt = now
}

// bbrPhaseOver reports whether the phase of ProbeBW is over (§4.3.4.3).
func (c *Conn) bbrPhaseOver(now mono.Time, s *sample) bool {
	b := c.bbr
	long := now.Sub(b.cycleAt) > b.minRTT
	switch gain := bbrCycle[b.cycle]; {
	case gain > gainUnit: // until the gain's bytes are in flight, or segments are lost
		return long && (s.lost > 0 || uint64(s.flying)+c.quantum() >= c.bbrInflight(gain))
	case gain < gainUnit: // until the queue that the previous phase made has drained
		return long || uint64(s.flying) <= c.bbrInflight(gainUnit)
	default:
		return long
	}
}

// bbrRTT tracks the minimum round trip of ten seconds. If it was not seen again in that time,
// ProbeRTT measures it with a window of four segments (§4.1.2.3, §4.3.5).
func (c *Conn) bbrRTT(now mono.Time, s *sample) {
	b := c.bbr
	old := now.Sub(b.minRTTAt) > bbrMinRTTLife
	if s.rtt > 0 && (b.minRTT == 0 || s.rtt < b.minRTT || old && !s.delayed) {
		b.minRTT, b.minRTTAt = s.rtt, now
	}
	if old && !b.restarted && b.mode != bbrProbeRTT {
		c.bbrSaveWindow()
		b.mode = bbrProbeRTT
		b.probeUntil = 0
	}
	if b.mode == bbrProbeRTT {
		c.bbr.rate.limited = max(c.bbr.rate.delivered+uint64(c.pipe()), 1) // by the small window
		switch {
		case b.probeUntil == 0 && c.pipe() <= bbrMinSegments*uint32(c.mss):
			b.probeUntil = max(now.Add(bbrProbeRTTFor), 1)
			b.probeRounds = false
			b.roundEnd = c.bbr.rate.delivered
		case b.probeUntil != 0:
			b.probeRounds = b.probeRounds || b.newRound
			if b.probeRounds {
				c.bbrProbedRTT(now)
			}
		}
	}
	if s.interval > 0 {
		b.restarted = false
	}
}

// bbrProbedRTT ends ProbeRTT if it has lasted long enough.
func (c *Conn) bbrProbedRTT(now mono.Time) {
	b := c.bbr
	if b.probeUntil == 0 || now <= b.probeUntil {
		return
	}
	b.minRTTAt = now
	c.cwnd = max(c.cwnd, b.priorCwnd)
	if b.full {
		c.bbrEnterProbeBW(now)
	} else {
		b.mode = bbrStartup
	}
}

// gains returns the gains of pacing and of the window.
func (b *bbr) gains() (pace, window uint64) {
	switch b.mode {
	case bbrStartup:
		return gainHigh, gainHigh
	case bbrDrain:
		return gainDrain, gainHigh
	case bbrProbeBW:
		return bbrCycle[b.cycle], gainCwnd
	default:
		return gainUnit, gainUnit
	}
}
