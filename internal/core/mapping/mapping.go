// Package mapping holds the mappings from production's addresses to targets (TCPCopy's -x) and the
// pools of addresses that replace clients' (TCPCopy's -c).
//
// It parses what users write, finds the mapping of a packet, and lists a pool's addresses. It
// resolves no names and knows nothing of the host that it runs on.
package mapping

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// shape ends the errors about a mapping.
const shape = "want [IP:]PORT-TARGET:PORT, such as 80-10.0.0.2:8080"

const (
	maxTargets = 1024 // targets of a mapping
	maxWeight  = 1000 // weight of a target
)

// Mapping is a production server and the targets that get copies of its traffic.
type Mapping struct {
	// Production is the address that clients connect to. Its Addr is invalid if the mapping names
	// none: it is then any of the host's own.
	Production netip.AddrPort
	Targets    []Target // at least one, no two with the same address
}

// Target is one of a mapping's targets.
type Target struct {
	Addr   netip.AddrPort
	Weight int // at least 1; the target gets this share of the sum of all weights
}

// String returns the target as Parse reads it.
func (t Target) String() string {
	if t.Weight == 1 {
		return t.Addr.String()
	}
	return t.Addr.String() + "*" + strconv.Itoa(t.Weight)
}

// Named reports whether the mapping names the production address.
func (m Mapping) Named() bool { return m.Production.Addr().IsValid() }

// String returns the mapping as Parse reads it.
func (m Mapping) String() string {
	words := make([]string, len(m.Targets))
	for i, t := range m.Targets {
		words[i] = t.String()
	}
	return m.ProductionString() + "-" + strings.Join(words, "|")
}

// ProductionString returns the production side as Parse reads it.
func (m Mapping) ProductionString() string {
	if m.Named() {
		return m.Production.String()
	}
	return strconv.Itoa(int(m.Production.Port()))
}

// Weighted reports whether the targets' weights differ.
func (m Mapping) Weighted() bool {
	return slices.ContainsFunc(m.Targets,
		func(t Target) bool { return t.Weight != m.Targets[0].Weight })
}

// Parse parses mappings, separated by commas: [IP:]PORT-TARGET:PORT, with IPv6 addresses in
// brackets. Several targets are separated by "|"; "*3" after a target gives it the weight 3. A
// production address of 0.0.0.0 or [::] counts as none. Parse returns an error that quotes the
// mapping if one is malformed or two have the same production address and port.
func Parse(s string) ([]Mapping, error) {
	var ms []Mapping
	for part := range strings.SplitSeq(s, ",") {
		m, err := parseOne(strings.TrimSpace(part))
		if err != nil {
			return nil, fmt.Errorf("parse mapping: %w", err)
		}
		ms = append(ms, m)
	}
	if _, err := NewTable(ms); err != nil {
		return nil, fmt.Errorf("parse mapping: %w", err)
	}
	return ms, nil
}

// parseOne parses one mapping.
func parseOne(s string) (m Mapping, err error) {
	production, target, ok := strings.Cut(s, "-")
	if !ok {
		return m, fmt.Errorf("%q has no %q, %s", s, "-", shape)
	}
	if onlyDigits(production) {
		port, err := parsePort(production)
		if err != nil {
			return m, fmt.Errorf("production port %w in %q", err, s)
		}
		m.Production = netip.AddrPortFrom(netip.Addr{}, port)
	} else {
		if m.Production, err = parseAddrPort(production); err != nil {
			return m, fmt.Errorf("production %w in %q, %s", err, s, shape)
		}
		if m.Production.Addr().IsUnspecified() {
			m.Production = netip.AddrPortFrom(netip.Addr{}, m.Production.Port())
		}
	}
	for word := range strings.SplitSeq(target, "|") {
		t, err := parseTarget(strings.TrimSpace(word), s)
		switch {
		case err != nil:
			return m, err
		case t.Addr == m.Production:
			return m, fmt.Errorf("%q copies a server's traffic to itself, want another target", s)
		case slices.ContainsFunc(m.Targets, func(o Target) bool { return o.Addr == t.Addr }):
			return m, fmt.Errorf("target %v in %q occurs twice, want it once; "+
				"%v*2 gives it twice the part of another", t.Addr, s, t.Addr)
		case len(m.Targets) == maxTargets:
			return m, fmt.Errorf("target %v is one too many, want at most %d of a mapping",
				t.Addr, maxTargets)
		}
		m.Targets = append(m.Targets, t)
	}
	return m, nil
}

// parseTarget parses targetIP:targetPort[*weight] in the mapping s.
func parseTarget(word, s string) (t Target, err error) {
	addr, weight, weighted := strings.Cut(word, "*")
	if onlyDigits(addr) {
		return t, fmt.Errorf("target %q in %q has no address, want targetIP:targetPort, "+
			"such as 127.0.0.1:%s for this host", addr, s, addr)
	}
	if t.Addr, err = parseAddrPort(addr); err != nil {
		return t, fmt.Errorf("target %w in %q, %s", err, s, shape)
	}
	if t.Addr.Addr().IsUnspecified() {
		return t, fmt.Errorf("target %q in %q is not the address of a host, want the test server's",
			addr, s)
	}
	t.Weight = 1
	if weighted {
		n, err := strconv.Atoi(weight)
		if err != nil || n < 1 || n > maxWeight {
			return t, fmt.Errorf("weight %q of target %v in %q is not a weight, want 1 to %d",
				weight, t.Addr, s, maxWeight)
		}
		t.Weight = n
	}
	return t, nil
}

// onlyDigits reports whether s is a number.
func onlyDigits(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }

// parsePort parses a port. Its error starts with the quoted s.
func parsePort(s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("%q is not a port number, want 1 to 65535", s)
	}
	return uint16(n), nil
}

// parseAddrPort parses ADDRESS:PORT. Its error starts with the quoted s.
func parseAddrPort(s string) (ap netip.AddrPort, err error) {
	colon := strings.LastIndexByte(s, ':')
	if colon < 0 {
		return ap, fmt.Errorf("%q is not ADDRESS:PORT", s)
	}
	host, port := s[:colon], s[colon+1:]
	inner, bracketed := strings.CutPrefix(host, "[")
	if bracketed {
		if inner, bracketed = strings.CutSuffix(inner, "]"); !bracketed {
			return ap, fmt.Errorf("%q is not [ADDRESS]:PORT", s)
		}
	}
	if !bracketed && strings.Contains(host, ":") {
		return ap, fmt.Errorf("%q is an IPv6 address without brackets, or no address: "+
			"want [ADDRESS]:PORT", s)
	}
	a, err := netip.ParseAddr(inner)
	switch {
	case err != nil:
		return ap, fmt.Errorf("%q has no IPv4 or IPv6 address before the port "+
			"(names are not looked up)", s)
	case a.Zone() != "":
		return ap, fmt.Errorf("%q has a zone, which packets do not carry: "+
			"want an address without one", s)
	case bracketed && a.Is4():
		return ap, fmt.Errorf("%q has an IPv4 address in brackets, which are for IPv6", s)
	case a.Unmap().IsMulticast() || a.Unmap() == broadcast:
		return ap, fmt.Errorf("%q has a multicast or broadcast address: want one host's", s)
	}
	n, err := parsePort(port)
	if err != nil {
		return ap, fmt.Errorf("%q: port %w", s, err)
	}
	return netip.AddrPortFrom(a.Unmap(), n), nil
}

var broadcast = netip.AddrFrom4([4]byte{255, 255, 255, 255})

// Table finds the mapping of an address. It is immutable, so any goroutine may use it.
type Table struct {
	// entries are sorted by port. Among those of a port, the one that names no address is last.
	entries []entry
}

// entry is a production address and the index of its mapping.
type entry struct {
	production netip.AddrPort
	index      int
}

// NewTable returns a table of the mappings ms, whose Lookup returns indices of ms. It fails if two
// mappings have the same production address and port.
func NewTable(ms []Mapping) (*Table, error) {
	t := &Table{entries: make([]entry, len(ms))}
	for i, m := range ms {
		t.entries[i] = entry{m.Production, i}
	}
	slices.SortStableFunc(t.entries, func(a, b entry) int {
		// An invalid address, which compares less than any other, must come last.
		return cmp.Or(cmp.Compare(a.production.Port(), b.production.Port()),
			b.production.Addr().Compare(a.production.Addr()))
	})
	for i := 1; i < len(t.entries); i++ {
		a, b := t.entries[i-1], t.entries[i]
		if a.production != b.production {
			continue
		}
		if slices.Equal(ms[a.index].Targets, ms[b.index].Targets) {
			return nil, fmt.Errorf("%q occurs twice, want it once", ms[a.index])
		}
		return nil, fmt.Errorf("%q and %q are for the same traffic, want one mapping for it: "+
			"several targets go with | between them", ms[a.index], ms[b.index])
	}
	return t, nil
}

// Lookup returns the index of the mapping for the production address a: the destination of a
// client's packet, or the source of the server's. A mapping that names the address precedes one
// that names none; in the latter case the caller must know that a is the host's own. ok is false if
// there is no mapping.
func (t *Table) Lookup(a netip.AddrPort) (index int, ok bool) {
	lo, hi := 0, len(t.entries)
	for port := a.Port(); lo < hi; {
		mid := int(uint(lo+hi) >> 1)
		if t.entries[mid].production.Port() < port {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	for i := lo; i < len(t.entries); i++ {
		e := &t.entries[i]
		if e.production.Port() != a.Port() {
			break
		}
		if !e.production.Addr().IsValid() || e.production == a {
			return e.index, true
		}
	}
	return 0, false
}
