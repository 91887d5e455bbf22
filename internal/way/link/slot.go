package link

import (
	"context"
	"sync"
	"sync/atomic"

	"tcpcopy/internal/way/link/wire"
)

// Slot is the low 8 bits of a copier's initial sequence numbers, from 1 to 255. It is the same at
// all intercepts of the copier. When one of them reports that another copier has it, a new slot is
// chosen, and every link that was welcomed with the old one introduces itself again. Its methods
// are safe from any goroutine.
type Slot struct {
	now atomic.Uint32

	mu      sync.Mutex
	taken   map[string]wire.Slots // by intercept: other copiers' slots, as last reported
	changed context.Context       // done when the slot changes
	cancel  context.CancelFunc    // of changed
}

// NewSlot chooses a slot at random, so that copiers rarely choose the same.
func NewSlot() *Slot {
	s := &Slot{taken: make(map[string]wire.Slots)}
	s.set(uint8(random(1, 255)))
	return s
}

// set changes the slot. The lock is held, or nobody else has s.
func (s *Slot) set(slot uint8) {
	s.now.Store(uint32(slot))
	if s.cancel != nil {
		s.cancel()
	}
	s.changed, s.cancel = context.WithCancel(context.Background())
}

// Get returns the slot that a new connection's initial sequence number must carry.
func (s *Slot) Get() uint8 { return uint8(s.now.Load()) }

// watch returns the slot and a context that is done once the slot is another.
func (s *Slot) watch() (uint8, context.Context) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.Get(), s.changed
}

// refused records that intercept did not accept slot, and that other copiers have those in taken.
// It chooses another slot, unless another link has had one chosen already. It returns false where
// no slot is free.
func (s *Slot) refused(intercept string, slot uint8, taken wire.Slots) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	taken.Add(slot)
	s.taken[intercept] = taken
	if s.Get() != slot {
		return true
	}
	if s.choose(func(n uint8) bool {
		for _, t := range s.taken {
			if t.Has(n) {
				return false
			}
		}
		return true
	}) {
		return true
	}
	// What the other intercepts reported may be old: start again from this report.
	s.taken = map[string]wire.Slots{intercept: taken}
	return s.choose(func(n uint8) bool { return !taken.Has(n) })
}

// choose sets one of the slots that are free, at random.
func (s *Slot) choose(free func(uint8) bool) bool {
	var candidates []uint8
	for n := 1; n <= 255; n++ {
		if free(uint8(n)) {
			candidates = append(candidates, uint8(n))
		}
	}
	if len(candidates) == 0 {
		return false
	}
	s.set(candidates[random(0, len(candidates)-1)])
	return true
}
