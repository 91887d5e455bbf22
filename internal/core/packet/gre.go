package packet

import "encoding/binary"

// Flags of a GRE header (RFC 2784 §2.1, RFC 2890 §2, RFC 1701).
const (
	greChecksum = 0x8000
	greRouting  = 0x4000
	greKey      = 0x2000
	greSequence = 0x1000
	greVersion  = 0x0007
)

// Protocol types of ERSPAN (draft-foschiano-erspan).
const (
	greERSPAN2 = 0x88be // type II; type I if there is no sequence number
	greERSPAN3 = 0x22eb
)

const (
	erspan2Len   = 8
	erspan3Len   = 12
	erspanSubLen = 8 // type III's platform-specific part, if present
)

// IP protocol numbers of encapsulations.
const (
	protoUDP = 17
	protoGRE = 47
)

// DecodeGRE decodes b, the payload of an IP packet of protocol 47, as GRE (RFC 2784, RFC 2890) that
// carries an Ethernet frame, an IP packet, or a switch's mirror (ERSPAN types I, II and III).
// Checksums are not verified, since mirrors cut packets. It returns ErrNotIP or ErrMalformed, never
// wrapped.
func DecodeGRE(b []byte, in *Inner) error {
	*in = Inner{}
	if len(b) < 4 {
		return ErrMalformed
	}
	flags, proto := binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
	if flags&(greVersion|greRouting) != 0 { // PPTP's version 1, or RFC 1701's routing
		return ErrNotIP
	}
	at := 4
	if flags&greChecksum != 0 {
		at += 4
	}
	if flags&greKey != 0 {
		if at+4 > len(b) {
			return ErrMalformed
		}
		in.Network = binary.BigEndian.Uint32(b[at:])
		at += 4
	}
	if flags&greSequence != 0 {
		at += 4
	}
	if at > len(b) {
		return ErrMalformed
	}
	b = b[at:]
	switch proto {
	case greERSPAN2:
		if flags&greSequence == 0 { // type I has no ERSPAN header
			return in.ethernet(b)
		}
		return in.erspan2(b)
	case greERSPAN3:
		return in.erspan3(b)
	}
	return in.payload(proto, b)
}

// erspanSession masks the session's number in the first word of the header.
const erspanSession = 0x3ff

// erspan2 decodes ERSPAN type II.
func (in *Inner) erspan2(b []byte) error {
	if len(b) < erspan2Len {
		return ErrMalformed
	}
	if b[0]>>4 != 1 {
		return ErrNotIP
	}
	in.Network = binary.BigEndian.Uint32(b) & erspanSession
	return in.ethernet(b[erspan2Len:])
}

// erspan3 decodes ERSPAN type III.
func (in *Inner) erspan3(b []byte) error {
	if len(b) < erspan3Len {
		return ErrMalformed
	}
	if b[0]>>4 != 2 {
		return ErrNotIP
	}
	in.Network = binary.BigEndian.Uint32(b) & erspanSession
	last := binary.BigEndian.Uint16(b[10:12]) // P, frame type, hardware, direction, granularity, O
	header := erspan3Len
	if last&1 != 0 {
		header += erspanSubLen
	}
	if header > len(b) {
		return ErrMalformed
	}
	switch last >> 10 & 0x1f {
	case 0:
		return in.ethernet(b[header:])
	case 2:
		return in.setIP(b[header:])
	}
	return ErrNotIP
}
