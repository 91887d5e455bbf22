package balance

import (
	"time"

	"tcpcopy/internal/core/mono"
)

// health is what is thought of a target: in, out until a time, or on trial.
//
//	in ── a few failures in a row ──► out ── the time is over, a copy begins ──► trial
//	▲                                  ▲                                          │ │
//	│                                  └──────── fails: out for twice as long ────┘ │
//	└───────────────────────────────── opens ───────────────────────────────────────┘
type health struct {
	state    healthState
	failures int           // in a row
	backoff  time.Duration // how long it was out last
	until    mono.Time     // of out and trial
}

type healthState uint8

const (
	in healthState = iota
	out
	trial
)

const (
	// failuresToOut in a row take a target out: one alone may be an accident.
	failuresToOut = 3
	firstBackoff  = time.Second
	maxBackoff    = 30 * time.Second
	// trialLimit is how long one trial keeps others away, if nothing is heard of it.
	trialLimit = 15 * time.Second
)

// usable says whether a copy may begin at now.
func (h *health) usable(now mono.Time) bool { return h.state == in || h.until.Reached(now) }

// begun notes that a copy begins: if the target was out, it is the trial.
func (h *health) begun(now mono.Time) {
	if h.state != in && h.until.Reached(now) {
		h.state, h.until = trial, now.Add(trialLimit)
	}
}

func (h *health) opened() { *h = health{} }

// failed notes a failure, and says whether it takes the target out.
func (h *health) failed(now mono.Time) bool {
	switch h.state {
	case in:
		if h.failures++; h.failures < failuresToOut {
			return false
		}
		h.backoff = firstBackoff
	case trial:
		h.backoff = min(2*h.backoff, maxBackoff)
	case out: // one that was begun before
		return false
	}
	h.state, h.until = out, now.Add(h.backoff)
	return true
}
