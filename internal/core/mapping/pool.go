package mapping

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"net/netip"
	"slices"
	"strings"
)

// maxPerPrefix bounds how many of a prefix's addresses are used: the first ones. That is all of a
// 10.0.0.0/8, and of an IPv6 subnet more than there are connections.
const (
	maxPerBits   = 24
	maxPerPrefix = 1 << maxPerBits
)

// maxPrefixes is how many parts a pool may have. Their addresses can be counted in 31 bits.
const maxPrefixes = 64

// Pool is a set of addresses that replace clients'. It is stored as prefixes. The zero value is
// empty. A Pool is immutable.
type Pool struct {
	parts []poolPart
	total int
}

// poolPart is a prefix of a Pool.
type poolPart struct {
	prefix netip.Prefix
	skip   int // how many addresses at the start are not for hosts
	n      int // how many addresses follow these
}

// ParsePool parses addresses, prefixes (10.1.0.0/16, fd00::/64) and TCPCopy's a.b.c.x, which means
// a.b.c.0/24, separated by commas. It leaves out the network's and the broadcast address of an IPv4
// prefix and the first address of an IPv6 prefix, unless the prefix has only one or two addresses.
// It returns an error that quotes addresses that no client can have (loopback, multicast,
// unspecified) or parts that overlap.
func ParsePool(s string) (Pool, error) {
	var p Pool
	for word := range strings.SplitSeq(s, ",") {
		word = strings.TrimSpace(word)
		prefix, err := parsePrefix(word)
		if err == nil {
			err = p.add(prefix, word)
		}
		if err != nil {
			return Pool{}, fmt.Errorf("parse client addresses: %w", err)
		}
	}
	return p, nil
}

// ParseHosts parses one prefix of any addresses, and leaves out of it what ParsePool does.
func ParseHosts(s string) (Pool, error) {
	prefix, err := netip.ParsePrefix(s)
	if err != nil || prefix.Masked() != prefix {
		return Pool{}, fmt.Errorf("parse addresses: %q is not a prefix, "+
			"want such as 10.1.0.0/16 or fd00::/64", s)
	}
	var p Pool
	err = p.add(prefix, s)
	return p, err
}

// parsePrefix parses one part of a pool.
func parsePrefix(word string) (netip.Prefix, error) {
	text := word
	if head, ok := strings.CutSuffix(word, ".x"); ok {
		text = head + ".0/24"
	}
	var (
		prefix netip.Prefix
		err    error
	)
	if strings.Contains(text, "/") {
		prefix, err = netip.ParsePrefix(text)
	} else {
		var a netip.Addr
		if a, err = netip.ParseAddr(text); err == nil && a.Zone() != "" {
			err = errors.New("zone")
		}
		prefix = netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen())
	}
	switch {
	case err != nil || prefix.Addr().Is4In6():
		return prefix, fmt.Errorf("%q is neither an address nor a prefix, "+
			"want such as 10.1.2.x, 10.1.2.3, 10.1.0.0/16 or fd00::/64", word)
	case prefix.Masked() != prefix:
		return prefix, fmt.Errorf("%q has bits set beyond its prefix, want %v",
			word, prefix.Masked())
	}
	for _, no := range notClients {
		if prefix.Overlaps(no.prefix) {
			return prefix, fmt.Errorf("%q contains %s addresses (%v), which no client can have",
				word, no.name, no.prefix)
		}
	}
	return prefix, nil
}

// notClients are the addresses that no client can have.
var notClients = []struct {
	prefix netip.Prefix
	name   string
}{
	{netip.MustParsePrefix("0.0.0.0/8"), "unspecified"},
	{netip.MustParsePrefix("127.0.0.0/8"), "loopback"},
	{netip.MustParsePrefix("224.0.0.0/4"), "multicast"},
	{netip.MustParsePrefix("255.255.255.255/32"), "broadcast"},
	{netip.MustParsePrefix("::/128"), "unspecified"},
	{netip.MustParsePrefix("::1/128"), "loopback"},
	{netip.MustParsePrefix("::ffff:0:0/96"), "IPv4-mapped"},
	{netip.MustParsePrefix("ff00::/8"), "multicast"},
}

// add adds a prefix, which was written as word.
func (p *Pool) add(prefix netip.Prefix, word string) error {
	for _, other := range p.parts {
		if other.prefix.Overlaps(prefix) {
			return fmt.Errorf("%q overlaps %v, want each address once", word, other)
		}
	}
	if len(p.parts) == maxPrefixes {
		return fmt.Errorf("%q is one too many, want at most %d addresses and prefixes",
			word, maxPrefixes)
	}
	part := poolPart{prefix: prefix, n: maxPerPrefix}
	if free := prefix.Addr().BitLen() - prefix.Bits(); free < maxPerBits {
		part.n = 1 << free
	}
	if part.n > 2 {
		part.skip = 1
		part.n--
		if prefix.Addr().Is4() {
			part.n--
		}
	}
	p.parts = append(p.parts, part)
	p.total += part.n
	return nil
}

func (p poolPart) String() string {
	if p.prefix.IsSingleIP() {
		return p.prefix.Addr().String()
	}
	return p.prefix.String()
}

// String returns the pool as ParsePool reads it.
func (p Pool) String() string {
	words := make([]string, len(p.parts))
	for i, part := range p.parts {
		words[i] = part.String()
	}
	return strings.Join(words, ",")
}

// Len returns how many addresses the pool has.
func (p Pool) Len() int { return p.total }

// At returns the i-th address, 0 being the first. It returns the zero Addr unless 0 ≤ i < Len.
func (p Pool) At(i int) netip.Addr {
	if i < 0 {
		return netip.Addr{}
	}
	for k := range p.parts {
		part := &p.parts[k]
		if i < part.n {
			return plus(part.prefix.Addr(), uint64(part.skip+i))
		}
		i -= part.n
	}
	return netip.Addr{}
}

// plus returns the address n after a. It must lie in the same prefix, so that there is no carry
// from the low 64 bits.
func plus(a netip.Addr, n uint64) netip.Addr {
	if a.Is4() {
		b := a.As4()
		binary.BigEndian.PutUint32(b[:], binary.BigEndian.Uint32(b[:])+uint32(n))
		return netip.AddrFrom4(b)
	}
	b := a.As16()
	binary.BigEndian.PutUint64(b[8:], binary.BigEndian.Uint64(b[8:])+n)
	return netip.AddrFrom16(b)
}

// Addrs yields every address in the order of At. There may be very many; the caller should stop.
func (p Pool) Addrs() iter.Seq[netip.Addr] {
	return func(yield func(netip.Addr) bool) {
		for _, part := range p.parts {
			for i := range part.n {
				if !yield(plus(part.prefix.Addr(), uint64(part.skip+i))) {
					return
				}
			}
		}
	}
}

// Contains reports whether a lies in one of the pool's prefixes. It may be an address that is left
// out.
func (p Pool) Contains(a netip.Addr) bool {
	return slices.ContainsFunc(p.parts, func(part poolPart) bool { return part.prefix.Contains(a) })
}

// Prefixes returns the prefixes that the pool was made of.
func (p Pool) Prefixes() []netip.Prefix {
	out := make([]netip.Prefix, len(p.parts))
	for i, part := range p.parts {
		out[i] = part.prefix
	}
	return out
}

// Like returns the part of the pool with addresses of a's family, which may be empty. An IPv4
// address cannot replace that of a client that connects over IPv6.
func (p Pool) Like(a netip.Addr) Pool {
	var out Pool
	for _, part := range p.parts {
		if part.prefix.Addr().Is4() == a.Is4() {
			out.parts = append(out.parts, part)
			out.total += part.n
		}
	}
	return out
}
