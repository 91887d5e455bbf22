package filter

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// operand reads the address or number after the qualifiers q.
func (p *parser) operand(q qualifiers) (Expr, error) {
	w := p.peek()
	if w == "" || strings.ContainsAny(w, "()!/&|") || isKeyword(w) || w == "and" || w == "or" ||
		w == "not" {
		return nil, p.unexpected("an address or number")
	}
	p.pos++
	switch q.kind {
	case "", "host", "net":
		return p.address(w, q)
	case "proto":
		n, err := number(w, 255, "a protocol number")
		if err != nil {
			return nil, err
		}
		return Proto{map[string]Family{"ip": 4, "ip6": 6}[q.proto], uint8(n)}, nil
	}
	e := Ports{Dir: q.dir, Proto: protoNumber(q.proto)}
	lo, hi, ranged := w, w, false
	if q.kind == "portrange" {
		if lo, hi, ranged = strings.Cut(w, "-"); !ranged {
			hi = lo
		}
	}
	first, err := number(lo, 65535, "a port number")
	if err != nil {
		return nil, err
	}
	last, err := number(hi, 65535, "a port number")
	if err != nil {
		return nil, err
	}
	e.First, e.Last = uint16(min(first, last)), uint16(max(first, last)) // pcap swaps them, too
	return e, nil
}

// address reads what follows the address w: a prefix length, a mask, or neither.
func (p *parser) address(w string, q qualifiers) (Expr, error) {
	addr, octets, err := parseAddr(w, q.kind)
	if err != nil {
		return nil, err
	}
	if v := addr.BitLen(); q.proto == "ip" && v != 32 || q.proto == "ip6" && v != 128 {
		return nil, fmt.Errorf("%q before the address %q, which is of the other IP version",
			q.proto, w)
	}
	bits := addr.BitLen()
	if addr.Is4() {
		bits = 8 * octets
	}
	switch masked := q.kind == "net"; {
	case p.peek() == "/" && !masked, p.peek() == "mask" && !masked:
		return nil, fmt.Errorf("%q after %q: want net before an address with a mask", p.peek(), w)
	case p.accept("/"):
		n, err := number(p.peek(), uint64(addr.BitLen()), "a prefix length")
		if err != nil {
			return nil, err
		}
		w += "/" + p.peek()
		p.pos++
		bits = int(n)
	case p.accept("mask"):
		m, err := netip.ParseAddr(p.peek())
		if err != nil || !m.Is4() || !addr.Is4() {
			return nil, fmt.Errorf("mask %q for the net %q: want an IPv4 mask such as "+
				"255.255.0.0, or /LENGTH", p.peek(), w)
		}
		p.pos++
		return masked4(q.dir, w, addr, m)
	}
	mask := netip.PrefixFrom(allOnes(addr), bits).Masked().Addr()
	if netip.PrefixFrom(addr, bits).Masked().Addr() != addr {
		return nil, fmt.Errorf("net %q has bits set outside of its mask, want %v", w,
			netip.PrefixFrom(addr, bits).Masked())
	}
	return Net{q.dir, addr, mask}, nil
}

// masked4 returns the net of an IPv4 address and mask.
func masked4(dir Dir, w string, addr, mask netip.Addr) (Expr, error) {
	a, m := addr.As4(), mask.As4()
	for i := range a {
		if a[i]&^m[i] != 0 {
			return nil, fmt.Errorf("net %q has bits set outside of its mask %v", w, mask)
		}
	}
	return Net{dir, addr, mask}, nil
}

// allOnes returns the address of the same family with all bits set.
func allOnes(like netip.Addr) netip.Addr {
	b := like.AsSlice()
	for i := range b {
		b[i] = 0xff
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// parseAddr parses an address. After net, one to three octets of an IPv4 address are enough.
func parseAddr(w, kind string) (addr netip.Addr, octets int, err error) {
	full := w
	octets = 4
	if kind == "net" && !strings.Contains(w, ":") {
		if octets = strings.Count(w, ".") + 1; octets < 4 {
			full += strings.Repeat(".0", 4-octets)
		}
	}
	addr, err = netip.ParseAddr(full)
	if err != nil || addr.Zone() != "" {
		return addr, 0,
			fmt.Errorf("%q is not an address, want IPv4 or IPv6; names are not looked up", w)
	}
	return addr, octets, nil
}

// number parses a decimal number of at most limit. what names it in the error.
func number(w string, limit uint64, what string) (uint64, error) {
	n, err := strconv.ParseUint(w, 10, 64)
	if err != nil || n > limit || len(w) > 1 && w[0] == '0' {
		return 0, fmt.Errorf("%q is not %s, want 0 to %d in decimal", w, what, limit)
	}
	return n, nil
}
