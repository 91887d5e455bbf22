package doctor

import "slices"

var notPassedCheck = Check{
	Code: "TC0220", Area: Forward, Quick: true,
	Title: "the target does not forward what it passes on to a container",
	Roles: []Role{Target},
	How: "It looks for a rule that gives the port's connections another destination, and " +
		"reads ip_forward or, for IPv6, forwarding.",
	Why: "The port of a container is published by a rule that gives packets the container's " +
		"address. They then pass through this host as through a router: one that does not " +
		"forward drops them, and says nothing.",
	Mend: "Switch forwarding on, as the container's runtime does at its start. A sysctl.conf " +
		"that is applied later switches it off.",
	Judge: func(f *Facts) []Result {
		if f.Via == "tunnel" {
			return nil
		}
		return onPorts(f, func(port uint16, _ []Listener) *Result {
			for _, on := range f.passedOn(port) {
				sysctl := "net.ipv4.ip_forward"
				if on.V6 {
					sysctl = "net.ipv6.conf.all.forwarding"
				}
				switch {
				case on.Local || !on.To.IsValid():
				case slices.Contains(f.NoForwarding, sysctl):
					r := found("", "connections are passed on to %s (%s), and %s=0", on.words(),
						on.Rule, sysctl).fix("sysctl -w " + sysctl + "=1")
					return &r
				default:
					r := ok("", "connections to %s are forwarded", on.words())
					return &r
				}
			}
			return nil
		})
	},
}
