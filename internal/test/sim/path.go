package sim

import (
	"time"

	"tcpcopy/internal/core/mono"
)

// Path is one direction between two ends. Its chances are between 0 and 1.
type Path struct {
	Delay time.Duration // one way
	// added to it, evenly distributed; packets stay in order unless Reorder says otherwise
	Jitter    time.Duration
	Loss      float64
	Reorder   float64 // of a packet to be late by Late, so that those behind it overtake
	Late      time.Duration
	Duplicate float64
	Rate      int // bytes for each second; 0: no bound
	Queue     int // bytes that wait for Rate before packets are dropped; 0: no bound

	freeAt mono.Time // when the bottleneck has sent what it holds
	last   mono.Time // when the packet before arrives
	Sent   int       // packets given to it
	Lost   int       // packets of them that it dropped, by chance or for want of room
}

// Send carries a packet of size bytes in the world w: deliver is called when it arrives, twice or
// never as chance has it.
func (p *Path) Send(w *World, size int, deliver func()) {
	p.Sent++
	now := w.Now()
	if w.Rand.Float64() < p.Loss {
		p.Lost++
		return
	}
	at := now
	if p.Rate > 0 {
		start := max(p.freeAt, now)
		if p.Queue > 0 && int64(start.Sub(now))*int64(p.Rate)/int64(time.Second) > int64(p.Queue) {
			p.Lost++
			return
		}
		p.freeAt = start.Add(time.Duration(int64(size) * int64(time.Second) / int64(p.Rate)))
		at = p.freeAt
	}
	at = at.Add(p.Delay)
	if p.Jitter > 0 {
		at = at.Add(time.Duration(w.Rand.Int63n(int64(p.Jitter))))
	}
	if w.Rand.Float64() < p.Reorder {
		at = at.Add(p.Late)
	} else {
		at = max(at, p.last)
		p.last = at
	}
	w.At(at, deliver)
	if w.Rand.Float64() < p.Duplicate {
		w.At(at.Add(p.Delay/4), deliver)
	}
}
