package filter

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"

	"golang.org/x/net/bpf"
)

// Expr is a filter expression: one of the types of this package. Parse reads its String back with the
// same meaning.
type Expr interface {
	fmt.Stringer
	// gen writes code that ends in a jump to t where the packet matches, and to f where it does not.
	gen(a *assembler, t, f label)
}

// The ways to put expressions together. An And of nothing matches everything, an Or of nothing, nothing.
type (
	And []Expr
	Or  []Expr
	Not struct{ Expr Expr }
)

// Dir says which of a packet's two ends a test looks at.
type Dir uint8

// The directions; the zero value is the one that an expression means when it names none.
const (
	SrcOrDst Dir = iota
	Src
	Dst
	SrcAndDst
)

// Family is IP's version: 4, 6, or 0 for both.
type Family uint8

// Net matches addresses: IPv4 or IPv6 after Addr. A host is a net with all bits in its mask.
type Net struct {
	Dir  Dir
	Addr netip.Addr
	Mask netip.Addr // of Addr's family; its bits need not be one run
}

// Ports matches ports from First to Last in TCP, UDP or SCTP; not in fragments other than the first.
type Ports struct {
	Dir         Dir
	Proto       uint8 // 6, 17 or 132; 0: each of them
	First, Last uint16
}

// Proto matches the protocol that IP carries.
type Proto struct {
	Family Family
	Number uint8
}

// IP matches IP packets of one version.
type IP struct{ Family Family }

// VLAN matches packets with a VLAN tag. The kernel has taken it out of the packet, so unlike pcap's it
// changes nothing for the terms that follow.
type VLAN struct {
	ID  uint16
	Any bool // any tag, whatever ID says
}

const (
	protoTCP    = 6
	protoUDP    = 17
	protoICMP   = 1
	protoICMPv6 = 58
	protoSCTP   = 132

	nextHopByHop = 0
	nextFragment = 44

	etherIPv4 = 0x0800
	etherIPv6 = 0x86dd

	packetOutgoing = 4 // PACKET_OUTGOING of linux/if_packet.h

	fragmentOffset = 0x1fff // of the flags and offset in IPv4's header
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

// alike counts the ports at the start that one look at a packet can be compared with: lists of many are
// what users write, and each look takes some 30 instructions.
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
		a.jump(bpf.JumpEqual, nextHopByHop, inner, f) // BIG TCP has one
		a.place(inner)
		a.emit(bpf.LoadAbsolute{Off: 40, Size: 1})
		a.jump(bpf.JumpEqual, uint32(e.Number), t, f)
	}
}

// families goes to v4 or v6 by the packet's version, and to f for others and for the one not wanted.
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

// genPorts matches any of list, all Ports of one direction and protocol.
func genPorts(a *assembler, list []Expr, t, f label) {
	e := list[0].(Ports)
	v4, v6, hop, direct, compare := a.newLabel(), a.newLabel(), a.newLabel(), a.newLabel(), a.newLabel()
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

// afterHopByHop loads X with the offset of what follows an IPv6 packet's hop-by-hop header.
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

// ends writes the test of one end (second: the destination) as often as the direction asks for.
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

func (e And) String() string {
	if len(e) == 0 {
		return "" // pcap's expression for everything
	}
	return join(e, " and ")
}

func (e Or) String() string {
	if len(e) == 0 {
		return "ip and ip6" // there is no word for nothing
	}
	return join(e, " or ")
}

func join(e []Expr, op string) string {
	parts := make([]string, len(e))
	for i, x := range e {
		parts[i] = inner(x)
	}
	return strings.Join(parts, op)
}

// inner is x as a part of another expression.
func inner(x Expr) string {
	switch y := x.(type) {
	case And:
		if len(y) == 0 {
			return "(ip or not ip)"
		}
		return "(" + x.String() + ")"
	case Or:
		return "(" + x.String() + ")"
	}
	return x.String()
}

func (e Not) String() string { return "not " + inner(e.Expr) }

func (d Dir) prefix() string {
	return [...]string{"", "src ", "dst ", "src and dst "}[d&3]
}

func (e Net) String() string {
	bits := e.Addr.BitLen()
	if p, ok := prefixLen(e.Mask); !ok {
		return e.Dir.prefix() + "net " + e.Addr.String() + " mask " + e.Mask.String()
	} else if p != bits {
		return fmt.Sprintf("%snet %v/%d", e.Dir.prefix(), e.Addr, p)
	}
	return e.Dir.prefix() + "host " + e.Addr.String()
}

// prefixLen counts the bits of a mask that is one run from the left.
func prefixLen(mask netip.Addr) (n int, ok bool) {
	ended := false
	for _, b := range mask.AsSlice() {
		for bit := 7; bit >= 0; bit-- {
			switch set := b>>bit&1 == 1; {
			case !set:
				ended = true
			case ended:
				return 0, false
			default:
				n++
			}
		}
	}
	return n, true
}

func (e Ports) String() string {
	proto := map[uint8]string{protoTCP: "tcp ", protoUDP: "udp ", protoSCTP: "sctp "}[e.Proto]
	if e.First == e.Last {
		return fmt.Sprintf("%s%sport %d", proto, e.Dir.prefix(), e.First)
	}
	return fmt.Sprintf("%s%sportrange %d-%d", proto, e.Dir.prefix(), e.First, e.Last)
}

func (e Proto) String() string {
	switch e {
	case Proto{0, protoTCP}:
		return "tcp"
	case Proto{0, protoUDP}:
		return "udp"
	case Proto{0, protoSCTP}:
		return "sctp"
	case Proto{4, protoICMP}:
		return "icmp"
	case Proto{6, protoICMPv6}:
		return "icmp6"
	}
	return fmt.Sprintf("%sproto %d", map[Family]string{4: "ip ", 6: "ip6 "}[e.Family], e.Number)
}

func (e IP) String() string {
	switch e.Family {
	case 4:
		return "ip"
	case 6:
		return "ip6"
	}
	return "(ip or ip6)"
}

func (e VLAN) String() string {
	if e.Any {
		return "vlan"
	}
	return fmt.Sprintf("vlan %d", e.ID)
}
