package afpacket

import (
	"time"

	"tcpcopy/internal/core/mono"
)

// paceWindow is the least time over which frames are counted for their rate.
const paceWindow = 10 * time.Millisecond

// pace decides how long an Immediate source pauses between two batches. While few frames come, a
// wake-up for each costs little, and none of them waits; while many come, they are worth a pause.
type pace struct {
	pause time.Duration
	above int // frames a second above which there are pauses; 0: always

	since mono.Time // the begin of the window
	count int       // frames in it
	many  bool      // above, in the window before it
}

// add notes a batch of n frames.
func (p *pace) add(now mono.Time, n int) {
	p.count += n
	if d := now.Sub(p.since); d >= paceWindow {
		p.many = float64(p.count) > float64(p.above)*d.Seconds()
		p.since, p.count = now, 0
	}
}

// length returns the pause after a batch.
func (p *pace) length() time.Duration {
	if p.above > 0 && !p.many {
		return 0
	}
	return p.pause
}
