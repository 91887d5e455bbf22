package fidelity

import (
	"fmt"
	"time"

	"tcpcopy/internal/core/ledger"
)

// What a verdict that blames somebody takes: a run that was long enough to tell a cause from an
// accident.
const (
	enoughTime  = 2 * time.Second
	enoughTurns = 100
)

// Enough reports whether a run was long enough to blame somebody for what it lacked.
func Enough(elapsed time.Duration, turns uint64) bool {
	return elapsed >= enoughTime && turns >= enoughTurns
}

// Short is the verdict on a run that was not long enough.
func Short(elapsed time.Duration, turns uint64) string {
	return fmt.Sprintf(
		"too short for a verdict: %d turns in %v",
		turns,
		elapsed.Round(100*time.Millisecond),
	)
}

const (
	// good is the value from which on a part is as it should be.
	good = 99.0
	// busy is the part of the processors from which on they are the bottleneck.
	busy = 0.8
)

// judge returns who kept the copy from being better, and a sentence that says why.
func (in *Input) judge(s *Score) (Who, string) {
	c := &in.Cause
	switch {
	case in.Turns == 0:
		return Open, "No verdict: nothing was copied."
	case s.Value != nil && *s.Value >= good:
		return Nobody, "The copy was like production: neither the target nor tcpcopy held it back."
	case !Enough(in.Elapsed, in.Turns):
		return Open, "The run was " + Short(in.Elapsed, in.Turns) + "."
	}
	worst := ""
	for _, p := range s.Parts {
		if p.Value == s.Value {
			worst = p.Name
		}
	}
	switch {
	case !in.Balanced:
		return Tool, "tcpcopy held the copy back: its account does not balance, which is a bug."
	case worst == "earliness" && in.Ungated:
		return Tool, "The copy is not like production: turns wait for no answer (--wait none)."
	case c.CPU >= busy:
		return Tool, fmt.Sprintf(
			"tcpcopy held the copy back: it used %.0f %% of the processor time that it may "+
				"(GOMAXPROCS).",
			100*c.CPU,
		)
	case worst == "delivery" || worst == "multiplier":
		return in.whoLost()
	case worst == "timing" || worst == "concurrency":
		return in.whoWaited()
	}
	return Open, "Neither the target nor tcpcopy stands out: the worst part is " + worst + "."
}

// whoLost blames whoever lost the most sessions.
func (in *Input) whoLost() (Who, string) {
	c := &in.Cause
	gaps := c.KernelDrop + c.AgentDrop
	switch {
	case c.Target > c.Tool && c.Target*2 >= in.Sessions.Lost:
		return Target, fmt.Sprintf(
			"The target held the copy back: it refused, reset, closed or did not answer "+
				"%d of the %d sessions that were lost.",
			c.Target,
			in.Sessions.Lost,
		)
	case gaps > 0:
		return Tool, fmt.Sprintf(
			"tcpcopy held the copy back: %d of %d packets were lost before it saw them.",
			gaps,
			max(c.Offered, gaps),
		)
	case c.Tool > 0:
		return Tool, fmt.Sprintf(
			"tcpcopy held the copy back: it dropped %d of the %d sessions that were lost, at "+
				"its bounds.",
			c.Tool,
			in.Sessions.Lost,
		)
	case c.Gaps*2 >= in.Sessions.Lost && c.Gaps > 0:
		return Tool, fmt.Sprintf(
			"The capture held the copy back: of %d of the %d sessions that were lost, packets "+
				"never reached tcpcopy.",
			c.Gaps,
			in.Sessions.Lost,
		)
	}
	return Open, fmt.Sprintf(
		"What was lost has other causes than the target or tcpcopy's bounds: the reasons of "+
			"the %d lost sessions name them.",
		in.Sessions.Lost,
	)
}

// StoodStill reports whether the time for which the process did not run explains the turns that
// went late, if they are 1 % or more. What comes while it stands still is late, and so is what
// comes while it catches up, which takes as long and longer.
func StoodStill(still, elapsed time.Duration, behind *ledger.Delays) bool {
	const catchUp = 4
	if behind.Count == 0 || elapsed <= 0 {
		return false
	}
	late := float64(behind.Count-behind.Within(OnTime)) / float64(behind.Count)
	return late >= 0.01 && catchUp*still.Seconds()/elapsed.Seconds() >= late
}

// whoWaited tells turns that waited for the target's answers from packets that were read late.
func (in *Input) whoWaited() (Who, string) {
	behind := in.Behind.At(0.99)
	switch {
	case in.Scheduled && in.Late.At(0.99) > max(behind, 2*in.Cause.Paused, OnTime):
		return Tool, fmt.Sprintf(
			"tcpcopy held the copy back: sessions began up to %v late (99 %%), because packets "+
				"were read too late.",
			in.Late.At(0.99).Round(time.Millisecond),
		)
	case StoodStill(in.Cause.StoodStill, in.Elapsed, in.Behind):
		return Tool, fmt.Sprintf(
			"tcpcopy held the copy back: it stood still for %v of %v (stopped, or without a "+
				"processor).",
			in.Cause.StoodStill.Round(time.Millisecond),
			in.Elapsed.Round(time.Millisecond),
		)
	case behind > OnTime:
		return Target, fmt.Sprintf(
			"The target held the copy back: requests waited up to %v (99 %%) for its answers.",
			behind.Round(time.Millisecond),
		)
	}
	return Open, "Neither the target nor tcpcopy stands out: the curves of open connections differ."
}
