package ledger

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestSlotsRebuildAHistogram(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var all, early Delays
		for _, us := range rapid.SliceOf(rapid.IntRange(0, 100_000_000)).Draw(t, "delays") {
			all.Note(time.Duration(us) * time.Microsecond)
			if us%2 == 0 {
				early.Note(time.Duration(us) * time.Microsecond)
			}
		}
		again := Delays{Count: all.Count, Sum: all.Sum, Most: all.Most}
		last := -1
		for i, n := range all.Slots() {
			if i <= last || n == 0 || !again.PutSlot(i, n) {
				t.Fatalf("slot %d after %d has %d", i, last, n)
			}
			last = i
		}
		if again != all {
			t.Fatalf("got %v, want %v", again, all)
		}
		// What is taken away from the whole, and what is left, are the whole.
		rest := all
		rest.Sub(&early)
		sum := rest
		sum.Add(&early)
		if sum != all || rest.Count != all.Count-early.Count {
			t.Fatalf("%v and %v make %v", rest, early, sum)
		}
		if got := all.Within(SlotEnd(NumSlots - 2)); got != all.Count {
			t.Fatalf("within the longest: %d of %d", got, all.Count)
		}
	})
	if new(Delays).PutSlot(NumSlots, 1) || new(Delays).PutSlot(-1, 1) {
		t.Error("a slot that is none")
	}
}

func TestWithin(t *testing.T) {
	var h Delays
	for _, d := range []time.Duration{0, time.Millisecond, 50 * time.Millisecond, time.Second} {
		h.Note(d)
	}
	for d, want := range map[time.Duration]uint64{0: 0, 2 * time.Millisecond: 2,
		60 * time.Millisecond: 3, time.Minute: 4} {
		if got := h.Within(d); got != want {
			t.Errorf("within %v: %d, want %d", d, got, want)
		}
	}
	// Ends of slots are powers of two of the unit, less one, at each doubling.
	for i := range NumSlots - 1 {
		if SlotEnd(i) >= SlotEnd(i+1) {
			t.Errorf("slot %d ends at %v, the next at %v", i, SlotEnd(i), SlotEnd(i+1))
		}
	}
}
