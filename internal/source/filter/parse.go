package filter

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// maxExprLen and maxDepth bound what Parse accepts. An expression that needs more makes a program
// that the kernel refuses.
const (
	maxExprLen = 16 << 10
	maxDepth   = 64
)

// known lists what Parse accepts, for error messages.
const known = "host, net, port, portrange and proto, after src, dst, src or dst, " +
	"src and dst where that has a meaning; tcp, udp, sctp, ip, ip6, icmp, icmp6, vlan; " +
	"and, or, not, parentheses; IPv4 and IPv6 addresses, numbers"

// Parse parses a filter expression in the syntax of pcap-filter(7), of which it accepts:
//
//	[ip|ip6] [DIR] host ADDRESS        [ip|ip6] [DIR] net ADDRESS/LENGTH, ADDRESS mask MASK, 10.1
//	[tcp|udp|sctp] [DIR] port N        [tcp|udp|sctp] [DIR] portrange N-M
//	[ip|ip6] proto N                   tcp, udp, sctp, icmp, icmp6, ip, ip6, vlan [ID]
//	and &&   or ||   not !   ( )       DIR: src, dst, src or dst, src and dst
//
// A term without qualifiers takes those of the term before it ("port 80 or 81"). As in pcap, "and"
// and "or" have the same precedence and associate to the left. An empty expression
// matches everything. Anything else is refused with an error that quotes the word: names of hosts
// and ports, and tests of bytes and lengths, too.
//
// Two things differ from tcpdump. Parse's filters look behind an IPv6 hop-by-hop header, which BIG
// TCP has. And vlan tests the tag that the kernel has removed from the packet.
func Parse(s string) (Expr, error) {
	if len(s) > maxExprLen {
		return nil, fmt.Errorf("parse filter: the expression has %d bytes, want at most %d", len(s),
			maxExprLen)
	}
	p := parser{toks: lex(s)}
	if len(p.toks) == 0 {
		return And{}, nil
	}
	e, _, err := p.expr(nil, false, 0)
	if err == nil && p.peek() != "" {
		err = p.unexpected("and, or, or the end")
	}
	if err != nil {
		return nil, fmt.Errorf("parse filter: %w", err)
	}
	return e, nil
}

// lex splits s into words and the signs ( ) ! / && ||.
func lex(s string) []string {
	var toks []string
	for s != "" {
		switch {
		case strings.ContainsRune(" \t\r\n", rune(s[0])):
			s = s[1:]
			continue
		case strings.HasPrefix(s, "&&"), strings.HasPrefix(s, "||"):
			toks, s = append(toks, s[:2]), s[2:]
			continue
		}
		n := strings.IndexAny(s, " \t\r\n()!/&|")
		switch n {
		case -1:
			n = len(s)
		case 0:
			n = 1
		}
		toks, s = append(toks, s[:n]), s[n:]
	}
	return toks
}

// qualifiers are the words before an address or number. The next term inherits them.
type qualifiers struct {
	proto string // ip, ip6, tcp, udp, sctp or empty
	dir   Dir
	kind  string // host, net, port, portrange or proto; empty after src or dst alone means host
}

type parser struct {
	toks []string
	pos  int
}

// peek returns the next word, or "" at the end.
func (p *parser) peek() string {
	if p.pos < len(p.toks) {
		return p.toks[p.pos]
	}
	return ""
}

// accept skips the next word if it is one of words, and reports whether it did.
func (p *parser) accept(words ...string) bool {
	for _, w := range words {
		if p.peek() == w {
			p.pos++
			return true
		}
	}
	return false
}

var errDepth = fmt.Errorf("parentheses and not nest deeper than %d", maxDepth)

// expr reads terms joined by and and or. inherited are the qualifiers of a first term that has
// none. With idsOnly, no term may have its own qualifiers, because they stand before the
// parenthesis. expr returns the qualifiers that the following term inherits.
func (p *parser) expr(inherited *qualifiers, idsOnly bool, depth int) (Expr, *qualifiers, error) {
	left, q, err := p.term(inherited, idsOnly, depth)
	if err != nil {
		return nil, nil, err
	}
	for {
		var and bool
		switch {
		case p.accept("and", "&&"):
			and = true
		case p.accept("or", "||"):
		default:
			return left, q, nil
		}
		var right Expr
		right, q, err = p.term(q, idsOnly, depth)
		if err != nil {
			return nil, nil, err
		}
		left = combine(left, right, and)
	}
}

// combine joins two expressions. It keeps "a or b or c" one flat list.
func combine(left, right Expr, and bool) Expr {
	if and {
		if l, ok := left.(And); ok && len(l) > 0 {
			return append(l, right)
		}
		return And{left, right}
	}
	if l, ok := left.(Or); ok && len(l) > 0 {
		return append(l, right)
	}
	return Or{left, right}
}

// term reads one term, perhaps with not or in parentheses.
func (p *parser) term(inherited *qualifiers, idsOnly bool, depth int) (Expr, *qualifiers, error) {
	if depth > maxDepth {
		return nil, nil, errDepth
	}
	if p.accept("not", "!") {
		e, q, err := p.term(inherited, idsOnly, depth+1)
		if err != nil {
			return nil, nil, err
		}
		return Not{e}, q, nil
	}
	if p.accept("(") {
		e, q, err := p.expr(inherited, idsOnly, depth+1)
		if err != nil {
			return nil, nil, err
		}
		if !p.accept(")") {
			return nil, nil, p.unexpected(")")
		}
		if inherited == nil {
			q = nil // as in pcap: qualifiers inside parentheses do not apply behind them
		}
		return e, q, nil
	}
	if isKeyword(p.peek()) {
		if idsOnly {
			return nil, nil, p.unexpected("an address or number: the words before the " +
				"parenthesis apply to all of them")
		}
		return p.qualified(depth)
	}
	// A word that cannot be an operand of the inherited qualifiers is unknown rather than wrong.
	w := p.peek()
	if inherited == nil || !idsOnly && w != "" && (w[0] < '0' || w[0] > '9') &&
		!strings.Contains(w, ":") {
		return nil, nil, p.unknown()
	}
	e, err := p.operand(*inherited)
	return e, inherited, err
}

func isKeyword(w string) bool {
	switch w {
	case "ip", "ip6", "tcp", "udp", "sctp", "icmp", "icmp6", "vlan",
		"src", "dst", "host", "net", "port", "portrange", "proto":
		return true
	}
	return false
}

// qualified reads a term that starts with a keyword.
func (p *parser) qualified(depth int) (Expr, *qualifiers, error) {
	var q qualifiers
	switch first := p.peek(); first {
	case "vlan":
		p.pos++
		e, err := p.vlan()
		return e, nil, err
	case "ip", "ip6", "tcp", "udp", "sctp", "icmp", "icmp6":
		p.pos++
		q.proto = first
	}
	hasDir := p.direction(&q)
	switch w := p.peek(); w {
	case "host", "net", "port", "portrange", "proto":
		q.kind = w
		p.pos++
	}
	if !hasDir && q.kind == "" {
		return protoAlone(q.proto), nil, nil
	}
	if err := q.check(); err != nil {
		return nil, nil, err
	}
	switch p.peek() {
	case "(", "not", "!":
		e, _, err := p.term(&q, true, depth+1)
		return e, &q, err
	}
	e, err := p.operand(q)
	return e, &q, err
}

// direction reads src, dst, "src or dst", "src and dst" and the like. It reports whether there was
// one.
func (p *parser) direction(q *qualifiers) bool {
	w := p.peek()
	if w != "src" && w != "dst" {
		return false
	}
	p.pos++
	q.dir = Src
	other := "dst"
	if w == "dst" {
		q.dir, other = Dst, "src"
	}
	if p.pos+1 < len(p.toks) && p.toks[p.pos+1] == other {
		switch p.peek() {
		case "or", "||":
			q.dir = SrcOrDst
			p.pos += 2
		case "and", "&&":
			q.dir = SrcAndDst
			p.pos += 2
		}
	}
	return true
}

// protoAlone returns the expression for a protocol's name without a direction or kind.
func protoAlone(name string) Expr {
	switch name {
	case "ip":
		return IP{4}
	case "ip6":
		return IP{6}
	case "icmp":
		return Proto{4, protoICMP}
	case "icmp6":
		return Proto{6, protoICMPv6}
	}
	return Proto{0, protoNumber(name)}
}

// protoNumber returns the protocol number of tcp, udp or sctp, and 0 for other names.
func protoNumber(name string) uint8 {
	switch name {
	case "tcp":
		return protoTCP
	case "udp":
		return protoUDP
	case "sctp":
		return protoSCTP
	}
	return 0
}

// check refuses qualifiers that do not go together, as pcap does.
func (q *qualifiers) check() error {
	name := q.kind
	if name == "" {
		name = "host"
	}
	switch name {
	case "host", "net":
		switch q.proto {
		case "", "ip", "ip6":
			return nil
		}
		return fmt.Errorf("%q before %q has no meaning, want ip, ip6 or nothing; join the two "+
			"with and", q.proto, name)
	case "port", "portrange":
		if q.proto == "" || protoNumber(q.proto) != 0 {
			return nil
		}
		return fmt.Errorf("%q before %q has no meaning, want tcp, udp, sctp or nothing; join the "+
			"two with and", q.proto, name)
	}
	if q.dir != SrcOrDst {
		return errors.New(`"src" or "dst" before "proto" has no meaning`)
	}
	switch q.proto {
	case "", "ip", "ip6":
		return nil
	}
	return fmt.Errorf("%q before \"proto\" has no meaning, want ip, ip6 or nothing", q.proto)
}

// vlan reads the ID after vlan, if there is one.
func (p *parser) vlan() (Expr, error) {
	w := p.peek()
	if w == "" || w[0] < '0' || w[0] > '9' {
		return VLAN{Any: true}, nil
	}
	n, err := number(w, 4095, "a VLAN ID")
	if err != nil {
		return nil, err
	}
	p.pos++
	return VLAN{ID: uint16(n)}, nil
}

// unexpected returns the error for a word where want should follow.
func (p *parser) unexpected(want string) error {
	w := p.peek()
	switch {
	case w == "":
		return fmt.Errorf("it ends where %s should follow", want)
	case isKeyword(w) || strings.ContainsAny(w, "()!/&|") || w == "and" || w == "or" ||
		w == "not" || w == "mask":
		return fmt.Errorf("%q is not expected here, want %s", w, want)
	}
	return p.unknown()
}

// unknown returns the error for a word where a term should follow.
func (p *parser) unknown() error {
	w := p.peek()
	if w == "" {
		return errors.New("it ends where a term should follow")
	}
	if strings.ContainsAny(w, "()!/&|") || w == "and" || w == "or" {
		return fmt.Errorf("%q is not expected here, want a term such as port 80", w)
	}
	if _, err := strconv.ParseUint(w, 10, 64); err == nil {
		return fmt.Errorf("%q stands alone, want a word before it, such as port %s", w, w)
	}
	if _, err := netip.ParseAddr(w); err == nil {
		return fmt.Errorf("%q stands alone, want a word before it, such as host %s", w, w)
	}
	return fmt.Errorf("%q is not supported; supported are: %s", w, known)
}
