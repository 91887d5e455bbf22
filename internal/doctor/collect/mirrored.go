package collect

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/doctor"
	"tcpcopy/internal/source"
)

// mirrored counts what a mirror sends over UDP.
type mirrored struct {
	from    *From
	facts   *doctor.Facts
	result  doctor.Mirror
	servers map[netip.AddrPort]int // packets of servers that are no production address
}

// mostServers bounds how many servers are counted.
const mostServers = 1024

// overUDP reports whether packets come in a tunnel over UDP.
func (f *From) overUDP() bool { return f.Kind == "vxlan" || f.Kind == "geneve" }

// decoder returns what decodes an encapsulation.
func decoder(geneve bool) func([]byte, *packet.Inner) error {
	if geneve {
		return packet.DecodeGENEVE
	}
	return packet.DecodeVXLAN
}

// count counts a frame if it is a UDP packet, and reports whether it is.
func (m *mirrored) count(f *source.Frame) bool {
	datagram, more, ok := udp(f.Data)
	if !ok {
		return false
	}
	const udpHeader = 8
	port, b := binary.BigEndian.Uint16(datagram[2:]), datagram[udpHeader:]
	var in packet.Inner
	if port != m.from.Listen.Port() {
		if port == packet.PortVXLAN || port == packet.PortGENEVE {
			if decoder(port == packet.PortGENEVE)(b, &in) == nil {
				m.result.Elsewhere++
				m.result.ElsewherePort = port
			}
		}
		return true
	}
	m.result.Packets++
	if decoder(m.from.Kind == "geneve")(b, &in) != nil {
		return true
	}
	// What the capture here has cut came all the same, and so did what another fragment has.
	came := f.Wire - (len(f.Data) - len(in.Data))
	var seg packet.Segment
	if packet.Decode(in.Data, in.Wire, &seg) == nil {
		m.inner(&in, &seg, in.Wire > came && !more)
	}
	return true
}

func (m *mirrored) inner(in *packet.Inner, seg *packet.Segment, cut bool) {
	r := &m.result
	r.Inner++
	if cut {
		r.Cut++
	}
	if len(m.from.Networks) > 0 && !slices.Contains(m.from.Networks, in.Network) {
		r.OtherNetwork++
		r.Network = in.Network
		return
	}
	server := seg.Dst
	if seg.Src.Port() < seg.Dst.Port() { // clients' ports are the higher ones
		server = seg.Src
	}
	switch {
	case m.facts.Maps(seg.Dst) || m.facts.Maps(seg.Src):
		r.Ours++
	case len(m.servers) < mostServers || m.servers[server] > 0:
		m.servers[server]++
	}
}

// end takes the sum.
func (m *mirrored) end() {
	r := &m.result
	r.Listen = m.from.Listen
	for a, n := range m.servers {
		if n > r.BusiestCount || n == r.BusiestCount && a.Compare(r.Busiest) < 0 {
			r.Busiest, r.BusiestCount = a, n
		}
	}
}

// udp returns the UDP datagram in an IP packet, from its header on, and whether more of it is in
// other fragments.
func udp(b []byte) (datagram []byte, more, ok bool) {
	const protocol, v4Header, v6Header, udpHeader = 17, 20, 40, 8
	off := 0
	switch {
	case len(b) >= v4Header && b[0]>>4 == 4 && b[9] == protocol:
		const moreFragments, offset = 0x2000, 0x1fff
		flags := binary.BigEndian.Uint16(b[6:])
		if flags&offset != 0 {
			return nil, false, false // not the first fragment
		}
		more = flags&moreFragments != 0
		off = int(b[0]&15) * 4
	case len(b) >= v6Header && b[0]>>4 == 6 && b[6] == protocol:
		off = v6Header
	default:
		return nil, false, false
	}
	if off < v4Header || len(b) < off+udpHeader {
		return nil, false, false
	}
	return b[off:], more, true
}
