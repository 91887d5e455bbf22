package filter

import (
	"encoding/binary"
	"fmt"
	"net/netip"
)

// crafted is a packet to test filters with.
type crafted struct {
	name string
	b    []byte // from the IP header on
	meta Meta
	// plain is the packet without a hop-by-hop header, behind which tcpdump's programs do not look.
	plain []byte
}

// transport returns 24 bytes that start like a TCP, UDP or SCTP header.
func transport(sport, dport uint16) []byte {
	b := make([]byte, 24)
	binary.BigEndian.PutUint16(b, sport)
	binary.BigEndian.PutUint16(b[2:], dport)
	b[12] = 0x50
	return b
}

func ip4(src, dst string, proto uint8, frag uint16, options int, payload []byte) []byte {
	hl := 20 + 4*options
	b := make([]byte, hl, hl+len(payload))
	b[0] = 0x40 | byte(hl/4)
	binary.BigEndian.PutUint16(b[2:], uint16(hl+len(payload)))
	binary.BigEndian.PutUint16(b[6:], frag)
	b[8], b[9] = 64, proto
	copy(b[12:], netip.MustParseAddr(src).AsSlice())
	copy(b[16:], netip.MustParseAddr(dst).AsSlice())
	for i := 20; i < hl; i++ {
		b[i] = 1
	}
	return append(b, payload...)
}

func ip6(src, dst string, next uint8, payload []byte) []byte {
	b := make([]byte, 40, 40+len(payload))
	b[0] = 0x60
	binary.BigEndian.PutUint16(b[4:], uint16(len(payload)))
	b[6], b[7] = next, 64
	copy(b[8:], netip.MustParseAddr(src).AsSlice())
	copy(b[24:], netip.MustParseAddr(dst).AsSlice())
	return append(b, payload...)
}

// ext returns an IPv6 extension header of 8*(1+more) bytes, followed by payload.
func ext(next uint8, more int, payload []byte) []byte {
	b := make([]byte, 8*(1+more))
	b[0], b[1] = next, byte(more)
	return append(b, payload...)
}

var testAddrs4 = [][2]string{
	{"10.0.0.1", "10.0.0.2"}, {"10.0.0.2", "10.0.0.1"}, {"10.0.0.1", "10.0.0.1"},
	{"192.168.1.7", "10.1.2.3"}, {"172.16.0.1", "8.8.8.8"},
}

var testAddrs6 = [][2]string{
	{"fd00::1", "fd00::2"}, {"fd00::2", "fd00::1"}, {"fd00::1", "fd00::1"},
	{"2001:db8:1:2::7", "fd00::1"}, {"2001:db8::1", "fe80::2"},
}

var testPorts = [][2]uint16{{1234, 80}, {80, 1234}, {80, 80}, {81, 8080}, {443, 65535}, {0, 90}}

// craft returns packets of all the shapes that filters distinguish.
func craft() []crafted {
	var all []crafted
	add := func(name string, b, plain []byte) {
		if plain == nil {
			plain = b
		}
		all = append(all, crafted{name: name, b: b, plain: plain, meta: Meta{Len: len(b)}})
	}
	for _, proto := range []uint8{6, 17, 132, 1, 58, 47, 0} {
		for _, ports := range testPorts {
			t := transport(ports[0], ports[1])
			for i, ad := range testAddrs4 {
				name := fmt.Sprintf("ip4 %v proto %d ports %v", ad, proto, ports)
				add(name, ip4(ad[0], ad[1], proto, 0x4000, 0, t), nil)
				if i > 1 {
					continue
				}
				add(name+" options", ip4(ad[0], ad[1], proto, 0, 3, t), nil)
				add(name+" first fragment", ip4(ad[0], ad[1], proto, 0x2000, 0, t), nil)
				add(name+" later fragment", ip4(ad[0], ad[1], proto, 0x2005, 0, t), nil)
				add(name+" last fragment", ip4(ad[0], ad[1], proto, 5, 0, t), nil)
			}
			for i, ad := range testAddrs6 {
				name := fmt.Sprintf("ip6 %v next %d ports %v", ad, proto, ports)
				plain := ip6(ad[0], ad[1], proto, t)
				if proto == 0 {
					continue // 0 is the hop-by-hop header that is added below
				}
				add(name, plain, nil)
				if i > 1 {
					continue
				}
				add(name+" hop-by-hop", ip6(ad[0], ad[1], 0, ext(proto, 0, t)), plain)
				add(name+" long hop-by-hop", ip6(ad[0], ad[1], 0, ext(proto, 2, t)), plain)
				add(name+" fragment", ip6(ad[0], ad[1], 44, ext(proto, 0, t)), nil)
				add(name+" destination options", ip6(ad[0], ad[1], 60, ext(proto, 0, t)), nil)
			}
		}
	}
	return all
}

func mustAddr(s string) netip.Addr { return netip.MustParseAddr(s) }
