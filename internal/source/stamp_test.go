package source

import (
	"testing"
	"time"

	"tcpcopy/internal/core/mono"
)

func TestStampClock(t *testing.T) {
	const (
		ms   = mono.Time(time.Millisecond)
		hour = int64(time.Hour)
		wall = int64(1_700_000_000e9) // when the monotonic clock was zero
	)
	at := func(m mono.Time) int64 { return wall + int64(m) }
	type stamp struct {
		stamp int64
		want  mono.Time
	}
	for _, tt := range []struct {
		name  string
		empty mono.Time // when the ring was last seen empty
		now   mono.Time
		wall  int64 // at now
		in    []stamp
	}{
		{"steady", 900 * ms, 1000 * ms, at(1000 * ms), []stamp{
			{at(990 * ms), 990 * ms}, {at(995 * ms), 995 * ms}, {at(1000 * ms), 1000 * ms},
		}},
		{"a processor's stamps out of order", 900 * ms, 1000 * ms, at(1000 * ms), []stamp{
			{at(990 * ms), 990 * ms}, {at(989 * ms), 990 * ms}, {at(991 * ms), 991 * ms},
		}},
		{"waited long because the reader was slow", 0, 5000 * ms, at(5000 * ms), []stamp{
			{at(100 * ms), 100 * ms}, {at(4000 * ms), 4000 * ms},
		}},
		{"wall clock set back an hour since", 900 * ms, 1000 * ms, at(1000*ms) - hour, []stamp{
			{at(990 * ms), 1000 * ms}, {at(999*ms) - hour, 1000 * ms},
		}},
		{"wall clock set forward an hour since", 900 * ms, 1000 * ms, at(1000*ms) + hour, []stamp{
			{at(990 * ms), 850 * ms}, {at(999*ms) + hour, 999 * ms},
		}},
		{"stamp missing", 900 * ms, 1000 * ms, at(1000 * ms), []stamp{{0, 850 * ms}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var c StampClock
			c.Empty(tt.empty)
			c.Read(tt.now, tt.wall)
			for _, s := range tt.in {
				if got := c.At(s.stamp); got != s.want {
					t.Errorf("%v: got %v, want %v", time.Unix(0, s.stamp).UTC(), got, s.want)
				}
			}
		})
	}
}
