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
func (s *Source) releaseSlots(wait time.Duration) error {
	s.giveBack()
	if s.sleeper == nil {
		return nil
	}
	now := s.now()
	if now < mono.Time(s.hurry.Load()) {
		return nil
	}
	left := s.pace.length() - now.Sub(s.batched)
	if wait >= 0 {
		left = min(left, wait)
	}
	return s.sleeper.Sleep(left) // too short for Close to end it
}

// readySlots is ready for rings of slots.
func (s *Source) readySlots() []source.Frame {
	for {
		batch := s.readSlots()
		if len(batch) > 0 {
			s.batched = s.now()
			s.pace.add(s.batched, len(batch))
			s.delivered.Add(uint64(len(batch)))
			return batch
		}
		// Slots that were read in vain would look like news to a wait.
		if !s.giveBack() {
			return nil
		}
	}
}

// giveBack gives the slots that were read back to the kernel, and reports whether there were any.
func (s *Source) giveBack() (any bool) {
	for _, r := range s.rings {
		any = r.ReleaseSlots() || any
	}
	return any
}

// readSlots makes a batch of what is in the slots.
func (s *Source) readSlots() []source.Frame {
	batch := s.batch[:0]
	var f sys.RingFrame
	for range s.rings {
		r := s.rings[s.turn]
		if s.turn++; s.turn == len(s.rings) {
			s.turn = 0
		}
		seen, before := s.now(), len(batch)
		r.clock.Read(seen, time.Now().UnixNano())
		for len(batch) < maxBatch && r.Slot(&f) {
			switch {
			case !untag(&f):
				s.foreign.Add(1)
				continue
			case f.Cut:
				s.cut.Add(1)
				if s.whole {
					continue
				}
			}
			batch = append(batch, r.frame(&f))
		}
		if len(batch) == before {
			r.clock.Empty(seen)
		}
	}
	return batch
}
