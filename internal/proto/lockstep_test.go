package proto

import (
	"testing"
	"time"

	"tcpcopy/internal/core/mono"
)

const (
	never = time.Duration(-1)
	start = mono.Time(time.Hour)
)

// lockstepEvent is a turn of the client, or a look at the one before it.
type lockstepEvent struct {
	turn  *Turn
	at    time.Duration // when it is looked at
	have  uint64        // messages that the target has sent
	wakes time.Duration // 0: it goes
}

func known(at time.Duration, asked, seen uint64) *Turn {
	return &Turn{At: start.Add(at), Asked: asked, Seen: seen, Known: true}
}

func unknown(at time.Duration, asked uint64) *Turn {
	return &Turn{At: start.Add(at), Asked: asked}
}

func TestLockstep(t *testing.T) {
	const s = time.Second
	soon := unknown(10*s, 1)
	soon.Soon = true
	for name, events := range map[string][]lockstepEvent{
		"each waits for as many as its client had seen": {
			{known(0, 0, 0), 0, 0, 0}, {known(s, 1, 1), s, 0, never}, {nil, 60 * s, 0, never},
			{nil, 61 * s, 1, 0}, {known(2*s, 2, 2), 61 * s, 1, never}, {nil, 62 * s, 2, 0},
		},
		"a greeting is waited for, for a second": {
			{known(0, 0, 2), 0, 0, s}, {nil, s, 1, 0}, {known(2*s, 1, 3), 2 * s, 1, 3 * s},
			{nil, 2 * s, 2, 0},
		},
		"production pushes: a second behind its client, and behind where the copy began": {
			{known(0, 0, 0), 5 * s, 0, 0}, {known(s, 1, 9), 6 * s, 0, 7 * s}, {nil, 7 * s, 0, 0},
		},
		"the target pushes": {
			{known(0, 0, 0), 0, 0, 0}, {known(s, 1, 1), s, 4, 0},
			{known(2*s, 2, 2), 2 * s, 4, 3 * s},
		},
		"a target that has sent some, and no more": {
			{known(0, 0, 0), 0, 0, 0}, {known(0, 3, 3), 0, 1, 10 * s}, {nil, 10 * s, 1, 0},
			{known(11*s, 4, 4), 11 * s, 1, 12 * s},
		},
		"production is not read: one message since the turn before": {
			{unknown(0, 0), 0, 0, 0}, {unknown(s, 1), s, 0, never}, {nil, 5 * s, 1, 0},
			{unknown(2*s, 2), 5 * s, 1, never}, {nil, 6 * s, 2, 0},
		},
		"it may be no reaction": {
			{unknown(0, 0), 0, 0, 0}, {soon, 10 * s, 0, 11 * s}, {nil, 11 * s, 0, 0},
		},
	} {
		var l Lockstep
		var turn Turn
		for i, e := range events {
			if e.turn != nil {
				turn = l.Begin(*e.turn)
			}
			want := mono.Time(0)
			switch e.wakes {
			case 0:
			case never:
				want = mono.Never
			default:
				want = start.Add(e.wakes)
			}
			if got := l.Check(start.Add(e.at), &turn, e.have); got != want {
				t.Errorf("%s: event %d: it wakes at %v, wanted %v", name, i, got, want)
			}
		}
	}
}

func TestLockstepForced(t *testing.T) {
	var l Lockstep
	l.Begin(*known(0, 0, 0))
	turn := l.Begin(*known(0, 1, 1))
	if l.Settled(1, 1, 0) || !l.Settled(1, 1, 1) || !l.Settled(1, 2, 0) {
		t.Error("it is not settled when the target has sent as many")
	}
	if !l.Force(&turn) || l.Force(&turn) || l.Check(start, &turn, 0) != 0 {
		t.Error("a turn that is forced does not go")
	}
	if !l.Pushes() || !l.Settled(1, 1, 0) {
		t.Error("later turns wait for long")
	}
}
