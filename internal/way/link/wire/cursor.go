package wire

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
	"unicode"
	"unicode/utf8"
)

// cursor reads fields from a body. Past its end it returns zeros and records that, so that a
// decoder checks once, at the end.
type cursor struct {
	b     []byte
	short bool
	bad   bool
}

// bytes returns the next n bytes, nil if there are fewer.
func (c *cursor) bytes(n int) []byte {
	if n > len(c.b) {
		c.short, c.b = true, nil
		return nil
	}
	v := c.b[:n]
	c.b = c.b[n:]
	return v
}

func (c *cursor) u8() uint8 {
	if v := c.bytes(1); v != nil {
		return v[0]
	}
	return 0
}

func (c *cursor) u16() uint16 {
	if v := c.bytes(2); v != nil {
		return binary.BigEndian.Uint16(v)
	}
	return 0
}

func (c *cursor) u32() uint32 {
	if v := c.bytes(4); v != nil {
		return binary.BigEndian.Uint32(v)
	}
	return 0
}

func (c *cursor) u64() uint64 {
	if v := c.bytes(8); v != nil {
		return binary.BigEndian.Uint64(v)
	}
	return 0
}

// text reads a string that follows its length in 8 bits.
func (c *cursor) text() string { return printable(c.bytes(int(c.u8()))) }

// longText reads a string that follows its length in 16 bits.
func (c *cursor) longText() string { return printable(c.bytes(int(c.u16()))) }

// printable returns the text of a peer, which is for people, with a question mark for each
// character that a terminal may not show as one: control characters, escapes, broken UTF-8.
func printable(b []byte) string {
	return strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, string(b))
}

// addr reads an address: 4 or 6, and its bytes.
func (c *cursor) addr() netip.Addr {
	switch family := c.u8(); {
	case c.short:
	case family == 4:
		if v := c.bytes(4); v != nil {
			return netip.AddrFrom4([4]byte(v))
		}
	case family == 6:
		if v := c.bytes(16); v != nil {
			return netip.AddrFrom16([16]byte(v)).Unmap()
		}
	default:
		c.bad, c.b = true, nil
	}
	return netip.Addr{}
}

func (c *cursor) addrPort() netip.AddrPort {
	a := c.addr()
	return netip.AddrPortFrom(a, c.u16())
}

func (c *cursor) prefix() netip.Prefix {
	a := c.addr()
	bits := int(c.u8())
	if a.IsValid() && bits > a.BitLen() {
		c.bad = true
		return netip.Prefix{}
	}
	return netip.PrefixFrom(a, bits)
}

// err returns what was wrong with a body of type t.
func (c *cursor) err(t Type) error {
	switch {
	case c.bad:
		return fmt.Errorf("%w in %v", ErrValue, t)
	case c.short:
		return fmt.Errorf("%w: %v", ErrShort, t)
	}
	return nil
}

func appendText(dst []byte, s string) []byte {
	s = s[:min(len(s), 255)]
	return append(append(dst, byte(len(s))), s...)
}

func appendLongText(dst []byte, s string) []byte {
	s = s[:min(len(s), 4096)]
	return append(binary.BigEndian.AppendUint16(dst, uint16(len(s))), s...)
}

// appendAddr appends an address. An IPv4-mapped IPv6 address is appended as IPv4.
func appendAddr(dst []byte, a netip.Addr) []byte {
	if a = a.Unmap(); a.Is4() {
		v := a.As4()
		return append(append(dst, 4), v[:]...)
	}
	v := a.As16()
	return append(append(dst, 6), v[:]...)
}

func appendAddrPort(dst []byte, a netip.AddrPort) []byte {
	return binary.BigEndian.AppendUint16(appendAddr(dst, a.Addr()), a.Port())
}

func appendPrefix(dst []byte, p netip.Prefix) []byte {
	return append(appendAddr(dst, p.Addr()), byte(p.Bits()))
}
