package link

import (
	"crypto/rand"
	"sync"
	"sync/atomic"

	"tcpcopy/internal/way/link/wire"
)

// Slot is what a copier puts into the low 8 bits of its initial sequence numbers. It must be the same at
// all its intercepts: where one says that it is taken, another is chosen, and every link that had been
// welcomed with the old one introduces itself anew.
type Slot struct {
	now atomic.Uint32

	mu      sync.Mutex
	taken   map[string]wire.Slots // by intercept: as last told
	changed chan struct{}         // closed when the slot changes
}

// NewSlot chooses a slot by chance, so that copiers which know nothing of each other rarely collide.
func NewSlot() *Slot {
	s := &Slot{taken: make(map[string]wire.Slots), changed: make(chan struct{})}
	s.now.Store(uint32(random(1, 255)))
	return s
}

// Get is the slot that a new connection's initial sequence number has to carry. It is safe from any
// goroutine, and cheap.
func (s *Slot) Get() uint8 { return uint8(s.now.Load()) }

// watch returns the slot and a channel that is closed once it is another.
func (s *Slot) watch() (uint8, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.Get(), s.changed
}

// refused says that intercept did not accept slot, as those in taken are others'. It returns false where
// no slot is free.
func (s *Slot) refused(intercept string, slot uint8, taken wire.Slots) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	taken.Add(slot)
	s.taken[intercept] = taken
	if s.Get() != slot {
		return true // another link was told before
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
	// What the others said may be old: ask them again.
	s.taken = map[string]wire.Slots{intercept: taken}
	return s.choose(func(n uint8) bool { return !taken.Has(n) })
}

// choose takes one of the slots that are free, by chance.
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
	s.now.Store(uint32(candidates[random(0, len(candidates)-1)]))
	close(s.changed)
	s.changed = make(chan struct{})
	return true
}

// random returns a number from low to high.
func random(low, high int) int {
	var b [4]byte
	rand.Read(b[:])
	n := uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
	return low + int(n%uint32(high-low+1))
}

// NewInstance names a run of a copier.
func NewInstance() (id wire.Instance) {
	rand.Read(id[:])
	return id
}
