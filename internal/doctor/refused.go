package doctor

var refusedCheck = Check{
	Code: "TC0201", Area: Forward,
	Title: "the target refuses connections: nothing listens there",
	Roles: []Role{Copier},
	After: []string{"TC0205", "TC0207", "TC0208", "TC0209", "TC0211"},
	How: "It connects to the target from this host's own address. A reset, and no ICMP " +
		"message, is the answer of a host on which nothing listens on this address and port.",
	Why: "Every copy's SYN is answered with a reset.",
	Mend: "Start the test server, have it listen on the address and port of -x, or correct " +
		"-x.",
	Judge: func(f *Facts) []Result {
		return onTargets(f, func(t *TargetFacts) *Result {
			var r Result
			switch {
			case t.Connect == nil:
				r = unknown("", "no connection was tried")
			case t.Connect.Outcome == Connected:
				r = ok("", "connected in %s", t.Connect.After.Round(100_000))
			case t.Connect.Outcome == Refused && f.icmpAbout(t) == nil:
				r = found("", "%s answers a SYN with a reset", t.Addr).
					at(string(Target)).fix(doctorCommand(f, t.Addr))
			default:
				return nil
			}
			return &r
		})
	},
}

// icmpAbout returns an ICMP message that came about packets to the target, or nil.
func (f *Facts) icmpAbout(t *TargetFacts) *ICMP {
	if f.Census == nil {
		return nil
	}
	for i := range f.Census.Errors {
		if f.Census.Errors[i].About == t.Addr {
			return &f.Census.Errors[i]
		}
	}
	return nil
}
