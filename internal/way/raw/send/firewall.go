package send

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
)

// checkFirewall refuses a firewall that may drop or change packets that this host sends. Address
// translation does neither to packets that are exempt from connection tracking (see NoTrack).
func (l *lookup) checkFirewall(family int) error {
	chains, err := l.outgoing(family)
	if err != nil {
		return fmt.Errorf("firewall: %w", err)
	}
	exempt := false
	var other []*nftables.Chain
	for _, c := range chains {
		rules, err := l.nft.GetRules(c.Table, c)
		if err != nil {
			return fmt.Errorf("firewall: rules of chain %s: %w", c.Name, err)
		}
		switch {
		case c.Policy != nil && *c.Policy != nftables.ChainPolicyAccept:
			other = append(other, c)
		case len(rules) == 0:
		case c.Type == nftables.ChainTypeFilter && onlyNoTrack(rules):
			exempt = exempt || isOutput(c) && exempts(rules, l.mark)
		default:
			other = append(other, c)
		}
	}
	for _, c := range other {
		if c.Type != nftables.ChainTypeNAT || !exempt {
			return fmt.Errorf("the firewall's chain %s in table %s may change packets",
				c.Name, c.Table.Name)
		}
	}
	return checkLegacy(family, exempt)
}

// outgoing returns the chains that packets of the family pass on their way out.
func (l *lookup) outgoing(family int) ([]*nftables.Chain, error) {
	chains, err := l.nft.ListChains()
	if err != nil {
		return nil, err
	}
	own := nftables.TableFamilyIPv4
	if family == netlink.FAMILY_V6 {
		own = nftables.TableFamilyIPv6
	}
	var out []*nftables.Chain
	for _, c := range chains {
		if c.Hooknum == nil || c.Table.Family != own && c.Table.Family != nftables.TableFamilyINet {
			continue
		}
		if isOutput(c) || *c.Hooknum == *nftables.ChainHookPostrouting {
			out = append(out, c)
		}
	}
	return out, nil
}

func isOutput(c *nftables.Chain) bool { return *c.Hooknum == *nftables.ChainHookOutput }

// onlyNoTrack reports whether all of the rules are as NoTrack makes them, whatever their marks.
func onlyNoTrack(rules []*nftables.Rule) bool {
	for _, r := range rules {
		if _, ok := noTrackMark(r); !ok {
			return false
		}
	}
	return true
}

// exempts reports whether one of NoTrack's rules is for the mark.
func exempts(rules []*nftables.Rule, mark uint32) bool {
	want := binaryutil.NativeEndian.PutUint32(mark)
	for _, r := range rules {
		if m, ok := noTrackMark(r); ok && bytes.Equal(m, want) {
			return true
		}
	}
	return false
}

// noTrackMark returns the mark of a rule `meta mark MARK notrack`.
func noTrackMark(r *nftables.Rule) (mark []byte, ok bool) {
	if len(r.Exprs) != 3 {
		return nil, false
	}
	meta, isMeta := r.Exprs[0].(*expr.Meta)
	cmp, isCmp := r.Exprs[1].(*expr.Cmp)
	_, isNoTrack := r.Exprs[2].(*expr.Notrack)
	if !isMeta || !isCmp || !isNoTrack || meta.Key != expr.MetaKeyMARK || cmp.Op != expr.CmpOpEq {
		return nil, false
	}
	return cmp.Data, true
}

// checkLegacy refuses tables of iptables' older kind, which are not kept in nftables, and virtual
// servers (IPVS), which translate what this host sends to them. It reads the process's own network
// namespace.
func checkLegacy(family int, exempt bool) error {
	const dir = "/proc/self/net/"
	file := "ip_tables_names"
	if family == netlink.FAMILY_V6 {
		file = "ip6_tables_names"
	}
	b, err := os.ReadFile(dir + file)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("firewall: %w", err)
	}
	for _, table := range strings.Fields(string(b)) {
		if table != "nat" || !exempt {
			return fmt.Errorf("iptables' table %s may change packets", table)
		}
	}
	b, err = os.ReadFile(dir + "ip_vs")
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("virtual servers: %w", err)
	}
	const headings = 3
	if len(bytes.Split(bytes.TrimSpace(b), []byte("\n"))) > headings {
		return errors.New("there are virtual servers (IPVS)")
	}
	return nil
}
