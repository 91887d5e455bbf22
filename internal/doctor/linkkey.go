package doctor

var linkKeyCheck = Check{
	Code: "TC0503", Area: Link,
	Title: "copier and intercept do not have the same key",
	Roles: []Role{Copier},
	How:   "It proves its key to the intercept, and the intercept proves its own.",
	Why: "An intercept serves only copiers that have its key, and a copier trusts no other " +
		"intercept.",
	Mend: "Make a key with tcpcopy keygen, copy the file to both hosts, and name it with " +
		"--key on both.",
	Judge: func(f *Facts) []Result {
		return onLinks(f, func(l *LinkFacts) *Result {
			switch {
			case l.Key != "":
				r := found("", "%s", l.Key)
				if !l.HasKey {
					r = r.at(string(f.Role)).fix(CommandLine(withOption(f.Args, "", "key",
						"key")...))
				}
				return &r
			case l.Outcome == Connected:
				r := ok("", "the key fits")
				return &r
			}
			return nil
		})
	},
}
