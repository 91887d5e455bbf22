package doctor

import "strings"

var forwardingCheck = Check{
	Code: "TC0301", Area: Return, Quick: true,
	Title: "the assistant forwards packets",
	Roles: []Role{Assistant},
	How:   "It reads the forwarding sysctls of the interfaces that -i names, or of all.",
	Why: "A host that forwards sends the target's answers on to real clients, which reset " +
		"the copies' connections.",
	Mend: "Turn forwarding off on this host, or give the intercept a host that does not " +
		"forward.",
	Judge: func(f *Facts) []Result {
		if f.AllowForwarding {
			return nil
		}
		if f.ForwardingErr != "" {
			return []Result{unknown("", "%s", f.ForwardingErr)}
		}
		if len(f.Forwarding) == 0 {
			return []Result{ok("", "no packet is forwarded")}
		}
		var fixes []string
		for _, s := range f.Forwarding {
			fixes = append(fixes, "sysctl -w "+s+"=0")
		}
		return []Result{found("", "%s=1", strings.Join(f.Forwarding, "=1, ")).fix(fixes...)}
	},
}
