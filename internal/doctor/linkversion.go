package doctor

var linkVersionCheck = Check{
	Code: "TC0504", Area: Link,
	Title: "the intercept refuses this copier",
	Roles: []Role{Copier},
	After: []string{"TC0503"},
	How: "It introduces itself to the intercept, which answers with a welcome or with a " +
		"reason.",
	Why: "Copier and intercept must speak the same version of their protocol. An intercept " +
		"serves 255 copiers at most.",
	Mend: "Install the same version on both hosts. If what answers is no intercept, correct " +
		"-s.",
	Judge: func(f *Facts) []Result {
		return onLinks(f, func(l *LinkFacts) *Result {
			if l.Key != "" || l.Outcome != Failed {
				return nil
			}
			r := found("", "%s", l.Err)
			if l.Version {
				r = r.fix("tcpcopy version")
			}
			return &r
		})
	},
}
