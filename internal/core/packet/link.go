package packet

import "encoding/binary"

const (
	etherHeaderLen = 14
	tagLen         = 4
	maxTags        = 4 // of 802.1Q: two are QinQ, and more is nobody's network
)

// DecodeEthernet reads an Ethernet frame, without preamble and check sequence, with any 802.1Q and
// 802.1ad tags. The error is ErrNotIP or ErrMalformed itself.
func DecodeEthernet(b []byte, in *Inner) error {
	*in = Inner{}
	return in.ethernet(b)
}

func (in *Inner) ethernet(b []byte) error {
	if len(b) < etherHeaderLen {
		return ErrMalformed
	}
	return in.linked(binary.BigEndian.Uint16(b[12:14]), b[etherHeaderLen:])
}

// DecodeTagged reads what follows an EtherType that was read already: an IP packet, or the rest of
// 802.1Q tags before one. A packet socket takes the outermost tag away itself, and leaves the
// others there.
func DecodeTagged(etherType uint16, b []byte, in *Inner) error {
	*in = Inner{}
	return in.linked(etherType, b)
}

// linked is payload without Ethernet in Ethernet, which nobody sends and which has no bound.
func (in *Inner) linked(etherType uint16, b []byte) error {
	if etherType == etherIPv4 || etherType == etherIPv6 {
		return in.setIP(b)
	}
	return in.tagged(etherType, b)
}

func (in *Inner) tagged(etherType uint16, b []byte) error {
	for range maxTags {
		switch etherType {
		case etherTag, etherSTag, etherQinQ:
		default:
			return ErrNotIP
		}
		if len(b) < tagLen {
			return ErrMalformed
		}
		if in.VLAN == 0 {
			in.VLAN = binary.BigEndian.Uint16(b)
		}
		etherType, b = binary.BigEndian.Uint16(b[2:]), b[tagLen:]
		if etherType == etherIPv4 || etherType == etherIPv6 {
			return in.setIP(b)
		}
	}
	return ErrNotIP
}
