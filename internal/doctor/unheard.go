package doctor

var unheardCheck = Check{
	Code: "TC0215", Area: Forward,
	Title: "the target does not answer packets with the clients' addresses",
	Roles: []Role{Copier},
	After: []string{
		"TC0101", "TC0201", "TC0202", "TC0203", "TC0204", "TC0205", "TC0206", "TC0207", "TC0208",
		"TC0209", "TC0210", "TC0211", "TC0212", "TC0214", "TC0218", "TC0220", "TC0302", "TC0303",
		"TC0304", "TC0305", "TC0306",
	},
	How: "It connects to the target from this host's own address, and sends it three SYNs " +
		"from a free address of a client's network. The intercept reports that none is " +
		"answered, neither of these nor of its own. A witness on the target tells whether " +
		"they arrive.",
	Why: "The target's reverse-path filter or firewall drops such packets, it has no route to " +
		"the clients through the intercept's host, or the network drops the packets or the " +
		"answers.",
	Mend: "Run the doctor on the target, as a witness or by itself: it names the cause. " +
		"Without it, this host cannot tell the target from its network.",
	Judge: func(f *Facts) []Result {
		return onProbes(f, func(t *TargetFacts, p *Probe) *Result {
			switch {
			case p.Outside.Answered > 0:
				return p.answered()
			case p.Witnessed && p.Outside.Arrived > 0 && p.Outside.Left == 0:
				r := found("", "%d of %d SYNs from %s arrived, 0 were answered", p.Outside.Arrived,
					p.Outside.Sent, p.Client).at(string(Target))
				return &r
			case !p.Witnessed && p.Inside.Answered == 0:
				r := found("", "connections from %s succeed, %s, %s", t.Route.Source, p.outside(),
					p.inside()).at(string(Target)).fix(f.witnessCommand(t.Addr))
				r.Hop = targetOrNetwork
				return &r
			}
			return nil
		})
	},
}
