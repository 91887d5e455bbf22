// Package mono is the clock of the pure packages: a time that is handed in, never asked for.
//
// A Time counts nanoseconds since an origin that the caller chose (the engine's: the start of the
// process; a test's: zero). It never goes back. Nothing below the engine reads a clock.
package mono

import (
	"math"
	"time"
)

// Time is a moment in nanoseconds since the caller's origin.
type Time int64

// Never is later than every other Time: the deadline of one who waits for nothing.
const Never Time = math.MaxInt64

// Add returns t moved by d; Never stays Never.
func (t Time) Add(d time.Duration) Time {
	if t == Never {
		return Never
	}
	return t + Time(d)
}

// Sub returns the time from u to t.
func (t Time) Sub(u Time) time.Duration { return time.Duration(t - u) }

// Before says whether t is earlier than u.
func (t Time) Before(u Time) bool { return t < u }

// After says whether t is later than u.
func (t Time) After(u Time) bool { return t > u }

// Reached says whether a deadline of t has come at now.
func (t Time) Reached(now Time) bool { return t <= now }

// String shows t as seconds, or "never".
func (t Time) String() string {
	if t == Never {
		return "never"
	}
	return time.Duration(t).String()
}
