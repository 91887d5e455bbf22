package socket

import (
	"time"

	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/sys"
)

// A reset discards what the kernel has taken and not delivered yet, which the session has counted
// as delivered. So a connection lingers: its reset waits until the target has acknowledged
// everything. No event reports that, so the poller checks again and again, for a bounded time.
const (
	lingerLimit   = 2 * time.Second      // how long a connection lingers
	lingerCheck   = 5 * time.Millisecond // how often the poller checks
	lingerAtOnce  = 256                  // how many it checks then
	lingerAtClose = time.Second          // how long Output.Close waits
)

// closeConn closes a connection for the shard, as soon as the target has acknowledged what was
// sent.
func (p *poller) closeConn(now mono.Time, c *conn) {
	s := &c.polled
	if s.state == stateOpen && sys.Unacked(s.fd) > 0 {
		s.state = stateLingering
		s.deadline = now.Add(lingerLimit)
		p.lingering = append(p.lingering, c)
		return
	}
	p.release(c)
}

// checkLingering closes the connections that have nothing left to deliver, or have lingered for too
// long.
func (p *poller) checkLingering(now mono.Time) {
	n := min(len(p.lingering), lingerAtOnce)
	for _, c := range p.lingering[:n] {
		s := &c.polled
		switch {
		case s.state != stateLingering: // the target has closed
		case s.deadline.Reached(now) || sys.Unacked(s.fd) == 0:
			p.release(c)
		default:
			p.lingering = append(p.lingering, c)
		}
	}
	if n > 0 {
		rest := copy(p.lingering, p.lingering[n:])
		clear(p.lingering[rest:])
		p.lingering = p.lingering[:rest]
	}
}

// closeAll ends every connection. The poller does nothing after it.
func (p *poller) closeAll() {
	p.mu.Lock()
	p.asked = nil // what was to be opened has no slot, and everything else has one
	p.mu.Unlock()
	now := p.cfg.Now()
	for i := range p.slots {
		if c := p.slots[i].conn; c != nil && c.polled.state != stateLingering {
			p.closeConn(now, c)
		}
	}
	for end := now.Add(lingerAtClose); len(p.lingering) > 0 &&
		!end.Reached(now); now = p.cfg.Now() {
		time.Sleep(lingerCheck)
		p.checkLingering(now)
	}
	for _, c := range p.lingering {
		p.release(c)
	}
}
