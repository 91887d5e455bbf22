package sys

import (
	"testing"
	"time"
)

// TestSleeper: it sleeps as long as it is told to, again and again, and allocates nothing.
func TestSleeper(t *testing.T) {
	s, err := NewSleeper()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, d := range []time.Duration{0, -time.Second, 50 * time.Microsecond,
		1500 * time.Microsecond, 20 * time.Millisecond} {
		start := time.Now()
		if err := s.Sleep(d); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took < d {
			t.Errorf("slept %v, wanted %v", took, d)
		}
	}
	if n := testing.AllocsPerRun(20, func() { s.Sleep(10 * time.Microsecond) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
