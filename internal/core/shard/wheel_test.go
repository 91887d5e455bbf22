package shard

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"tcpcopy/internal/core/mono"
)

// The wheel against a list: whatever is set, moved and taken out, fire calls exactly what is due.
func TestWheelProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var w wheel
		start := mono.Time(rapid.Int64Range(0, int64(3*time.Hour)).Draw(t, "start"))
		w.now = int64(start) / int64(tick)
		now := start
		entries := make([]*entry, 12)
		for i := range entries {
			entries[i] = &entry{index: i}
		}
		due := map[int]int64{} // in ticks
		reach := rapid.SampledFrom([]int64{int64(20 * time.Millisecond), int64(2 * time.Second),
			int64(20 * time.Minute), int64(3 * time.Hour)})
		for range rapid.IntRange(1, 120).Draw(t, "steps") {
			i := rapid.IntRange(0, len(entries)-1).Draw(t, "entry")
			switch rapid.IntRange(0, 5).Draw(t, "what") {
			case 0, 1, 2:
				at := now + mono.Time(rapid.Int64Range(-int64(time.Second),
					reach.Draw(t, "reach")).Draw(t, "in"))
				w.set(entries[i], at)
				d := max((int64(at)+int64(tick)-1)/int64(tick), int64(now)/int64(tick)+1)
				if old, ok := due[i]; !ok || d < old {
					due[i] = d
				}
			case 3:
				w.set(entries[i], mono.Never)
			case 4:
				w.remove(entries[i])
				delete(due, i)
			case 5:
				now += mono.Time(rapid.Int64Range(0, reach.Draw(t, "reach")).Draw(t, "time"))
				var fired []int
				w.fire(now, func(e *entry) { fired = append(fired, e.index) })
				slices.Sort(fired)
				var want []int
				for i, d := range due {
					if d <= int64(now)/int64(tick) {
						want = append(want, i)
						delete(due, i)
					}
				}
				slices.Sort(want)
				if !slices.Equal(fired, want) {
					t.Fatalf("at %v: fired %v, wanted %v", now, fired, want)
				}
			}
			checkNext(t, &w, now, due)
		}
		// Following next alone, everything is fired in its tick.
		for range 1 << 16 {
			if len(due) == 0 {
				break
			}
			now = w.next()
			w.fire(now, func(e *entry) {
				if due[e.index] != int64(now)/int64(tick) {
					t.Fatalf("at %v: entry %d fired, due at tick %d", now, e.index, due[e.index])
				}
				delete(due, e.index)
			})
		}
		if len(due) != 0 || w.next() != mono.Never {
			t.Fatalf("left: %v, next at %v", due, w.next())
		}
	})
}

func checkNext(t *rapid.T, w *wheel, now mono.Time, due map[int]int64) {
	next := w.next()
	if len(due) == 0 {
		if next != mono.Never {
			t.Fatalf("nothing is set, next() = %v", next)
		}
		return
	}
	first := int64(1) << 62
	for _, d := range due {
		first = min(first, d)
	}
	if next <= now || int64(next) > first*int64(tick) {
		t.Fatalf("at %v: next() = %v, the first is due at %v", now, next,
			mono.Time(first*int64(tick)))
	}
}

// What fire calls may set the entry again.
func TestWheelSetWhileFiring(t *testing.T) {
	var w wheel
	e := &entry{}
	w.set(e, mono.Time(5*tick))
	n := 0
	for now := mono.Time(0); now <= mono.Time(100*tick); now += mono.Time(tick) {
		w.fire(now, func(e *entry) {
			n++
			w.set(e, now+mono.Time(10*tick))
		})
	}
	if n != 10 {
		t.Errorf("fired %d times in 100 ms, wanted 10", n)
	}
}

func BenchmarkWheelReset(b *testing.B) {
	var w wheel
	all := make([]entry, 1000)
	now := mono.Time(0)
	b.ReportAllocs()
	for b.Loop() {
		now += mono.Time(time.Microsecond)
		e := &all[int(now/1000)%len(all)]
		w.set(e, now+mono.Time(time.Minute))
		w.fire(now, func(e *entry) {})
	}
}
