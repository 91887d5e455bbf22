package doctor

var returnRouteCheck = Check{
	Code: "TC0304", Area: Return, Quick: true,
	Title: "the target's answers do not go to the assistant",
	Roles: []Role{Target},
	How: "It asks the kernel for the route of an answer: to a client, from the server's " +
		"port.",
	Why: "In the raw way an answer must reach the assistant, which tells the copier. Any " +
		"other host resets the connection, or drops the packets.",
	Mend: "Route the clients' addresses through the assistant, with a route that is more " +
		"specific than all others.",
	Judge: func(f *Facts) (all []Result) {
		if f.Via == "tunnel" {
			return nil
		}
		for i := range f.ReturnRoutes {
			p := &f.ReturnRoutes[i]
			about := p.Client.String()
			if !p.Assistant.IsValid() {
				all = append(all, unknown(about, "--assistant was not given: %s",
					routeWords(&p.Route)))
				continue
			}
			add := "ip route replace " + about + " via " + p.Assistant.String()
			switch {
			case p.Route.Err != "":
				all = append(all, found(about, "no route to %s", p.Client).fix(add))
			case p.Route.Gateway != p.Assistant && p.Client != p.Assistant:
				all = append(all, found(about, "answers to %s leave %s", p.Client,
					routeWords(&p.Route)).fix(add))
			default:
				all = append(all, ok(about, "%s", routeWords(&p.Route)))
			}
		}
		return all
	},
}

func routeWords(r *Route) string {
	switch {
	case r.Err != "":
		return r.Err
	case r.Gateway.IsValid():
		return "by " + r.Device + " through " + r.Gateway.String()
	}
	return "by " + r.Device + ", to the address itself"
}
