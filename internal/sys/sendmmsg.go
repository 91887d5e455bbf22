package sys

import (
	"encoding/binary"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// SendBatchSize is the most packets that one call hands to the kernel.
const SendBatchSize = 64

// mmsghdr is struct mmsghdr.
type mmsghdr struct {
	hdr unix.Msghdr
	len uint32
}

// SendBatch gathers packets for one sendmmsg(2). It is large: make one and use it again. It refers
// to the bytes that it was given until Reset.
type SendBatch struct {
	n     int
	msgs  [SendBatchSize]mmsghdr
	iovs  [SendBatchSize][2]unix.Iovec
	names [SendBatchSize][unix.SizeofSockaddrInet6]byte // room for any of the address families used
}

// NewSendBatch returns an empty batch.
func NewSendBatch() *SendBatch {
	b := new(SendBatch)
	for i := range b.msgs {
		h := &b.msgs[i].hdr
		h.Name = &b.names[i][0]
		h.Iov = &b.iovs[i][0]
	}
	return b
}

// Len returns the number of packets in the batch.
func (b *SendBatch) Len() int { return b.n }

// Full reports whether the batch takes no more.
func (b *SendBatch) Full() bool { return b.n == SendBatchSize }

// Reset empties the batch and drops its references.
func (b *SendBatch) Reset() {
	for i := range b.n {
		b.iovs[i] = [2]unix.Iovec{}
	}
	b.n = 0
}

// AddTo4 adds an IPv4 packet for a raw socket: its headers, of at least a byte, and its payload.
func (b *SendBatch) AddTo4(dst netip.Addr, headers, payload []byte) {
	name := &b.names[b.n]
	binary.NativeEndian.PutUint16(name[0:], unix.AF_INET)
	binary.NativeEndian.PutUint16(name[2:], 0)
	a := dst.As4()
	copy(name[4:8], a[:])
	b.add(unix.SizeofSockaddrInet4, headers, payload)
}

// AddTo6 adds an IPv6 packet for a raw socket, as AddTo4. A link-local destination needs the index
// of its interface as scope; for others it is 0.
func (b *SendBatch) AddTo6(dst netip.Addr, scope uint32, headers, payload []byte) {
	name := &b.names[b.n]
	binary.NativeEndian.PutUint16(name[0:], unix.AF_INET6)
	clear(name[2:8])
	a := dst.As16()
	copy(name[8:24], a[:])
	binary.NativeEndian.PutUint32(name[24:], scope)
	b.add(unix.SizeofSockaddrInet6, headers, payload)
}

// AddToLink adds a packet for a socket of OpenPacketSender. The kernel puts the interface's link
// header, to mac, before it.
func (b *SendBatch) AddToLink(ifindex int, protocol uint16, mac [6]byte, headers, payload []byte) {
	name := &b.names[b.n]
	clear(name[:])
	binary.NativeEndian.PutUint16(name[0:], unix.AF_PACKET)
	binary.BigEndian.PutUint16(name[2:], protocol)
	binary.NativeEndian.PutUint32(name[4:], uint32(ifindex))
	name[11] = 6
	copy(name[12:18], mac[:])
	b.add(unix.SizeofSockaddrLinklayer, headers, payload)
}

func (b *SendBatch) add(nameLen uint32, headers, payload []byte) {
	iov := &b.iovs[b.n]
	h := &b.msgs[b.n].hdr
	h.Namelen = nameLen
	iov[0].Base = &headers[0]
	iov[0].SetLen(len(headers))
	h.SetIovlen(1)
	if len(payload) > 0 {
		iov[1].Base = &payload[0]
		iov[1].SetLen(len(payload))
		h.SetIovlen(2)
	}
	b.n++
}

// What goes down in one call, so that the call takes no more than some 100 µs: it keeps the
// processor (see Stream).
const (
	packetsAtOnce = 32
	framesAtOnce  = 4 // of up to 64 KB
)

// Send hands packets from index first on to the kernel, perhaps not all of them, and returns how
// many it took. It never waits. An error concerns the packet first alone, which was not sent; those
// behind it were not tried.
func (s *SendSocket) Send(b *SendBatch, first int) (int, error) {
	return s.send(&b.msgs[first], min(b.n-first, packetsAtOnce))
}

// send is sendmmsg(2) of n messages.
func (s *SendSocket) send(first *mmsghdr, n int) (int, error) {
	for {
		sent, _, errno := unix.RawSyscall6(unix.SYS_SENDMMSG, uintptr(s.fd),
			uintptr(unsafe.Pointer(first)), uintptr(n), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0)
		switch errno {
		case 0:
			return int(sent), nil
		case unix.EINTR:
			continue
		}
		return 0, errno
	}
}
