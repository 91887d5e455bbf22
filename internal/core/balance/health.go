package balance

import (
	"time"

	"tcpcopy/internal/core/mono"
)

// health is the state of a target: in, out for a time, or on trial.
//
//	in ── a few failures in a row ──► out ── the time is over, a copy begins ──► trial
//	▲                                  ▲                                          │ │
//	│                                  └──────── fails: out for twice as long ────┘ │
//	└───────────────────────────────── opens ───────────────────────────────────────┘
type health struct {
	state    healthState
	failures int           // in a row
	backoff  time.Duration // how long it was last out
	until    mono.Time     // the end of out or trial
}

// healthState is a state of the diagram at health.
type healthState uint8

const (
	in healthState = iota
	out
	trial
)

const (
	// failuresToOut is how many failures in a row take a target out.
	failuresToOut = 3
	firstBackoff  = time.Second
	maxBackoff    = 30 * time.Second
	// trialLimit is how long a trial without a result prevents others.
	trialLimit = 15 * time.Second
)

// usable reports whether a copy may begin at now.
func (h *health) usable(now mono.Time) bool { return h.state == in || h.until.Reached(now) }

// begun notes that a copy begins. If the target was out, the copy is the trial.
func (h *health) begun(now mono.Time) {
	if h.state != in && h.until.Reached(now) {
		h.state, h.until = trial, now.Add(trialLimit)
	}
}

// opened notes a success.
func (h *health) opened() { *h = health{} }

// failed notes a failure. It reports whether that takes the target out.
func (h *health) failed(now mono.Time) bool {
	switch h.state {
	case in:
		if h.failures++; h.failures < failuresToOut {
			return false
		}
		h.backoff = firstBackoff
	case trial:
		h.backoff = min(2*h.backoff, maxBackoff)
	case out: // the copy began earlier
		return false
	}
	h.state, h.until = out, now.Add(h.backoff)
	return true
}
