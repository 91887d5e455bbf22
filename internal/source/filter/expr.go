package filter

import (
	"fmt"
	"net/netip"
	"strings"
)

// Expr is a filter expression: a value of one of the types of this package. Parse reads its String
// back with the same meaning.
type Expr interface {
	fmt.Stringer
	// gen emits code that jumps to t if the packet matches, and to f otherwise.
	gen(a *assembler, t, f label)
}

// The combinations of expressions. An empty And matches everything, an empty Or nothing.
type (
	And []Expr
	Or  []Expr
	Not struct{ Expr Expr }
)

// Dir selects which of a packet's two addresses or ports a test looks at.
type Dir uint8

// The directions. An expression without one means SrcOrDst.
const (
	SrcOrDst Dir = iota
	Src
	Dst
	SrcAndDst
)

// Family is the IP version: 4, 6, or 0 for both.
type Family uint8

// Net matches IPv4 or IPv6 addresses, by the family of Addr. A host is a Net with all bits in its
// mask.
type Net struct {
	Dir  Dir
	Addr netip.Addr
	Mask netip.Addr // of Addr's family; its bits need not be contiguous
}

// Ports matches the ports First to Last of TCP, UDP or SCTP. It does not match fragments other than
// the first.
type Ports struct {
	Dir         Dir
	Proto       uint8 // 6, 17 or 132; 0: any of them
	First, Last uint16
}

// Proto matches the protocol number in the IP header.
type Proto struct {
	Family Family
	Number uint8
}

// IP matches IP packets of one version.
type IP struct{ Family Family }

// VLAN matches packets with a VLAN tag. The kernel has removed the tag from the packet, so unlike
// pcap's vlan it does not change the terms that follow.
type VLAN struct {
	ID  uint16
	Any bool // any tag; ID is ignored
}

// String implements fmt.Stringer. An empty And is the empty expression.
func (e And) String() string {
	if len(e) == 0 {
		return "" // matches everything
	}
	return join(e, " and ")
}

// String implements fmt.Stringer. An empty Or is an expression that matches nothing.
func (e Or) String() string {
	if len(e) == 0 {
		return "ip and ip6" // matches nothing
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

// inner returns x as a part of another expression.
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

// String implements fmt.Stringer.
func (e Not) String() string { return "not " + inner(e.Expr) }

func (d Dir) prefix() string {
	return [...]string{"", "src ", "dst ", "src and dst "}[d&3]
}

// String implements fmt.Stringer.
func (e Net) String() string {
	bits := e.Addr.BitLen()
	if p, ok := prefixLen(e.Mask); !ok {
		return e.Dir.prefix() + "net " + e.Addr.String() + " mask " + e.Mask.String()
	} else if p != bits {
		return fmt.Sprintf("%snet %v/%d", e.Dir.prefix(), e.Addr, p)
	}
	return e.Dir.prefix() + "host " + e.Addr.String()
}

// prefixLen returns the number of one bits of a mask. It reports false if they are not contiguous
// from the left.
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

// String implements fmt.Stringer.
func (e Ports) String() string {
	proto := map[uint8]string{protoTCP: "tcp ", protoUDP: "udp ", protoSCTP: "sctp "}[e.Proto]
	if e.First == e.Last {
		return fmt.Sprintf("%s%sport %d", proto, e.Dir.prefix(), e.First)
	}
	return fmt.Sprintf("%s%sportrange %d-%d", proto, e.Dir.prefix(), e.First, e.Last)
}

// String implements fmt.Stringer.
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

// String implements fmt.Stringer.
func (e IP) String() string {
	switch e.Family {
	case 4:
		return "ip"
	case 6:
		return "ip6"
	}
	return "(ip or ip6)"
}

// String implements fmt.Stringer.
func (e VLAN) String() string {
	if e.Any {
		return "vlan"
	}
	return fmt.Sprintf("vlan %d", e.ID)
}
