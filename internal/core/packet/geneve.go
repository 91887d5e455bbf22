package packet

import "encoding/binary"

const geneveHeaderLen = 8

// DecodeGENEVE reads b, the payload of a UDP datagram, as GENEVE (RFC 8926): a header with options,
// and an Ethernet frame or an IP packet (Google's mirrors). Options are skipped, critical ones too:
// they say how the packet is to be forwarded, and nobody forwards it here. Control packets (the O
// flag) are ErrNotIP; so are versions but 0, which the RFC wants dropped. The error is ErrNotIP or
// ErrMalformed itself.
func DecodeGENEVE(b []byte, in *Inner) error {
	*in = Inner{}
	if len(b) < geneveHeaderLen {
		return ErrMalformed
	}
	const control = 0x80
	if b[0]>>6 != 0 || b[1]&control != 0 {
		return ErrNotIP
	}
	header := geneveHeaderLen + int(b[0]&0x3f)*4
	if header > len(b) {
		return ErrMalformed
	}
	in.Network = binary.BigEndian.Uint32(b[4:8]) >> 8
	return in.payload(binary.BigEndian.Uint16(b[2:4]), b[header:])
}
