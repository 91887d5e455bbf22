package packet

import (
	"encoding/binary"
	"errors"
	"net/netip"

	"tcpcopy/internal/core/seqnum"
)

// ErrNotICMPError is returned by DecodeICMP for a packet that is not an ICMP message about a TCP
// packet of a kind that it reads.
var ErrNotICMPError = errors.New("decode icmp: not an error message about a TCP packet")

// ICMPKind is the kind of an ICMP error message.
type ICMPKind uint8

// The kinds of ICMP errors.
const (
	// Unreachable is ICMPv4 type 3 (RFC 792) or ICMPv6 type 1 (RFC 4443 §3.1). Code is the reason.
	Unreachable ICMPKind = iota + 1
	// FragNeeded is ICMPv4 type 3 code 4 (RFC 1191 §4).
	FragNeeded
	// PacketTooBig is ICMPv6 type 2 (RFC 4443 §3.2).
	PacketTooBig
)

// String returns the kind in words.
func (k ICMPKind) String() string {
	switch k {
	case Unreachable:
		return "unreachable"
	case FragNeeded:
		return "fragmentation needed"
	case PacketTooBig:
		return "packet too big"
	}
	return "unknown"
}

// ICMPError is an ICMP message about a TCP packet that did not arrive. Since anybody can send one,
// a caller must check Seq against what is in flight (RFC 5927 §4.1) and bound MTU from below.
type ICMPError struct {
	Kind ICMPKind
	Code uint8      // as in the message
	MTU  int        // of FragNeeded and PacketTooBig, in bytes with the IP header; 0: not given
	From netip.Addr // the sender of the message
	// Src, Dst and Seq are those of the packet that did not arrive.
	Src, Dst netip.AddrPort
	Seq      seqnum.Value
}

const icmpHeaderLen = 8

// DecodeICMP decodes an ICMP message about a TCP packet. b starts with the IP header, and may be
// cut after the first eight bytes of the TCP header that the message quotes. DecodeICMP returns
// ErrNotICMPError, ErrFragment or ErrMalformed, never wrapped.
func DecodeICMP(b []byte) (ICMPError, error) {
	var e ICMPError
	if len(b) < ip4HeaderLen {
		return e, ErrMalformed
	}
	switch b[0] >> 4 {
	case 4:
		return decodeICMP4(b)
	case 6:
		return decodeICMP6(b)
	}
	return e, ErrNotICMPError
}

// decodeICMP4 is DecodeICMP for IPv4.
func decodeICMP4(b []byte) (e ICMPError, err error) {
	if b[9] != protoICMP {
		return e, ErrNotICMPError
	}
	if binary.BigEndian.Uint16(b[6:8])&0x3fff != 0 {
		return e, ErrFragment
	}
	off := int(b[0]&15) * 4
	if off < ip4HeaderLen || off+icmpHeaderLen > len(b) {
		return e, ErrMalformed
	}
	m := b[off:]
	if m[0] != 3 {
		return e, ErrNotICMPError
	}
	e.Kind, e.Code, e.From = Unreachable, m[1], netip.AddrFrom4([4]byte(b[12:16]))
	if m[1] == 4 {
		e.Kind, e.MTU = FragNeeded, int(binary.BigEndian.Uint16(m[6:8]))
	}

	in := m[icmpHeaderLen:] // RFC 792: the IP header and at least eight bytes
	if len(in) < ip4HeaderLen || in[0]>>4 != 4 {
		return e, ErrMalformed
	}
	if in[9] != protoTCP {
		return e, ErrNotICMPError
	}
	if binary.BigEndian.Uint16(in[6:8])&0x1fff != 0 { // a first fragment has the ports
		return e, ErrFragment
	}
	hl := int(in[0]&15) * 4
	if hl < ip4HeaderLen || hl+8 > len(in) {
		return e, ErrMalformed
	}
	e.embedded(netip.AddrFrom4([4]byte(in[12:16])), netip.AddrFrom4([4]byte(in[16:20])), in[hl:])
	return e, nil
}

// decodeICMP6 is DecodeICMP for IPv6.
func decodeICMP6(b []byte) (e ICMPError, err error) {
	if len(b) < ip6HeaderLen {
		return e, ErrMalformed
	}
	next, off, err := upper6(b)
	if err != nil {
		return e, err
	}
	if next != protoICMPv6 {
		return e, ErrNotICMPError
	}
	if off+icmpHeaderLen > len(b) {
		return e, ErrMalformed
	}
	m := b[off:]
	e.Code, e.From = m[1], netip.AddrFrom16([16]byte(b[8:24]))
	switch m[0] {
	case 1:
		e.Kind = Unreachable
	case 2:
		e.Kind = PacketTooBig
		e.MTU = int(min(binary.BigEndian.Uint32(m[4:8]), 1<<31-1))
	default:
		return e, ErrNotICMPError
	}

	in := m[icmpHeaderLen:]
	if len(in) < ip6HeaderLen || in[0]>>4 != 6 {
		return e, ErrMalformed
	}
	next, hl, err := upper6(in)
	if err != nil {
		return e, err
	}
	if next != protoTCP {
		return e, ErrNotICMPError
	}
	if hl+8 > len(in) {
		return e, ErrMalformed
	}
	e.embedded(netip.AddrFrom16([16]byte(in[8:24])), netip.AddrFrom16([16]byte(in[24:40])), in[hl:])
	return e, nil
}

// embedded sets the addresses, and the sequence number from t, the first eight bytes of the quoted
// TCP header.
func (e *ICMPError) embedded(src, dst netip.Addr, t []byte) {
	e.Src = netip.AddrPortFrom(src, binary.BigEndian.Uint16(t[0:2]))
	e.Dst = netip.AddrPortFrom(dst, binary.BigEndian.Uint16(t[2:4]))
	e.Seq = seqOf(t[4:8])
}
