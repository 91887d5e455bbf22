package doctor

import "net/netip"

var translatedCheck = Check{
	Code: "TC0218", Area: Forward,
	Title: "an address is translated on the way to the target",
	Roles: []Role{Copier},
	After: []string{"TC0101", "TC0303"},
	How: "It knows its probes by their sequence numbers: the intercept sees from which " +
		"address they are answered, a witness on the target from which address they come.",
	Why: "Behind a masquerade the target answers the translator, and not the clients. Behind " +
		"a DNAT the answers have an address that is no target of -x: they go past what would " +
		"translate it back.",
	Mend: "Name the server's own address in -x. Exempt packets to the target from the " +
		"masquerade, or take the tunnel or ordinary connections.",
	Judge: func(f *Facts) []Result {
		return onProbes(f, func(t *TargetFacts, p *Probe) *Result {
			switch {
			case p.Source.IsValid():
				r := found("", "SYNs left with the address %s, and arrived with %s", p.Client,
					p.Source)
				r.Hop = network
				return &r
			case p.Answerer.IsValid():
				r := found("", "SYNs to %s are answered by %s", t.Addr.Addr(), p.Answerer).
					fix(f.withTarget(t.Addr, p.Answerer))
				r.Hop = network
				return &r
			case p.Outside.Answered > 0:
				return p.answered()
			}
			return nil
		})
	},
}

// withTarget returns the command line with another address for a target.
func (f *Facts) withTarget(t netip.AddrPort, a netip.Addr) string {
	with := netip.AddrPortFrom(a, t.Port()).String()
	return CommandLine(withReplaced(f.Args, t.String(), with)...)
}
