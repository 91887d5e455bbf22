package doctor

import (
	"fmt"
	"slices"
	"strings"
)

var linkTargetCheck = Check{
	Code: "TC0505", Area: Link,
	Title: "the intercept does not allow the target",
	Roles: []Role{Copier},
	How:   "It names its targets to the intercept, which answers with those that it refuses.",
	Why: "An intercept on the target connects to the ports of its --allow only, and to " +
		"addresses of its own host.",
	Mend: "Add the port to --allow at the intercept, or correct the target of -x.",
	Judge: func(f *Facts) []Result {
		return onLinks(f, func(l *LinkFacts) *Result {
			if l.Outcome != Connected || l.Way != "tunnel" {
				return nil
			}
			if len(l.Forbidden) == 0 {
				r := ok("", "all targets are allowed")
				return &r
			}
			var names, ports []string
			for _, t := range l.Forbidden {
				names = append(names, t.String())
			}
			for _, t := range f.Targets {
				if p := fmt.Sprint(t.Addr.Port()); !slices.Contains(ports, p) {
					ports = append(ports, p)
				}
			}
			r := found("", "it does not connect to %s", strings.Join(names, ", ")).
				fix(CommandLine("intercept", "--on-target", "--allow", strings.Join(ports, ","),
					"--key", "key"))
			return &r
		})
	},
}
