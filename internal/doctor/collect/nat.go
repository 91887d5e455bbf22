package collect

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/xt"

	"tcpcopy/internal/doctor"
)

// mostDestinations bounds the addresses of this host for which the rules are followed: there can be
// hundreds, and tens of thousands of rules.
const mostDestinations = 32

// passedOn notes to which address connections to a port are passed on, as to a container. They
// come for an address of this host or, if it is valid, for the given one.
func (c *collector) passedOn(now *ruleset, port uint16, named netip.Addr) {
	for _, dst := range c.destinations(named) {
		p, ok := now.translates(&probe{dst: dst, dport: port, state: stateNew, v6: dst.Is6()})
		if !ok {
			continue
		}
		p.Local = p.Local || p.To.Addr().IsValid() && c.isLocal(p.To.Addr())
		if !slices.Contains(c.facts.PassedOn, p) {
			c.facts.PassedOn = append(c.facts.PassedOn, p)
		}
	}
}

// destinations returns the addresses that packets from other hosts may come for.
func (c *collector) destinations(named netip.Addr) (all []netip.Addr) {
	switch {
	case c.window != nil:
		return []netip.Addr{c.window.look.Target.Addr()}
	case named.IsValid():
		return []netip.Addr{named}
	case c.here != nil:
		for _, a := range c.here.All() {
			if !a.IsLoopback() && !a.IsLinkLocalUnicast() && len(all) < mostDestinations {
				all = append(all, a.Unmap())
			}
		}
	}
	return all
}

// translates returns the rule that gives a packet that comes in another destination, if there is
// one. A rule of which it is not known whether it matches counts.
func (s *ruleset) translates(p *probe) (doctor.PassedOn, bool) {
	for i := range s.chains {
		c := &s.chains[i]
		if !c.base || c.filter || c.hook != *nftables.ChainHookPrerouting || !c.applies(p) {
			continue
		}
		if on, ok := s.findNAT(c, p, 0); ok {
			return on, true
		}
	}
	return doctor.PassedOn{}, false
}

// findNAT looks for such a rule in a chain, and in those to which it jumps.
func (s *ruleset) findNAT(c *chain, p *probe, depth int) (doctor.PassedOn, bool) {
	if c == nil || depth > mostJumps {
		return doctor.PassedOn{}, false
	}
	for i := range c.rules {
		r := &c.rules[i]
		m := machine{set: s, chain: c, probe: p}
		if m.run(r.exprs) == no {
			continue
		}
		if on, ok := m.destination(r.exprs); ok {
			on.Port, on.V6, on.Rule = p.dport, p.v6, c.ruleWords(r.handle)
			return on, true
		}
		if m.verdict != nil && m.verdict.Chain != "" {
			if on, ok := s.findNAT(s.find(c, m.verdict.Chain), p, depth+1); ok {
				return on, true
			}
		}
	}
	return doctor.PassedOn{}, false
}

// destination returns the destination that one of a rule's expressions gives to the packet, as far
// as it is known. The machine has run them.
func (m *machine) destination(all []expr.Any) (on doctor.PassedOn, ok bool) {
	to, port := netip.Addr{}, m.probe.dport
	for _, e := range all {
		switch e := e.(type) {
		case *expr.NAT:
			const inet = 1 // NFPROTO_INET
			family := pick[uint32](m.probe.v6, uint32(nftables.TableFamilyIPv6),
				uint32(nftables.TableFamilyIPv4))
			if e.Type != expr.NATTypeDestNAT || e.Family != family && e.Family != inet {
				continue // in a table of both families it translates one
			}
			ok = true
			b, known := m.get(e.RegAddrMin, pick(m.probe.v6, 16, 4))
			if known && e.RegAddrMin != 0 {
				to, _ = netip.AddrFromSlice(b)
			}
			if e.RegProtoMin != 0 {
				port = m.port(e.RegProtoMin)
			}
		case *expr.Redir:
			ok, on.Local = true, true
			if e.RegisterProtoMin != 0 {
				port = m.port(e.RegisterProtoMin)
			}
		case *expr.Target:
			if e.Name != "DNAT" && e.Name != "REDIRECT" {
				continue
			}
			ok, on.Local = true, e.Name == "REDIRECT"
			r, known := natRange(e.Info)
			if known && r.Flags&uint(xt.NatRangeMapIPs) != 0 && !on.Local {
				to, _ = netip.AddrFromSlice(r.MinIP)
			}
			if known && r.Flags&uint(xt.NatRangeProtoSpecified) != 0 {
				port = r.MinPort
			}
		}
	}
	on.To = netip.AddrPortFrom(to.Unmap(), port)
	return on, ok
}

// port returns the port in a register; 0: not known.
func (m *machine) port(register uint32) uint16 {
	b, known := m.get(register, 2)
	if !known || len(b) < 2 {
		return 0
	}
	return binary.BigEndian.Uint16(b)
}

// natRange returns the addresses and ports of a target of iptables.
func natRange(info xt.InfoAny) (r xt.NatRange, known bool) {
	switch i := info.(type) {
	case *xt.NatRange:
		return *i, true
	case *xt.NatRange2:
		return i.NatRange, true
	case *xt.NatIPv4MultiRangeCompat:
		if len(*i) == 1 {
			return xt.NatRange((*i)[0]), true
		}
	}
	return r, false
}

// legacyRange reads struct nf_nat_ipv4_multi_range_compat, which IPv4's first revision has, or
// struct nf_nat_range, and its length in the table of IPv4 or of IPv6. It returns nil if the target
// is no such one.
func legacyRange(b []byte, v6, compat bool) xt.InfoAny {
	const flags, count, ports, wide = 4, 4, 4, 16
	address := wide
	if compat {
		if len(b) < count || binary.NativeEndian.Uint32(b) != 1 {
			return nil
		}
		b, address = b[count:], 4
	}
	if len(b) < flags+2*address+ports {
		return nil
	}
	size := pick(v6, wide, 4)
	return &xt.NatRange{
		Flags: uint(binary.NativeEndian.Uint32(b)), MinIP: b[flags : flags+size],
		MaxIP:   b[flags+address : flags+address+size],
		MinPort: binary.BigEndian.Uint16(b[flags+2*address:]),
		MaxPort: binary.BigEndian.Uint16(b[flags+2*address+2:]),
	}
}
