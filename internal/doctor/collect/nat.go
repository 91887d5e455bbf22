package collect

import (
	"github.com/google/nftables"
	"github.com/google/nftables/expr"
)

// translates returns the rule that gives a packet that comes in another destination, in words;
// empty if there is none. A rule of which it is not known whether it matches counts.
func (s *ruleset) translates(p *probe) string {
	for i := range s.chains {
		c := &s.chains[i]
		if !c.base || c.filter || c.hook != *nftables.ChainHookPrerouting || !c.applies(p) {
			continue
		}
		if rule := s.findNAT(c, p, 0); rule != "" {
			return rule
		}
	}
	return ""
}

// findNAT looks for such a rule in a chain, and in those to which it jumps.
func (s *ruleset) findNAT(c *chain, p *probe, depth int) string {
	if c == nil || depth > mostJumps {
		return ""
	}
	for i := range c.rules {
		r := &c.rules[i]
		m := machine{set: s, chain: c, probe: p}
		if m.run(r.exprs) == no {
			continue
		}
		if givesDestination(r.exprs) {
			return c.ruleWords(r.handle)
		}
		if m.verdict != nil && m.verdict.Chain != "" {
			if rule := s.findNAT(s.find(c, m.verdict.Chain), p, depth+1); rule != "" {
				return rule
			}
		}
	}
	return ""
}

// givesDestination reports whether one of a rule's expressions translates the destination.
func givesDestination(all []expr.Any) bool {
	for _, e := range all {
		switch e := e.(type) {
		case *expr.NAT:
			return e.Type == expr.NATTypeDestNAT
		case *expr.Redir:
			return true
		case *expr.Target:
			return e.Name == "DNAT" || e.Name == "REDIRECT"
		}
	}
	return false
}
