package doctor

import (
	"slices"
	"strings"
)

var answerInterfaceCheck = Check{
	Code: "TC0305", Area: Return,
	Title: "the target's answers come in on another interface, or not at all",
	Roles: []Role{Assistant},
	After: []string{"TC0101", "TC0102"},
	How: "It looks on all interfaces, without the filter, for SYN-ACKs that are for other " +
		"hosts.",
	Why: "The target must route its answers to clients through this host, and the intercept " +
		"must look where they come in.",
	Mend: "Name that interface with -i. If no answer comes in on any, add the route on the " +
		"target: tcpcopy doctor target examines it there.",
	Judge: func(f *Facts) []Result {
		if why := f.noCensus(); why != "" {
			return []Result{unknown("", "%s", why)}
		}
		answers := f.answers()
		var devices []string
		n := 0
		for _, w := range answers {
			if len(f.CaptureOn) == 0 || slices.Contains(f.CaptureOn, w.Interface) {
				return []Result{ok("", "%d packets of %s on %s", w.Packets, w.Server, w.Interface)}
			}
			n += w.Packets
			if !slices.Contains(devices, w.Interface) {
				devices = append(devices, w.Interface)
			}
		}
		if n == 0 {
			return []Result{unknown("",
				"in %s, no SYN-ACK came in for another host: no copier may have "+
					"opened a connection, or the target routes its answers elsewhere",
				span(f.Watched))}
		}
		return []Result{found("", "%d packets of targets came in on %s, 0 on %s", n,
			strings.Join(devices, ", "), strings.Join(f.CaptureOn, ", ")).
			fix(CommandLine(withOption(f.Args, "i", "interface", strings.Join(devices, ","))...))}
	},
}
