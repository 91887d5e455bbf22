package packet

import (
	"encoding/binary"
	"slices"
)

// defaultTTL is written for a segment without a TTL.
const defaultTTL = 64

// HeaderLen returns how many bytes AppendHeaders writes for s: IP and TCP headers with options.
func HeaderLen(s *Segment) int {
	n, _ := optionsLen(&s.Opts)
	if s.Dst.Addr().Is4() {
		return ip4HeaderLen + tcpHeaderLen + n
	}
	return ip6HeaderLen + tcpHeaderLen + n
}

// Append appends the IP packet for s to dst, with s.Payload whatever s.Len is, and returns the
// extended slice. Both addresses must be of Dst's family; an IPv4-mapped IPv6 address is IPv6.
// Append sets the checksums, and DF with an IP ID of 0 (RFC 6864 §4.1). It leaves out SACK blocks
// that do not fit beside the other options. The length field of a packet that is too large for it
// is 0.
func Append(dst []byte, s *Segment) []byte {
	dst = slices.Grow(dst, HeaderLen(s)+len(s.Payload))
	dst = AppendHeaders(dst, s)
	return append(dst, s.Payload...)
}

// AppendHeaders is Append without the payload's bytes, which lengths and checksum include: headers
// and payload can be sent from two buffers.
func AppendHeaders(dst []byte, s *Segment) []byte {
	be := binary.BigEndian
	optLen, blocks := optionsLen(&s.Opts)
	tcpLen := tcpHeaderLen + optLen + len(s.Payload)
	ttl := s.TTL
	if ttl == 0 {
		ttl = defaultTTL
	}

	start := len(dst)
	var acc uint64
	if s.Dst.Addr().Is4() {
		total := ip4HeaderLen + tcpLen
		if total > 0xffff {
			total = 0
		}
		src, dest := s.Src.Addr().As4(), s.Dst.Addr().As4()
		dst = append(dst, 0x45, 0, byte(total>>8), byte(total), 0, 0, 0x40, 0, ttl, protoTCP, 0, 0)
		dst = append(dst, src[:]...)
		dst = append(dst, dest[:]...)
		ip := dst[start:]
		be.PutUint16(ip[10:], finish(sum(0, ip)))
		acc = pseudo(ip[12:20], protoTCP, tcpLen)
	} else {
		n := tcpLen
		if n > 0xffff {
			n = 0
		}
		src, dest := s.Src.Addr().As16(), s.Dst.Addr().As16()
		dst = append(dst, 0x60, 0, 0, 0, byte(n>>8), byte(n), protoTCP, ttl)
		dst = append(dst, src[:]...)
		dst = append(dst, dest[:]...)
		acc = pseudo(dst[start+8:start+40], protoTCP, tcpLen)
	}

	start = len(dst)
	dst = be.AppendUint16(dst, s.Src.Port())
	dst = be.AppendUint16(dst, s.Dst.Port())
	dst = be.AppendUint32(dst, uint32(s.Seq))
	dst = be.AppendUint32(dst, uint32(s.Ack))
	dst = append(dst, byte((tcpHeaderLen+optLen)/4)<<4, byte(s.Flags))
	dst = be.AppendUint16(dst, s.Window)
	dst = append(dst, 0, 0, byte(s.Urgent>>8), byte(s.Urgent))
	dst = appendOptions(dst, &s.Opts, blocks)
	tcp := dst[start:]
	be.PutUint16(tcp[16:], finish(sum(sum(acc, tcp), s.Payload)))
	return dst
}
