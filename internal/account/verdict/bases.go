package verdict

import "tcpcopy/internal/proto"

// bases holds production's last answer to each of the latest requests, to compare later ones with.
// When there is no room, those that were used longest ago make it. Their memory then serves the
// next answers; a table that is cleared would leave it to the collector.
type bases struct {
	at   map[uint64]int32 // by the hash of the request: its index in all
	all  []base           // the first is the list's head: its next is the latest, before the oldest
	free int32            // a list, by next, of those that hold nothing; 0: there are none
	room int              // bytes that may still be taken
}

// base is an answer, in a list from the latest to the oldest.
type base struct {
	request      uint64
	answer       *proto.Digest
	size         int // that it took of room
	before, next int32
}

func newBases(room int) *bases {
	return &bases{at: make(map[uint64]int32), all: make([]base, 1), room: room}
}

// take removes and returns the answer to a request; nil if there is none.
func (b *bases) take(request uint64) *proto.Digest {
	i, ok := b.at[request]
	if !ok {
		return nil
	}
	return b.remove(i)
}

// remove removes and returns the i-th answer.
func (b *bases) remove(i int32) *proto.Digest {
	e := &b.all[i]
	d := e.answer
	delete(b.at, e.request)
	b.all[e.before].next, b.all[e.next].before = e.next, e.before
	b.room += e.size
	*e = base{next: b.free}
	b.free = i
	return d
}

// put keeps an answer to a request that has none. Others that make room are dropped. It returns
// false if there is no room even so.
func (b *bases) put(with *proto.Digesting, request uint64, d *proto.Digest) bool {
	for len(b.at) > 0 && (len(b.at) >= maxBases || b.room < d.Size) {
		b.remove(b.all[0].before).Drop(with)
	}
	if b.room < d.Size {
		return false
	}
	i := b.free
	if i == 0 {
		i = int32(len(b.all))
		b.all = append(b.all, base{})
	} else {
		b.free = b.all[i].next
	}
	b.room -= d.Size
	latest := b.all[0].next
	b.all[i] = base{request: request, answer: d, size: d.Size, next: latest}
	b.all[latest].before, b.all[0].next = i, i
	b.at[request] = i
	return true
}
