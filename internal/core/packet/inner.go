package packet

import (
	"encoding/binary"
	"errors"
)

// ErrNotIP is what the readers of frames and encapsulations return where there is no IP packet
// within: ARP, a switch's own chatter, an encapsulation that they do not know. It is never wrapped.
var ErrNotIP = errors.New("decode frame: no IPv4 or IPv6 packet within")

// Inner is the IP packet within a frame or an encapsulation.
type Inner struct {
	// Data is the packet from its IP header on: a view of the bytes that were read. What follows
	// the packet (Ethernet's padding) is still there; Decode leaves it out.
	Data []byte
	// Wire is the packet's length on the wire as its IP header tells, or len(Data) if that is more.
	// A mirror that cuts what it copies leaves this header as it was, so a cut packet is known by
	// Wire > len(Data).
	Wire int
	// Network is the identifier of the network that the packet was taken from: of VXLAN and GENEVE
	// the VNI, of ERSPAN the session, of GRE the key. 0 where there is none.
	Network uint32
	VLAN    uint16 // 802.1Q tag control information of the outermost tag; 0: none
}

// EtherTypes (IEEE 802 numbers).
const (
	etherIPv4 = 0x0800
	etherIPv6 = 0x86dd
	// transparent Ethernet bridging: an Ethernet frame follows (RFC 7348, RFC 8926, GRE)
	etherTEB  = 0x6558
	etherTag  = 0x8100 // 802.1Q
	etherSTag = 0x88a8 // 802.1ad
	etherQinQ = 0x9100 // what QinQ was before 802.1ad
)

// setIP makes b, which should begin with an IP header, the inner packet.
func (in *Inner) setIP(b []byte) error {
	if len(b) == 0 {
		return ErrMalformed
	}
	n := 0
	switch b[0] >> 4 {
	case 4:
		if len(b) < ip4HeaderLen {
			return ErrMalformed
		}
		n = int(binary.BigEndian.Uint16(b[2:4]))
	case 6:
		if len(b) < ip6HeaderLen {
			return ErrMalformed
		}
		if n = int(binary.BigEndian.Uint16(b[4:6])); n > 0 {
			n += ip6HeaderLen
		}
	default:
		return ErrNotIP
	}
	in.Data, in.Wire = b, max(n, len(b))
	return nil
}

// payload reads what follows a header that names it by an EtherType.
func (in *Inner) payload(etherType uint16, b []byte) error {
	switch etherType {
	case etherIPv4, etherIPv6:
		return in.setIP(b)
	case etherTEB:
		return in.ethernet(b)
	}
	return in.tagged(etherType, b)
}
