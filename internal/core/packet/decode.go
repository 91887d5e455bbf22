package packet

import (
	"encoding/binary"
	"errors"
	"net/netip"
)

// The errors of Decode and DecodeICMP. They are never wrapped, so a caller on the hot path may
// compare with ==.
var (
	// ErrNotTCP is for a packet that carries something else, or is not IP.
	ErrNotTCP = errors.New("decode packet: not TCP over IPv4 or IPv6")
	// ErrFragment is for any fragment of a TCP segment. Fragments are not reassembled.
	ErrFragment = errors.New("decode packet: an IP fragment, want a whole packet")
	// ErrMalformed is for headers that are cut off, or whose lengths contradict each other.
	ErrMalformed = errors.New("decode packet: headers cut off or contradictory")
)

const (
	ip4HeaderLen = 20
	ip6HeaderLen = 40
	tcpHeaderLen = 20

	protoICMP   = 1
	protoTCP    = 6
	protoICMPv6 = 58
)

// Next-header values that Decode skips (RFC 8200 §4.1; authentication: RFC 4302 §2).
const (
	extHopByHop    = 0
	extRouting     = 43
	extFragment    = 44
	extAuth        = 51
	extDestination = 60
)

// maxExtHeaders bounds the number of extension headers. RFC 8200 §4.1 has fewer.
const maxExtHeaders = 8

// Decode decodes the packet b, which starts with its IP header, into s. wire is the packet's length
// on the wire in bytes, from the IP header on: len(b), or more if the capture cut the packet.
// Trailing bytes that the IP header does not count (Ethernet's padding) are left out.
//
// If the header has no length, wire is the length: BIG TCP over IPv6 (payload length 0, with or
// without the hop-by-hop header of RFC 2675) and over IPv4 (total length 0). Checksums are not
// verified, since a packet captured on its way out of the host has none yet. TCP options after a
// malformed one are ignored.
//
// s.Payload is a view of b. Decode returns ErrNotTCP, ErrFragment or ErrMalformed, never wrapped; s
// is then undefined.
func Decode(b []byte, wire int, s *Segment) error {
	if len(b) < ip4HeaderLen || wire < len(b) {
		return ErrMalformed
	}
	if b[0]>>4 != 4 {
		return decode6(b, wire, s)
	}
	if b[9] != protoTCP {
		return ErrNotTCP
	}
	if binary.BigEndian.Uint16(b[6:8])&0x3fff != 0 { // more fragments, or an offset
		return ErrFragment
	}
	off := int(b[0]&15) * 4
	total := int(binary.BigEndian.Uint16(b[2:4]))
	if total == 0 {
		total = wire
	}
	if off < ip4HeaderLen || total > wire {
		return ErrMalformed
	}
	s.TTL = b[8]
	if err := decodeTCP(b, off, total, s); err != nil {
		return err
	}
	ports := b[off : off+4]
	s.Src = netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[12:16])), binary.BigEndian.Uint16(ports))
	s.Dst = netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[16:20])),
		binary.BigEndian.Uint16(ports[2:]))
	return nil
}

// decode6 is Decode for a packet that is not IPv4.
func decode6(b []byte, wire int, s *Segment) error {
	if b[0]>>4 != 6 {
		return ErrNotTCP
	}
	if len(b) < ip6HeaderLen {
		return ErrMalformed
	}
	total := ip6HeaderLen + int(binary.BigEndian.Uint16(b[4:6]))
	if total == ip6HeaderLen {
		total = wire
	}
	off, err := walk6(b)
	if err != nil {
		return err
	}
	if total > wire {
		return ErrMalformed
	}
	s.TTL = b[7]
	if err := decodeTCP(b, off, total, s); err != nil {
		return err
	}
	ports := b[off : off+4]
	s.Src = netip.AddrPortFrom(netip.AddrFrom16([16]byte(b[8:24])), binary.BigEndian.Uint16(ports))
	s.Dst = netip.AddrPortFrom(netip.AddrFrom16([16]byte(b[24:40])),
		binary.BigEndian.Uint16(ports[2:]))
	return nil
}

// walk6 returns the offset of the TCP header in the IPv6 packet b, whose fixed header is whole.
func walk6(b []byte) (int, error) {
	next, off, err := upper6(b)
	if err != nil {
		return 0, err
	}
	if next != protoTCP {
		return 0, ErrNotTCP
	}
	return off, nil
}

// upper6 returns the upper-layer protocol of an IPv6 packet and its offset, which may be the end of
// b. It returns ErrFragment for a fragment of TCP or ICMP, or one whose protocol follows further
// headers. For a fragment of another protocol it returns that protocol.
func upper6(b []byte) (next uint8, off int, err error) {
	next, off = b[6], ip6HeaderLen
	for range maxExtHeaders {
		size := 0
		switch next {
		case extHopByHop, extRouting, extDestination:
			if off+8 > len(b) {
				return 0, 0, ErrMalformed
			}
			size = 8 + int(b[off+1])*8
		case extAuth:
			if off+8 > len(b) {
				return 0, 0, ErrMalformed
			}
			size = 8 + int(b[off+1])*4
		case extFragment:
			if off+8 > len(b) {
				return 0, 0, ErrMalformed
			}
			// With an offset of 0 and without the M flag it is a whole packet (RFC 6946).
			if binary.BigEndian.Uint16(b[off+2:off+4])&0xfff9 != 0 {
				switch b[off] {
				case protoTCP, protoICMPv6, extHopByHop, extRouting, extDestination, extAuth:
					return 0, 0, ErrFragment
				}
				return b[off], off + 8, nil
			}
			size = 8
		default:
			return next, off, nil
		}
		next = b[off]
		off += size
		if off > len(b) {
			return 0, 0, ErrMalformed
		}
	}
	return 0, 0, ErrMalformed
}

// decodeTCP decodes the TCP header at b[off:] of a packet that ends at total, without its ports.
func decodeTCP(b []byte, off, total int, s *Segment) error {
	if off+tcpHeaderLen > len(b) {
		return ErrMalformed
	}
	t := b[off:]
	hl := int(t[12]>>4) * 4
	if hl < tcpHeaderLen || hl > len(t) || off+hl > total {
		return ErrMalformed
	}
	_ = t[19] // one bounds check for all below
	s.Seq = seqOf(t[4:8])
	s.Ack = seqOf(t[8:12])
	s.Flags = Flags(t[13])
	s.Window = binary.BigEndian.Uint16(t[14:16])
	s.Urgent = binary.BigEndian.Uint16(t[18:20])
	s.Opts = Options{}
	if hl > tcpHeaderLen {
		o := t[tcpHeaderLen:hl]
		if len(o) == 12 && binary.BigEndian.Uint32(o) == tsAligned {
			s.Opts.HasTS = true
			s.Opts.TSVal = binary.BigEndian.Uint32(o[4:8])
			s.Opts.TSEcr = binary.BigEndian.Uint32(o[8:12])
		} else {
			parseOptions(o, &s.Opts)
		}
	}
	s.Len = total - off - hl
	end := min(len(b), total)
	s.Payload = b[off+hl : end : end]
	return nil
}
