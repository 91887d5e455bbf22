package ledger

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// A quantile is at most an eighth too long, and never too short.
func TestDelaysAt(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := time.Duration(rapid.Int64Range(0, int64(4*time.Hour)).Draw(t, "delay"))
		var h, sum Delays
		h.Note(d)
		h.Note(10 * time.Hour)
		sum.Add(&h)
		got := sum.At(0.4)
		if got < d || got > d+d/8+4096 {
			t.Fatalf("%v is counted as %v", d, got)
		}
		if sum.Most != 10*time.Hour || sum.Count != 2 || sum.Mean() != (d+10*time.Hour)/2 {
			t.Fatalf("most %v, count %d, mean %v", sum.Most, sum.Count, sum.Mean())
		}
	})
}

func TestDelaysOfNothing(t *testing.T) {
	var h Delays
	if h.At(0.99) != 0 || h.Mean() != 0 {
		t.Errorf("%v, %v, wanted 0", h.At(0.99), h.Mean())
	}
	h.Note(-time.Second)
	if h.At(1) != 0 || h.Most != 0 {
		t.Errorf("of a delay below 0: %v, most %v", h.At(1), h.Most)
	}
}
