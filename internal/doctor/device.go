package doctor

var deviceCheck = Check{
	Code: "TC0210", Area: Forward, Quick: true,
	Title: "the test server is bound to one interface",
	Roles: []Role{Target},
	How:   "It lists the sockets that listen, with the interface that they are bound to.",
	Why: "A server that is bound to an interface (SO_BINDTODEVICE) gets only connections " +
		"that come in there. Those of an intercept on the target come over loopback.",
	Mend: "Do not bind the server to an interface, or have the copies come in there: by " +
		"raw, or over ordinary connections.",
	Judge: func(f *Facts) []Result {
		return onPorts(f, func(_ uint16, here []Listener) *Result {
			bound := ""
			for _, l := range here {
				if l.Device == "" {
					r := ok("", "bound to no interface")
					return &r
				}
				if f.Via == "tunnel" && l.Device != "lo" || f.Via != "tunnel" &&
					!f.arrives(l.Device) {
					bound = l.Device
				}
			}
			if bound == "" {
				return nil
			}
			r := found("", "the server is bound to %s", bound)
			return &r
		})
	},
}

// arrives reports whether clients' packets may come in on an interface.
func (f *Facts) arrives(device string) bool {
	for _, p := range f.ReturnRoutes {
		if p.Arrives != "" && p.Arrives != device {
			return false
		}
	}
	return true
}
