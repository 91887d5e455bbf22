package doctor

import "cmp"

var agentsCheck = Check{
	Code: "TC0112", Area: Capture,
	Title: "an agent sends nothing",
	Roles: []Role{Copier},
	How: "It asks the copier that runs beside it, with one of the same mappings, which agents " +
		"are connected, and how many packets each has sent.",
	Why: "With --from agent the copier captures nothing itself: what no agent sends is not " +
		"copied.",
	Mend: "Start tcpcopy capture on the production host, with the same key, and let the " +
		"copier's port (36525 by default) through the firewalls between the two. The doctor " +
		"with the options of a copy, on the production host, tells whether clients' packets " +
		"come there.",
	Judge: func(f *Facts) (all []Result) {
		switch r := f.Running; {
		case f.From != "agent":
			return nil
		case r == nil:
			return []Result{unknown("", "no copier runs here to which agents could connect")}
		case len(r.Agents) == 0:
			return []Result{found("", "no agent has connected").at("production host")}
		default:
			for _, a := range r.Agents {
				x := ok(a.Name, "%d packets", a.Packets)
				switch {
				case !a.Up:
					x = found(a.Name, "%s is not connected: %s", a.Name,
						cmp.Or(a.Error, "it has left")).at("production host")
				case a.Packets == 0:
					x = found(a.Name, "%s is connected, and has sent 0 packets",
						a.Name).at("production host")
				}
				all = append(all, x)
			}
			return all
		}
	},
}
