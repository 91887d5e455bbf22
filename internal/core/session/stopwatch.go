package session

import "tcpcopy/internal/core/mono"

// maxTimed is how many outstanding requests are timed at once.
const maxTimed = 64

// stopwatch keeps when requests were sent whose answers are outstanding. Requests are numbered in
// the order in which they are sent. While maxTimed of them are kept, further ones are not timed.
type stopwatch struct {
	from uint64 // the number of sent[0]
	sent []mono.Time
}

// start notes that the n-th request was sent at now. n must rise from call to call.
func (w *stopwatch) start(n uint64, now mono.Time) {
	switch {
	case len(w.sent) == 0:
		w.from = n
	case n != w.from+uint64(len(w.sent)) || len(w.sent) == maxTimed:
		return
	}
	w.sent = append(w.sent, now)
}

// stop returns when the n-th request was sent, whose answer has ended. ok reports whether it was
// timed. Requests up to the n-th are forgotten.
func (w *stopwatch) stop(n uint64) (at mono.Time, ok bool) {
	i := n - w.from
	if n < w.from || i >= uint64(len(w.sent)) {
		return 0, false
	}
	at = w.sent[i]
	if i++; i == uint64(len(w.sent)) {
		w.sent = w.sent[:0]
		return at, true
	}
	w.sent = w.sent[:copy(w.sent, w.sent[i:])]
	w.from += i
	return at, true
}
