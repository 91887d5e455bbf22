package doctor

var loopbackOnlyCheck = Check{
	Code: "TC0209", Area: Forward, Quick: true,
	Title: "the test server listens on loopback only",
	Roles: []Role{Target},
	How:   "It lists the sockets of this network namespace that listen.",
	Why: "Packets from other hosts do not reach a server on 127.0.0.1 or ::1. An intercept " +
		"on the target does.",
	Mend: "Have the server listen on all addresses, or use the tunnel: an intercept on the " +
		"target connects to a server on loopback, too.",
	Judge: func(f *Facts) []Result {
		return onPorts(f, func(port uint16, here []Listener) *Result {
			here = f.serving(port, here)
			for _, l := range here {
				if !l.isLoopback() {
					r := ok("", "%s", listenerWords(here))
					return &r
				}
			}
			if len(here) == 0 {
				return nil
			}
			if f.Via == "tunnel" {
				r := ok("", "%s, which an intercept on the target reaches", listenerWords(here))
				return &r
			}
			r := found("", "%s", listenerWords(here))
			return &r
		})
	},
}
