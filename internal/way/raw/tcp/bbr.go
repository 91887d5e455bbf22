package tcp

import (
	"time"

	"tcpcopy/internal/core/mono"
)

// bbr is a model of the path, of its bandwidth and its round trip, by which we send: BBR as Linux has it, version 1
// (draft-cardwell-iccrg-bbr-congestion-control-00, whose sections are named here). Left out is the detection of
// policers. Losses are repaired as without it, and change the model in nothing.
type bbr struct {
	mode bbrMode
	// The model.
	bw       maxFilter // bytes a second
	minRTT   time.Duration
	minRTTAt mono.Time
	round    uint32 // round trips so far, by packets (§4.1.1.3)
	roundEnd uint64 // the next begins when what is sent after so many bytes were delivered arrives
	newRound bool   // with this ACK
	// The pipe is full when the bandwidth has not grown for three rounds (§4.3.2.2).
	full       bool
	fullRounds uint8
	fullBW     uint64
	extra      extraAcked

	cycle       uint8 // the phase of ProbeBW
	cycleAt     mono.Time
	restarted   bool // sending began after an idle time, and nothing of it has arrived
	rttSeen     bool // the pacing rate is one of a measured round trip
	conserve    bool // a round of recovery in which as much goes as arrives
	probeRounds bool // in ProbeRTT a round is over
	probeUntil  mono.Time
	priorCwnd   uint32 // before a recovery, or ProbeRTT

	rate   rate
	sample sample // of the last acknowledgment
	pace   pacing
}

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
	gainHigh  = gainUnit*2885/1000 + 1 // 2/ln 2: doubles what is sent in each round (§4.3.2.1)
	gainDrain = gainUnit * 1000 / 2885
	gainCwnd  = 2 * gainUnit
)

// bbrCycle are the pacing gains of ProbeBW's phases (§4.3.4.1).
var bbrCycle = [8]uint64{gainUnit * 5 / 4, gainUnit * 3 / 4, gainUnit, gainUnit, gainUnit, gainUnit, gainUnit, gainUnit}

const (
	bbrWindow      = 10 // rounds that a bandwidth is believed (§4.1.1.2)
	bbrFullRounds  = 3
	bbrMinRTTLife  = 10 * time.Second // §4.1.2.2
	bbrProbeRTTFor = 200 * time.Millisecond
	bbrMinSegments = 4 // §4.2.3.3
	// bbrMostWindow keeps windows far from the ends of 32 bits.
	bbrMostWindow = 1 << 30
)

// needModel begins to measure the path, where BBR is to do so: when a connection first has more to send than an
// initial window, or has lost something. Requests that fit in one need no model, and cost nothing for it.
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
	for i := range c.flight.len() { // as if it had been measured since the first of these was sent
		r := c.flight.at(i)
		r.sinceDelivery = micros(r.at.Sub(b.rate.at))
		r.sinceSent = r.sinceDelivery
	}
	c.paceFromRTT()
}

// paceFromRTT paces by the window and the round trip, while no bandwidth is known (§4.2.1).
func (c *Conn) paceFromRTT() {
	rtt := time.Millisecond
	if c.srtt > 0 {
		rtt = c.srtt
		c.bbr.rttSeen = true
	}
	c.bbr.pace.rate = c.paceRate(uint64(c.cwnd)*uint64(time.Second)/uint64(rtt), gainHigh)
}

// paceRate is a hundredth less than the gain says, so that queues drain.
func (c *Conn) paceRate(bw, gain uint64) uint64 {
	return max(bw*gain/gainUnit*99/100, uint64(c.mss))
}

// bbrRestart begins to send after an idle time, which needs no more than the bandwidth (§4.3.4.4).
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

// bbrAck is for each acknowledgment that tells of bytes: the model, then what follows from it.
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

// bbrMeasure takes a sample of the bandwidth (§4.1.1.5).
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

// checkFull looks for the end of Startup's growth (§4.3.2.2).
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

// bbrCheckDrain goes from Startup by Drain to ProbeBW (§4.3.3).
func (c *Conn) bbrCheckDrain(now mono.Time) {
	b := c.bbr
	if b.mode == bbrStartup && b.full {
		b.mode = bbrDrain
	}
	if b.mode == bbrDrain && uint64(c.pipe()) <= c.bbrInflight(gainUnit) {
		c.bbrEnterProbeBW(now)
	}
}

// bbrEnterProbeBW begins with any phase but the one that sends less (§4.3.4.2); the connection's number is the
// chance in that.
func (c *Conn) bbrEnterProbeBW(now mono.Time) {
	b := c.bbr
	b.mode = bbrProbeBW
	b.cycle = uint8(len(bbrCycle)-1) - uint8(uint32(c.isn)>>8%7)
	b.nextPhase(now)
}

func (b *bbr) nextPhase(now mono.Time) {
	b.cycle = (b.cycle + 1) % uint8(len(bbrCycle))
	b.cycleAt = now
}

// bbrPhaseOver says whether a phase of ProbeBW has lasted as long as it should (§4.3.4.3).
func (c *Conn) bbrPhaseOver(now mono.Time, s *sample) bool {
	b := c.bbr
	long := now.Sub(b.cycleAt) > b.minRTT
	switch gain := bbrCycle[b.cycle]; {
	case gain > gainUnit: // until there is as much on its way as that makes, or room for no more
		return long && (s.lost > 0 || uint64(s.flying)+c.quantum() >= c.bbrInflight(gain))
	case gain < gainUnit: // until the queue that was made is gone
		return long || uint64(s.flying) <= c.bbrInflight(gainUnit)
	default:
		return long
	}
}

// bbrRTT keeps the least round trip of ten seconds, and looks for it with a window of four segments if it was not
// seen again in that time (§4.1.2.3, §4.3.5).
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
		c.bbr.rate.limited = max(c.bbr.rate.delivered+uint64(c.pipe()), 1) // by us
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

// bbrProbedRTT ends ProbeRTT if that has lasted long enough.
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

// gains are those of pacing and of the window.
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
