package doctor

var silentCheck = Check{
	Code: "TC0202", Area: Forward,
	Title: "the target does not answer",
	Roles: []Role{Copier},
	After: []string{"TC0203", "TC0205", "TC0206", "TC0212", "TC0220"},
	How: "It connects to the target from this host's own address, and nothing comes back in " +
		"3 seconds: neither SYN-ACK, nor reset, nor an ICMP message.",
	Why: "A firewall on the way or on the target drops the packets, or the host is down. A " +
		"host on which merely nothing listens answers with a reset.",
	Mend: "Let the port through the target's firewall or security group. On the target, the " +
		"doctor names the rule.",
	Judge: func(f *Facts) []Result {
		return onTargets(f, func(t *TargetFacts) *Result {
			if t.Connect == nil || t.Connect.Outcome != TimedOut || f.icmpAbout(t) != nil {
				return nil // IPv6 goes on waiting when an ICMP message has come
			}
			how := "the host is reached"
			if t.Neighbour != "" && t.Neighbour != "failed" {
				how = "its next hop is " + t.Neighbour
			}
			r := found("", "no answer to SYNs from %s to %s in %s; %s", t.Route.Source, t.Addr,
				span(t.Connect.After), how).
				at(string(Target)).fix(doctorCommand(f, t.Addr))
			r.Hop = "target, or its network"
			return &r
		})
	},
}
