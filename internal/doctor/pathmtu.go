package doctor

import "fmt"

var pathMTUCheck = Check{
	Code: "TC0401", Area: Size,
	Title: "large packets to the target are lost without a word",
	Roles: []Role{Copier},
	After: []string{"TC0202", "TC0203", "TC0205", "TC0206"},
	How: "It sends ICMP echoes of several sizes that no router may fragment, each three " +
		"times. The small ones are answered, and none of those as large as the path's MTU.",
	Why: "Connections are opened, and small requests pass. Large ones are repeated until " +
		"the session times out.",
	Mend: "Have the firewall let ICMP messages about packets that are too big pass, or tell " +
		"this host the MTU of the path.",
	Judge: func(f *Facts) []Result {
		return onTargets(f, func(t *TargetFacts) *Result {
			p := t.Ping
			var r Result
			switch {
			case p == nil || t.Connect == nil || t.Connect.Outcome != Connected:
				return nil
			case p.Err != "":
				r = unknown("", "no echo was sent: %s", p.Err)
			case p.Full > 0:
				r = ok("", "packets of %d bytes pass", t.MTU)
			case p.Small < p.Sent: // lossy, or no echo is answered
				r = unknown("", "%d of %d echoes of %d bytes were answered", p.Small, p.Sent,
					p.Smallest)
			default:
				r = found("",
					"%d of %d echoes of %d bytes were answered, 0 of %d bytes; the largest "+
						"was %d", p.Small, p.Sent, p.Smallest, t.MTU, p.Largest).
					fix(mtuCommand(t))
			}
			return &r
		})
	},
}

// mtuCommand returns the route to a target with the MTU that passes.
func mtuCommand(t *TargetFacts) string {
	via := ""
	if t.Route.Gateway.IsValid() {
		via = " via " + t.Route.Gateway.String()
	}
	return fmt.Sprintf("ip route replace %s%s dev %s mtu lock %d", t.Addr.Addr(), via,
		t.Route.Device,
		t.Ping.Largest)
}
