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
	// ErrSlot is Join's answer where the slot is another copier's.
	ErrSlot = errors.New("route: slot taken")
	// ErrFull is Join's answer where there is no room for another copier.
	ErrFull = errors.New("route: too many copiers")
)

// copier is one who may own connections. Its number, from 1 to 255, is the owner of its entries;
// the slot is what its initial sequence numbers say, and may change while the owner stays.
type copier struct {
	instance   Instance
	used       bool
	up         bool
	slot       uint8
	generation uint16 // rises when it is forgotten
	left       mono.Time
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

// Join takes a copier in, or back within the grace time after Leave: then it owns what it did. It
// sends to targets only (none: anywhere); the caller leaves them alone from now on. Joining again
// changes slot and targets. The error is ErrSlot or ErrFull.
func (t *Table) Join(instance Instance, slot uint8, targets []netip.AddrPort) (owner uint8, err error) {
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
		// A slot that is kept for one who is gone gives way only where no other is left.
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
	// An old slot stays the copier's until it is forgotten: answers to SYNs with it may be under
	// way.
	c.slot, c.up = slot, true
	t.slots[slot] = owner
	t.Retarget(owner, targets)
	return owner, nil
}

// Retarget says that a copier sends to other targets from now on (none: anywhere). The caller
// leaves the slice alone.
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

// SendsTo says whether a copier has named a target.
func (t *Table) SendsTo(owner uint8, target netip.AddrPort) bool {
	c := &t.copiers[owner]
	return c.used && c.sendsTo(target)
}

// Leave says that the copier is gone. For the grace time its slot and connections are kept for it.
func (t *Table) Leave(now mono.Time, owner uint8) {
	if c := &t.copiers[owner]; c.used && c.up {
		c.up, c.left = false, now
	}
}

// SlotTaken says whether a slot belongs to a copier, one that may still come back included.
func (t *Table) SlotTaken(slot uint8) bool { return t.slots[slot] != 0 }

func (t *Table) slotsExhausted() bool {
	for _, o := range t.slots[1:] {
		if o == 0 {
			return false
		}
	}
	return true
}

// forget frees a copier's slots; its entries, being of an old generation, are nobody's from now on.
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
