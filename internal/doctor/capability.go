package doctor

import "strings"

var capabilityCheck = Check{
	Code: "TC0101", Area: Capture, Quick: true,
	Title: "this process lacks a capability",
	Roles: []Role{Copier, Assistant, Target},
	How: "It opens a packet socket, and tries a harmless operation of network " +
		"administration.",
	Why: "Without CAP_NET_RAW nothing can be captured or sent in raw. Without CAP_NET_ADMIN " +
		"packets cannot be marked, nor routes be changed.",
	Mend: "Run the command as root, or give the capabilities to the program's file once, " +
		"with setcap.",
	Judge: func(f *Facts) []Result {
		var missing, why, all []string
		for _, n := range f.Needs {
			if n.Way != "" && n.Way != f.Via {
				continue
			}
			all = append(all, n.Capability)
			if !n.Has {
				missing = append(missing, n.Capability)
				why = append(why, "to "+n.For)
			}
		}
		switch {
		case len(all) == 0:
			return nil
		case len(missing) == 0:
			return []Result{ok("", "%s", strings.Join(all, ", "))}
		}
		caps := strings.ToLower(strings.Join(all, ","))
		return []Result{found("", "%s is missing %s", strings.Join(missing, ", "),
			strings.Join(why, ", ")).
			fix("sudo setcap " + caps + "+ep " + quote(f.Program))}
	},
}
