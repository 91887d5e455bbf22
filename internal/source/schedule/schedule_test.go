package schedule

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"tcpcopy/internal/core/mono"
)

const (
	ms   = int64(time.Millisecond)
	sec  = int64(time.Second)
	noon = int64(1_764_072_000) * 1e9
)

// entry is a packet and what Due must return: the due time in ms since the start, -1 for Skip, -2
// for Over.
type entry struct {
	at    int64
	opens bool
	want  int64
}

func TestSchedule(t *testing.T) {
	for _, c := range []struct {
		name string
		cfg  Config
		list []entry
	}{
		{"as recorded", Config{Speed: 1}, []entry{{noon, true, 0}, {noon + 10*ms, false, 10},
			{noon + 3600*sec, false, 3_600_000}}},
		{"2.5 times", Config{Speed: 2.5}, []entry{{noon, true, 0}, {noon + sec, false, 400},
			{noon + 10*sec, false, 4000}}},
		{"half as fast", Config{Speed: 0.5}, []entry{{noon, true, 0}, {noon + sec, false, 2000}}},
		{"as fast as can be", Config{}, []entry{{noon, true, 0}, {noon + 3600*sec, false, 0}}},
		{"silences shortened", Config{Speed: 1, GapLimit: 2 * time.Second},
			[]entry{{noon, true, 0}, {noon + 2*sec, false, 2000}, {noon + 100*sec, false, 4000},
				{noon + 101*sec, false, 5000}}},
		{"silences shortened, at speed", Config{Speed: 2, GapLimit: 2 * time.Second},
			[]entry{{noon, true, 0}, {noon + 100*sec, false, 1000}}},
		{"a little out of order", Config{Speed: 1},
			[]entry{{noon, true, 0}, {noon + 20*ms, false, 20}, {noon + 10*ms, false, 20},
				{noon + 30*ms, false, 30}}},
		{"the clock was set back an hour", Config{Speed: 1},
			[]entry{{noon, true, 0}, {noon + sec, false, 1000}, {noon - 3600*sec, false, 1000},
				{noon - 3599*sec, false, 2000}}},
		{"a part", Config{Speed: 1, From: 10 * time.Second, To: 20 * time.Second},
			[]entry{{noon, true, -1}, {noon + 9*sec, true, -1}, {noon + 11*sec, true, 0},
				{noon + 12*sec, false, 1000}, {noon + 20*sec, false, -2}}},
		{"a part by the clock", Config{Speed: 1, Since: noon + sec, Until: noon + 3*sec},
			[]entry{{noon, true, -1}, {noon + sec, true, 0}, {noon + 2*sec, false, 1000},
				{noon + 3*sec, false, -2}}},
		{"a rate", Config{Speed: 1, Rate: 10},
			[]entry{{noon, true, 0}, {noon, true, 100}, {noon, false, 100},
				{noon + 50*ms, true, 200}, {noon + 60*ms, false, 210}, {noon + sec, true, 1150}}},
		{"a rate, as fast as can be", Config{Rate: 100},
			[]entry{{noon, true, 0}, {noon + sec, true, 10}, {noon + 2*sec, false, 10},
				{noon + 3*sec, true, 20}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			const start = mono.Time(7e9)
			s := New(c.cfg, start)
			for i, e := range c.list {
				due, verdict := s.Due(e.at, e.opens)
				got := int64(due.Sub(start)) / ms
				switch verdict {
				case Skip:
					got = -1
				case Over:
					got = -2
				}
				if got != e.want {
					t.Errorf("packet %d: %d ms, wanted %d", i, got, e.want)
				}
			}
		})
	}
}

// TestNothingAddsUp checks that the last of an hour of packets, a millisecond apart, is due to the
// microsecond.
func TestNothingAddsUp(t *testing.T) {
	for _, speed := range []float64{1, 3.7, 0.3, 1000} {
		s := New(Config{Speed: speed}, 0)
		var due mono.Time
		for i := range int64(3_600_001) {
			due, _ = s.Due(noon+i*ms, false)
		}
		want := mono.Time(3600e9 / speed)
		if d := due.Sub(want); d > time.Microsecond || d < -time.Microsecond {
			t.Errorf("at %v: the last packet is due %v late", speed, d)
		}
	}
}

func TestBackwards(t *testing.T) {
	s := New(Config{Speed: 1}, 0)
	for _, at := range []int64{noon, noon - 10*ms, noon - 5*sec, noon - 4*sec, noon - 3600*sec} {
		s.Due(at, false)
	}
	if s.Backwards() != 2 || s.Played() != time.Second {
		t.Errorf("set back %d times, %v played, wanted 2 and 1s", s.Backwards(), s.Played())
	}
}

// TestDueNeverFalls checks that due times never decrease, whatever a file's clock does.
func TestDueNeverFalls(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := New(Config{
			Speed:    rapid.SampledFrom([]float64{0, 0.1, 1, 3.7}).Draw(t, "speed"),
			Rate:     rapid.SampledFrom([]float64{0, 10, 1000}).Draw(t, "rate"),
			GapLimit: time.Duration(rapid.IntRange(0, 3).Draw(t, "gap")) * time.Second,
		}, 0)
		var last mono.Time
		at := noon
		for range 50 {
			at = max(0, at+rapid.Int64Range(-5*sec, 10*sec).Draw(t, "step"))
			due, _ := s.Due(at, rapid.Bool().Draw(t, "opens"))
			if due < last {
				t.Fatalf("due %v after %v", due, last)
			}
			last = due
		}
	})
}
