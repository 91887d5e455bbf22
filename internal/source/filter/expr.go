package filter

import (
	"fmt"
	"net/netip"
	"strings"
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
