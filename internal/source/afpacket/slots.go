package afpacket

import (
	"time"

	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/source"
	"tcpcopy/internal/sys"
)

// Hurry leaves out the pauses of an Immediate source for d from now on. Any goroutine may call it.
func (s *Source) Hurry(d time.Duration) { s.hurry.Store(int64(s.now().Add(d))) }

// releaseSlots gives the last batch back to the kernel, and pauses until the next one may be taken.
func (s *Source) releaseSlots(wait time.Duration) {
	for _, r := range s.rings {
		r.ReleaseSlots()
	}
	now := s.now()
	if now < mono.Time(s.hurry.Load()) {
		return
	}
	left := s.pause - now.Sub(s.batched)
	if wait >= 0 {
		left = min(left, wait)
	}
	if left > 0 {
		time.Sleep(left) // too short for Close to end it
	}
}

// readySlots is ready for rings of slots.
func (s *Source) readySlots() []source.Frame {
	batch := s.batch[:0]
	var f sys.RingFrame
	for range s.rings {
		r := s.rings[s.turn]
		if s.turn++; s.turn == len(s.rings) {
			s.turn = 0
		}
		seen, before := s.now(), len(batch)
		r.clock.read(seen, time.Now().UnixNano())
		for len(batch) < maxBatch && r.Slot(&f) {
			if !untag(&f) {
				s.foreign.Add(1)
				continue
			}
			if f.Cut {
				s.cut.Add(1)
			}
			batch = append(batch, r.frame(&f))
		}
		if len(batch) == before {
			r.clock.empty(seen)
		}
	}
	if len(batch) > 0 {
		s.batched = s.now()
		s.delivered.Add(uint64(len(batch)))
	}
	return batch
}
