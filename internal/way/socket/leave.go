package socket

import (
	"time"

	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/sys"
)

// A reset throws away what the kernel has taken and not delivered yet, but the session was told that it
// was taken, and has counted it as delivered. So the reset waits until the target has acknowledged it.
// No event says when that is, so the poller looks again and again, for a bounded time.
const (
	leaveLimit   = 2 * time.Second      // how long a reset waits
	leaveCheck   = 5 * time.Millisecond // how often the poller looks
	leaveAtOnce  = 256                  // how many it looks at then
	leaveAtClose = time.Second          // how long Output.Close waits
)

// leave closes a connection that the shard is done with, as soon as the target has what was sent.
func (p *poller) leave(now mono.Time, c *conn) {
	s := &c.polled
	if s.state == stateOpen && sys.Unacked(s.fd) > 0 {
		s.state = stateLeaving
		s.deadline = now.Add(leaveLimit)
		p.leaving = append(p.leaving, c)
		return
	}
	p.release(c)
}

// seeOff closes those of the leaving that have nothing under way any more, or have had their time.
func (p *poller) seeOff(now mono.Time) {
	n := min(len(p.leaving), leaveAtOnce)
	for _, c := range p.leaving[:n] {
		s := &c.polled
		switch {
		case s.state != stateLeaving: // the target has closed
		case s.deadline.Reached(now) || sys.Unacked(s.fd) == 0:
			p.release(c)
		default:
			p.leaving = append(p.leaving, c)
		}
	}
	if n > 0 {
		rest := copy(p.leaving, p.leaving[n:])
		clear(p.leaving[rest:])
		p.leaving = p.leaving[:rest]
	}
}

// closeAll ends every connection: the last thing that the poller does.
func (p *poller) closeAll() {
	p.mu.Lock()
	p.asked = nil // what was to be opened never was; the rest has a slot
	p.mu.Unlock()
	now := p.cfg.Now()
	for i := range p.slots {
		if c := p.slots[i].conn; c != nil && c.polled.state != stateLeaving {
			p.leave(now, c)
		}
	}
	for end := now.Add(leaveAtClose); len(p.leaving) > 0 && !end.Reached(now); now = p.cfg.Now() {
		time.Sleep(leaveCheck)
		p.seeOff(now)
	}
	for _, c := range p.leaving {
		p.release(c)
	}
}
