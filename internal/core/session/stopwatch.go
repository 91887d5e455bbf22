package session

import "tcpcopy/internal/core/mono"

// maxTimed is how many requests under way at once are timed.
const maxTimed = 64

// stopwatch keeps when requests went whose answers are still to come, by their numbers. While more are under way
// than it keeps, later ones are not timed.
type stopwatch struct {
	from uint64 // the number of the first that is kept
	went []mono.Time
}

// start notes that the n-th request has gone. Numbers rise.
func (w *stopwatch) start(n uint64, now mono.Time) {
	switch {
	case len(w.went) == 0:
		w.from = n
	case n != w.from+uint64(len(w.went)) || len(w.went) == maxTimed:
		return
	}
	w.went = append(w.went, now)
}

// stop says when the n-th request went, whose answer has ended, if that was kept; those before it are forgotten.
func (w *stopwatch) stop(n uint64) (went mono.Time, ok bool) {
	i := n - w.from
	if n < w.from || i >= uint64(len(w.went)) {
		return 0, false
	}
	went = w.went[i]
	if i++; i == uint64(len(w.went)) {
		w.went = w.went[:0]
		return went, true
	}
	w.went = w.went[:copy(w.went, w.went[i:])]
	w.from += i
	return went, true
}
