package route

import (
	"errors"
	"net/netip"
	"slices"

	"tcpcopy/internal/core/mono"
)

// Instance names one run of a copier.
type Instance [16]byte

var (
	// ErrSlot reports that another copier has the slot.
	ErrSlot = errors.New("route: slot taken")
	// ErrFull reports that there is no room for another copier.
	ErrFull = errors.New("route: too many copiers")
)

// copier can own connections. Its number, from 1 to 255, is the owner of its entries. Its slot is
// in its initial sequence numbers, and may change while the number stays.
type copier struct {
	instance   Instance
	used       bool
	up         bool
	slot       uint8
	generation uint16 // incremented when the copier is forgotten
	left       mono.Time
	entries    int                         // that it owns
	targets    []netip.AddrPort            // a few; nil: anywhere
	targetSet  map[netip.AddrPort]struct{} // many
}

func (c *copier) sendsTo(target netip.AddrPort) bool {
	if c.targetSet != nil {
		_, ok := c.targetSet[target]
		return ok
	}
	return len(c.targets) == 0 || slices.Contains(c.targets, target)
}

// Join adds a copier, and returns its number. A copier that joins again within the grace time after
// Leave still owns its connections. It sends to targets only; none: anywhere. The table keeps the
// slice. Joining again changes slot and targets. The error is ErrSlot or ErrFull.
func (t *Table) Join(instance Instance, slot uint8, targets []netip.AddrPort) (
	owner uint8, err error) {
	var free, oldest uint8
	for i := 1; i < len(t.copiers); i++ {
		c := &t.copiers[i]
		switch {
		case c.used && c.instance == instance:
			owner = uint8(i)
		case !c.used && free == 0:
			free = uint8(i)
		case c.used && !c.up && (oldest == 0 || c.left.Before(t.copiers[oldest].left)):
			oldest = uint8(i)
		}
	}
	if slot == 0 {
		return 0, ErrSlot
	}
	if had := t.slots[slot]; had != 0 && had != owner {
		// The slot of a copier that is gone is given away only if no other is left.

		if t.copiers[had].up || !t.slotsExhausted() {
			return 0, ErrSlot
		}
		t.forget(had)
		free = had
	}
	if owner == 0 {
		if owner = free; owner == 0 {
			if oldest == 0 {
				return 0, ErrFull
			}
			t.forget(oldest)
			owner = oldest
		}
	}
	c := &t.copiers[owner]
	if !c.used {
		*c = copier{instance: instance, used: true, generation: c.generation}
	}
	// The copier keeps an old slot until it is forgotten: answers to SYNs with it may be on their
	// way.
	c.slot, c.up = slot, true
	t.slots[slot] = owner
	t.Retarget(owner, targets)
	return owner, nil
}

// Retarget changes the targets that a copier sends to; none: anywhere. The table keeps the slice.
func (t *Table) Retarget(owner uint8, targets []netip.AddrPort) {
	c := &t.copiers[owner]
	c.targets, c.targetSet = targets, nil
	if len(targets) > 8 {
		c.targetSet = make(map[netip.AddrPort]struct{}, len(targets))
		for _, a := range targets {
			c.targetSet[a] = struct{}{}
		}
	}
}

// SendsTo reports whether a copier has named a target.
func (t *Table) SendsTo(owner uint8, target netip.AddrPort) bool {
	c := &t.copiers[owner]
	return c.used && c.sendsTo(target)
}

// Leave records that a copier is gone. Its slot and connections are kept for the grace time.
func (t *Table) Leave(now mono.Time, owner uint8) {
	if c := &t.copiers[owner]; c.used && c.up {
		c.up, c.left = false, now
	}
}

// SlotTaken reports whether a copier has a slot, which may be one that is gone and may come back.
func (t *Table) SlotTaken(slot uint8) bool { return t.slots[slot] != 0 }

func (t *Table) slotsExhausted() bool {
	for _, o := range t.slots[1:] {
		if o == 0 {
			return false
		}
	}
	return true
}

// forget frees a copier's slots. Its entries, of an old generation, no longer have an owner.
func (t *Table) forget(owner uint8) {
	c := &t.copiers[owner]
	*c = copier{generation: c.generation + 1}
	for i, o := range t.slots {
		if o == owner {
			t.slots[i] = 0
		}
	}
}

func (t *Table) expireCopiers(now mono.Time) mono.Time {
	next := mono.Never
	for i := range t.copiers {
		if c := &t.copiers[i]; c.used && !c.up {
			if due := c.left.Add(t.cfg.Grace); due.Reached(now) {
				t.forget(uint8(i))
			} else {
				next = min(next, due)
			}
		}
	}
	return next
}
