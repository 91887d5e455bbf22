package doctor

var linkRefusedCheck = Check{
	Code: "TC0501", Area: Link,
	Title: "no intercept listens at the address of -s",
	Roles: []Role{Copier},
	How:   "It connects to the intercept, as the copier does.",
	Why:   "Without the link no copy is opened (tunnel), or no answer comes back (raw).",
	Mend: "Start the intercept, or name its address and port with -s. Without a key it " +
		"listens on loopback only.",
	Judge: func(f *Facts) []Result {
		return onLinks(f, func(l *LinkFacts) *Result {
			switch l.Outcome {
			case Refused:
				r := found("", "the connection to %s is refused", l.Addr).
					fix(f.interceptCommand(l.Addr))
				return &r
			case TimedOut, Unreachable, NoRoute, Forbidden: // linkSilentCheck
				return nil
			}
			r := ok("", "%s accepts connections", l.Addr)
			return &r
		})
	},
}
