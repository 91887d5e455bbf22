package collect

import (
	"net/netip"

	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/doctor"
	"tcpcopy/internal/source/filter"
)

// terms are the addresses, ports and VLANs that an expression tells apart.
type terms struct {
	addrs []netip.Addr
	ports []uint16
	vlans []uint16
	// clients has the ports that the expression tests as source ports in particular. Clients'
	// other ports are those that the kernel chooses.
	clients []uint16
}

// candidates returns the terms of an expression, and one value of each kind that is in none.
func candidates(e filter.Expr) *terms {
	t := &terms{
		addrs: []netip.Addr{netip.MustParseAddr("192.0.2.77"), netip.MustParseAddr("2001:db8::77")},
		ports: []uint16{40123}, clients: []uint16{40123}, vlans: []uint16{0},
	}
	t.walk(e)
	return t
}

func (t *terms) walk(e filter.Expr) {
	switch e := e.(type) {
	case filter.And:
		for _, x := range e {
			t.walk(x)
		}
	case filter.Or:
		for _, x := range e {
			t.walk(x)
		}
	case filter.Not:
		t.walk(e.Expr)
	case filter.Net:
		t.addrs = append(t.addrs, e.Addr)
	case filter.Ports:
		some := []uint16{e.First, e.Last, e.First - 1, e.Last + 1}
		t.ports = append(t.ports, some...)
		if e.Dir == filter.Src {
			t.clients = append(t.clients, some...)
		}
	case filter.VLAN:
		t.vlans = append(t.vlans, max(e.ID, 1))
	}
}

// possible reports whether the user's filter accepts any packet that counts: one of a client to a
// production port, or an answer of a target. It tries every combination of the values that the
// filter tells apart.
func (c *collector) possible() bool {
	program, err := filter.CompileExpr(c.Filter, filter.Options{})
	if err != nil {
		return true
	}
	t := candidates(c.Filter)
	if c.Role != doctor.Copier {
		return t.answersPass(program, c.Ports)
	}
	for _, m := range c.Mappings {
		to := []netip.Addr{m.Production.Addr()}
		if !m.Named() {
			to = append(t.addrs, netip.MustParseAddr("127.0.0.1"), netip.IPv6Loopback())
			if c.here != nil {
				to = append(c.here.All(), to...)
			}
		}
		if t.pass(program, t.addrs, t.clients, to, []uint16{m.Production.Port()}) {
			return true
		}
	}
	return len(c.Mappings) == 0
}

// answersPass reports whether an answer from one of the ports passes; from any for none.
func (t *terms) answersPass(program filter.Program, from []uint16) bool {
	if len(from) == 0 {
		from = t.ports
	}
	return t.pass(program, t.addrs, from, t.addrs, t.ports)
}

// pass reports whether the program accepts a TCP packet with one of the sources and destinations.
func (t *terms) pass(
	program filter.Program, from []netip.Addr, fromPorts []uint16, to []netip.Addr,
	toPorts []uint16,
) bool {
	var b []byte
	for _, src := range from {
		for _, dst := range to {
			if src.Is4() != dst.Is4() {
				continue
			}
			for _, sport := range fromPorts {
				for _, dport := range toPorts {
					b = packet.Append(b[:0], &packet.Segment{
						Src: netip.AddrPortFrom(src, sport), Dst: netip.AddrPortFrom(dst, dport),
						Flags: packet.ACK,
					})
					for _, vlan := range t.vlans {
						m := filter.Meta{Len: len(b), VLAN: vlan, HasVLAN: vlan != 0}
						if program.Match(b, &m) > 0 {
							return true
						}
					}
				}
			}
		}
	}
	return false
}
