package doctor

var linkSilentCheck = Check{
	Code: "TC0502", Area: Link,
	Title: "the intercept cannot be reached",
	Roles: []Role{Copier},
	After: []string{"TC0205", "TC0206", "TC0506"},
	How: "It connects to the intercept, and gets no answer in 3 seconds, or an error of the " +
		"network.",
	Why: "Without the link no copy is opened (tunnel), or no answer comes back (raw).",
	Mend: "Let the intercept's port, 36524 by default, through every firewall between the " +
		"two, or correct the address of -s. On its host, the doctor names the rule.",
	Judge: func(f *Facts) []Result {
		return onLinks(f, func(l *LinkFacts) *Result {
			var r Result
			switch l.Outcome {
			case TimedOut:
				r = found("",
					"no answer from %s in 3s: a firewall drops the packets, or the host is down",
					l.Addr).
					fix(CommandLine("doctor", "target", "--port", itoa(int(l.Addr.Port()))))
			case Unreachable:
				r = found("", "%s: the host does not answer on its network",
					l.Addr).at(string(f.Role))
			case NoRoute:
				r = found("", "no route to %s", l.Addr).at(string(f.Role))
			case Forbidden:
				r = found("", "a firewall of this host forbids it").at(string(f.Role))
			default:
				return nil
			}
			return &r
		})
	},
}
