package verdict

import "tcpcopy/internal/proto"

// How many answers a Tally may keep to compare later ones with. Few stay in a processor's cache,
// which many would empty of all else: of a live copy, a fifth of a comparison's cost was that.
const (
	FewBases  = 1 << 11
	ManyBases = 1 << 13
)

// bases holds production's last answer to each of the latest requests, to compare later ones with.
// Their memory then serves the next answers; a table that is cleared would leave it to the
// collector. A map of Go's costs more: where each request is another one, each adds to it and
// deletes.
//
// Answers are numbered from 1 on. The oldest makes room for the latest: only its place in the ring
// has to be found, since a chain ends at the first number that is too old.
type bases struct {
	heads       []uint64 // by the request's hash: the latest number of a chain
	ring        []base   // by the number modulo its length
	first, next uint64   // the numbers of the oldest that may be held, and of the next one
	count, most int      // how many are held, and may be
	room        int      // bytes that may still be taken
}

// base is an answer to a request.
type base struct {
	request uint64        // a keyed hash
	answer  *proto.Digest // nil: it was taken
	size    int           // that it took of room
	before  uint64        // the next older number of the chain
}

// newBases returns bases for so many answers: a power of two.
func newBases(most, room int) *bases {
	return &bases{heads: make([]uint64, 4*most), ring: make([]base, 2*most), first: 1, next: 1,
		most: most, room: room}
}

// head returns the head of a request's chain.
func (b *bases) head(request uint64) *uint64 { return &b.heads[request%uint64(len(b.heads))] }

func (b *bases) at(number uint64) *base { return &b.ring[number%uint64(len(b.ring))] }

// take removes and returns the answer to a request; nil if there is none.
func (b *bases) take(request uint64) *proto.Digest {
	for n := *b.head(request); n >= b.first; n = b.at(n).before {
		if e := b.at(n); e.request == request && e.answer != nil {
			return b.remove(e)
		}
	}
	return nil
}

// remove removes an answer, and returns it.
func (b *bases) remove(e *base) *proto.Digest {
	d := e.answer
	e.answer = nil
	b.room += e.size
	b.count--
	return d
}

// dropOldest drops the oldest number, with its answer if it has one.
func (b *bases) dropOldest(with *proto.Digesting) {
	if e := b.at(b.first); e.answer != nil {
		b.remove(e).Drop(with)
	}
	b.first++
}

// put keeps an answer to a request that has none. Others that make room are dropped. It returns
// false if there is no room even so.
func (b *bases) put(with *proto.Digesting, request uint64, d *proto.Digest) bool {
	for b.count > 0 && (b.count >= b.most || b.room < d.Size) ||
		b.next-b.first == uint64(len(b.ring)) {
		b.dropOldest(with)
	}
	if b.room < d.Size {
		return false
	}
	b.room -= d.Size
	b.count++
	head := b.head(request)
	*b.at(b.next) = base{request: request, answer: d, size: d.Size, before: *head}
	*head = b.next
	b.next++
	return true
}
