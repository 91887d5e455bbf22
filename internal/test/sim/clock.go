package sim

import (
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"

	"tcpcopy/internal/core/mono"
)

// clock lets gVisor live in a World: its timers are the world's events.
type clock struct {
	w *World
	// after is called when a timer's function has returned.
	after func()
}

var epoch = time.Unix(1_000_000_000, 0)

func (c *clock) Now() time.Time { return epoch.Add(time.Duration(c.w.Now())) }

func (c *clock) NowMonotonic() tcpip.MonotonicTime {
	var t tcpip.MonotonicTime
	return t.Add(time.Hour + time.Duration(c.w.Now()))
}

func (c *clock) AfterFunc(d time.Duration, f func()) tcpip.Timer {
	t := &timer{c: c, f: f}
	t.Reset(d)
	return t
}

// timer is a tcpip.Timer. Its fields are guarded by the world's lock.
type timer struct {
	c     *clock
	f     func()
	armed uint64 // which Reset is in force; 0: none
	round uint64
}

func (t *timer) Stop() bool {
	t.c.w.mu.Lock()
	defer t.c.w.mu.Unlock()
	was := t.armed != 0
	t.armed = 0
	return was
}

func (t *timer) Reset(d time.Duration) {
	w := t.c.w
	w.mu.Lock()
	t.round++
	round := t.round
	t.armed = round
	at := w.now.Add(max(d, 0))
	w.mu.Unlock()
	if at < 0 {
		at = mono.Never // gVisor has timers of centuries
	}
	w.At(at, func() {
		w.mu.Lock()
		due := t.armed == round
		if due {
			t.armed = 0
		}
		w.mu.Unlock()
		if due {
			t.f()
			t.c.after()
		}
	})
}
