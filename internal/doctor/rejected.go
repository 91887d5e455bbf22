package doctor

var rejectedCheck = Check{
	Code: "TC0207", Area: Forward,
	Title: "a firewall rejects connections to the target",
	Roles: []Role{Copier},
	After: []string{"TC0205"},
	How: "It connects to the target from this host's own address, and an ICMP message comes " +
		"back: a host without a server on the port answers with a reset instead.",
	Why: "Every copy's SYN is rejected.",
	Mend: "Let the target's port through the firewall that the finding names. On the " +
		"target, the doctor names the rule.",
	Judge: func(f *Facts) []Result {
		return onTargets(f, func(t *TargetFacts) *Result {
			e := f.icmpAbout(t)
			if t.Connect == nil || t.Connect.Outcome == Connected || e == nil {
				return nil
			}
			r := found("", "%s answers a SYN to %s with ICMP %s", e.From, t.Addr, e.Reason).
				at("host " + e.From.String())
			if e.From == t.Addr.Addr() {
				r = r.at(string(Target)).fix(doctorCommand(f, t.Addr))
			}
			return &r
		})
	},
}
