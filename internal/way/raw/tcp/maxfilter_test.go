package tcp

import (
	"testing"

	"pgregory.net/rapid"
)

// TestMaxFilter holds the filter against the list of all values. It keeps three of them, and so it
// may forget one that was smaller than the best and is the largest by now, but it never says more
// than the largest of the window, nor less than the largest of the last quarter of it.
func TestMaxFilter(t *testing.T) {
	const window = 10
	rapid.Check(t, func(t *rapid.T) {
		var f maxFilter
		var all []valued
		round := uint32(0)
		for range rapid.IntRange(1, 100).Draw(t, "values") {
			round += uint32(rapid.IntRange(0, 4).Draw(t, "rounds"))
			v := valued{round, uint64(rapid.IntRange(0, 50).Draw(t, "value"))}
			all = append(all, v)
			f.add(window, round, v.value)
			most, recent := uint64(0), uint64(0)
			for _, v := range all {
				if round-v.round <= window {
					most = max(most, v.value)
				}
				if round-v.round <= window/4 {
					recent = max(recent, v.value)
				}
			}
			if got := f.get(); got > most || got < recent {
				t.Fatalf("the filter says %d, of %v in round %d: wanted %d to %d", got, all, round,
					recent, most)
			}
		}
	})
}
