package doctor

import (
	"fmt"
	"net/netip"
)

// onProbes judges the probe to each target, if copies go there in the raw way, and if this host's
// own connections reach it: what keeps those from it has a check of its own.
func onProbes(f *Facts, judge func(*TargetFacts, *Probe) *Result) []Result {
	if f.Via != "raw" || !f.linked() {
		return nil
	}
	return onTargets(f, func(t *TargetFacts) *Result {
		switch p := t.Probe; {
		case t.Connect == nil || t.Connect.Outcome != Connected:
			return nil
		case p == nil:
			r := unknown("", "no probe was sent")
			return &r
		case p.Err != "":
			r := unknown("", "%s", p.Err)
			return &r
		default:
			return judge(t, p)
		}
	})
}

// linked reports whether a link to an intercept is up.
func (f *Facts) linked() bool {
	for i := range f.Links {
		if f.Links[i].Outcome == Connected {
			return true
		}
	}
	return false
}

// answered returns what was seen of probes that reached their goal.
func (p *Probe) answered() *Result {
	r := ok("", "SYNs from %s were answered, and the intercept saw it", p.Client)
	return &r
}

// outside says what became of this host's probes, as far as the intercept saw.
func (p *Probe) outside() string {
	return fmt.Sprintf("%d of %d SYNs from %s were answered", p.Outside.Answered, p.Outside.Sent,
		p.Client)
}

// inside says what became of the intercept's probes.
func (p *Probe) inside() string {
	if p.Inside.Sent == 0 {
		return "the intercept sent none: " + p.InsideErr
	}
	return fmt.Sprintf("%d of %d that the intercept sent", p.Inside.Answered, p.Inside.Sent)
}

// witnessCommand returns the command that makes the doctor on a target a witness.
func (f *Facts) witnessCommand(t netip.AddrPort) string {
	words := []string{"doctor", "target", "--port", fmt.Sprint(t.Port())}
	for i := range f.Links {
		if l := &f.Links[i]; l.Outcome == Connected {
			at := l.Addr.String()
			if l.Addr.Port() == defaultPort {
				at = l.Addr.Addr().String()
			}
			words = append(words, "--witness", at)
			if l.HasKey {
				words = append(words, "--key", "key")
			}
			break
		}
	}
	return CommandLine(words...)
}

// The hops of what the facts of one host do not tell apart.
const (
	targetOrNetwork = "target, or its network"
	network         = "network"
)
