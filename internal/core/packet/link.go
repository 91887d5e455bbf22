package packet

import "encoding/binary"

const (
	etherHeaderLen = 14
	tagLen         = 4
	maxTags        = 4 // 802.1Q tags of a frame; QinQ has two
)

// DecodeEthernet decodes an Ethernet frame without preamble and frame check sequence. It may have
// 802.1Q and 802.1ad tags. It returns ErrNotIP or ErrMalformed, never wrapped.
func DecodeEthernet(b []byte, in *Inner) error {
	*in = Inner{}
	return in.ethernet(b)
}

// ethernet decodes an Ethernet frame.
func (in *Inner) ethernet(b []byte) error {
	if len(b) < etherHeaderLen {
		return ErrMalformed
	}
	return in.linked(binary.BigEndian.Uint16(b[12:14]), b[etherHeaderLen:])
}

// DecodeTagged decodes b, which follows an EtherType: an IP packet, or further 802.1Q tags and one.
// A packet socket removes the outermost tag from a frame and leaves the others. DecodeTagged
// returns ErrNotIP or ErrMalformed, never wrapped.
func DecodeTagged(etherType uint16, b []byte, in *Inner) error {
	*in = Inner{}
	return in.linked(etherType, b)
}

// linked is payload without Ethernet in Ethernet, whose nesting would have no bound.
func (in *Inner) linked(etherType uint16, b []byte) error {
	if etherType == etherIPv4 || etherType == etherIPv6 {
		return in.setIP(b)
	}
	return in.tagged(etherType, b)
}

// tagged decodes 802.1Q tags and an IP packet.
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
