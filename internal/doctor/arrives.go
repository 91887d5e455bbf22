package doctor

var arrivesCheck = Check{
	Code: "TC0213", Area: Forward,
	Title: "packets with the clients' addresses do not arrive at the target",
	Roles: []Role{Target},
	How: "It looks on all interfaces of the target, before any filter, for SYNs from the " +
		"clients' addresses to the server's port.",
	Why: "Clouds, switches and security groups drop packets whose source address is not the " +
		"sender's own. Ordinary connections pass, and copies in raw do not.",
	Mend: "Switch off the source check for the production host, or take the tunnel or " +
		"ordinary connections, which send no foreign address.",
	Judge: func(f *Facts) (all []Result) {
		if f.Via == "tunnel" {
			return nil
		}
		if why := f.noCensus(); why != "" {
			return []Result{unknown("", "%s", why)}
		}
		for i := range f.ReturnRoutes {
			p := &f.ReturnRoutes[i]
			if p.Arrived {
				all = append(all, ok(p.Client.String(), "a SYN came in on %s", p.Arrives))
				continue
			}
			all = append(all, unknown(p.Client.String(), "in %s, no SYN came from %s: no copy of "+
				"this client was opened, or packets with foreign addresses are dropped on the way",
				span(f.Watched), p.Client))
		}
		return all
	},
}
