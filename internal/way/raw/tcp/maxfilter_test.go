package tcp

import (
	"testing"

	"pgregory.net/rapid"
)

// TestMaxFilter compares the filter with the list of all values. The filter keeps three, so it may
// have forgotten a value that has become the largest. But it never returns more than the maximum of
// the window, nor less than the maximum of its last quarter.
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
