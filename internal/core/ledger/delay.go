package ledger

import (
	"fmt"
	"math/bits"
	"time"
)

const (
	delayUnit  = 12 // the finest slot is 1<<12 ns wide: 4 µs
	delaySteps = 8  // slots to each doubling
	delaySlots = 30 * delaySteps
)

// Delays is a histogram of durations from microseconds to hours, to an eighth of each. The zero
// value is empty.
type Delays struct {
	Count uint64
	Sum   time.Duration
	Most  time.Duration
	slots [delaySlots]uint64
}

// slotOf returns the slot that counts d. The width of slots doubles every delaySteps.
func slotOf(d time.Duration) int {
	n := uint64(max(d, 0)) >> delayUnit
	if n < delaySteps {
		return int(n)
	}
	shift := bits.Len64(n) - 4 // so that 8 ≤ n>>shift < 16
	return min(shift*delaySteps+int(n>>shift), delaySlots-1)
}

// upTo returns the longest delay that a slot counts.
func upTo(slot int) time.Duration {
	if slot < 2*delaySteps {
		return time.Duration(slot+1)<<delayUnit - 1
	}
	shift := slot/delaySteps - 1
	return time.Duration(uint64(slot%delaySteps+delaySteps+1)<<shift<<delayUnit) - 1
}

// Note counts the delay d; a negative one counts as 0.
func (h *Delays) Note(d time.Duration) {
	d = max(d, 0)
	h.Count++
	h.Sum += d
	h.Most = max(h.Most, d)
	h.slots[slotOf(d)]++
}

// Add adds the delays of g.
func (h *Delays) Add(g *Delays) {
	h.Count += g.Count
	h.Sum += g.Sum
	h.Most = max(h.Most, g.Most)
	for i, n := range g.slots {
		h.slots[i] += n
	}
}

// At returns the delay that the given share (0 to 1) of all delays does not exceed, to an eighth.
func (h *Delays) At(share float64) time.Duration {
	want := uint64(share * float64(h.Count))
	var sum uint64
	for i, n := range h.slots {
		if sum += n; sum > want || sum == h.Count {
			return min(upTo(i), h.Most)
		}
	}
	return h.Most
}

// String returns the number of delays, the longest and the mean, for tests and logs.
func (h Delays) String() string {
	return fmt.Sprintf("%d of %v at most, %v in the mean", h.Count, h.Most, h.Mean())
}

// Mean returns the mean delay; 0 if there is none.
func (h *Delays) Mean() time.Duration {
	if h.Count == 0 {
		return 0
	}
	return h.Sum / time.Duration(h.Count)
}
