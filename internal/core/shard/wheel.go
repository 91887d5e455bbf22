package shard

import (
	"math/bits"
	"time"

	"tcpcopy/internal/core/mono"
)

// The wheel has two rings of slots: the near ring has a slot for each 1 ms tick, the far ring one
// for each full turn of the near ring. A deadline beyond the far ring waits in its last slot, and
// is inserted again from there.
const (
	tick      = time.Millisecond
	slotBits  = 10
	slots     = 1 << slotBits
	slotMask  = slots - 1
	nearReach = slots
	farReach  = slots * slots
)

// wheel fires entries at their deadlines, rounded up to a millisecond. A deadline that moves later
// costs nothing: the entry stays in its slot, and sets its deadline again when it is fired there.
type wheel struct {
	now  int64 // all deadlines up to this tick were fired
	near [slots]*entry
	far  [slots]*entry
	busy [2]busySlots
}

// busySlots are the slots of a ring that are not empty.
type busySlots struct {
	words [slots / 64]uint64
	some  uint16 // has a bit for each of the 16 words that is not 0
}

func (b *busySlots) set(slot uint16) {
	b.words[slot/64] |= 1 << (slot % 64)
	b.some |= 1 << (slot / 64)
}

func (b *busySlots) clear(slot uint16) {
	w := &b.words[slot/64]
	if *w &^= 1 << (slot % 64); *w == 0 {
		b.some &^= 1 << (slot / 64)
	}
}

// next returns the distance from a slot to the first busy one, in a circle.
func (b *busySlots) next(from int) (int, bool) {
	word, bit := from/64, from%64
	if w := b.words[word] >> bit; w != 0 {
		return bits.TrailingZeros64(w), true
	}
	later := bits.RotateLeft16(b.some, -(word + 1)) // the words behind it, and itself at last
	if later == 0 {
		return 0, false
	}
	i := 1 + bits.TrailingZeros16(later)
	return i*64 - bit + bits.TrailingZeros64(b.words[(word+i)%len(b.words)]), true
}

// ceilTick returns the first tick that is not before t.
func ceilTick(t mono.Time) int64 { return (int64(t) + int64(tick) - 1) / int64(tick) }

// set fires e at t, or earlier if an earlier deadline is set.
func (w *wheel) set(e *entry, t mono.Time) {
	if t == mono.Never {
		return // an earlier deadline stays, and fires once for nothing
	}
	due := max(ceilTick(t), w.now+1)
	if e.timer.level != 0 {
		if e.timer.due <= due {
			return
		}
		w.remove(e)
	}
	w.insert(e, due)
}

// insert puts e into the slot of a tick.
func (w *wheel) insert(e *entry, due int64) {
	t := &e.timer
	t.due = due
	ahead := due - w.now
	switch {
	case ahead < nearReach:
		t.level, t.slot = 1, uint16(due&slotMask)
	default:
		// A turn is spread over the near ring before its first tick.
		turn := due >> slotBits
		if ahead >= farReach-slots {
			turn = w.now>>slotBits + slots - 1
		}
		t.level, t.slot = 2, uint16(turn&slotMask)
	}
	w.link(e)
}

// link puts e at the head of its timer's slot.
func (w *wheel) link(e *entry) {
	t := &e.timer
	head := w.head(t)
	t.prev, t.next = nil, *head
	if *head != nil {
		(*head).timer.prev = e
	}
	*head = e
	w.busy[t.level-1].set(t.slot)
}

// head returns where the list of a timer's slot begins.
func (w *wheel) head(t *timer) **entry {
	if t.level == 1 {
		return &w.near[t.slot]
	}
	return &w.far[t.slot]
}

// remove takes e out of the wheel, if it is in it.
func (w *wheel) remove(e *entry) {
	t := &e.timer
	if t.level == 0 {
		return
	}
	if t.next != nil {
		t.next.timer.prev = t.prev
	}
	if t.prev != nil {
		t.prev.timer.next = t.next
	} else {
		head := w.head(t)
		*head = t.next
		if t.next == nil {
			w.busy[t.level-1].clear(t.slot)
		}
	}
	*t = timer{}
}

// fire removes the entries that are due at now and calls f for each; f may set entries again.
func (w *wheel) fire(now mono.Time, f func(*entry)) {
	end := int64(now) / int64(tick)
	for w.now < end {
		next := w.nextTick(end)
		if next > end {
			w.now = end
			return
		}
		w.now = next
		if next&slotMask == 0 {
			w.openTurn(next >> slotBits)
		}
		for {
			e := w.near[next&slotMask]
			if e == nil {
				break
			}
			w.remove(e)
			f(e)
		}
	}
}

// openTurn spreads a far slot's entries over the near ring.
func (w *wheel) openTurn(turn int64) {
	slot := turn & slotMask
	e := w.far[slot]
	for e != nil {
		next := e.timer.next
		due := e.timer.due
		w.remove(e)
		w.insert(e, due)
		e = next
	}
}

// nextTick returns the first tick after w.now, up to limit, at which there is something to do: an
// entry of the near ring, or a turn of the far ring to open. It returns limit+1 if there is none.
func (w *wheel) nextTick(limit int64) int64 {
	best := limit + 1
	if d, ok := w.busy[0].next(int(w.now+1) & slotMask); ok {
		best = min(best, w.now+1+int64(d))
	}
	if d, ok := w.busy[1].next(int(w.now>>slotBits+1) & slotMask); ok {
		best = min(best, (w.now>>slotBits+1+int64(d))<<slotBits)
	}
	return best
}

// next returns when fire next has something to do; Never if nothing is set.
func (w *wheel) next() mono.Time {
	t := w.nextTick(int64(mono.Never)/int64(tick) - 2)
	if t >= int64(mono.Never)/int64(tick)-2 {
		return mono.Never
	}
	return mono.Time(t * int64(tick))
}

// timer is an entry's place in the wheel.
type timer struct {
	due        int64
	prev, next *entry
	slot       uint16
	level      uint8 // 0: not in the wheel; 1: near; 2: far
}
