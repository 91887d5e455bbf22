package collect

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
)

// chain is a chain of nftables with its rules. Rules of iptables are there too, if they are kept in
// nftables.
type chain struct {
	family nftables.TableFamily
	table  string
	name   string
	base   bool
	hook   nftables.ChainHook
	filter bool // a base chain that can drop; else one of nat
	prio   int
	drop   bool // policy
	rules  []rule
	legacy string // the command for it, if it is one of iptables' older kind
}

// rule is one rule of a chain.
type rule struct {
	handle uint64 // of iptables' older kind: the rule's number in its chain, from 1
	exprs  []expr.Any
	count  int // packets, or -1 without a counter
}

// set is a set or map of nftables, by which rules look things up.
type set struct {
	interval, concatenated bool
	elements               []nftables.SetElement
}

// ruleset is the firewall of a network namespace.
type ruleset struct {
	chains []chain
	sets   map[string]set // by family, table and name
	err    string         // why it is not known, or not whole
}

// readRules reads the firewall of the thread's namespace. It changes nothing.
func readRules() (s ruleset) {
	s.sets = map[string]set{}
	fail := func(err error) ruleset {
		s.err = fmt.Sprintf("the firewall's rules cannot be read: %v", err)
		return s
	}
	conn, err := nftables.New()
	if err != nil {
		return fail(err)
	}
	chains, err := conn.ListChains()
	if err != nil {
		return fail(err)
	}
	tables := map[string]bool{}
	for _, c := range chains {
		rules, err := conn.GetRules(c.Table, c)
		if err != nil {
			return fail(err)
		}
		s.chains = append(s.chains, newChain(c, rules))
		key := setKey(c.Table.Family, c.Table.Name, "")
		if tables[key] {
			continue
		}
		tables[key] = true
		sets, err := conn.GetSets(c.Table)
		if err != nil {
			return fail(err)
		}
		for _, x := range sets {
			elements, err := conn.GetSetElements(x)
			if err != nil {
				return fail(err)
			}
			s.sets[setKey(c.Table.Family, c.Table.Name, x.Name)] = set{
				x.Interval, x.Concatenation, elements,
			}
		}
	}
	if err := s.legacyRules(); err != nil {
		return fail(err)
	}
	slices.SortStableFunc(s.chains, func(a, b chain) int { return cmp.Compare(a.prio, b.prio) })
	return s
}

func newChain(c *nftables.Chain, rules []*nftables.Rule) chain {
	n := chain{family: c.Table.Family, table: c.Table.Name, name: c.Name}
	if c.Hooknum != nil {
		n.base, n.hook = true, *c.Hooknum
		n.filter = c.Type != nftables.ChainTypeNAT
		n.drop = c.Policy != nil && *c.Policy == nftables.ChainPolicyDrop
		if c.Priority != nil {
			n.prio = int(*c.Priority)
		}
	}
	for _, r := range rules {
		x := rule{handle: r.Handle, exprs: r.Exprs, count: -1}
		for _, e := range r.Exprs {
			if k, ok := e.(*expr.Counter); ok {
				x.count = int(k.Packets)
			}
		}
		n.rules = append(n.rules, x)
	}
	return n
}

func setKey(family nftables.TableFamily, table, name string) string {
	return fmt.Sprint(family, " ", table, " ", name)
}

// words returns how nft names the chain or, of iptables' older kind, the command that lists it.
func (c *chain) words() string {
	if c.legacy != "" {
		return c.legacy + " -t " + c.table + " " + c.name
	}
	return c.familyName() + " " + c.table + " " + c.name
}

// ruleWords names a rule of the chain.
func (c *chain) ruleWords(handle uint64) string {
	if c.legacy != "" {
		return c.words() + ", rule " + itoa(handle)
	}
	return c.words() + ", handle " + itoa(handle)
}

// accepting returns the command that accepts packets before a rule, or before the policy.
func (c *chain) accepting(m *packetWords, handle uint64) string {
	switch {
	case c.legacy != "" && handle == 0:
		return fmt.Sprintf("%s -t %s -A %s %s -j ACCEPT", c.legacy, c.table, c.name, m.iptables())
	case c.legacy != "":
		return fmt.Sprintf("%s -t %s -I %s %d %s -j ACCEPT", c.legacy, c.table, c.name, handle,
			m.iptables())
	case handle == 0:
		return fmt.Sprintf("nft add rule %s %s accept", c.words(), m.nft())
	}
	return fmt.Sprintf("nft insert rule %s position %d %s accept", c.words(), handle, m.nft())
}

func (c *chain) familyName() string {
	switch c.family {
	case nftables.TableFamilyIPv4:
		return "ip"
	case nftables.TableFamilyIPv6:
		return "ip6"
	}
	return "inet"
}

// find returns a chain of the same table.
func (s *ruleset) find(c *chain, name string) *chain {
	for i := range s.chains {
		x := &s.chains[i]
		if x.family == c.family && x.legacy == c.legacy && x.table == c.table && x.name == name {
			return x
		}
	}
	return nil
}

// count returns the counter of a rule, or -1.
func (s *ruleset) count(c *chain, handle uint64) int {
	x := s.find(c, c.name)
	if x == nil {
		return -1
	}
	for _, r := range x.rules {
		if r.handle == handle {
			return r.count
		}
	}
	return -1
}

// device returns an interface's name as rules compare it.
func device(name string) []byte {
	b := make([]byte, 16)
	copy(b, name)
	return b
}
