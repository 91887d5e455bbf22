package doctor

var filterCheck = Check{
	Code: "TC0104", Area: Capture, Quick: true,
	Title: "the filter of -F leaves out every packet of the clients",
	Roles: []Role{Copier},
	After: []string{"TC0101", "TC0103", "TC0109"},
	How: "It runs the filter on packets of every kind that the filter can tell apart, to " +
		"the production port; and on the packets that come in meanwhile.",
	Why: "The filter is applied besides the ports of -x. If it accepts no packet to them, " +
		"nothing is copied.",
	Mend: "Leave -F out: the ports of -x are selected anyway. Or test clients' addresses " +
		"with it, as in -F 'src net 192.0.2.0/24'.",
	Judge: func(f *Facts) (all []Result) {
		if f.Filter == "" {
			return nil
		}
		without := CommandLine(withOption(f.Args, "F", "filter", "")...)
		if f.FilterEmpty {
			return []Result{found("", "%q accepts no packet to the port of -x",
				f.Filter).fix(without)}
		}
		if f.noCensus() != "" || f.Remote {
			return []Result{ok("", "%q can match", f.Filter)}
		}
		for i := range f.Mappings {
			m := &f.Mappings[i]
			switch w := f.Census.to(m, f.CaptureOn); {
			case w.Packets == 0:
				all = append(all, ok(m.Text, "%q can match", f.Filter))
			case w.Passed == 0:
				all = append(all, found(m.Text, "of %d packets to port %d, %q accepts 0",
					w.Packets, m.Production.Port(), f.Filter).fix(without))
			default:
				all = append(all, ok(m.Text, "%q accepts %d of %d packets", f.Filter, w.Passed,
					w.Packets))
			}
		}
		return all
	},
}
