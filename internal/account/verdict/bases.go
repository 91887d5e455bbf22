package verdict

import "tcpcopy/internal/proto"

// How many answers a Tally may keep to compare later ones with. Few stay in a processor's cache,
// which many would empty of all else: of a live copy, a fifth of a comparison's cost was that.
const (
	FewBases  = 1 << 11
	ManyBases = 1 << 13
)

// bases holds production's last answer to each of the latest requests, to compare later ones with.
// When there is no room, those that were used longest ago make it. Their memory then serves the
// next answers; a table that is cleared would leave it to the collector. A map of Go's costs more:
// where each request is another one, each adds to it and deletes.
type bases struct {
	heads []int32 // by the request's hash: the first of a chain in all
	all   []base  // the first is the list's head: its next is the latest, before the oldest
	free  int32   // a list, by next, of those that hold nothing; 0: there are none
	count int     // answers that are held, as many as heads at most
	room  int     // bytes that may still be taken
}

// base is an answer, in a list from the latest to the oldest, and in the chain of its request.
type base struct {
	request      uint64 // a keyed hash
	answer       *proto.Digest
	size         int32 // that it took of room
	before, next int32
	chain        int32 // the next one in the chain; 0: there is none
}

func newBases(most, room int) *bases {
	return &bases{heads: make([]int32, most), all: make([]base, 1), room: room}
}

// head returns the head of a request's chain.
func (b *bases) head(request uint64) *int32 { return &b.heads[request%uint64(len(b.heads))] }

// take removes and returns the answer to a request; nil if there is none.
func (b *bases) take(request uint64) *proto.Digest {
	for i := *b.head(request); i != 0; i = b.all[i].chain {
		if b.all[i].request == request {
			return b.remove(i)
		}
	}
	return nil
}

// remove removes and returns the i-th answer.
func (b *bases) remove(i int32) *proto.Digest {
	e := &b.all[i]
	d := e.answer
	at := b.head(e.request)
	for *at != i {
		at = &b.all[*at].chain
	}
	*at = e.chain
	b.all[e.before].next, b.all[e.next].before = e.next, e.before
	b.room += int(e.size)
	b.count--
	*e = base{next: b.free}
	b.free = i
	return d
}

// put keeps an answer to a request that has none. Others that make room are dropped. It returns
// false if there is no room even so.
func (b *bases) put(with *proto.Digesting, request uint64, d *proto.Digest) bool {
	for b.count > 0 && (b.count >= len(b.heads) || b.room < d.Size) {
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
	b.count++
	latest, head := b.all[0].next, b.head(request)
	b.all[i] = base{request: request, answer: d, size: int32(d.Size), next: latest, chain: *head}
	b.all[latest].before, b.all[0].next, *head = i, i, i
	return true
}
