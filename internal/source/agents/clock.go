package agents

import "tcpcopy/internal/core/mono"

// drift is how far two clocks may drift apart: one part in so many.
const drift = 10_000

// clock maps an agent's times to ours. A message cannot arrive before it was sent, so the
// difference of the clocks is at most what the fastest message shows. What others show above it
// is their time on the way. The clocks may drift apart, so the bound is relaxed slowly.
type clock struct {
	known   bool
	offset  mono.Time // ours minus the agent's
	updated mono.Time // when offset was last updated
	last    mono.Time // the latest time that was returned
}

// message records that a message that the agent sent at its time sent arrived at our time now.
func (c *clock) message(now, sent mono.Time) {
	d := now - sent
	if !c.known || d < c.offset {
		c.known, c.offset = true, d
	} else {
		c.offset = min(d, c.offset+(now-c.updated)/drift)
	}
	c.updated = now
}

// at maps a time of the agent's. The result is not later than now, and not earlier than the one
// before.
func (c *clock) at(t, now mono.Time) mono.Time {
	c.last = max(c.last, min(t+c.offset, now))
	return c.last
}
