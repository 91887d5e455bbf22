package filter

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// maxExprLen and maxDepth bound what Parse takes; no expression that makes a program the kernel accepts
// needs more.
const (
	maxExprLen = 16 << 10
	maxDepth   = 64
)

// known is what an error message offers.
const known = "host, net, port, portrange, proto, each after src, dst, src or dst, src and dst where that has a meaning; " +
	"tcp, udp, sctp, ip, ip6, icmp, icmp6, vlan; and, or, not, parentheses; IPv4 and IPv6 addresses, numbers"

// Parse reads a filter expression as pcap-filter(7) has it, of which it knows:
//
//	[ip|ip6] [DIR] host ADDRESS        [ip|ip6] [DIR] net ADDRESS/LENGTH, ADDRESS mask MASK, 10.1
//	[tcp|udp|sctp] [DIR] port N        [tcp|udp|sctp] [DIR] portrange N-M
//	[ip|ip6] proto N                   tcp, udp, sctp, icmp, icmp6, ip, ip6, vlan [ID]
//	and &&   or ||   not !   ( )       DIR: src, dst, src or dst, src and dst
//
// A term without qualifiers takes those of the term before it ("port 80 or 81"); and and or bind alike,
// from the left, as in pcap. An empty expression matches everything. What is not in this list is refused
// with an error that quotes the word: names of hosts and ports, and tests of bytes and lengths, too.
//
// Two things differ from tcpdump's: a packet with an IPv6 hop-by-hop header, as BIG TCP has, is looked at
// behind that header; and vlan tests the tag that the kernel took out of the packet.
func Parse(s string) (Expr, error) {
	if len(s) > maxExprLen {
		return nil, fmt.Errorf("parse filter: an expression of %d bytes, want at most %d", len(s), maxExprLen)
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

// lex cuts s into words and the signs ( ) ! / && ||.
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

// qualifiers are what stands before an address or number, and what the next one inherits.
type qualifiers struct {
	proto string // ip, ip6, tcp, udp, sctp or none
	dir   Dir
	kind  string // host, net, port, portrange, proto; none after src or dst alone: host
}

type parser struct {
	toks []string
	pos  int
}

// peek is the word that comes next, "" at the end.
func (p *parser) peek() string {
	if p.pos < len(p.toks) {
		return p.toks[p.pos]
	}
	return ""
}

func (p *parser) take(words ...string) bool {
	for _, w := range words {
		if p.peek() == w {
			p.pos++
			return true
		}
	}
	return false
}

var errDepth = fmt.Errorf("parentheses and nots nest deeper than %d", maxDepth)

// expr reads terms joined by and and or. inherited are the qualifiers for a first term that has none;
// idsOnly says that no term may have its own, since they stand before the parenthesis. It returns the
// qualifiers that a term after it inherits.
func (p *parser) expr(inherited *qualifiers, idsOnly bool, depth int) (Expr, *qualifiers, error) {
	left, q, err := p.term(inherited, idsOnly, depth)
	if err != nil {
		return nil, nil, err
	}
	for {
		var and bool
		switch {
		case p.take("and", "&&"):
			and = true
		case p.take("or", "||"):
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

// combine makes one flat list of "a or b or c".
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

func (p *parser) term(inherited *qualifiers, idsOnly bool, depth int) (Expr, *qualifiers, error) {
	if depth > maxDepth {
		return nil, nil, errDepth
	}
	if p.take("not", "!") {
		e, q, err := p.term(inherited, idsOnly, depth+1)
		if err != nil {
			return nil, nil, err
		}
		return Not{e}, q, nil
	}
	if p.take("(") {
		e, q, err := p.expr(inherited, idsOnly, depth+1)
		if err != nil {
			return nil, nil, err
		}
		if !p.take(")") {
			return nil, nil, p.unexpected(")")
		}
		if inherited == nil {
			q = nil // as in pcap: qualifiers do not leave parentheses that they were written in
		}
		return e, q, nil
	}
	if isKeyword(p.peek()) {
		if idsOnly {
			return nil, nil, p.unexpected("an address or number, for what stands before the parenthesis holds for all")
		}
		return p.qualified(depth)
	}
	// A word that cannot be what the inherited qualifiers ask for is better called unknown than wrong.
	w := p.peek()
	if inherited == nil || !idsOnly && w != "" && (w[0] < '0' || w[0] > '9') && !strings.Contains(w, ":") {
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

// direction reads src, dst, "src or dst", "src and dst" and the like.
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
		return fmt.Errorf("%q before %q has no meaning, want ip, ip6 or nothing; join the two with and", q.proto, name)
	case "port", "portrange":
		if q.proto == "" || protoNumber(q.proto) != 0 {
			return nil
		}
		return fmt.Errorf("%q before %q has no meaning, want tcp, udp, sctp or nothing; join the two with and", q.proto, name)
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

func (p *parser) unexpected(want string) error {
	w := p.peek()
	switch {
	case w == "":
		return fmt.Errorf("it ends where %s should follow", want)
	case isKeyword(w) || strings.ContainsAny(w, "()!/&|") || w == "and" || w == "or" || w == "not" || w == "mask":
		return fmt.Errorf("%q is not expected here, want %s", w, want)
	}
	return p.unknown()
}

// unknown says what to make of a word that stands where a term should.
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
	return fmt.Errorf("%q is not known; known are: %s", w, known)
}
