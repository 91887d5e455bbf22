package key

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Ports are the ports of a target that copiers may connect to.
type Ports struct {
	// Any is every port, but not a server that listens on loopback alone.
	Any  bool
	List []uint16
	// Loopback are ports whose server may be reached although it listens on loopback alone. Each
	// is in List, too.
	Loopback []uint16
}

const (
	anyPort        = "any"
	loopbackPrefix = "loopback:"
)

// errPorts reports a text that names no ports.
var errPorts = errors.New("wanted ports, 1 to 65535, with commas, " + loopbackPrefix +
	"PORT for a server that listens on loopback alone, or " + anyPort)

// ParsePorts parses words with commas: 8080, loopback:6379, any.
func ParsePorts(s string) (p Ports, err error) {
	for word := range strings.SplitSeq(s, ",") {
		word = strings.TrimSpace(word)
		if word == anyPort {
			p.Any = true
			continue
		}
		number, private := strings.CutPrefix(word, loopbackPrefix)
		n, err := strconv.ParseUint(number, 10, 16)
		if err != nil || n == 0 {
			return Ports{}, errPorts
		}
		p.add(uint16(n), private)
	}
	return p, nil
}

// Add adds the ports of q.
func (p *Ports) Add(q *Ports) {
	p.Any = p.Any || q.Any
	for _, port := range q.List {
		p.add(port, q.HasLoopback(port))
	}
}

func (p *Ports) add(port uint16, private bool) {
	if !slices.Contains(p.List, port) {
		p.List = append(p.List, port)
	}
	if private && !slices.Contains(p.Loopback, port) {
		p.Loopback = append(p.Loopback, port)
	}
}

// Empty reports whether no port is in p.
func (p *Ports) Empty() bool { return !p.Any && len(p.List) == 0 }

// Has reports whether a port is in p.
func (p *Ports) Has(port uint16) bool { return p.Any || slices.Contains(p.List, port) }

// HasLoopback reports whether a port's server may listen on loopback alone.
func (p *Ports) HasLoopback(port uint16) bool { return slices.Contains(p.Loopback, port) }

// String returns the ports in words: "ports 8080, 6379 (also on loopback alone)".
func (p *Ports) String() string {
	var words []string
	for _, n := range p.List {
		word := strconv.Itoa(int(n))
		if p.HasLoopback(n) {
			word += " (also on loopback alone)"
		}
		if !p.Any || p.HasLoopback(n) {
			words = append(words, word)
		}
	}
	list := strings.Join(words, ", ")
	switch {
	case p.Any && list == "":
		return "every port"
	case p.Any:
		return "every port, and " + list
	case len(words) == 1:
		return "port " + list
	}
	return "ports " + list
}

// Rights are what the holder of a key may do at an intercept. They narrow what the intercept
// itself allows.
type Rights struct {
	Ports   *Ports         // nil: those of the intercept
	Clients []netip.Prefix // that connections may come from; empty: those of the intercept
	Open    bool           // open connections on a target
	Read    bool           // read a target's answers on an assistant
}

// parseHolder parses a file of a key ring: the key's line, and lines that bound its rights.
func parseHolder(text string) (k Key, r Rights, err error) {
	r = Rights{Open: true, Read: true}
	have, may := false, false
	for number, line := range slices.Collect(strings.SplitSeq(text, "\n")) {
		line = strings.TrimSpace(line)
		word, rest, _ := strings.Cut(line, " ")
		rest = strings.TrimSpace(rest)
		switch {
		case line == "" || line[0] == '#':
		case strings.HasPrefix(line, "tcpcopy-key"):
			if have {
				return k, r, fmt.Errorf("line %d: a second key: wanted one a file", number+1)
			}
			if k, err = Parse(line); err != nil {
				return k, r, fmt.Errorf("line %d: %w", number+1, err)
			}
			have = true
		case word == "ports" && r.Ports == nil:
			p, err := ParsePorts(rest)
			if err == nil && len(p.Loopback) > 0 {
				err = errors.New(loopbackPrefix + "PORT is for the intercept's own --allow")
			}
			if err != nil {
				return k, r, fmt.Errorf("line %d: ports %q: %w", number+1, rest, err)
			}
			r.Ports = &p
		case word == "clients" && r.Clients == nil:
			if r.Clients, err = parseNetworks(rest); err != nil {
				return k, r, fmt.Errorf("line %d: clients %q: %w", number+1, rest, err)
			}
		case word == "may" && !may && (rest == "open" || rest == "read"):
			r.Open, r.Read, may = rest == "open", rest == "read", true
		default: // the line is not quoted: it may be most of a secret
			return k, r, fmt.Errorf("line %d: wanted a key as printed by tcpcopy keygen, or one "+
				"line each of ports PORTS, clients NETWORKS, may open, may read", number+1)
		}
	}
	if !have {
		return k, r, errors.New("no key in it: wanted a line as printed by tcpcopy keygen")
	}
	return k, r, nil
}

// parseNetworks parses networks and addresses with commas.
func parseNetworks(s string) (all []netip.Prefix, err error) {
	for word := range strings.SplitSeq(s, ",") {
		word = strings.TrimSpace(word)
		p, err := netip.ParsePrefix(word)
		if a, e := netip.ParseAddr(word); e == nil {
			p, err = netip.PrefixFrom(a, a.BitLen()), nil
		}
		if err != nil || p.Addr().Zone() != "" || p.Addr().Is4In6() {
			return nil, errors.New("wanted networks such as 10.0.0.0/8, with commas")
		}
		all = append(all, p.Masked())
	}
	return all, nil
}
