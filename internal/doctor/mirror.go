package doctor

import (
	"fmt"
	"net/netip"
)

var mirrorCheck = Check{
	Code: "TC0110", Area: Capture,
	Title: "the mirror sends nothing of -x to this host",
	Roles: []Role{Copier},
	After: []string{"TC0101"},
	How: "It counts the UDP packets that come to the ports of mirrors (VXLAN, GENEVE), looks " +
		"into them, and compares them with -x and --vni.",
	Why: "Only what the mirror sends to the address and port of --from, of the virtual " +
		"networks of --vni, for the production addresses of -x, is copied.",
	Mend: "Have the mirror send to this host and port, or name the port, the network or the " +
		"production address that its packets have. In a cloud, let the port through the " +
		"security group of this host.",
	Judge: func(f *Facts) []Result {
		switch m := f.Mirror; {
		case f.From == "mirror":
			return []Result{unknown("", "what comes to a mirror port is not watched: "+
				"tcpdump -ni DEV tcp shows it")}
		case m == nil:
			return nil
		case f.noCensus() != "":
			return []Result{unknown("", "%s", f.noCensus())}
		default:
			return []Result{judgeMirror(f, m)}
		}
	},
}

func judgeMirror(f *Facts, m *Mirror) Result {
	at := fmt.Sprintf("in %s, %d packets came to port %d", span(f.Watched), m.Packets,
		m.Listen.Port())
	switch {
	case m.Packets == 0 && m.Elsewhere > 0:
		return found("", "%s, and %d of a mirror to port %d", at, m.Elsewhere, m.ElsewherePort).
			fix(CommandLine(withOption(f.Args, "", "from", mirrorAt(m.ElsewherePort))...))
	case m.Packets == 0:
		return unknown("", "%s: the mirror may have nothing to send (--watch 10s watches for "+
			"longer)", at)
	case m.Ours > 0:
		return ok("", "%s, %d of them of -x", at, m.Ours)
	case m.OtherNetwork > 0 && m.OtherNetwork == m.Inner:
		return found("", "%s, all of networks that --vni leaves out, as %d", at, m.Network).
			fix(CommandLine(withOption(f.Args, "", "vni", fmt.Sprint(m.Network))...))
	case m.Busiest.IsValid() && len(f.Mappings) > 0:
		return found("", "%s, 0 of them for %s, and %d for %s", at,
			f.Mappings[0].Production, m.BusiestCount, m.Busiest).
			fix(f.withProduction(&f.Mappings[0], m.Busiest))
	}
	return found("", "%s, and no TCP packet is in them", at)
}

// mirrorAt returns the source that listens on a port.
func mirrorAt(port uint16) string {
	const geneve = 6081
	if port == geneve {
		return fmt.Sprintf("geneve://:%d", port)
	}
	return fmt.Sprintf("vxlan://:%d", port)
}

var mirrorCutCheck = Check{
	Code: "TC0111", Area: Capture,
	Title: "the mirror cuts packets",
	Roles: []Role{Copier},
	After: []string{"TC0101", "TC0110"},
	How:   "It compares the length in the IP header of mirrored packets with what came of them.",
	Why: "What is cut off is missing at the copy: sessions with large requests end with " +
		"capture_gap.",
	Mend: "Take away the mirror's limit on the length of packets, and let the network between " +
		"carry full packets with 50 bytes more (VXLAN): raise its MTU, or lower production's.",
	Judge: func(f *Facts) []Result {
		switch m := f.Mirror; {
		case m == nil || f.noCensus() != "" || m.Inner == 0:
			return nil
		case m.Cut == 0:
			return []Result{ok("", "%d packets are whole", m.Inner)}
		default:
			return []Result{found("", "the end of %d of %d mirrored packets is missing", m.Cut,
				m.Inner)}
		}
	},
}

// isOf reports whether an address and port are the mapping's production side.
func (m *Mapping) isOf(a netip.AddrPort) bool {
	p := m.Production
	return p.Port() == a.Port() && (!p.Addr().IsValid() || p.Addr() == a.Addr())
}

// Maps reports whether an address and port are the production side of a mapping.
func (f *Facts) Maps(a netip.AddrPort) bool {
	for i := range f.Mappings {
		if f.Mappings[i].isOf(a) {
			return true
		}
	}
	return false
}
