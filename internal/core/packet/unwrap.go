package packet

import "encoding/binary"

// UDP ports of encapsulations (IANA).
const (
	PortVXLAN  = 4789
	PortGENEVE = 6081
)

// maxNested bounds encapsulations within each other: a cloud's load balancer wraps a mirror once
// more.
const maxNested = 3

// Unwrap replaces in, an IP packet, by the packet within it for as long as that is an
// encapsulation: GRE and ERSPAN, and VXLAN and GENEVE at their usual ports. changed says whether it
// was one. The first network identifier from within counts, and so does the first tag. After an
// error in holds nothing of use. The error is ErrNotIP, ErrFragment or ErrMalformed itself.
func Unwrap(in *Inner) (changed bool, err error) {
	for range maxNested {
		proto, off, err := upper(in.Data)
		if err != nil {
			return changed, err
		}
		b := in.Data[off:]
		var next Inner
		switch {
		case proto == protoGRE:
			err = DecodeGRE(b, &next)
		case proto == protoUDP && len(b) >= 8 && binary.BigEndian.Uint16(b[2:]) == PortVXLAN:
			err = DecodeVXLAN(b[8:], &next)
		case proto == protoUDP && len(b) >= 8 && binary.BigEndian.Uint16(b[2:]) == PortGENEVE:
			err = DecodeGENEVE(b[8:], &next)
		default:
			return changed, nil
		}
		if err != nil {
			return true, err
		}
		if in.Network != 0 {
			next.Network = in.Network
		}
		if next.VLAN == 0 {
			next.VLAN = in.VLAN
		}
		*in, changed = next, true
	}
	return changed, nil
}

// upper returns the protocol that an IP packet carries, and where it begins. A fragment, of which
// nothing further can be said, is ErrFragment.
func upper(b []byte) (proto uint8, off int, err error) {
	if len(b) < ip4HeaderLen {
		return 0, 0, ErrMalformed
	}
	switch b[0] >> 4 {
	case 4:
		if binary.BigEndian.Uint16(b[6:8])&0x3fff != 0 {
			return 0, 0, ErrFragment
		}
		proto, off = b[9], int(b[0]&15)*4
		if off < ip4HeaderLen {
			return 0, 0, ErrMalformed
		}
	case 6:
		if len(b) < ip6HeaderLen {
			return 0, 0, ErrMalformed
		}
		if proto, off, err = upper6(b); err != nil {
			return 0, 0, err
		}
	default:
		return 0, 0, ErrNotIP
	}
	if off > len(b) {
		return 0, 0, ErrMalformed
	}
	return proto, off, nil
}
