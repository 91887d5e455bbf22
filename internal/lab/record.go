package lab

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// clock returns times since the run began. Both servers and the load share one, so that their times
// can be compared.
type clock struct{ begin time.Time }

func newClock() clock { return clock{begin: time.Now()} }

// now is monotonic.
func (c clock) now() time.Duration { return time.Since(c.begin) }

// arrival is a sound request that a server received.
type arrival struct {
	conn, num uint32
	at        time.Duration // when the read returned that brought its first byte
	early     bool          // before the copy could have seen the answers that the client had seen
}

// maxExamples bounds the findings that are kept in words.
const maxExamples = 5

// record holds what one server received. Its counters may be read at any time, the rest once the
// server is closed.
type record struct {
	requests  atomic.Int64 // sound ones
	bytes     atomic.Int64 // that clients sent, whatever they were
	corrupted atomic.Int64 // requests with a wrong header, length or sum
	early     atomic.Int64
	opened    atomic.Int64 // connections, from the start
	open      atomic.Int64 // connections at this moment
	mostOpen  atomic.Int64
	mostAt    atomic.Int64 // when mostOpen was reached, as a time.Duration of the clock
	firstAt   atomic.Int64 // when the first connection came
	// when the last request or connection came, as a time.Duration of the clock
	last atomic.Int64

	mu       sync.Mutex
	streams  [][]arrival // for each accepted connection, in its order
	examples []string
}

// opening counts a new connection. Only the goroutine that accepts may call it.
func (r *record) opening(at time.Duration) {
	if r.opened.Add(1) == 1 {
		r.firstAt.Store(int64(at))
	}
	r.last.Store(int64(at))
	now := r.open.Add(1)
	if now > r.mostOpen.Load() {
		r.mostOpen.Store(now)
		r.mostAt.Store(int64(at))
	}
}

func (r *record) closing(stream []arrival) {
	r.open.Add(-1)
	if len(stream) == 0 {
		return
	}
	r.mu.Lock()
	r.streams = append(r.streams, stream)
	r.mu.Unlock()
}

// example keeps the first findings in words.
func (r *record) example(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.examples) < maxExamples {
		r.examples = append(r.examples, fmt.Sprintf(format, args...))
	}
}
