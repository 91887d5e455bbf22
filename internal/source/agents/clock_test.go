package agents

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"tcpcopy/internal/core/mono"
)

func TestClock(t *testing.T) {
	const ms = mono.Time(time.Millisecond)
	type message struct{ now, sent, at, want mono.Time } // at: of a packet in it
	for _, tc := range []struct {
		name string
		in   []message
	}{
		{"the first message stands for no delay",
			[]message{{100 * ms, 5000 * ms, 4990 * ms, 90 * ms}}},
		{"a faster one shows that the first had one", []message{
			{100 * ms, 5000 * ms, 4990 * ms, 90 * ms}, {150 * ms, 5055 * ms, 5055 * ms,
				150 * ms}, {200 * ms, 5100 * ms, 5099 * ms, 194*ms + 50*ms/drift},
		}},
		{"a slow one changes nothing", []message{
			{100 * ms, 5000 * ms, 5000 * ms, 100 * ms}, {900 * ms, 5100 * ms, 5100 * ms,
				200*ms + 800*ms/drift},
		}},
		{"clocks that drift apart", []message{
			{0, 0, 0, 0}, {1_000_000 * ms, 999_990 * ms, 999_990 * ms, 1_000_000 * ms},
		}},
		{"nothing is from the future", []message{{100 * ms, 5000 * ms, 9000 * ms, 100 * ms}}},
		{"and nothing goes back", []message{{100 * ms, 5000 * ms, 5000 * ms, 100 * ms},
			{110 * ms, 5010 * ms, 4000 * ms, 100 * ms}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var c clock
			for i, m := range tc.in {
				c.message(m.now, m.sent)
				if got := c.at(m.at, m.now); got != m.want {
					t.Errorf("message %d: %v, want %v", i, got, m.want)
				}
			}
		})
	}
}

// TestClockBounds: for any times of an agent, its packets are neither in the future nor out of
// order.
func TestClockBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var c clock
		var now, last mono.Time
		for range rapid.IntRange(1, 20).Draw(t, "messages") {
			now += mono.Time(rapid.Int64Range(0, 1e10).Draw(t, "later"))
			c.message(now, mono.Time(rapid.Int64().Draw(t, "sent")))
			at := c.at(mono.Time(rapid.Int64().Draw(t, "at")), now)
			if at < last || at > now {
				t.Fatalf("%v, now %v, the one before %v", at, now, last)
			}
			last = at
		}
	})
}
