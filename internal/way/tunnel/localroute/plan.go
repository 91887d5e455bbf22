package localroute

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Kind is the kind of a Change.
type Kind string

// The kinds.
const (
	Route  Kind = "route"
	Rule   Kind = "rule"
	Sysctl Kind = "sysctl"
)

// protocol identifies our routes and rules in the kernel's lists (rtm_protocol).
const protocol = 124

// blackholeMetric is a high metric: the blackhole applies only when the local route is gone,
// because lo is down.
const blackholeMetric = 4000

// Change is one change of this host, as it is in the journal.
type Change struct {
	Kind  Kind
	IPv6  bool   `json:",omitempty"`
	Table uint32 `json:",omitempty"`

	Blackhole bool `json:",omitempty"` // of a Route; else it is a local one

	Priority uint32       `json:",omitempty"` // of a Rule
	From     netip.Prefix `json:",omitzero"`  // of a Rule: the loopback variant
	Port     uint16       `json:",omitempty"` // with From: the server's; 0: any
	Mark     uint32       `json:",omitempty"` // of a Rule: the mark variant

	Name     string `json:",omitempty"` // of a Sysctl
	Old, New string `json:",omitempty"`
}

// check returns why a change in a journal cannot be ours, nil if it can.
func (c *Change) check() error {
	switch c.Kind {
	case Route, Rule:
		return nil
	case Sysctl:
		if c.Name != tcpAccept && c.Name != reflect4 && c.Name != reflect6 {
			return fmt.Errorf("sysctl %q: wanted one of ours", c.Name)
		}
		if c.Old != "0" || c.New != "1" {
			return fmt.Errorf("sysctl %q from %q to %q: wanted from 0 to 1", c.Name, c.Old, c.New)
		}
		return nil
	}
	return fmt.Errorf("change of kind %q: wanted %s, %s or %s", c.Kind, Route, Rule, Sysctl)
}

// words returns what follows "ip route add", "ip rule add" and the like.
func (c *Change) words() string {
	switch {
	case c.Kind == Route && c.Blackhole:
		return fmt.Sprintf("blackhole default metric %d table %d protocol %d", blackholeMetric,
			c.Table, protocol)
	case c.Kind == Route:
		return fmt.Sprintf("local default dev lo table %d protocol %d", c.Table, protocol)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "pref %d", c.Priority)
	if c.From.IsValid() {
		fmt.Fprintf(&b, " from %s", c.From)
	} else {
		fmt.Fprintf(&b, " fwmark %#x", c.Mark)
	}
	b.WriteString(" iif lo ipproto tcp")
	if c.Port != 0 {
		fmt.Fprintf(&b, " sport %d", c.Port)
	}
	fmt.Fprintf(&b, " lookup %d protocol %d", c.Table, protocol)
	return b.String()
}

func (c *Change) command(verb, value string) string {
	if c.Kind == Sysctl {
		return "sysctl -w " + c.Name + "=" + value
	}
	ip := "ip "
	if c.IPv6 {
		ip = "ip -6 "
	}
	return ip + string(c.Kind) + " " + verb + " " + c.words()
}

// Do returns the change as a command.
func (c *Change) Do() string { return c.command("add", c.New) }

// Undo returns the command that reverts the change.
func (c *Change) Undo() string { return c.command("del", c.Old) }

// Plan is a list of changes. They are made in this order, and reverted in the opposite one.
type Plan struct {
	Changes  []Change
	Table    uint32
	Priority uint32
	Mark     uint32 // of our sockets, if Marked
	Loopback bool   // the loopback variant is in it
	Marked   bool   // the mark variant is in it
	Warnings []string
}

// String returns the commands of the plan, and those that revert it, one a line.
func (p *Plan) String() string {
	var b strings.Builder
	for i := range p.Changes {
		b.WriteString(p.Changes[i].Do() + "\n")
	}
	b.WriteString("# and at the end:\n")
	for i := len(p.Changes) - 1; i >= 0; i-- {
		b.WriteString(p.Changes[i].Undo() + "\n")
	}
	for _, w := range p.Warnings {
		b.WriteString("# warning: " + w + "\n")
	}
	return b.String()
}

const (
	// maxPortRules bounds the rules about one loopback address. For more ports one rule serves all.

	maxPortRules = 16
	// maxLoopbacks bounds how many addresses have rules.
	maxLoopbacks = 16
)

// loopbackChanges returns the rules that keep what is sent from a loopback address here.
func loopbackChanges(table, priority uint32, from netip.Addr, ports []uint16) []Change {
	if len(ports) == 0 || len(ports) > maxPortRules {
		ports = []uint16{0}
	}
	var all []Change
	for _, port := range ports {
		all = append(all, Change{Kind: Rule, IPv6: from.Is6(), Table: table, Priority: priority,
			From: netip.PrefixFrom(from, from.BitLen()), Port: port})
	}
	return all
}

// loopbacks returns the addresses that the plan has rules about.
func (p *Plan) loopbacks() []netip.Addr {
	var all []netip.Addr
	for i := range p.Changes {
		if c := &p.Changes[i]; c.Kind == Rule && c.From.IsValid() &&
			!slices.Contains(all, c.From.Addr()) {
			all = append(all, c.From.Addr())
		}
	}
	return all
}

// tableChanges returns the routes of the table that the rules lead to.
func tableChanges(table uint32, v4, v6 bool) []Change {
	var all []Change
	for _, f := range families(v4, v6) {
		all = append(all, Change{Kind: Route, IPv6: f, Table: table, Blackhole: true},
			Change{Kind: Route, IPv6: f, Table: table})
	}
	return all
}

// markChanges returns the changes that make the answers to marked connections carry the mark, and
// keep them here. With tcp_fwmark_accept an accepted socket takes the mark of its SYN, over IPv6
// as well. Answers that no socket sends, such as the reset of a closed port, need fwmark_reflect.
func markChanges(table, priority, mark uint32, v4, v6 bool, sysctls map[string]string) []Change {
	var all []Change
	for _, name := range []string{tcpAccept, reflect4, reflect6} {
		if name == reflect4 && !v4 || name == reflect6 && !v6 {
			continue
		}
		if old, ok := sysctls[name]; ok && old == "0" {
			all = append(all, Change{Kind: Sysctl, Name: name, Old: old, New: "1"})
		}
	}
	for _, f := range families(v4, v6) {
		all = append(all, Change{Kind: Rule, IPv6: f, Table: table, Priority: priority, Mark: mark})
	}
	return all
}

const (
	tcpAccept = "net.ipv4.tcp_fwmark_accept"
	reflect4  = "net.ipv4.fwmark_reflect"
	reflect6  = "net.ipv6.fwmark_reflect"
)

// families returns false for IPv4 and true for IPv6.
func families(v4, v6 bool) []bool {
	var all []bool
	if v4 {
		all = append(all, false)
	}
	if v6 {
		all = append(all, true)
	}
	return all
}

// markUse is a mark that a rule of others matches or sets.
type markUse struct {
	mark, mask uint32
	where      string
}

// reserved are marks of software that sets them later, or where they cannot be read.
var reserved = []markUse{
	{0x4000, 0x4000, "Kubernetes"}, {0x8000, 0x8000, "Kubernetes"},
	{0x80000, 0xff0000, "Tailscale"}, {0x40000, 0xff0000, "Tailscale"},
	{0x200, 0xf00, "Cilium"}, {0xe00, 0xf00, "Cilium"}, {0xd00, 0xf00, "Cilium"},
	{0xc00, 0xf00, "Cilium"}, {0xa00, 0xf00, "Cilium"},
}

// ourMarks yields the marks that are tried, in order. They have few high bits, so that masks of
// others rarely match them.
func ourMarks(yield func(uint32) bool) {
	for _, high := range []uint32{0x7c, 0x5c, 0x3c, 0x1c} {
		for low := uint32(1); low < 64; low++ {
			if !yield(high<<24 | low) {
				return
			}
		}
	}
}

// chooseMark returns a mark that no rule of others matches: under each mask in use it differs
// from the mark.
func chooseMark(used []markUse) (uint32, error) {
	for m := range ourMarks {
		free := true
		for _, u := range append(used, reserved...) {
			if u.mask != 0 && m&u.mask == u.mark&u.mask {
				free = false
				break
			}
		}
		if free {
			return m, nil
		}
	}
	return 0, fmt.Errorf("choose a mark: all %d that were tried are in use by others' rules", 4*63)
}

// chooseTable returns a routing table that is empty and that no rule leads to.
func chooseTable(used map[uint32]bool) (uint32, error) {
	for t := uint32(7240); t < 7340; t++ {
		if !used[t] {
			return t, nil
		}
	}
	return 0, fmt.Errorf("choose a routing table: 7240 to 7339 are all in use")
}

// choosePriority returns a priority before every rule except that for local addresses, whose
// routes are local as well.
func choosePriority(rules []rule) (uint32, error) {
	first := uint32(32766)
	taken := make(map[uint32]bool)
	for _, r := range rules {
		taken[r.priority] = true
		if r.table != localTable && r.priority < first {
			first = r.priority
		}
	}
	for p := min(first, 1001); p > 1; p-- {
		if !taken[p-1] {
			return p - 1, nil
		}
	}
	return 0, fmt.Errorf("choose a place among the routing rules: "+
		"wanted one before priority %d, and none is free", first)
}

// localTable is the table of this host's own addresses (RT_TABLE_LOCAL).
const localTable = 255
