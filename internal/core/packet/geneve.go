package packet

import "encoding/binary"

const geneveHeaderLen = 8

// DecodeGENEVE decodes b, the payload of a UDP datagram, as GENEVE (RFC 8926): a header with
// options, and an Ethernet frame or an IP packet (Google's mirrors). All options are skipped,
// including critical ones, which concern the forwarding of the packet. DecodeGENEVE returns
// ErrNotIP, also for control packets (the O flag) and for other versions than 0, which the RFC has
// dropped, or ErrMalformed, never wrapped.
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
