package afpacket

import (
	"testing"
	"time"

	"tcpcopy/internal/core/mono"
)

// TestPace: there is no pause while few frames come, and one while many do; a silence ends it.
func TestPace(t *testing.T) {
	const pause = 2 * time.Millisecond
	ms := func(n int) mono.Time { return mono.Time(n) * mono.Time(time.Millisecond) }
	p := pace{pause: pause, above: 8000}
	check := func(now int, frames int, want time.Duration) {
		t.Helper()
		p.add(ms(now), frames)
		if got := p.length(); got != want {
			t.Errorf("at %d ms: a pause of %v, wanted %v", now, got, want)
		}
	}
	check(0, 1, 0)
	for now := 1; now <= 100; now++ { // 7,000 a second
		check(now, 7, 0)
	}
	for now := 101; now < 110; now++ { // 20,000 a second, but the window is not over
		check(now, 20, 0)
	}
	for now := 110; now <= 200; now++ {
		check(now, 20, pause)
	}
	check(205, 40, pause) // less than a window later: as before
	check(1205, 1, 0)     // after a second without frames
	check(1206, 500, 0)
	check(1215, 1, pause)

	always := pace{pause: pause}
	if got := always.length(); got != pause {
		t.Errorf("without a bound: a pause of %v, wanted %v", got, pause)
	}
}
