package doctor

import "strconv"

var firewallCheck = Check{
	Code: "TC0205", Area: Forward, Quick: true,
	Title: "a firewall rule of this host drops the copies' packets",
	Roles: []Role{Copier, Assistant, Target},
	How: "It reads the rules of nftables, and of iptables in its own tables or in those of " +
		"nftables, follows them for the copies' packets, also through this host to a " +
		"container, and compares the rule's counter before and after.",
	Why:  "The packets, or the answers to them, do not pass this host.",
	Mend: "Accept these packets before the rule that drops them.",
	Judge: func(f *Facts) (all []Result) {
		for i := range f.Firewall {
			v := &f.Firewall[i]
			what := v.Hook + ", " + v.About
			switch v.Action {
			case "accept":
				all = append(all, ok(v.About, "%s: accepted", what))
			case "drop", "reject":
				hits := ""
				if v.Hits > 0 {
					hits = ", which has counted " + itoa(v.Hits) + " packets meanwhile"
				}
				r := found(v.About, "%s: %s by %s%s", what, v.Action, v.Rule, hits)
				if v.Accept != "" {
					r = r.fix(v.Accept)
				}
				all = append(all, r)
			default:
				all = append(all, unknown(v.About, "%s: %s", what, v.Err))
			}
		}
		return all
	},
}

func itoa(n int) string { return strconv.Itoa(n) }
