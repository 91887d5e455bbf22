package doctor

var namespaceCheck = Check{
	Code: "TC0211", Area: Forward, Quick: true,
	Title: "the test server is in another network namespace, that of a container",
	Roles: []Role{Target},
	How: "It lists the sockets that listen in this network namespace, and in those of other " +
		"processes.",
	Why: "A container has interfaces, addresses and sockets of its own. An intercept on the " +
		"target opens connections in one namespace, and packets to the host's address reach no " +
		"other.",
	Mend: "Give the intercept the container's namespace, with --netns and the id of one of " +
		"its processes, and have -x name an address that the container has. In the other ways " +
		"publish the port on the host, and for raw let clients' addresses be answered by the " +
		"container through the assistant.",
	Judge: func(f *Facts) []Result {
		return onPorts(f, func(port uint16, here []Listener) *Result {
			if len(here) > 0 {
				r := ok("", "%s", listenerWords(here))
				return &r
			}
			if on := f.passedOn(port); len(on) > 0 {
				return f.judgePublished(on)
			}
			for _, l := range f.Listeners.Other {
				if l.Addr.Port() != port {
					continue
				}
				seen := "no socket listens here, one does in the namespace of process " +
					itoa(l.PID)
				if l.Host.IsValid() {
					seen += ", which has the address " + l.Host.String()
				}
				r := found("", "%s", seen)
				if f.Via == "tunnel" {
					r = r.fix(CommandLine(withOption(f.Args, "", "netns", itoa(l.PID))...))
				}
				return &r
			}
			if f.Listeners.OtherErr != "" {
				r := unknown("", "%s", f.Listeners.OtherErr)
				return &r
			}
			return nil
		})
	},
}

// judgePublished judges a port whose connections are passed on to a container. Those of an
// intercept on the target are not: they never come in.
func (f *Facts) judgePublished(rules []PassedOn) *Result {
	if f.Via != "tunnel" {
		return nil
	}
	for i := range rules {
		n, all, known := f.Listeners.at(rules[i].To)
		if rules[i].Local || !known || len(all) == 0 {
			continue
		}
		r := found("", "no socket listens here, and what comes in is passed on to %s, which the "+
			"namespace of process %d has", rules[i].To, n.PID).
			fix(CommandLine(withOption(f.Args, "", "netns", itoa(n.PID))...))
		return &r
	}
	return nil
}
