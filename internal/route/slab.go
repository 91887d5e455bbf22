package route

import (
	"encoding/binary"
	"math/bits"
	"net/netip"

	"tcpcopy/internal/mono"
)

// key is a connection in a form that is quick to hash and to compare: both addresses in 128 bits (IPv4
// mapped into IPv6, RFC 4291 §2.5.5.2), both ports.
type key struct {
	client, target [2]uint64
	ports          uint64
}

func keyOf(client, target netip.AddrPort) key {
	return key{half(client.Addr()), half(target.Addr()), uint64(client.Port())<<16 | uint64(target.Port())}
}

func half(a netip.Addr) [2]uint64 {
	if a.Is4() {
		v := a.As4()
		return [2]uint64{0, 0xffff<<32 | uint64(binary.BigEndian.Uint32(v[:]))}
	}
	v := a.As16()
	return [2]uint64{binary.BigEndian.Uint64(v[:8]), binary.BigEndian.Uint64(v[8:])}
}

// The lists that entries are in, each in the order of last use.
const (
	listOpen    uint8 = iota
	listClosing       // the target has sent its FIN
	listClosed        // reset, or released by its owner
	listPending       // nobody's: something waits for a claim
	lists
)

type entry struct {
	key        key
	last       mono.Time // last use, not more exact than touchAfter
	prev, next uint32    // neighbours in the list; 0: none
	chain      uint32    // next entry with the same hash index
	heldFirst  uint32    // segments that wait for a claim: places in the holdQueue; 0: none
	heldLast   uint32
	generation uint16 // of the owner: a copier that was forgotten leaves entries of an old one behind
	owner      uint8
	list       uint8
}

// slab holds the entries and finds them. An entry is named by its place, from 1 on; places are used
// again. Memory is taken in blocks as entries come, and not given back.
type slab struct {
	blocks  [][]entry
	index   []uint32 // by hash: the first place of a chain
	mask    uint64
	seed    uint64
	free    uint32 // chain of places to be used again
	used    uint32 // places handed out so far
	n       int
	newest  [lists]uint32
	oldests [lists]uint32
}

const blockShift = 10

func (s *slab) init(maxEntries int, seed uint64) {
	// The index has its full size from the start, so that it is never rebuilt under load: 4 to 8 bytes
	// for each entry that there may be, and the kernel gives the pages only when they are touched.
	size := 1 << bits.Len(uint(maxEntries-1))
	s.index = make([]uint32, size)
	s.mask = uint64(size - 1)
	s.seed = seed
	s.used = 1 // place 0 is nobody's
	s.blocks = append(s.blocks, make([]entry, 1<<blockShift))
}

func (s *slab) at(i uint32) *entry { return &s.blocks[i>>blockShift][i&(1<<blockShift-1)] }

// hash mixes as wyhash does: a 128-bit product folded.
func (s *slab) hash(k *key) uint64 {
	h := fold(k.client[0]^s.seed^0xa0761d6478bd642f, k.client[1]^s.seed^0xe7037ed1a0b428db)
	h = fold(h^k.target[0]^0x8ebc6af09c88c6e3, k.target[1]^s.seed)
	return fold(h^k.ports, s.seed^0x589965cc75374cc3)
}

func fold(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	return hi ^ lo
}

// find returns the place of k, 0 if it has none.
func (s *slab) find(k *key, h uint64) uint32 {
	i := s.index[h&s.mask]
	for i != 0 {
		e := s.at(i)
		if e.key == *k {
			return i
		}
		i = e.chain
	}
	return 0
}

// add makes an entry for k, which must have none.
func (s *slab) add(k *key, h uint64, list uint8, now mono.Time) uint32 {
	i := s.free
	if i != 0 {
		s.free = s.at(i).chain
	} else {
		i = s.used
		s.used++
		if int(i>>blockShift) == len(s.blocks) {
			s.blocks = append(s.blocks, make([]entry, 1<<blockShift))
		}
	}
	e := s.at(i)
	first := &s.index[h&s.mask]
	*e = entry{key: *k, chain: *first}
	*first = i
	s.n++
	s.link(i, list, now)
	return i
}

// remove gives a place back.
func (s *slab) remove(i uint32) {
	e := s.at(i)
	s.unlink(i)
	at := &s.index[s.hash(&e.key)&s.mask]
	for *at != i {
		at = &s.at(*at).chain
	}
	*at = e.chain
	*e = entry{chain: s.free}
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
