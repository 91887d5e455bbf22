package localroute

import (
	"encoding/binary"
	"fmt"
	"os"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
)

// survey is what this host has before any change.
type survey struct {
	rules   []rule
	tables  map[uint32]bool
	marks   []markUse
	sysctls map[string]string
	ipv6    bool
	// redirects is the sysctl that lets packets from elsewhere reach loopback addresses; empty:
	// none is on.
	redirects string
	// legacy are the tables of iptables' older kind, whose marks cannot be read.
	legacy []string
}

// look reads the survey.
func look(k *kernel) (*survey, error) {
	rules, err := k.rules()
	if err != nil {
		return nil, err
	}
	tables, err := k.tables()
	if err != nil {
		return nil, err
	}
	s := &survey{rules: rules, tables: tables, sysctls: map[string]string{}}
	for _, r := range rules {
		tables[r.table] = true
		if r.mark != 0 || r.mask != 0 && r.mask != 0xffffffff {
			s.marks = append(s.marks, markUse{r.mark, r.mask,
				fmt.Sprintf("routing rule %d", r.priority)})
		}
	}
	s.marks = append(s.marks, firewallMarks()...)
	for _, name := range []string{tcpAccept, reflect4, reflect6} {
		if v, err := readSysctl(name); err == nil {
			s.sysctls[name] = v
		}
	}
	s.redirects = redirects()
	s.legacy = legacyTables("/proc/thread-self/net")
	// Without IPv6 on lo, as in many containers, no address can be local there.

	off, err := readSysctl("net.ipv6.conf.lo.disable_ipv6")
	s.ipv6 = err == nil && off == "0"
	return s, nil
}

// redirects returns a route_localnet that is on, or "". With it a firewall may forward packets of
// others to a loopback address, whose answers look like those to copies.
func redirects() string {
	entries, err := os.ReadDir(sysctlPath("net.ipv4.conf"))
	if err != nil {
		return ""
	}
	for _, e := range entries {
		b, err := os.ReadFile(sysctlPath("net.ipv4.conf") + "/" + e.Name() + "/route_localnet")
		if err == nil && strings.TrimSpace(string(b)) == "1" {
			return "net.ipv4.conf." + strings.ReplaceAll(e.Name(), ".", "/") + ".route_localnet"
		}
	}
	return ""
}

// legacyTables returns the commands for the firewall tables of iptables' older kind, which are
// not in nftables. dir is a namespace's net directory below /proc. It lists the tables that were
// used.
func legacyTables(dir string) (all []string) {
	for _, f := range []struct{ file, command string }{{"ip_tables_names", "iptables-legacy"},
		{"ip6_tables_names", "ip6tables-legacy"}} {
		b, err := os.ReadFile(dir + "/" + f.file)
		if err != nil {
			continue // its module is not loaded
		}
		for _, table := range strings.Fields(string(b)) {
			all = append(all, f.command+" -t "+table)
		}
	}
	return all
}

// firewallMarks returns the marks in the firewall's rules, as far as they can be read: those of
// nftables, and of iptables over nftables.
func firewallMarks() []markUse {
	c, err := nftables.New()
	if err != nil {
		return nil
	}
	chains, err := c.ListChains()
	if err != nil {
		return nil
	}
	var all []markUse
	for _, chain := range chains {
		rules, err := c.GetRules(chain.Table, chain)
		if err != nil {
			continue
		}
		for _, r := range rules {
			all = append(all, marksIn(r, chain.Table.Name)...)
		}
	}
	return all
}

// marksIn returns every number of a rule about marks. One too many does no harm.
func marksIn(r *nftables.Rule, table string) []markUse {
	where := "firewall table " + table
	about := false
	var numbers []uint32
	mask := uint32(0xffffffff)
	var all []markUse
	number := func(b []byte) {
		if len(b) == 4 {
			numbers = append(numbers, binary.NativeEndian.Uint32(b))
		}
	}
	for _, e := range r.Exprs {
		switch e := e.(type) {
		case *expr.Meta:
			about = about || e.Key == expr.MetaKeyMARK
		case *expr.Ct:
			about = about || e.Key == expr.CtKeyMARK
		case *expr.Cmp:
			number(e.Data)
		case *expr.Immediate:
			number(e.Data)
		case *expr.Bitwise:
			if len(e.Mask) == 4 {
				mask = binary.NativeEndian.Uint32(e.Mask)
			}
			number(e.Xor)
		case *expr.Match:
			if m, ok := e.Info.(interface{ Bytes() []byte }); ok && e.Name == "mark" &&
				len(m.Bytes()) >= 8 {
				b := m.Bytes() // struct xt_mark_mtinfo1
				all = append(all, markUse{binary.NativeEndian.Uint32(b),
					binary.NativeEndian.Uint32(b[4:]), where})
			}
		}
	}
	if !about {
		return all
	}
	for _, n := range numbers {
		if n != 0 {
			all = append(all, markUse{n, mask, where})
		}
		if n != 0 && mask != 0xffffffff { // "set the bits of n, keep those of mask"
			all = append(all, markUse{n, n, where})
		}
	}
	return all
}
