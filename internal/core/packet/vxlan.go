package packet

import "encoding/binary"

const (
	vxlanHeaderLen = 8
	vxlanValid     = 0x08 // the I flag (RFC 7348 §5)
)

// DecodeVXLAN decodes b, the payload of a UDP datagram, as VXLAN (RFC 7348): a header of eight
// bytes and an Ethernet frame. Flags other than the I flag are ignored, as the RFC requires.
// DecodeVXLAN returns ErrNotIP or ErrMalformed, never wrapped.
func DecodeVXLAN(b []byte, in *Inner) error {
	*in = Inner{}
	if len(b) < vxlanHeaderLen || b[0]&vxlanValid == 0 {
		return ErrMalformed
	}
	in.Network = binary.BigEndian.Uint32(b[4:8]) >> 8
	return in.ethernet(b[vxlanHeaderLen:])
}
