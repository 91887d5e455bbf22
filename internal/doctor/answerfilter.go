package doctor

import (
	"fmt"
)

var answerFilterCheck = Check{
	Code: "TC0302", Area: Return, Quick: true,
	Title: "the filter of -F leaves out the target's answers",
	Roles: []Role{Assistant},
	After: []string{"TC0101", "TC0109"},
	How: "It runs the filter on answers of every kind that the filter can tell apart, and " +
		"on the SYN-ACKs for other hosts that come in meanwhile.",
	Why: "An answer that the intercept does not see is missing at the copier, which waits " +
		"for it.",
	Mend: "Have the filter select what the target sends, as in -F 'tcp and src port 8080'.",
	Judge: func(f *Facts) []Result {
		if f.Filter == "" {
			return nil
		}
		answers := f.answers()
		var w *Flow
		for i := range answers {
			if w == nil || answers[i].Packets > w.Packets {
				w = &answers[i]
			}
		}
		switch {
		case w != nil && w.Passed == 0:
			return []Result{found("", "of %d packets from %s to other hosts, %q accepts 0",
				w.Packets,
				w.Server, f.Filter).fix(f.withAnswerFilter(w.Server.Port()))}
		case w != nil:
			return []Result{ok("", "%q accepts %d of %d packets from %s", f.Filter, w.Passed,
				w.Packets, w.Server)}
		case f.FilterEmpty && len(f.Ports) > 0:
			return []Result{found("", "%q accepts no answer from port %d", f.Filter, f.Ports[0]).
				fix(f.withAnswerFilter(f.Ports[0]))}
		case f.FilterEmpty:
			return []Result{found("", "%q accepts no TCP packet", f.Filter)}
		}
		return []Result{ok("", "%q can match", f.Filter)}
	},
}

func (f *Facts) withAnswerFilter(port uint16) string {
	return CommandLine(withOption(f.Args, "F", "filter", fmt.Sprintf("tcp and src port %d",
		port))...)
}

// answers returns the flows of SYN-ACKs that came in and are for other hosts: those of targets.
func (f *Facts) answers() (all []Flow) {
	if f.noCensus() != "" {
		return nil
	}
	for _, w := range f.Census.Flows {
		if w.FromServer && !w.Outgoing && !w.Local && w.SYNs > 0 {
			all = append(all, w)
		}
	}
	return all
}
