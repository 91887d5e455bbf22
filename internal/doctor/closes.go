package doctor

var closesCheck = Check{
	Code: "TC0601", Area: Service,
	Title: "the target closes a connection at once",
	Roles: []Role{Copier},
	How: "It connects to the target, sends nothing, and looks for 300 ms whether the target " +
		"closes.",
	Why: "A server that closes before it has got a request lets no copy work: it may be a " +
		"proxy whose own server is down, or may refuse this host's address.",
	Mend: "Look into the test server's log.",
	Judge: func(f *Facts) []Result {
		return onTargets(f, func(t *TargetFacts) *Result {
			switch {
			case t.Connect == nil || t.Connect.Outcome != Connected:
				return nil
			case t.Connect.Closed:
				r := found("", "%s closed within 300ms", t.Addr).at(string(Target))
				return &r
			}
			r := ok("", "it stays open")
			return &r
		})
	},
}
