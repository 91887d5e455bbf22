package doctor

var stalledCheck = Check{
	Code: "TC0219", Area: Forward,
	Title: "the target does not acknowledge what the copies send",
	Roles: []Role{Copier},
	After: []string{
		"TC0202", "TC0203", "TC0204", "TC0205", "TC0206", "TC0212", "TC0214", "TC0215", "TC0220",
		"TC0304", "TC0306", "TC0401", "TC0506",
	},
	How: "It asks the copiers that run beside it, with one of the same mappings, how many " +
		"sessions they dropped with the reason send_timeout. Before a copy runs it is not known: " +
		"the SYN of a probe passes such a firewall, and a probe sends nothing else.",
	Why: "Connections are opened, and requests on them are repeated until the session times " +
		"out (-t).",
	Mend: "In raw, look for a firewall on the way that tracks connections. It passes a copy's " +
		"SYN and, where it does not see the target's answers, takes what follows for invalid " +
		"(ct state invalid): exempt the clients' addresses from tracking there, or route both " +
		"directions around it. In the other ways, the test server does not read: its log may " +
		"tell why.",
	Judge: func(f *Facts) []Result {
		all := f.whileRunning("send_timeout", "")
		for i := range all {
			if f.Via == "raw" {
				all[i].Hop = targetOrNetwork
			} else {
				all[i] = all[i].at(string(Target))
			}
		}
		return all
	},
}
