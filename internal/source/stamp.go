package source

import (
	"time"

	"tcpcopy/internal/core/mono"
)

// slack is how long a frame may have waited before the reader could see it: the timeout of a ring's
// block, and what the kernel's timer comes late under load.
const slack = 50 * time.Millisecond

// StampClock turns the kernel's stamps, which are wall clock time, into times of a clock that never
// jumps.
//
// Both clocks are read together for each batch, and their difference is added. If the wall clock
// was set between a stamp and that reading, the sum is wrong by the jump, so it is held to what is
// certain: a frame is not from the future, not older than the frame before it, and not older than
// the moment when nothing was last seen to wait. A jump thus misdates only frames that were waiting
// during it, and those by no more than they waited.
type StampClock struct {
	offset int64     // mono minus wall, at the last reading
	now    mono.Time // at the last reading
	floor  mono.Time // no frame is older
}

// NewStampClock returns a clock for frames that come from now on.
func NewStampClock(now mono.Time) StampClock { return StampClock{floor: now} }

// Read takes both clocks as they are now; wall is nanoseconds since 1970.
func (c *StampClock) Read(now mono.Time, wall int64) {
	c.now = now
	c.offset = int64(now) - wall
}

// Empty notes that nothing was waiting at now.
func (c *StampClock) Empty(now mono.Time) {
	c.floor = max(c.floor, now.Add(-slack))
}

// At converts a stamp: nanoseconds since 1970.
func (c *StampClock) At(stamp int64) mono.Time {
	t := max(min(mono.Time(stamp+c.offset), c.now), c.floor)
	c.floor = t
	return t
}
