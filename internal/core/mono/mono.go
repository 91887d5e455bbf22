// Package mono is the time of the pure packages, which is handed in: nothing below the engine reads
// a clock. A Time counts nanoseconds since an origin that the caller chooses, and never goes back.
package mono

import (
	"math"
	"time"
)

// Time is a moment in nanoseconds since the caller's origin.
type Time int64

// Never is later than every other Time. As a deadline it means none.
const Never Time = math.MaxInt64

// Add returns the time d after t. Never plus d is Never.
func (t Time) Add(d time.Duration) Time {
	if t == Never {
		return Never
	}
	return t + Time(d)
}

// Sub returns the time from u to t.
func (t Time) Sub(u Time) time.Duration { return time.Duration(t - u) }

// Before reports whether t is earlier than u.
func (t Time) Before(u Time) bool { return t < u }

// After reports whether t is later than u.
func (t Time) After(u Time) bool { return t > u }

// Reached reports whether the deadline t has come at now.
func (t Time) Reached(now Time) bool { return t <= now }

// String returns t as a duration since the origin, or "never".
func (t Time) String() string {
	if t == Never {
		return "never"
	}
	return time.Duration(t).String()
}
