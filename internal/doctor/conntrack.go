package doctor

import "fmt"

var conntrackCheck = Check{
	Code: "TC0206", Area: Forward, Quick: true,
	Title: "the connection tracking table is full",
	Roles: []Role{Copier, Target},
	How:   "It reads nf_conntrack_count and nf_conntrack_max.",
	Why: "The kernel drops the packets of connections that it has no room for: those of " +
		"copies, and of production.",
	Mend: "Make the table larger.",
	Judge: func(f *Facts) []Result {
		c := f.Conntrack
		switch {
		case c == nil || c.Max == 0:
			return nil
		case c.Count < c.Max-c.Max/50:
			return []Result{ok("", "%d of %d entries", c.Count, c.Max)}
		}
		return []Result{found("", "%d of %d entries are in use", c.Count, c.Max).
			fix(fmt.Sprintf("sysctl -w net.netfilter.nf_conntrack_max=%d", max(2*c.Max, 1<<16)))}
	},
}
