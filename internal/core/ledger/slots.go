package ledger

import (
	"iter"
	"time"
)

// NumSlots is the number of a histogram's slots.
const NumSlots = delaySlots

// Slots yields the index and the count of each slot that is not empty, in ascending order.
func (h *Delays) Slots() iter.Seq2[int, uint64] {
	return func(yield func(int, uint64) bool) {
		for i, n := range h.slots {
			if n > 0 && !yield(i, n) {
				return
			}
		}
	}
}

// PutSlot adds n delays to the slot with the given index, as Slots yields it. It reports whether
// there is such a slot. It leaves Count, Sum and Most to its caller.
func (h *Delays) PutSlot(index int, n uint64) bool {
	if index < 0 || index >= delaySlots {
		return false
	}
	h.slots[index] += n
	return true
}

// SlotEnd returns the longest delay that is counted in the slot with the given index. The last slot
// has no end: it counts what is longer, too.
func SlotEnd(index int) time.Duration { return upTo(index) }

// Within returns how many delays lie in slots that end at d or before. It is exact where d is the
// end of a slot.
func (h *Delays) Within(d time.Duration) (n uint64) {
	for i := 0; i < delaySlots-1 && upTo(i) <= d; i++ {
		n += h.slots[i]
	}
	return n
}

// Sub removes the delays of an earlier state of the same histogram. Most stays that of the whole.
func (h *Delays) Sub(earlier *Delays) {
	h.Count -= earlier.Count
	h.Sum -= earlier.Sum
	for i, n := range earlier.slots {
		h.slots[i] -= n
	}
}
