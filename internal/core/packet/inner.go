package packet

import (
	"encoding/binary"
	"errors"
)

// ErrNotIP is returned by the decoders of frames and encapsulations if there is no IP packet
// within, but ARP, a switch's control protocol, or an unknown encapsulation. It is never wrapped.
var ErrNotIP = errors.New("decode frame: no IPv4 or IPv6 packet within")

// Inner is the IP packet within a frame or an encapsulation.
type Inner struct {
	// Data is the packet from its IP header on, a view of the decoded bytes. Bytes that follow the
	// packet (Ethernet's padding) are included; Decode leaves them out.
	Data []byte
	// Wire is the packet's length on the wire according to its IP header, in bytes, or len(Data) if
	// that is more. Wire > len(Data) if a mirror has cut the packet, since it does not change the
	// header.
	Wire int
	// Network identifies the network that the packet was captured in: the VNI of VXLAN and GENEVE,
	// the session of ERSPAN, the key of GRE; 0: none.
	Network uint32
	VLAN    uint16 // 802.1Q tag control information of the outermost tag; 0: none
}

// EtherTypes (IEEE 802 numbers).
const (
	etherIPv4 = 0x0800
	etherIPv6 = 0x86dd
	etherTEB  = 0x6558 // transparent Ethernet bridging: an Ethernet frame follows
	etherTag  = 0x8100 // 802.1Q
	etherSTag = 0x88a8 // 802.1ad
	etherQinQ = 0x9100 // QinQ before 802.1ad
)

// setIP makes b the inner packet if it begins with an IP header.
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

// payload decodes b, which follows a header that names its protocol by an EtherType.
func (in *Inner) payload(etherType uint16, b []byte) error {
	switch etherType {
	case etherIPv4, etherIPv6:
		return in.setIP(b)
	case etherTEB:
		return in.ethernet(b)
	}
	return in.tagged(etherType, b)
}
