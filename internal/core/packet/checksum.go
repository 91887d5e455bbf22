package packet

import (
	"encoding/binary"
	"math/bits"
)

// sum adds b to the ones' complement sum acc (RFC 1071), eight bytes at a time. The sum is in
// little-endian order, as RFC 1071 §2(B) permits; finish swaps it. Each b but the last must have an
// even length.
func sum(acc uint64, b []byte) uint64 {
	le := binary.LittleEndian
	var c uint64
	for len(b) >= 32 {
		acc, c = bits.Add64(acc, le.Uint64(b[0:8]), 0)
		acc, c = bits.Add64(acc, le.Uint64(b[8:16]), c)
		acc, c = bits.Add64(acc, le.Uint64(b[16:24]), c)
		acc, c = bits.Add64(acc, le.Uint64(b[24:32]), c)
		acc, c = bits.Add64(acc, 0, c)
		acc += c
		b = b[32:]
	}
	for len(b) >= 8 {
		acc, c = bits.Add64(acc, le.Uint64(b), 0)
		acc += c
		b = b[8:]
	}
	if len(b) == 0 {
		return acc
	}
	var last uint64
	for i := len(b) - 1; i >= 0; i-- {
		last = last<<8 | uint64(b[i])
	}
	acc, c = bits.Add64(acc, last, 0)
	return acc + c
}

// finish returns the checksum of a sum, as it stands in a header.
func finish(acc uint64) uint16 {
	acc = acc>>32 + acc&0xffffffff
	acc = acc>>32 + acc&0xffffffff
	acc = acc>>16 + acc&0xffff
	acc = acc>>16 + acc&0xffff
	return ^bits.ReverseBytes16(uint16(acc))
}

// pseudo returns the sum of the pseudo-header (RFC 9293 §3.1, RFC 8200 §8.1). addrs is the source
// and destination address in the IP header, n the length of the TCP header and payload in bytes.
func pseudo(addrs []byte, proto uint8, n int) uint64 {
	acc := sum(0, addrs)
	// Both words are at even offsets in the pseudo-header, so their order does not matter.
	lo, c := bits.Add64(acc, uint64(bits.ReverseBytes32(uint32(n)))+uint64(proto)<<8, 0)
	return lo + c
}

// ChecksumOK reports whether the checksums of b are right: that of TCP and that of an IPv4 header.
// b is a whole IPv4 or IPv6 packet with TCP. Packets captured on their way out of a host usually
// fail, as the network card is to complete their checksums.
func ChecksumOK(b []byte) bool {
	var s Segment
	if Decode(b, len(b), &s) != nil || s.Cut() {
		return false
	}
	addrs, off, end := tcpIn(b, &s)
	if b[0]>>4 == 4 && finish(sum(0, b[:off])) != 0 {
		return false
	}
	return finish(sum(pseudo(addrs, protoTCP, end-off), b[off:end])) == 0
}

// RenewChecksum sets the TCP checksum of b, of which s was decoded, after a change to the payload.
// A packet that was cut keeps the checksum that it had.
func RenewChecksum(b []byte, s *Segment) {
	if s.Cut() {
		return
	}
	const at = 16 // in the TCP header
	addrs, off, end := tcpIn(b, s)
	binary.BigEndian.PutUint16(b[off+at:], 0)
	binary.BigEndian.PutUint16(b[off+at:], finish(sum(pseudo(addrs, protoTCP, end-off),
		b[off:end])))
}

// tcpIn returns the addresses in the IP header of b, of which s was decoded, and where the TCP
// segment begins and ends. The capture may be longer than the packet.
func tcpIn(b []byte, s *Segment) (addrs []byte, off, end int) {
	addrs, off = b[12:20], int(b[0]&15)*4
	if b[0]>>4 != 4 {
		addrs = b[8:40]
		off, _ = walk6(b)
	}
	return addrs, off, off + int(b[off+12]>>4)*4 + s.Len
}
