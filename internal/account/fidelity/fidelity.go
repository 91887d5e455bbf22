// Package fidelity says how like production's traffic a copy was, and what kept it from being more
// so: the target, or tcpcopy.
//
// It is pure: it computes a Score of counts that its caller took of an account. docs/fidelity.md
// has the definitions.
package fidelity

import (
	"fmt"
	"math"
	"time"

	"tcpcopy/internal/core/ledger"
)

// OnTime is how late a turn may go and still be on time.
const OnTime = 50 * time.Millisecond

// Input is what a score is made of.
type Input struct {
	Elapsed  time.Duration
	Balanced bool // captured = delivered + in flight + dropped

	Sessions, Bytes Share
	Turns           uint64
	Connections     uint64 // of which a copy was begun: their first turns wait for nothing
	Forced          uint64 // turns that went before the answer that they waited for had ended
	Ungated         bool   // turns wait for no answer: --wait none
	Behind          *ledger.Delays

	// Scheduled and Late are of a replay: whether its sessions have a time to begin at, and by how
	// much they missed it.
	Scheduled, Live bool
	Late            *ledger.Delays

	// The area below the curve of production's open connections, and between that and the targets',
	// in connections times seconds. Area 0: there is no curve.
	Area, Apart float64

	Wanted float64 // copies of each session, 1 or more; 0: not known
	Copies uint64  // that targets accepted

	Cause Cause
}

// Share is what was delivered and lost of what was to be delivered and has ended.
type Share struct{ Delivered, Lost uint64 }

// Cause is the evidence for who kept a copy from being better.
type Cause struct {
	CPU        float64 // the part of the processors it may use that the process has used, 0 to 1
	KernelDrop uint64  // packets
	Offered    uint64  // packets
	AgentDrop  uint64  // packets that agents left out or lost
	Tool       uint64  // sessions that were dropped for a reason of tcpcopy's, or of its bounds
	Target     uint64  // sessions that were dropped for what the target did
	Gaps       uint64  // sessions of which packets were missing
	Paused     time.Duration
	StoodStill time.Duration // the process did not run although there was traffic
}

// Part is one part of a score. Value is from 0 to 100, and nil where there is nothing to judge by.
type Part struct {
	Name  string   `json:"name"`
	Value *float64 `json:"value"`
	Why   string   `json:"why"` // in a few words, with the numbers that it was made of
}

// Who kept a copy from being better.
type Who string

// The verdicts.
const (
	Nobody Who = "nobody"
	Tool   Who = "tool"
	Target Who = "target"
	Open   Who = "open" // it cannot be told
)

// Score is how like production's traffic a copy was.
type Score struct {
	Value   *float64 `json:"value"` // of the worst part; nil: no part has one
	Parts   []Part   `json:"parts"`
	Who     Who      `json:"who"`
	Verdict string   `json:"verdict"` // one sentence
}

// Of returns the score of a copy.
func Of(in *Input) *Score {
	s := &Score{Parts: []Part{
		in.order(), in.earliness(), in.delivery(), in.concurrency(), in.timing(), in.multiplier(),
	}}
	for _, p := range s.Parts {
		if p.Value != nil && (s.Value == nil || *p.Value < *s.Value) {
			s.Value = p.Value
		}
	}
	s.Who, s.Verdict = in.judge(s)
	return s
}

// percent returns part of all as a value of a Part, between 0 and 100, in thousandths and rounded
// down: 100 is all of it.
func percent(part, all float64) *float64 {
	v := math.Floor(1e5*max(0, min(1, part/all))) / 1e3
	return &v
}

// order: a copy's bytes go in the order of its client's, each once, or not at all. What could break
// that is a fault of tcpcopy's own books.
func (in *Input) order() Part {
	p := Part{Name: "order", Why: "bytes go in the clients' order, each once; the account balances"}
	switch {
	case in.Turns == 0:
		p.Why = "no turn went"
	case in.Balanced:
		p.Value = percent(1, 1)
	default:
		p.Value, p.Why = percent(0, 1), "the account does not balance: a bug"
	}
	return p
}

// earliness: no turn goes before the target has answered what its client had seen answered.
func (in *Input) earliness() Part {
	p := Part{Name: "earliness"}
	if in.Turns == 0 {
		p.Why = "no turn went"
		return p
	}
	early := in.Forced
	if in.Ungated {
		early = in.Turns - min(in.Turns, in.Connections)
	}
	p.Value = percent(float64(in.Turns-min(early, in.Turns)), float64(in.Turns))
	p.Why = fmt.Sprintf(
		"%d of %d turns went before the answer that they waited for had ended",
		early,
		in.Turns,
	)
	if in.Ungated {
		p.Why = fmt.Sprintf("%d of %d turns waited for no answer (--wait none)", early, in.Turns)
	}
	return p
}

// delivery: what was to be delivered, and has ended, arrived. The worse of sessions and bytes
// counts.
func (in *Input) delivery() Part {
	p := Part{Name: "delivery", Why: "nothing has ended"}
	for _, one := range []struct {
		what string
		Share
	}{{"sessions", in.Sessions}, {"bytes", in.Bytes}} {
		ended := one.Delivered + one.Lost
		if ended == 0 {
			continue
		}
		if v := percent(float64(one.Delivered), float64(ended)); p.Value == nil || *v < *p.Value {
			p.Value = v
			p.Why = fmt.Sprintf("%d of %d %s arrived", one.Delivered, ended, one.what)
		}
	}
	return p
}

// concurrency: as many connections are open at the target as at production, at the same time.
func (in *Input) concurrency() Part {
	p := Part{Name: "concurrency", Why: "no curve was taken"}
	if in.Area > 0 {
		p.Value = percent(in.Area-in.Apart, in.Area)
		p.Why = fmt.Sprintf(
			"the curves of open connections lie %.1f %% of production's apart",
			100*in.Apart/in.Area,
		)
	}
	return p
}

// timing: turns go when they did at production, or at their time of a replay.
func (in *Input) timing() Part {
	p := Part{Name: "timing", Why: "no turn was timed"}
	switch {
	case !in.Live && !in.Scheduled:
		p.Why = "a replay at --speed max has no times to keep"
		return p
	case in.Behind.Count == 0:
		return p
	}
	p.Value = percent(float64(in.Behind.Within(OnTime)), float64(in.Behind.Count))
	p.Why = fmt.Sprintf(
		"%d of %d turns went within %v",
		in.Behind.Within(OnTime),
		in.Behind.Count,
		OnTime,
	)
	if in.Scheduled && in.Late.Count > 0 {
		if v := percent(float64(in.Late.Within(OnTime)), float64(in.Late.Count)); *v < *p.Value {
			p.Value = v
			p.Why = fmt.Sprintf(
				"%d of %d sessions began within %v of their time",
				in.Late.Within(OnTime),
				in.Late.Count,
				OnTime,
			)
		}
	}
	return p
}

// multiplier: there are as many copies of each connection as were asked for.
func (in *Input) multiplier() Part {
	p := Part{Name: "multiplier", Why: "no connection was copied"}
	if in.Connections == 0 || in.Wanted <= 0 {
		return p
	}
	got := float64(in.Copies) / float64(in.Connections)
	p.Value = percent(min(got, in.Wanted), max(got, in.Wanted))
	p.Why = fmt.Sprintf("%.4g copies of each connection; %.4g were asked for", got, in.Wanted)
	return p
}
