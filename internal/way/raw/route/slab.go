package route

import (
	"encoding/binary"
	"math/bits"
	"net/netip"

	"tcpcopy/internal/core/mono"
)

// key is a connection in a form that is quick to hash and to compare: both addresses in 128 bits
// (IPv4-mapped IPv6 addresses, RFC 4291 §2.5.5.2), both ports.
type key struct {
	client, target [2]uint64
	ports          uint32
}

func keyOf(client, target netip.AddrPort) key {
	return key{half(client.Addr()), half(target.Addr()),
		uint32(client.Port())<<16 | uint32(target.Port())}
}

func half(a netip.Addr) [2]uint64 {
	if a.Is4() {
		v := a.As4()
		return [2]uint64{0, 0xffff<<32 | uint64(binary.BigEndian.Uint32(v[:]))}
	}
	v := a.As16()
	return [2]uint64{binary.BigEndian.Uint64(v[:8]), binary.BigEndian.Uint64(v[8:])}
}

// The lists of entries, each in the order of last use.
const (
	listOpen    uint8 = iota
	listClosing       // the target has sent its FIN
	listClosed        // reset, or released by its owner
	listSought        // not known to be open; its owner wants to open it
	listPending       // without an owner: segments wait for a claim
	lists
)

// entry is 64 bytes: with the index's slot, a lookup touches two cache lines.
type entry struct {
	client, target [2]uint64 // the key
	ports          uint32
	prev, next     uint32 // neighbours in the list; 0: none. next also chains free places
	heldFirst      uint32 // segments that wait for a claim: places in the holdQueue; 0: none
	heldLast       uint32
	// of the owner; entries of a copier that was forgotten have an old one
	generation uint16
	owner      uint8
	list       uint8
	last       mono.Time // last use, not more exact than touchAfter
}

func (e *entry) is(k *key) bool {
	return e.ports == k.ports && e.client == k.client && e.target == k.target
}

func (e *entry) key() key { return key{e.client, e.target, e.ports} }

// slot is a place in the index, which has linear probing and is at most half full. tag is the low
// 32 bits of the hash. They tell most keys apart without reading their entries, and give the
// place where probing starts.
type slot struct{ place, tag uint32 }

// slab holds the entries and finds them. An entry is named by its place, from 1 on; places are used
// again. Memory is allocated in blocks as needed, and not freed.
type slab struct {
	blocks  [][]entry
	index   []slot
	mask    uint32
	seed    uint64
	free    uint32 // chain of places to be used again
	used    uint32 // the next place that was never used
	n       int
	newest  [lists]uint32
	oldests [lists]uint32
}

const blockShift = 10

func (s *slab) init(seed uint64) {
	s.index = make([]slot, 1<<12)
	s.mask = uint32(len(s.index) - 1)
	s.seed = seed
	s.used = 1 // place 0 means none
	s.blocks = append(s.blocks, make([]entry, 1<<blockShift))
}

func (s *slab) at(i uint32) *entry { return &s.blocks[i>>blockShift][i&(1<<blockShift-1)] }

// hash mixes as wyhash does, by folding 128-bit products.
func (s *slab) hash(k *key) uint64 {
	h := fold(k.client[0]^s.seed^0xa0761d6478bd642f, k.client[1]^s.seed^0xe7037ed1a0b428db)
	h = fold(h^k.target[0]^0x8ebc6af09c88c6e3, k.target[1]^s.seed)
	return fold(h^uint64(k.ports), s.seed^0x589965cc75374cc3)
}

func fold(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	return hi ^ lo
}

// find returns the place of k, 0 if it has none.
func (s *slab) find(k *key, h uint64) uint32 {
	tag := uint32(h)
	for j := tag & s.mask; ; j = (j + 1) & s.mask {
		x := s.index[j]
		if x.place == 0 {
			return 0
		}
		if x.tag == tag && s.at(x.place).is(k) {
			return x.place
		}
	}
}

// add makes an entry for k, which must have none.
func (s *slab) add(k *key, h uint64, list uint8, now mono.Time) uint32 {
	i := s.free
	if i != 0 {
		s.free = s.at(i).next
	} else {
		i = s.used
		s.used++
		if int(i>>blockShift) == len(s.blocks) {
			s.blocks = append(s.blocks, make([]entry, 1<<blockShift))
		}
	}
	*s.at(i) = entry{client: k.client, target: k.target, ports: k.ports}
	if s.n++; 2*s.n > len(s.index) {
		s.grow()
	}
	s.enter(slot{i, uint32(h)})
	s.link(i, list, now)
	return i
}

// enter adds a slot to the index.
func (s *slab) enter(x slot) {
	j := x.tag & s.mask
	for s.index[j].place != 0 {
		j = (j + 1) & s.mask
	}
	s.index[j] = x
}

// grow doubles the index. The tags suffice for that, so that no entry is read: some milliseconds
// for a million.
func (s *slab) grow() {
	old := s.index
	s.index = make([]slot, 2*len(old))
	s.mask = uint32(len(s.index) - 1)
	for _, x := range old {
		if x.place != 0 {
			s.enter(x)
		}
	}
}

// remove removes an entry, and frees its place.
func (s *slab) remove(i uint32) {
	e := s.at(i)
	s.unlink(i)
	k := e.key()
	j := uint32(s.hash(&k)) & s.mask
	for s.index[j].place != i {
		j = (j + 1) & s.mask
	}
	// Close the gap: move back what a probe would no longer find across it (Knuth 6.4, algorithm
	// R).
	for next := (j + 1) & s.mask; s.index[next].place != 0; next = (next + 1) & s.mask {
		if home := s.index[next].tag & s.mask; (next-home)&s.mask >= (next-j)&s.mask {
			s.index[j] = s.index[next]
			j = next
		}
	}
	s.index[j] = slot{}
	*e = entry{next: s.free}
	s.free = i
	s.n--
}

// move makes the entry the newest of a list.
func (s *slab) move(i uint32, list uint8, now mono.Time) {
	s.unlink(i)
	s.link(i, list, now)
}

func (s *slab) oldest(list uint8) uint32 { return s.oldests[list] }

func (s *slab) link(i uint32, list uint8, now mono.Time) {
	e := s.at(i)
	e.list, e.last = list, now
	e.prev, e.next = 0, s.newest[list]
	if e.next != 0 {
		s.at(e.next).prev = i
	} else {
		s.oldests[list] = i
	}
	s.newest[list] = i
}

func (s *slab) unlink(i uint32) {
	e := s.at(i)
	if e.prev != 0 {
		s.at(e.prev).next = e.next
	} else {
		s.newest[e.list] = e.next
	}
	if e.next != 0 {
		s.at(e.next).prev = e.prev
	} else {
		s.oldests[e.list] = e.prev
	}
}
