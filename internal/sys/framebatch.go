package sys

import (
	"encoding/binary"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	vnetHeaderLen = 10 // struct virtio_net_hdr (linux/virtio_net.h)
	etherLen      = 14

	// FrameHeaderLen is how many bytes FrameHeader.Put writes before a packet's IP header.
	FrameHeaderLen = vnetHeaderLen + etherLen

	vnetNeedsChecksum = 1 // VIRTIO_NET_HDR_F_NEEDS_CSUM
	vnetTCPv4         = 1 // VIRTIO_NET_HDR_GSO_TCPV4
	vnetTCPv6         = 4 // VIRTIO_NET_HDR_GSO_TCPV6

	tcpChecksumOff = 16
)

// FrameHeader describes one frame for a socket of OpenFrameSender: an Ethernet frame with a TCP
// packet of several segments.
type FrameHeader struct {
	Dst, Src  [6]byte
	EtherType uint16 // EthPIP or EthPIPv6
	IPHeader  int    // bytes of IP header
	Headers   int    // bytes of IP and TCP headers
	Segment   int    // bytes of payload in each segment but the last, which may have less
}

// Put writes what comes before the IP header into b, of FrameHeaderLen bytes.
func (h *FrameHeader) Put(b []byte) {
	b = b[:FrameHeaderLen]
	b[0], b[1] = vnetNeedsChecksum, vnetTCPv6
	if h.EtherType == EthPIP {
		b[1] = vnetTCPv4
	}
	binary.NativeEndian.PutUint16(b[2:], uint16(etherLen+h.Headers))
	binary.NativeEndian.PutUint16(b[4:], uint16(h.Segment))
	binary.NativeEndian.PutUint16(b[6:], uint16(etherLen+h.IPHeader))
	binary.NativeEndian.PutUint16(b[8:], tcpChecksumOff)
	copy(b[10:], h.Dst[:])
	copy(b[16:], h.Src[:])
	binary.BigEndian.PutUint16(b[22:], h.EtherType)
}

// FramePieces is how many pieces of memory the frames of one FrameBatch may have.
const FramePieces = 1024

// FrameBatch gathers frames for one sendmmsg(2). It is large: make one and use it again. It refers
// to the bytes that it was given until Reset.
type FrameBatch struct {
	n, pieces int
	msgs      [SendBatchSize]mmsghdr
	names     [SendBatchSize][unix.SizeofSockaddrLinklayer]byte
	iovs      [FramePieces]unix.Iovec
}

// NewFrameBatch returns an empty batch.
func NewFrameBatch() *FrameBatch {
	b := new(FrameBatch)
	for i := range b.msgs {
		h := &b.msgs[i].hdr
		h.Name = &b.names[i][0]
		h.Namelen = unix.SizeofSockaddrLinklayer
	}
	return b
}

// Len returns the number of frames in the batch.
func (b *FrameBatch) Len() int { return b.n }

// Room reports whether a frame of so many pieces, its headers included, fits the batch.
func (b *FrameBatch) Room(pieces int) bool {
	return b.n < SendBatchSize && b.pieces+pieces <= FramePieces
}

// Reset empties the batch and drops its references.
func (b *FrameBatch) Reset() {
	clear(b.iovs[:b.pieces])
	b.n, b.pieces = 0, 0
}

// Add starts a frame on the interface: headers are FrameHeader.Put's bytes, then IP and TCP header.
// Their TCP checksum must be the sum of the pseudo-header, not complemented.
func (b *FrameBatch) Add(ifindex int, etherType uint16, headers []byte) {
	name := &b.names[b.n]
	binary.NativeEndian.PutUint16(name[0:], unix.AF_PACKET)
	binary.BigEndian.PutUint16(name[2:], etherType)
	binary.NativeEndian.PutUint32(name[4:], uint32(ifindex))
	h := &b.msgs[b.n].hdr
	h.Iov = &b.iovs[b.pieces]
	h.SetIovlen(0)
	b.n++
	b.piece(headers)
}

// AddPayload adds bytes to the frame that Add started last. Payload that lies behind the payload
// before it in memory becomes one piece with it.
func (b *FrameBatch) AddPayload(p []byte) {
	last := &b.iovs[b.pieces-1]
	if b.msgs[b.n-1].hdr.Iovlen > 1 &&
		uintptr(unsafe.Pointer(last.Base))+uintptr(last.Len) == uintptr(unsafe.Pointer(&p[0])) {
		last.SetLen(int(last.Len) + len(p))
		return
	}
	b.piece(p)
}

func (b *FrameBatch) piece(p []byte) {
	iov := &b.iovs[b.pieces]
	iov.Base = &p[0]
	iov.SetLen(len(p))
	b.pieces++
	h := &b.msgs[b.n-1].hdr
	h.SetIovlen(int(h.Iovlen) + 1)
}

// SendFrames hands frames from index first on to the kernel, as Send does with packets.
func (s *SendSocket) SendFrames(b *FrameBatch, first int) (int, error) {
	return s.send(&b.msgs[first], min(b.n-first, framesAtOnce))
}
