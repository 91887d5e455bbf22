package afpacket

import (
	"encoding/binary"

	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/sys"
)

// tagLen is what a 802.1Q tag has after the EtherType before it: control information, and the next
// EtherType.
const tagLen = 4

// untag takes off what 802.1Q tags the kernel has left: all but the outermost. False if there is no
// IP packet.
func untag(f *sys.RingFrame) bool {
	proto := f.Protocol
	switch {
	case len(f.Data) == 0:
		return false
	case proto == sys.EthPIP || proto == sys.EthPIPv6:
		if !hidesTag(f) {
			return true
		}
		proto = ethPTag
	}
	var in packet.Inner
	if packet.DecodeTagged(proto, f.Data, &in) != nil {
		return false
	}
	f.Wire -= len(f.Data) - len(in.Data)
	f.Data = in.Data
	return true
}

// ethPTag is 802.1Q's EtherType.
const ethPTag = 0x8100

// hidesTag reports whether a tag stands before an IP packet although the kernel says that the frame
// is IP: since Linux 6.10 it looks behind the tags that it leaves. A real IP header that looks like
// a tag would need the EtherType for its total length, and lengths in its next words that no packet
// of that length has.
func hidesTag(f *sys.RingFrame) bool {
	b := f.Data
	if len(b) < tagLen+20 || binary.BigEndian.Uint16(b[2:]) != f.Protocol {
		return false
	}
	ip, wire := b[tagLen:], f.Wire-tagLen
	if f.Protocol == sys.EthPIP {
		n := int(binary.BigEndian.Uint16(ip[2:]))
		return ip[0]>>4 == 4 && n >= 20 && n <= wire
	}
	return ip[0]>>4 == 6 && 40+int(binary.BigEndian.Uint16(ip[4:])) <= wire
}
