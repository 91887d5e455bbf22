package collect

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/doctor"
	"tcpcopy/internal/source"
)

// datagram returns an IPv4 packet with a UDP datagram to a port.
func datagram(port uint16, payload []byte) []byte {
	b := make([]byte, 28, 28+len(payload))
	b[0], b[9] = 0x45, 17
	binary.BigEndian.PutUint16(b[2:], uint16(28+len(payload)))
	binary.BigEndian.PutUint16(b[22:], port)
	binary.BigEndian.PutUint16(b[24:], uint16(8+len(payload)))
	return append(b, payload...)
}

// fragment returns a fragment of a datagram: its flags and offset are those given.
func fragment(b []byte, flags uint16) []byte {
	binary.BigEndian.PutUint16(b[6:], flags)
	return b
}

// vxlan returns an IP packet as VXLAN carries it.
func vxlan(network uint32, ip []byte) []byte {
	b := make([]byte, 8+14, 22+len(ip))
	b[0] = 8
	binary.BigEndian.PutUint32(b[4:], network<<8)
	binary.BigEndian.PutUint16(b[20:], 0x0800)
	return append(b, ip...)
}

func TestMirrored(t *testing.T) {
	request := func(server string) []byte {
		return packet.Append(nil, &packet.Segment{
			Src: netip.MustParseAddrPort("192.0.2.7:40000"), Dst: netip.MustParseAddrPort(server),
			Flags: packet.ACK | packet.PSH, Payload: make([]byte, 400), Len: 400,
		})
	}
	m := &mirrored{
		from: &From{Kind: "vxlan", Networks: []uint32{7},
			Listen: netip.AddrPortFrom(netip.Addr{}, 4789)},
		facts: &doctor.Facts{Mappings: []doctor.Mapping{{
			Production: netip.MustParseAddrPort("10.1.0.1:80"),
		}}},
		servers: map[netip.AddrPort]int{},
	}
	ours := request("10.1.0.1:80")
	for _, b := range [][]byte{
		datagram(4789, vxlan(7, ours)),
		datagram(4789, vxlan(7, ours[:300])),                   // cut by the mirror
		fragment(datagram(4789, vxlan(7, ours[:300])), 0x2000), // the rest is in another
		datagram(4789, vxlan(7, request("10.1.0.2:443"))),
		datagram(4789, vxlan(8, ours)),
		datagram(4789, []byte("no tunnel")),
		datagram(53, []byte("a question")),
		datagram(6081, []byte{0, 0, 0x65, 0x58, 0, 0, 7, 0, 1, 2, 3}), // with nothing in it
	} {
		f := &source.Frame{Data: b[:min(len(b), censusBytes)], Wire: len(b)}
		if !m.count(f) {
			t.Errorf("%d bytes are no datagram", len(b))
		}
	}
	rest := fragment(datagram(4789, ours), 300/8)
	for _, b := range [][]byte{nil, ours, {0x45}, make([]byte, 60), rest} {
		if m.count(&source.Frame{Data: b, Wire: len(b)}) {
			t.Errorf("%x is a datagram", b)
		}
	}
	m.end()
	want := doctor.Mirror{
		Listen: m.from.Listen, Packets: 6, Inner: 5, Ours: 3, OtherNetwork: 1, Network: 8, Cut: 1,
		Busiest: netip.MustParseAddrPort("10.1.0.2:443"), BusiestCount: 1,
	}
	if m.result != want {
		t.Errorf("counted\n%+v, want\n%+v", m.result, want)
	}
}
