package afpacket

import (
	"time"

	"tcpcopy/internal/core/mono"
)

// slack is how long a frame may have lain in a block before the reader could see it: the block
// timeout, and what the kernel's timer comes late under load.
const slack = 50 * time.Millisecond

// stampClock turns the kernel's stamps, which are wall clock time, into times of a clock that never
// jumps.
//
// Both clocks are read together for each batch, and their difference is added. If the wall clock
// was set between a stamp and that reading, the sum is wrong by the jump, so it is held to what is
// certain: a frame is not from the future, not older than the frame before it, and not older than
// the moment when the ring was last seen empty. A jump thus misdates only frames that were waiting
// during it, and those by no more than they waited.
type stampClock struct {
	offset int64     // mono minus wall, at the last reading
	now    mono.Time // at the last reading
	floor  mono.Time // no frame is older
}

// read takes both clocks as they are now; wall is nanoseconds since 1970.
func (c *stampClock) read(now mono.Time, wall int64) {
	c.now = now
	c.offset = int64(now) - wall
}

// empty notes that nothing was waiting at now.
func (c *stampClock) empty(now mono.Time) {
	c.floor = max(c.floor, now.Add(-slack))
}

// at converts a stamp.
func (c *stampClock) at(stamp int64) mono.Time {
	t := max(min(mono.Time(stamp+c.offset), c.now), c.floor)
	c.floor = t
	return t
}
