package sys

import (
	"encoding/binary"
	"fmt"
	"sort"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A ring of slots (TPACKET_V2) hands over each packet as soon as it has come; a ring of blocks lets
// it wait until its block's time is over: at least a millisecond, and on kernels before 6.18 a
// tick. The reader of slots wakes for each packet if it waits for each; if it pauses before it
// waits, it finds several.
//
// A packet that is larger than a slot waits in the socket's queue, where the kernel keeps it
// without copying it. So a burst of large packets needs few slots, and its time does not matter: in
// 16 MB, 128 blocks of 128 KB hold 12 MB of packets of up to 64 KB, and at most 384 ms of any
// traffic; 8,192 slots of 2,048 bytes hold as many packets of any size, as far as the queue has
// room. Of packets of some hundred bytes, blocks hold several times as many, or as many as smaller
// slots do. A packet in the queue takes a system call more.

const (
	slotSize = 2048 // by default: room for a packet of 1,500 bytes

	// struct tpacket2_hdr, a sockaddr_ll behind it.
	slotStatusOff  = 0
	slotLenOff     = 4
	slotSnapLenOff = 8
	slotNetOff     = 14
	slotSecOff     = 16
	slotNsecOff    = 20
	slotVLANOff    = 24
	slotSLLOff     = 32
	slotHeaderLen  = slotSLLOff + 20

	// DefaultQueue is RingConfig.Queue where it is 0.
	DefaultQueue = 8 << 20
)

// openQueue has the kernel keep packets that are larger than a slot in the socket's queue, up to
// size bytes as it counts them: with what it needs beside the packet, but doubled (see socket(7),
// SO_RCVBUF).
func (r *Ring) openQueue(size int) error {
	if size <= 0 {
		size = DefaultQueue
	}
	if unix.SetsockoptInt(r.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, size) != nil {
		// Without CAP_NET_ADMIN: as much as every process may have.
		_ = unix.SetsockoptInt(r.fd, unix.SOL_SOCKET, unix.SO_RCVBUF, size)
	}
	if err := unix.SetsockoptInt(r.fd, unix.SOL_PACKET, unix.PACKET_COPY_THRESH, 1); err != nil {
		return fmt.Errorf("keep large packets whole: %w", err)
	}
	return nil
}

// Queue returns how many bytes the queue may hold, in the unit of RingConfig.Queue: less than that
// where the capability is missing (see openQueue).
func (r *Ring) Queue() int {
	size, err := getInt(r.fd, unix.SOL_SOCKET, unix.SO_RCVBUF)
	if err != nil {
		return 0
	}
	return size / 2
}

func (r *Ring) slots() int { return len(r.mem) / r.slot }

// slotStatus returns the word by which kernel and reader pass a slot to and fro.
func (r *Ring) slotStatus(slot int) *uint32 {
	return (*uint32)(unsafe.Pointer(&r.mem[slot*r.slot+slotStatusOff]))
}

// largeAtOnce is the room, in bytes, for packets from the queue between two ReleaseSlots.
const largeAtOnce = 1 << 20

// Slot fills f with the next frame and reports whether there was one; Data is valid until
// ReleaseSlots. A packet that is larger than a slot is cut if the queue had no room for it. After
// some frames that were larger, Slot wants a ReleaseSlots before the next one.
func (r *Ring) Slot(f *RingFrame) bool {
	if r.taken == r.slots() {
		return false
	}
	status := atomic.LoadUint32(r.slotStatus(r.next))
	if status&unix.TP_STATUS_USER == 0 {
		return false
	}
	start := r.next * r.slot
	readSlot(r.mem[start:start+r.slot:start+r.slot], status, f)
	if f.Cut && status&unix.TP_STATUS_COPY != 0 {
		if len(r.large) > 0 && cap(r.large)-len(r.large) < f.Wire {
			return false
		}
		r.fetch(f)
	}
	if r.next++; r.next == r.slots() {
		r.next = 0
	}
	r.taken++
	return true
}

// readSlot fills f from a slot. It trusts no length in the slot beyond the slot's own.
func readSlot(b []byte, status uint32, f *RingFrame) {
	net := min(int(binary.NativeEndian.Uint16(b[slotNetOff:])), len(b))
	end := net + min(int(binary.NativeEndian.Uint32(b[slotSnapLenOff:])), len(b)-net)
	f.Data = b[net:end:end]
	f.Wire = max(int(binary.NativeEndian.Uint32(b[slotLenOff:])), len(f.Data))
	f.Cut = end == len(b) && f.Wire > len(f.Data) // or else the filter wanted no more
	f.Nanos = int64(binary.NativeEndian.Uint32(b[slotSecOff:]))*1e9 +
		int64(binary.NativeEndian.Uint32(b[slotNsecOff:]))
	f.HasVLAN = status&statusVLANValid != 0
	f.VLAN = binary.NativeEndian.Uint16(b[slotVLANOff:])
	sll := b[slotSLLOff:slotHeaderLen]
	f.Protocol = binary.BigEndian.Uint16(sll[2:])
	f.Ifindex = int32(binary.NativeEndian.Uint32(sll[4:]))
	f.HWType = binary.NativeEndian.Uint16(sll[8:])
	f.PktType = sll[10]
}

// fetch reads a packet that is larger than its slot from the socket's queue, which has the same
// order as the slots.
func (r *Ring) fetch(f *RingFrame) {
	if cap(r.large) < f.Wire { // and it is empty
		r.large = make([]byte, 0, max(largeAtOnce, f.Wire))
	}
	b := r.large[len(r.large) : len(r.large)+f.Wire]
	n, errno := receive(r.fd, b, unix.MSG_TRUNC)
	if errno != 0 || n != f.Wire {
		return
	}
	r.large = r.large[:len(r.large)+n]
	f.Data, f.Cut = b[:n:n], false
}

// ReleaseSlots gives all slots that Slot has read back to the kernel; views of them are dead. It
// reports whether there were any.
func (r *Ring) ReleaseSlots() bool {
	any := r.taken > 0
	for ; r.taken > 0; r.taken-- {
		i := r.next - r.taken
		if i < 0 {
			i += r.slots()
		}
		atomic.StoreUint32(r.slotStatus(i), unix.TP_STATUS_KERNEL)
	}
	r.large = r.large[:0]
	return any
}

// usedSlots returns how many slots the reader has not given back. Those that wait for it are in a
// row, so their end is found by bisection.
func (r *Ring) usedSlots() int {
	free := r.slots() - r.taken
	waiting := sort.Search(free, func(i int) bool {
		return atomic.LoadUint32(r.slotStatus((r.next+i)%r.slots()))&unix.TP_STATUS_USER == 0
	})
	return r.taken + waiting
}
