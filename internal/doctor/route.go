package doctor

import "net/netip"

var routeCheck = Check{
	Code: "TC0203", Area: Forward, Quick: true,
	Title: "this host has no route to the target, or the next hop does not answer",
	Roles: []Role{Copier},
	After: []string{"TC0106", "TC0205"}, // raw packets from 127.0.0.1 have the kernel ask as that
	How: "It asks the kernel for the route, and for the state of the next hop's link " +
		"address after an attempt to connect.",
	Why:  "Packets to the target do not leave this host.",
	Mend: "Correct the target of -x, start its host, or add the route.",
	Judge: func(f *Facts) []Result {
		return onTargets(f, func(t *TargetFacts) *Result {
			var r Result
			switch {
			case t.Connect != nil && t.Connect.Outcome == Connected:
				r = ok("", "by %s from %s", t.Route.Device, t.Route.Source)
			case t.Route.Refuses != "":
				r = found("", "the route %q refuses packets to %s", t.Route.Refuses,
					t.Addr.Addr()).
					fix("ip " + ipFamily(t.Addr.Addr()) + "route del " + t.Route.Refuses)
			case t.Route.Err != "" || t.Connect != nil && t.Connect.Outcome == NoRoute:
				r = found("", "no route to %s: %s", t.Addr.Addr(), t.Route.Err)
			case t.Neighbour == "failed" || t.Connect != nil && t.Connect.Outcome == Unreachable:
				hop := t.Addr.Addr()
				if t.Route.Gateway.IsValid() {
					hop = t.Route.Gateway
				}
				r = found("", "%s does not answer on %s: no such host, or it is down", hop,
					t.Route.Device)
			case t.Route.Device == "":
				r = unknown("", "the route was not asked for")
			default:
				r = ok("", "by %s from %s", t.Route.Device, t.Route.Source)
			}
			return &r
		})
	},
}

// ipFamily returns the option of ip for an address's family, with a space behind it.
func ipFamily(a netip.Addr) string {
	if a.Is6() {
		return "-6 "
	}
	return ""
}
