package doctor

import (
	"fmt"
	"net/netip"
	"slices"
	"time"
)

var trafficCheck = Check{
	Code: "TC0105", Area: Capture,
	Title: "no client connects to the address and port of -x",
	Roles: []Role{Copier},
	After: []string{"TC0101", "TC0102"},
	How: "It counts the packets that come in, by address and port, and compares them with " +
		"-x and with the sockets that listen. A SYN that goes to one address and then to " +
		"another shows a translation on this host.",
	Why: "-x names the address and port that clients connect to as this host sees them: " +
		"behind a translation or a load balancer that is the address and port after it. Where " +
		"this host translates, as for a container, it is the port before it, or the container's " +
		"own address and port.",
	Mend: "Name the port, and if any the address, that the packets have on this host.",
	Judge: func(f *Facts) (all []Result) {
		if f.Remote {
			return nil
		}
		if why := f.noCensus(); why != "" {
			return []Result{unknown("", "%s", why)}
		}
		for i := range f.Mappings {
			all = append(all, judgeTraffic(f, &f.Mappings[i]))
		}
		return all
	},
}

func judgeTraffic(f *Facts, m *Mapping) Result {
	if w := f.Census.to(m, nil); w.Packets > 0 {
		return ok(m.Text, "%d packets in %s", w.Packets, span(f.Watched))
	}
	port := m.Production.Port()
	seen := fmt.Sprintf("in %s, 0 packets came for %s", span(f.Watched), productionWords(m))
	here := f.Listeners != nil && len(f.Listeners.on(port)) > 0
	if x := f.Census.passedOn(m); x != nil && !here {
		before := x.Before
		if x.Local {
			before = netip.AddrPortFrom(netip.Addr{}, before.Port())
		}
		return found(m.Text, "%s: %d connections to %s were passed on to %s, as to a container",
			seen, x.SYNs, x.Before, x.After).fix(f.withProduction(m, before))
	}
	if a, n := f.Census.elsewhere(m); n > 0 {
		return found(m.Text, "%s, and %d for %s", seen, n, netip.AddrPortFrom(a, port)).
			fix(f.withProduction(m, netip.AddrPortFrom(a, port)))
	}
	if f.Listeners == nil || f.Listeners.Err != "" || f.Census.Dropped > 0 {
		return unknown(m.Text, "%s", seen)
	}
	if here {
		return unknown(m.Text, "%s, and a server listens there: no client may have sent anything "+
			"(--watch 10s watches for longer)", seen)
	}
	if on := f.passedOn(port); len(on) > 0 {
		return unknown(m.Text, "%s, and a rule passes connections there on to %s (%s): no client "+
			"may have connected", seen, on[0].words(), on[0].Rule)
	}
	r := found(m.Text, "%s, and no server listens on port %d here", seen, port)
	if other, n := f.busiest(); n > 0 {
		r = found(m.Text, "%s, no server listens on port %d here, and %d packets came for port %d",
			seen, port, n, other).fix(f.withProduction(m, netip.AddrPortFrom(netip.Addr{}, other)))
	}
	return r
}

// noCensus returns why packets are not known, or nothing.
func (f *Facts) noCensus() string {
	switch {
	case f.Census == nil:
		return "no packets were watched"
	case f.Census.Err != "":
		return "no packets were watched: " + f.Census.Err
	}
	return ""
}

// passedOn returns by which connections packets for the mapping's port get that port only here, or
// nil.
func (c *Census) passedOn(m *Mapping) *Translation {
	i := slices.IndexFunc(c.Translated, func(t Translation) bool {
		a := m.Production.Addr()
		return t.After.Port() == m.Production.Port() && (!a.IsValid() || t.After.Addr() == a)
	})
	if i < 0 {
		return nil
	}
	return &c.Translated[i]
}

// passedOn returns the rules that pass on connections to a port.
func (f *Facts) passedOn(port uint16) (all []PassedOn) {
	for _, p := range f.PassedOn {
		if p.Port == port {
			all = append(all, p)
		}
	}
	return all
}

// words returns where connections are passed on to.
func (p *PassedOn) words() string {
	switch {
	case p.Local:
		return portWords(p.To.Port())
	case !p.To.IsValid():
		return "another address"
	}
	return p.To.String()
}

// elsewhere returns the address to which most packets to the mapping's port come, if it is not the
// mapping's.
func (c *Census) elsewhere(m *Mapping) (most netip.Addr, packets int) {
	for _, w := range c.Flows {
		if !w.FromServer && !w.Outgoing && w.Server.Port() == m.Production.Port() &&
			w.Packets > packets {
			most, packets = w.Server.Addr(), w.Packets
		}
	}
	return most, packets
}

// serves reports whether a server here, or a container, gets the connections to a port.
func (f *Facts) serves(port uint16) bool {
	return len(f.Listeners.on(port)) > 0 || slices.ContainsFunc(f.Census.Translated,
		func(t Translation) bool { return t.Local && t.Before.Port() == port })
}

// busiest returns the port, with a server here and no mapping, to which most packets come. It
// leaves out ssh.
func (f *Facts) busiest() (port uint16, packets int) {
	const ssh = 22
	count := map[uint16]int{}
	for _, w := range f.Census.Flows {
		p := w.Server.Port()
		if w.FromServer || w.Outgoing || !w.Local || p == ssh || !f.serves(p) ||
			slices.ContainsFunc(f.Mappings,
				func(m Mapping) bool { return m.Production.Port() == p }) {
			continue
		}
		if count[p] += w.Packets; count[p] > packets {
			port, packets = p, count[p]
		}
	}
	return port, packets
}

// withProduction returns the command line with another production side of a mapping. The address
// may be invalid: any of this host's.
func (f *Facts) withProduction(m *Mapping, production netip.AddrPort) string {
	args := slices.Clone(f.Args)
	if i := slices.Index(args, m.Text); i >= 0 {
		args[i] = replaceProduction(m.Text, production)
	} else {
		args = withOption(args, "x", "map", replaceProduction(m.Text, production))
	}
	return CommandLine(args...)
}

// replaceProduction returns a mapping with another production side.
func replaceProduction(mapping string, production netip.AddrPort) string {
	text := fmt.Sprint(production.Port())
	if production.Addr().IsValid() {
		text = production.String()
	}
	for i := range mapping {
		if mapping[i] == '-' {
			return text + mapping[i:]
		}
	}
	return mapping
}

func productionWords(m *Mapping) string {
	if m.Production.Addr().IsValid() {
		return m.Production.String()
	}
	return fmt.Sprintf("port %d of this host", m.Production.Port())
}

// span returns a duration in words, rounded.
func span(d time.Duration) string { return d.Round(100 * time.Millisecond).String() }
