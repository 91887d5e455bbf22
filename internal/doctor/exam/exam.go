// Package exam decides how a copier examines the path of its copies to a target: when it sends
// which probe, what it asks of intercepts and witnesses, and when it knows enough. It is pure:
// package collect has the clock and the sockets.
//
// A probe is a SYN with the address of a client that no host has. Three go from the copier
// (outside), and three from the intercept, inside the target's network. The intercept reports
// which of them the target has answered. A witness, which is the doctor on the target, reports
// which of them arrived, which were answered, and what is wrong there.
package exam

import (
	"time"

	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/doctor"
	"tcpcopy/internal/way/link/wire"
)

// The times of an examination.
const (
	beginWithin = 1500 * time.Millisecond // in which intercepts and witnesses must be ready
	probeEvery  = 200 * time.Millisecond
	settle      = 600 * time.Millisecond // after the last probe
	endWithin   = 4 * time.Second        // in which witnesses must report
	probes      = 3
)

// phase is a part of an examination.
//
//	phase      until                                then
//	beginning  all have answered the begin, or time  probing; over, if no intercept takes part
//	probing    three probes were sent                settling
//	settling   answers had time to come              ending
//	ending     all have answered the end, or time    over
type phase uint8

const (
	beginning phase = iota
	probing
	settling
	ending
	over
)

// Do is what is to be done next, in this order.
type Do struct {
	Ask   wire.LookStep // of every intercept; 0: nothing
	First bool          // Ask the first intercept alone
	SYN   bool          // send a SYN of Outside
	Reset bool          // have the target forget it
	Over  bool
	Wait  mono.Time // when to call Next again, if nothing is seen before
}

// Exam is one examination. Its intercepts are numbered from 0.
type Exam struct {
	look       wire.Look
	intercepts int
	phase      phase
	since      mono.Time // the phase's beginning
	quiet      bool      // no probe is sent: the hosts examine themselves
	sent       int
	next       mono.Time // when the next probe is due

	answered int    // intercepts that have answered the phase's step
	part     []bool // intercepts that take part
	expected int    // witnesses that were asked
	told     int    // witnesses that have answered the phase's step
	asked    bool
	result   doctor.Probe
}

// New returns an examination by a number of intercepts. If quiet is set, no probe is sent: the
// hosts of intercepts and witnesses only examine themselves.
func New(now mono.Time, look wire.Look, intercepts int, quiet bool) *Exam {
	return &Exam{
		look: look, intercepts: intercepts, quiet: quiet, since: now,
		part:   make([]bool, intercepts),
		result: doctor.Probe{Client: look.Client},
	}
}

// Look returns the question of a step.
func (e *Exam) Look(step wire.LookStep) wire.Look {
	q := e.look
	q.Step = step
	return q
}

// Result returns what is known.
func (e *Exam) Result() doctor.Probe { return e.result }

// Seen takes in what an intercept, or a witness behind it, has answered.
func (e *Exam) Seen(from int, s *wire.Seen) {
	switch {
	case s.Step == wire.LookSend:
		if s.Refused != "" {
			e.result.InsideErr = s.Refused
		} else {
			e.result.Inside.Sent++
		}
	case s.Step == wire.LookBegin && e.phase == beginning:
		e.begun(from, s)
	case s.Step == wire.LookEnd && e.phase == ending:
		e.ended(s)
	}
}

func (e *Exam) begun(from int, s *wire.Seen) {
	switch {
	case s.Witness:
		e.told++
		if s.Refused != "" {
			e.result.Err = "the witness: " + s.Refused
		}
	case s.Refused != "":
		e.answered++
		e.result.Err = s.Refused
	default:
		e.answered++
		e.part[from] = true
		e.expected += int(s.Witnesses)
	}
}

func (e *Exam) ended(s *wire.Seen) {
	r := &e.result
	if s.Refused != "" {
		if s.Witness {
			e.told++
		} else {
			e.answered++
			r.Err = s.Refused
		}
		return
	}
	findings := doctor.DecodeFindings(s.Findings)
	if !s.Witness {
		e.answered++
		r.Outside.Answered += int(s.Outside.Answers)
		r.Inside.Answered += int(s.Inside.Answers)
		if s.Answerer.IsValid() {
			r.Answerer = s.Answerer
		}
		r.AtIntercept = append(r.AtIntercept, findings...)
		return
	}
	e.told++
	r.Witnessed = true
	r.Outside.Arrived += int(s.Outside.SYNs)
	r.Inside.Arrived += int(s.Inside.SYNs)
	r.Outside.Left += int(s.Outside.Answers)
	r.Inside.Left += int(s.Inside.Answers)
	if s.Source.IsValid() {
		r.Source = s.Source
	}
	r.AtTarget = append(r.AtTarget, findings...)
}

// Next returns what is to be done now.
func (e *Exam) Next(now mono.Time) Do {
	switch e.phase {
	case beginning:
		return e.begin(now)
	case probing:
		return e.probe(now)
	case settling:
		if now.Sub(e.since) < settle {
			return Do{Wait: e.since.Add(settle)}
		}
		e.enter(ending, now)
		fallthrough
	case ending:
		return e.end(now)
	}
	return Do{Over: true}
}

func (e *Exam) enter(p phase, now mono.Time) {
	e.phase, e.since, e.asked, e.answered, e.told = p, now, false, 0, 0
}

func (e *Exam) begin(now mono.Time) Do {
	limit := e.since.Add(beginWithin)
	switch {
	case !e.asked:
		e.asked = true
		return Do{Ask: wire.LookBegin, Wait: limit}
	case (e.answered < e.intercepts || e.told < e.expected) && now.Before(limit):
		return Do{Wait: limit}
	}
	if !e.takesPart() {
		if e.result.Err == "" {
			e.result.Err = "no intercept has answered"
		}
		e.phase = over
		return Do{Over: true}
	}
	e.result.Err = ""
	if e.quiet {
		e.enter(ending, now)
		return e.end(now)
	}
	e.enter(probing, now)
	e.next = now
	return e.probe(now)
}

func (e *Exam) takesPart() bool {
	for _, p := range e.part {
		if p {
			return true
		}
	}
	return false
}

func (e *Exam) probe(now mono.Time) Do {
	if !e.next.Reached(now) {
		return Do{Wait: e.next}
	}
	if e.sent == probes {
		e.enter(settling, now)
		return Do{Wait: now.Add(settle)}
	}
	e.sent++
	e.result.Outside.Sent++
	e.next = now.Add(probeEvery)
	return Do{Ask: wire.LookSend, First: true, SYN: true, Wait: e.next}
}

func (e *Exam) end(now mono.Time) Do {
	limit := e.since.Add(endWithin)
	if !e.asked {
		e.asked = true
		return Do{Ask: wire.LookEnd, Reset: true, Wait: limit}
	}
	took := 0
	for _, p := range e.part {
		if p {
			took++
		}
	}
	if (e.answered < took || e.told < e.expected) && now.Before(limit) {
		return Do{Wait: limit}
	}
	if e.answered < took {
		e.result.Err = "an intercept has not answered"
	}
	e.phase = over
	return Do{Over: true}
}
