package doctor

import (
	"fmt"
	"net/netip"
)

// onTargets judges each target of a copier whose own connections reach it: not those of a tunnel,
// which the intercept on the target opens.
func onTargets(f *Facts, judge func(*TargetFacts) *Result) (all []Result) {
	if f.Via == "tunnel" {
		return nil
	}
	for i := range f.Targets {
		if r := judge(&f.Targets[i]); r != nil {
			r.About = f.Targets[i].Addr.String()
			all = append(all, *r)
		}
	}
	return all
}

// doctorCommand returns the command that examines the target's own host: as a witness, where that
// is of use here.
func doctorCommand(f *Facts, t netip.AddrPort) string {
	if f.Via == "raw" && f.linked() {
		return f.witnessCommand(t)
	}
	words := []string{"doctor", "target", "--port", fmt.Sprint(t.Port())}
	for i := range f.Targets {
		if f.Targets[i].Addr == t && f.Targets[i].Route.Source.IsValid() {
			words = append(words, "--client", f.Targets[i].Route.Source.String())
		}
	}
	return CommandLine(words...)
}
