package agents

import "tcpcopy/internal/core/mono"

// drift is by how much two clocks may run apart: one part in so many.
const drift = 10_000

// clock maps an agent's times to ours. A message cannot arrive before it was sent, so the
// difference of the clocks is at most what the fastest message shows; what others show above it
// they have spent on their way. The clocks may drift apart, so the bound is let go slowly.
type clock struct {
	known  bool
	offset mono.Time // ours minus the agent's
	asked  mono.Time // when it was last looked at
	last   mono.Time // the latest time that was handed out
}

// message notes that a message that the agent sent at its time sent arrived at our time now.
func (c *clock) message(now, sent mono.Time) {
	d := now - sent
	if !c.known || d < c.offset {
		c.known, c.offset = true, d
	} else {
		c.offset = min(d, c.offset+(now-c.asked)/drift)
	}
	c.asked = now
}

// at maps a time of the agent's; none is later than now, and none earlier than one before it.
func (c *clock) at(t, now mono.Time) mono.Time {
	c.last = max(c.last, min(t+c.offset, now))
	return c.last
}
