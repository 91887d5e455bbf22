package doctor

import (
	"fmt"
	"net/netip"
	"slices"
)

// onLinks judges each link.
func onLinks(f *Facts, judge func(*LinkFacts) *Result) (all []Result) {
	for i := range f.Links {
		if r := judge(&f.Links[i]); r != nil {
			r.About = f.Links[i].Addr.String()
			if r.On == "" && r.State == Found {
				r.On = f.linkHost()
			}
			all = append(all, *r)
		}
	}
	return all
}

// linkHost returns the host at the other end of a copier's links, in words.
func (f *Facts) linkHost() string {
	if f.Via == "tunnel" {
		return string(Target)
	}
	return "intercept's host"
}

// interceptCommand returns the command that starts the intercept at an address. One at a target's
// address is on the target.
func (f *Facts) interceptCommand(at netip.AddrPort) string {
	words := []string{"intercept", "-i", "DEV", "-F", "tcp and src port PORT", "--key", "key"}
	if len(f.Targets) > 0 {
		p := fmt.Sprint(f.Targets[0].Addr.Port())
		words[4] = "tcp and src port " + p
		if f.Via == "tunnel" || f.isTarget(at.Addr()) {
			words = []string{"intercept", "--on-target", "--allow", p, "--key", "key"}
		}
	}
	if at.Port() != defaultPort {
		words = append(words, "-p", fmt.Sprint(at.Port()))
	}
	return CommandLine(words...)
}

// isTarget reports whether an address is that of a target.
func (f *Facts) isTarget(a netip.Addr) bool {
	return slices.ContainsFunc(f.Targets, func(t TargetFacts) bool { return t.Addr.Addr() == a })
}

const defaultPort = 36524 // of an intercept
