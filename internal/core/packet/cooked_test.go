package packet

import (
	"bytes"
	"errors"
	"testing"
)

func TestDecodeLink(t *testing.T) {
	ip := []byte{0x45, 0, 0, 24, 0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 1, 2, 3, 4}
	with := func(head ...byte) []byte { return append(head, ip...) }
	ether := make([]byte, 12)
	for _, c := range []struct {
		name string
		link uint16
		b    []byte
		err  error
		vlan uint16
	}{
		{"raw", linkRaw, ip, nil, 0},
		{"raw, OpenBSD's number", linkRawBSD, ip, nil, 0},
		{"IPv4", linkIPv4, ip, nil, 0},
		{"loopback", linkLoop, with(0, 0, 0, 2), nil, 0},
		{"loopback, little-endian", linkNull, with(2, 0, 0, 0), nil, 0},
		{"Ethernet", linkEthernet, append(bytes.Clone(ether), with(8, 0)...), nil, 0},
		{"802.1Q", linkEthernet, append(bytes.Clone(ether), with(0x81, 0, 0, 7, 8, 0)...), nil, 7},
		{"QinQ", linkEthernet, append(bytes.Clone(ether),
			with(0x88, 0xa8, 0, 9, 0x81, 0, 0, 7, 8, 0)...), nil, 9},
		{"cooked", linkSLL, with(0, 0, 0, 1, 0, 6, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0), nil, 0},
		{"cooked, tagged", linkSLL, with(0, 0, 0, 1, 0, 6, 0, 0, 0, 0, 0, 0, 0, 0, 0x81, 0, 0, 7, 8,
			0), nil, 7},
		{"cooked 2", linkSLL2, with(8, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0, 6, 0, 0, 0, 0, 0, 0, 0, 0),
			nil, 0},

		{"ARP", linkEthernet, append(bytes.Clone(ether), with(8, 6)...), ErrNotIP, 0},
		{"cooked ARP", linkSLL, with(0, 0, 0, 1, 0, 6, 0, 0, 0, 0, 0, 0, 0, 0, 8, 6), ErrNotIP, 0},
		{"an unknown link type", 147, ip, ErrNotIP, 0},
		{"neither IPv4 nor IPv6", linkRaw, []byte{0x15, 0, 0}, ErrNotIP, 0},
		{"too short for loopback", linkLoop, []byte{0, 0, 0}, ErrMalformed, 0},
		{"too short for cooked", linkSLL, make([]byte, 15), ErrMalformed, 0},
		{"too short for cooked 2", linkSLL2, make([]byte, 19), ErrMalformed, 0},
		{"too short for Ethernet", linkEthernet, make([]byte, 13), ErrMalformed, 0},
		{"nothing", linkRaw, nil, ErrMalformed, 0},
	} {
		var in Inner
		err := DecodeLink(c.link, c.b, &in)
		if !errors.Is(err, c.err) || err != nil && c.err == nil {
			t.Errorf("%s: %v, wanted %v", c.name, err, c.err)
		}
		if err == nil && (!bytes.Equal(in.Data, ip) || in.VLAN != c.vlan) {
			t.Errorf("%s: % x in VLAN %d, wanted % x in %d", c.name, in.Data, in.VLAN, ip, c.vlan)
		}
	}
}

func FuzzDecodeLink(f *testing.F) {
	f.Add(uint16(linkSLL2), []byte{0x81, 0, 0, 7, 8, 0, 0x45})
	f.Fuzz(func(t *testing.T, link uint16, b []byte) {
		var in Inner
		if DecodeLink(link, b, &in) == nil && (len(in.Data) == 0 || in.Wire < len(in.Data) ||
			len(in.Data) > len(b)) {
			t.Fatalf("%d bytes, %d on the wire, of %d", len(in.Data), in.Wire, len(b))
		}
	})
}
