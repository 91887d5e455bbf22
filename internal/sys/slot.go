package sys

import (
	"encoding/binary"
	"fmt"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A ring of slots (TPACKET_V2) hands every packet over as soon as it is there, where one of blocks lets it wait
// for the end of its block's time: for a millisecond at least, and on kernels before 6.18 for a tick of theirs.
// That costs a wake for each packet to a reader that always waits; one that does not look again at once finds
// several.

const (
	slotSize = 2048 // room for a packet of 1,500 bytes

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

	// wholeRoom is how many bytes of packets that are larger than a slot may wait for the reader.
	wholeRoom = 8 << 20
)

// keepWhole has the kernel keep packets that are larger than a slot in the socket's queue as well.
func (r *Ring) keepWhole() error {
	if unix.SetsockoptInt(r.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, wholeRoom) != nil {
		_ = unix.SetsockoptInt(r.fd, unix.SOL_SOCKET, unix.SO_RCVBUF, wholeRoom) // as much as all may have
	}
	if err := unix.SetsockoptInt(r.fd, unix.SOL_PACKET, unix.PACKET_COPY_THRESH, 1); err != nil {
		return fmt.Errorf("keep large packets whole: %w", err)
	}
	return nil
}

// Slot fills f with the next frame and says whether there was one; Data is valid until GiveBack. A packet that
// is larger than a slot is cut where the kernel had no room for all of it.
func (r *Ring) Slot(f *RingFrame) bool {
	if r.taken == len(r.mem)/r.slot {
		return false
	}
	start := r.next * r.slot
	b := r.mem[start : start+r.slot : start+r.slot]
	status := atomic.LoadUint32((*uint32)(unsafe.Pointer(&b[slotStatusOff])))
	if status&unix.TP_STATUS_USER == 0 {
		return false
	}
	if r.next++; r.next == len(r.mem)/r.slot {
		r.next = 0
	}
	r.taken++
	readSlot(b, status, f)
	if status&unix.TP_STATUS_COPY != 0 {
		r.fetch(f)
	}
	return true
}

// readSlot believes no length in a slot that the slot does not bear out.
func readSlot(b []byte, status uint32, f *RingFrame) {
	net := min(int(binary.NativeEndian.Uint16(b[slotNetOff:])), len(b))
	end := net + min(int(binary.NativeEndian.Uint32(b[slotSnapLenOff:])), len(b)-net)
	f.Data = b[net:end:end]
	f.Wire = max(int(binary.NativeEndian.Uint32(b[slotLenOff:])), len(f.Data))
	f.Nanos = int64(binary.NativeEndian.Uint32(b[slotSecOff:]))*1e9 + int64(binary.NativeEndian.Uint32(b[slotNsecOff:]))
	f.HasVLAN = status&statusVLANValid != 0
	f.VLAN = binary.NativeEndian.Uint16(b[slotVLANOff:])
	sll := b[slotSLLOff:slotHeaderLen]
	f.Protocol = binary.BigEndian.Uint16(sll[2:])
	f.Ifindex = int32(binary.NativeEndian.Uint32(sll[4:]))
	f.HWType = binary.NativeEndian.Uint16(sll[8:])
	f.PktType = sll[10]
}

// fetch reads a packet that is larger than its slot from the socket's queue, where it has the same place.
func (r *Ring) fetch(f *RingFrame) {
	if cap(r.whole)-len(r.whole) < f.Wire {
		r.whole = make([]byte, 0, max(1<<20, f.Wire)) // frames of this batch keep the old one
	}
	b := r.whole[len(r.whole) : len(r.whole)+f.Wire]
	n, _, err := unix.Recvfrom(r.fd, b, unix.MSG_DONTWAIT|unix.MSG_TRUNC)
	if err != nil || n != f.Wire {
		return
	}
	r.whole = r.whole[:len(r.whole)+n]
	f.Data = b[:n:n]
}

// GiveBack gives all slots that Slot has read back to the kernel.
func (r *Ring) GiveBack() {
	all := len(r.mem) / r.slot
	for ; r.taken > 0; r.taken-- {
		i := r.next - r.taken
		if i < 0 {
			i += all
		}
		atomic.StoreUint32((*uint32)(unsafe.Pointer(&r.mem[i*r.slot+slotStatusOff])), unix.TP_STATUS_KERNEL)
	}
	r.whole = r.whole[:0]
}
