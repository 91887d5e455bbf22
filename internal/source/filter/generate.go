package filter

import (
	"encoding/binary"

	"golang.org/x/net/bpf"
)

const (
	protoTCP    = 6
	protoGRE    = 47
	protoUDP    = 17
	protoICMP   = 1
	protoICMPv6 = 58
	protoSCTP   = 132

	nextHopByHop = 0
	nextFragment = 44

	etherIPv4 = 0x0800
	etherIPv6 = 0x86dd
	etherTag  = 0x8100 // 802.1Q
	etherSTag = 0x88a8 // 802.1ad
	etherQinQ = 0x9100 // QinQ before 802.1ad

	packetOutgoing = 4 // PACKET_OUTGOING of linux/if_packet.h

	fragmentOffset = 0x1fff // in the flags and offset of IPv4's header
	moreFragments  = 0x2000
)

func (e And) gen(a *assembler, t, f label) {
	if len(e) == 0 {
		a.goTo(t)
		return
	}
	for _, x := range e[:len(e)-1] {
		l := a.newLabel()
		x.gen(a, l, f)
		a.place(l)
	}
	e[len(e)-1].gen(a, t, f)
}

func (e Or) gen(a *assembler, t, f label) {
	if len(e) == 0 {
		a.goTo(f)
		return
	}
	for len(e) > 0 {
		n := e.alike()
		l := f
		if n < len(e) {
			l = a.newLabel()
		}
		if n > 1 {
			genPorts(a, e[:n], t, l)
		} else {
			e[0].gen(a, t, l)
		}
		if e = e[n:]; len(e) > 0 {
			a.place(l)
		}
	}
}

// alike returns how many elements at the start are Ports that one look at the packet can test.
// Users write long lists of ports, and each look takes some 30 instructions.
func (e Or) alike() int {
	first, ok := e[0].(Ports)
	if !ok || first.Dir == SrcAndDst {
		return 1
	}
	n := 1
	for ; n < len(e); n++ {
		if p, ok := e[n].(Ports); !ok || p.Dir != first.Dir || p.Proto != first.Proto {
			break
		}
	}
	return n
}

func (e Not) gen(a *assembler, t, f label) { e.Expr.gen(a, f, t) }

func (e IP) gen(a *assembler, t, f label) {
	a.emit(bpf.LoadExtension{Num: bpf.ExtProto})
	if e.Family == 0 {
		a.jump(bpf.JumpEqual, etherIPv4, t, next)
		a.jump(bpf.JumpEqual, etherIPv6, t, f)
		return
	}
	a.jump(bpf.JumpEqual, e.Family.etherType(), t, f)
}

func (v Family) etherType() uint32 {
	if v == 4 {
		return etherIPv4
	}
	return etherIPv6
}

func (e VLAN) gen(a *assembler, t, f label) {
	a.emit(bpf.LoadExtension{Num: bpf.ExtVLANTagPresent})
	if e.Any {
		a.jump(bpf.JumpEqual, 0, f, t)
		return
	}
	a.jump(bpf.JumpEqual, 0, f, next)
	a.emit(bpf.LoadExtension{Num: bpf.ExtVLANTag}, bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: 0xfff})
	a.jump(bpf.JumpEqual, uint32(e.ID), t, f)
}

func (e Proto) gen(a *assembler, t, f label) {
	v4, v6, inner := a.newLabel(), a.newLabel(), a.newLabel()
	a.families(e.Family, v4, v6, f)
	if e.Family != 6 {
		a.place(v4)
		a.emit(bpf.LoadAbsolute{Off: 9, Size: 1})
		a.jump(bpf.JumpEqual, uint32(e.Number), t, f)
	}
	if e.Family != 4 {
		a.place(v6)
		a.emit(bpf.LoadAbsolute{Off: 6, Size: 1})
		a.jump(bpf.JumpEqual, uint32(e.Number), t, next)
		a.jump(bpf.JumpEqual, nextFragment, inner, next)
		a.jump(bpf.JumpEqual, nextHopByHop, inner, f) // BIG TCP
		a.place(inner)
		a.emit(bpf.LoadAbsolute{Off: 40, Size: 1})
		a.jump(bpf.JumpEqual, uint32(e.Number), t, f)
	}
}

// families jumps to v4 or v6 by the packet's version, and to f for a version that is not wanted or
// another protocol.
func (a *assembler) families(want Family, v4, v6, f label) {
	a.emit(bpf.LoadExtension{Num: bpf.ExtProto})
	switch want {
	case 4:
		a.jump(bpf.JumpEqual, etherIPv4, v4, f)
	case 6:
		a.jump(bpf.JumpEqual, etherIPv6, v6, f)
	default:
		a.jump(bpf.JumpEqual, etherIPv4, v4, next)
		a.jump(bpf.JumpEqual, etherIPv6, v6, f)
	}
}

func (e Ports) gen(a *assembler, t, f label) { genPorts(a, []Expr{e}, t, f) }

// genPorts emits a match of any element of list, which are Ports of one direction and protocol.
func genPorts(a *assembler, list []Expr, t, f label) {
	e := list[0].(Ports)
	v4, v6, hop, direct, compare := a.newLabel(), a.newLabel(), a.newLabel(), a.newLabel(),
		a.newLabel()
	a.families(0, v4, v6, f)

	a.place(v4)
	a.emit(bpf.LoadAbsolute{Off: 9, Size: 1})
	whole := a.newLabel()
	e.protos(a, whole, f)
	a.place(whole)
	a.emit(bpf.LoadAbsolute{Off: 6, Size: 2})
	a.jump(bpf.JumpBitsSet, fragmentOffset, f, next)
	a.emit(bpf.LoadMemShift{Off: 0})
	a.goTo(compare)

	a.place(v6)
	a.emit(bpf.LoadAbsolute{Off: 6, Size: 1})
	a.jump(bpf.JumpEqual, nextHopByHop, hop, next)
	e.protos(a, direct, f)
	a.place(hop)
	a.emit(bpf.LoadAbsolute{Off: 40, Size: 1})
	behind := a.newLabel()
	e.protos(a, behind, f)
	a.place(behind)
	a.afterHopByHop()
	a.goTo(compare)

	a.place(direct)
	a.emit(bpf.LoadConstant{Dst: bpf.RegX, Val: 40})
	a.place(compare)
	a.ends(e.Dir, t, f, func(second bool, t, f label) {
		off := uint32(0)
		if second {
			off = 2
		}
		a.emit(bpf.LoadIndirect{Off: off, Size: 2})
		for i, x := range list {
			p, miss := x.(Ports), f
			if i < len(list)-1 {
				miss = a.newLabel()
			}
			if p.First == p.Last {
				a.jump(bpf.JumpEqual, uint32(p.First), t, miss)
			} else {
				a.jump(bpf.JumpGreaterOrEqual, uint32(p.First), next, miss)
				a.jump(bpf.JumpGreaterThan, uint32(p.Last), miss, t)
			}
			if miss != f {
				a.place(miss)
			}
		}
	})
}

// afterHopByHop loads X with the offset of what follows the hop-by-hop header of an IPv6 packet.
func (a *assembler) afterHopByHop() {
	a.emit(bpf.LoadAbsolute{Off: 41, Size: 1},
		bpf.ALUOpConstant{Op: bpf.ALUOpShiftLeft, Val: 3},
		bpf.ALUOpConstant{Op: bpf.ALUOpAdd, Val: 48},
		bpf.TAX{})
}

// protos tests the protocol number in A.
func (e Ports) protos(a *assembler, t, f label) {
	if e.Proto != 0 {
		a.jump(bpf.JumpEqual, uint32(e.Proto), t, f)
		return
	}
	a.jump(bpf.JumpEqual, protoTCP, t, next)
	a.jump(bpf.JumpEqual, protoUDP, t, next)
	a.jump(bpf.JumpEqual, protoSCTP, t, f)
}

// ends emits the test of the source, of the destination (second), or of both, as the direction
// demands.
func (a *assembler) ends(d Dir, t, f label, test func(second bool, t, f label)) {
	switch d {
	case Src:
		test(false, t, f)
	case Dst:
		test(true, t, f)
	case SrcAndDst:
		l := a.newLabel()
		test(false, l, f)
		a.place(l)
		test(true, t, f)
	default:
		l := a.newLabel()
		test(false, t, l)
		a.place(l)
		test(true, t, f)
	}
}

func (e Net) gen(a *assembler, t, f label) {
	family, base, size := Family(6), uint32(8), uint32(16)
	if e.Addr.Is4() {
		family, base, size = 4, 12, 4
	}
	addr, mask := e.Addr.AsSlice(), e.Mask.AsSlice()
	l := a.newLabel()
	a.emit(bpf.LoadExtension{Num: bpf.ExtProto})
	a.jump(bpf.JumpEqual, family.etherType(), l, f)
	a.place(l)
	a.ends(e.Dir, t, f, func(second bool, t, f label) {
		off := base
		if second {
			off += size
		}
		for i := uint32(0); i < size; i += 4 {
			m := binary.BigEndian.Uint32(mask[i:])
			if m == 0 {
				continue
			}
			a.emit(bpf.LoadAbsolute{Off: off + i, Size: 4})
			if m != 0xffffffff {
				a.emit(bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: m})
			}
			a.jump(bpf.JumpEqual, binary.BigEndian.Uint32(addr[i:])&m, next, f)
		}
		a.goTo(t)
	})
}
