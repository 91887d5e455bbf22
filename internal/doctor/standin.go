package doctor

import "strings"

var standInCheck = Check{
	Code: "TC0303", Area: Return, Quick: true,
	Title: "an address of -c or -H is this host's own",
	Roles: []Role{Copier},
	How:   "It compares the addresses of -c and -H with those of the interfaces.",
	Why: "The target's answers to such an address reach this host's kernel, which knows of " +
		"no connection, and resets it.",
	Mend: "Use addresses that no host on the path has.",
	Judge: func(f *Facts) []Result {
		if f.Via != "raw" || !f.StandsIn {
			return nil
		}
		if len(f.LocalStands) == 0 {
			return []Result{ok("", "none is this host's")}
		}
		var words []string
		for _, a := range f.LocalStands {
			words = append(words, a.String())
		}
		return []Result{found("", "%s", strings.Join(words, ", "))}
	},
}
