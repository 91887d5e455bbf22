package doctor

var lostAnswersCheck = Check{
	Code: "TC0306", Area: Return,
	Title: "the target's answers to clients are lost on the way to the intercept's host",
	Roles: []Role{Copier},
	After: []string{"TC0101", "TC0303", "TC0218", "TC0302", "TC0304", "TC0305"},
	How: "A witness on the target sees answers to the probes leave, and the intercept sees " +
		"none come in.",
	Why: "The network between the two does not deliver a packet by its next hop alone: it " +
		"routes by the address (an SDN, a cloud's route table), or drops what is not for the " +
		"host behind a port.",
	Mend: "In a cloud, switch off the source/destination check of the intercept's host, and " +
		"route the clients' networks to it in the route table. Or put it into the target's " +
		"own network. The tunnel needs none of this.",
	Judge: func(f *Facts) []Result {
		return onProbes(f, func(_ *TargetFacts, p *Probe) *Result {
			switch left := p.Outside.Left + p.Inside.Left; {
			case p.Outside.Answered+p.Inside.Answered > 0:
				return p.answered()
			case p.Witnessed && left > 0:
				r := found("", "%d answers to %s left the target, the intercept saw 0", left,
					p.Client)
				r.Hop = network
				return &r
			}
			return nil
		})
	},
}
