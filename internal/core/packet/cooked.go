package packet

import "encoding/binary"

// Link types of capture files (LINKTYPE_ values of tcpdump.org) that DecodeLink reads.
const (
	linkNull     = 0
	linkEthernet = 1
	linkRawBSD   = 12
	linkRawOther = 14
	linkRaw      = 101
	linkLoop     = 108
	linkSLL      = 113
	linkIPv4     = 228
	linkIPv6     = 229
	linkSLL2     = 276
)

const (
	familyLen = 4 // the address family of BSD's loopback
	sllLen    = 16
	sll2Len   = 20
)

// LinkKnown reports whether DecodeLink reads packets of the link type.
func LinkKnown(link uint16) bool {
	switch link {
	case linkNull, linkEthernet, linkRawBSD, linkRawOther, linkRaw, linkLoop, linkSLL, linkIPv4,
		linkIPv6, linkSLL2:
		return true
	}
	return false
}

// DecodeLink decodes a packet of a capture file with the link type: Ethernet, Linux cooked, BSD
// loopback, or raw IP. It returns ErrNotIP, also for an unknown link type, or ErrMalformed, never
// wrapped.
func DecodeLink(link uint16, b []byte, in *Inner) error {
	*in = Inner{}
	switch link {
	case linkEthernet:
		return in.ethernet(b)
	case linkRaw, linkRawBSD, linkRawOther, linkIPv4, linkIPv6:
		return in.setIP(b)
	case linkNull, linkLoop: // systems number address families differently; the IP version tells
		if len(b) < familyLen {
			return ErrMalformed
		}
		return in.setIP(b[familyLen:])
	case linkSLL:
		if len(b) < sllLen {
			return ErrMalformed
		}
		return in.linked(binary.BigEndian.Uint16(b[14:]), b[sllLen:])
	case linkSLL2:
		if len(b) < sll2Len {
			return ErrMalformed
		}
		return in.linked(binary.BigEndian.Uint16(b), b[sll2Len:])
	}
	return ErrNotIP
}
