package packet

import "encoding/binary"

// UDP ports of encapsulations (IANA).
const (
	PortVXLAN  = 4789
	PortGENEVE = 6081
)

// maxNested bounds nested encapsulations. A cloud's load balancer encapsulates a mirror once more.
const maxNested = 3

// Unwrap replaces the IP packet in by the packet within it for as long as it is an encapsulation:
// GRE and ERSPAN, or VXLAN and GENEVE at their usual ports. changed reports whether it was. The
// outermost network identifier and the innermost tag count. Unwrap returns ErrNotIP, ErrFragment or
// ErrMalformed, never wrapped; in is then undefined.
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

// upper returns the protocol that an IP packet carries, and its offset. It returns ErrFragment for
// a fragment.
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
