package filter

import "encoding/binary"

// Meta is what the kernel knows of a packet besides its bytes.
type Meta struct {
	Len       int    // length on the wire in bytes, from the IP header on
	EtherType uint16 // 0: taken from the IP version in the first byte
	Outgoing  bool   // this host sends it
	Mark      uint32
	HasVLAN   bool
	VLAN      uint16 // tag control information: priority and ID
}

// The operations that this package emits (linux/bpf_common.h): class, size, mode and operator.
const (
	opLdWAbs   = 0x20
	opLdHAbs   = 0x28
	opLdBAbs   = 0x30
	opLdHInd   = 0x48
	opLdMem    = 0x60
	opLdImm    = 0x00
	opLdxImm   = 0x01
	opLdxMsh   = 0xb1
	opSt       = 0x02
	opAluAndK  = 0x54
	opAluLshK  = 0x64
	opAluAddK  = 0x04
	opJmpJA    = 0x05
	opJmpEqK   = 0x15
	opJmpGtK   = 0x25
	opJmpGeK   = 0x35
	opJmpSetK  = 0x45
	opRetK     = 0x06
	opRetA     = 0x16
	opTax      = 0x07
	extBase    = 0xfffff000 // SKF_AD_OFF
	extProto   = extBase + 0
	extPktType = extBase + 4
	extMark    = extBase + 20
	extVLAN    = extBase + 44
	extHasVLAN = extBase + 48
)

// Match runs the program on a packet that did not come through a packet socket. b starts with the
// IP header. Match returns how many bytes of b to keep, at most len(b); 0 refuses the packet. Like
// the kernel, it refuses a packet that is too short for what the program reads. It also refuses a
// packet for an instruction that this package never emits. It does not allocate, and always ends.
func (p Program) Match(b []byte, m *Meta) int {
	var acc, x, mem uint32
	for pc := 0; pc < len(p); pc++ {
		in := &p[pc]
		ok := true
		switch in.Op {
		case opLdWAbs:
			if in.K >= extBase {
				acc, ok = m.load(in.K, b)
			} else {
				acc, ok = load(b, in.K, 4)
			}
		case opLdHAbs:
			acc, ok = load(b, in.K, 2)
		case opLdBAbs:
			acc, ok = load(b, in.K, 1)
		case opLdHInd:
			if ok = x+in.K >= x; ok {
				acc, ok = load(b, x+in.K, 2)
			}
		case opLdxMsh:
			x, ok = load(b, in.K, 1)
			x = x & 15 * 4
		case opLdImm:
			acc = in.K
		case opLdxImm:
			x = in.K
		case opLdMem:
			acc = mem
		case opSt:
			mem = acc
		case opTax:
			x = acc
		case opAluAndK:
			acc &= in.K
		case opAluLshK:
			acc <<= in.K & 31
		case opAluAddK:
			acc += in.K
		case opJmpJA:
			pc += int(in.K)
		case opJmpEqK:
			pc += skip(acc == in.K, in.Jt, in.Jf)
		case opJmpGtK:
			pc += skip(acc > in.K, in.Jt, in.Jf)
		case opJmpGeK:
			pc += skip(acc >= in.K, in.Jt, in.Jf)
		case opJmpSetK:
			pc += skip(acc&in.K != 0, in.Jt, in.Jf)
		case opRetK:
			return min(int(in.K), len(b))
		case opRetA:
			return min(int(acc), len(b))
		default:
			return 0
		}
		if !ok {
			return 0
		}
	}
	return 0
}

func skip(test bool, jt, jf uint8) int {
	if test {
		return int(jt)
	}
	return int(jf)
}

func load(b []byte, off, size uint32) (uint32, bool) {
	if uint64(off)+uint64(size) > uint64(len(b)) {
		return 0, false
	}
	switch size {
	case 1:
		return uint32(b[off]), true
	case 2:
		return uint32(binary.BigEndian.Uint16(b[off:])), true
	}
	return binary.BigEndian.Uint32(b[off:]), true
}

// load returns what the kernel would answer.
func (m *Meta) load(k uint32, b []byte) (uint32, bool) {
	switch k {
	case extProto:
		switch {
		case m.EtherType != 0:
			return uint32(m.EtherType), true
		case len(b) > 0 && b[0]>>4 == 4:
			return etherIPv4, true
		case len(b) > 0 && b[0]>>4 == 6:
			return etherIPv6, true
		}
		return 0, true
	case extPktType:
		if m.Outgoing {
			return packetOutgoing, true
		}
		return 0, true
	case extMark:
		return m.Mark, true
	case extVLAN:
		return uint32(m.VLAN), true
	case extHasVLAN:
		if m.HasVLAN {
			return 1, true
		}
		return 0, true
	}
	return 0, false
}
