package doctor

import (
	"net/netip"
)

var tlsCheck = Check{
	Code: "TC0107", Area: Capture,
	Title: "the clients speak TLS",
	Roles: []Role{Copier},
	After: []string{"TC0101"},
	How:   "It looks at the first bytes of the clients' payload.",
	Why: "Each TLS connection has a key of its own, so that a copy of its bytes means " +
		"nothing to the target. Such sessions are dropped, with the reason tls.",
	Mend: "Copy behind what ends TLS: the port to which a load balancer or a proxy passes " +
		"on, on its host or on the server's.",
	Judge: func(f *Facts) (all []Result) {
		if f.Remote || f.noCensus() != "" {
			return nil
		}
		for i := range f.Mappings {
			m := &f.Mappings[i]
			w := f.Census.to(m, f.CaptureOn)
			switch {
			case w.TLS+w.Plain == 0:
			case w.Plain > 0:
				all = append(all, ok(m.Text, "%d of %d packets with payload are not TLS", w.Plain,
					w.TLS+w.Plain))
			default:
				r := found(m.Text, "all %d packets with payload are TLS", w.TLS)
				if p, n := f.plainPort(); n > 0 {
					r = found(m.Text, "all %d packets with payload are TLS; to port %d, %d are not",
						w.TLS, p, n).
						fix(f.withProduction(m, netip.AddrPortFrom(netip.Addr{}, p)))
				}
				all = append(all, r)
			}
		}
		return all
	},
}

// plainPort returns a port of a server on this host to which clients over loopback send what is not
// TLS, perhaps the proxy that ends TLS.
func (f *Facts) plainPort() (port uint16, packets int) {
	for _, w := range f.Census.Flows {
		if !w.FromServer && !w.Outgoing && w.Loopback && w.TLS == 0 && w.Plain > packets {
			port, packets = w.Server.Port(), w.Plain
		}
	}
	return port, packets
}
