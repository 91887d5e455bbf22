package route

import (
	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/packet"
)

// heldSegment waits for a claim of its connection.
type heldSegment struct {
	segment packet.Segment // without payload
	at      mono.Time      // when it was seen
	until   mono.Time
	entry   uint32 // 0: claimed or dropped already
	next    uint32 // the connection's next
}

// holdQueue is a ring. All segments wait equally long, so that the first one in expires first. A
// segment is named by its place, from 1 on.
type holdQueue struct {
	ring []heldSegment
	head uint32 // the oldest
	size uint32 // places from head to the newest, including those popped in between
	n    int    // segments that wait
}

func (q *holdQueue) init(max int) { q.ring = make([]heldSegment, max+1) }

func (q *holdQueue) after(i uint32) uint32 {
	if i++; int(i) == len(q.ring) {
		i = 1
	}
	return i
}

// full reports whether there is no room for another segment.
func (q *holdQueue) full() bool { return int(q.size) == len(q.ring)-1 }

// oldest returns the place of the segment that has waited longest, 0 if there is none.
func (q *holdQueue) oldest() uint32 {
	for q.size > 0 && q.ring[q.head].entry == 0 {
		q.head = q.after(q.head)
		q.size--
	}
	if q.size == 0 {
		return 0
	}
	return q.head
}

// push appends a segment to those of entry e, whose place is i. There must be room.
func (q *holdQueue) push(e *entry, i uint32, s *packet.Segment, at, until mono.Time) {
	if q.oldest() == 0 { // also frees the places that were popped at the head
		q.head = 1
	}
	place := (q.head-1+q.size)%uint32(len(q.ring)-1) + 1
	q.size++
	q.n++
	h := &q.ring[place]
	*h = heldSegment{segment: *s, at: at, until: until, entry: i}
	h.segment.Payload = nil
	if e.heldFirst == 0 {
		e.heldFirst = place
	} else {
		q.ring[e.heldLast].next = place
	}
	e.heldLast = place
}

// pop removes and returns the first segment of entry e. The pointer is valid until the next push.
func (q *holdQueue) pop(e *entry) *heldSegment {
	h := &q.ring[e.heldFirst]
	if e.heldFirst = h.next; h.next == 0 {
		e.heldLast = 0
	}
	h.entry = 0
	q.n--
	return h
}

// hold keeps the segment s of connection k, which has no owner. i is its entry, 0 if it has none.
func (t *Table) hold(now mono.Time, i uint32, k *key, h uint64, s *packet.Segment) {
	if t.held.oldest(); t.held.full() {
		t.dropOldestHeld()
		t.stats.HeldOverflow++
		i = t.entries.find(k, h) // the drop may have removed the entry
	}
	if i == 0 {
		i = t.add(now, k, h)
	} else if t.entries.at(i).list != listPending {
		t.entries.move(i, listPending, now) // its owner was forgotten
	}
	t.stats.Held++
	t.held.push(t.entries.at(i), i, s, now, now.Add(t.cfg.Hold))
}

// dropOldestHeld drops the segment that has waited longest, and its entry if no other segment waits
// there and it has no owner.
func (t *Table) dropOldestHeld() {
	place := t.held.oldest()
	if place == 0 {
		return
	}
	i := t.held.ring[place].entry
	e := t.entries.at(i)
	t.held.pop(e) // the oldest of all is the oldest of its connection
	if e.heldFirst == 0 && e.list == listPending {
		t.entries.remove(i)
	}
}

// expireHeld drops the segments that have waited long enough, and returns when the next one will
// have.
func (t *Table) expireHeld(now mono.Time) mono.Time {
	for {
		place := t.held.oldest()
		if place == 0 {
			return mono.Never
		}
		if until := t.held.ring[place].until; !until.Reached(now) {
			return until
		}
		t.dropOldestHeld()
		t.stats.HeldExpired++
	}
}
