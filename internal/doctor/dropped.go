package doctor

var droppedCheck = Check{
	Code: "TC0214", Area: Forward,
	Title: "packets with the clients' addresses are dropped on the way to the target",
	Roles: []Role{Copier},
	After: []string{
		"TC0101", "TC0201", "TC0202", "TC0203", "TC0205", "TC0206", "TC0207", "TC0218", "TC0303",
	},
	How: "It connects to the target from this host's own address, and sends it three SYNs " +
		"from a free address of a client's network. The intercept reports which are answered, " +
		"and sends three of its own from inside the target's network. A witness on the target " +
		"reports which arrive.",
	Why: "Clouds, switches and security groups drop packets whose source address is not the " +
		"sender's own. Ordinary connections pass, and copies in raw do not.",
	Mend: "Switch off the source check for this host (in clouds: source/destination check, " +
		"IP forwarding, allowed address pairs), or take the tunnel or ordinary connections, " +
		"which send no foreign address.",
	Judge: func(f *Facts) []Result {
		return onProbes(f, func(t *TargetFacts, p *Probe) *Result {
			switch {
			case p.Outside.Answered > 0:
				return p.answered()
			case p.Witnessed && p.Outside.Arrived == 0:
				r := found("", "%d SYNs from %s left, 0 arrived; of the intercept's, %d of %d did",
					p.Outside.Sent, p.Client, p.Inside.Arrived, p.Inside.Sent)
				r.Hop = network
				return &r
			case !p.Witnessed && p.Inside.Answered > 0:
				r := found("", "connections from %s succeed, %s, %s", t.Route.Source, p.outside(),
					p.inside()).at(string(Target)).fix(f.witnessCommand(t.Addr))
				r.Hop = targetOrNetwork
				return &r
			}
			return nil
		})
	},
}
