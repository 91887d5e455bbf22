package collect

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/vishvananda/netlink"

	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/core/seqnum"
	"tcpcopy/internal/doctor"
	"tcpcopy/internal/source"
	"tcpcopy/internal/source/afpacket"
	"tcpcopy/internal/source/filter"
)

// Bounds of a census.
const (
	censusRing  = 4 << 20 // bytes
	censusBytes = 256     // kept of a packet
	mostFlows   = 2048
	mostSYNs    = 16384
	mostClients = 8 // of a flow
)

// census counts the packets of all interfaces.
type census struct {
	c      *collector
	source *afpacket.Source
	err    error
	user   filter.Program // nil: none
	names  map[int32]string
	ports  map[uint16]bool // of servers that count although no SYN was seen
	flows  map[flowKey]*doctor.Flow
	syns   map[synKey]netip.AddrPort // their destinations; an invalid one: counted in passed
	passed map[[2]netip.AddrPort]int // SYNs, by their destination before and after
	result *doctor.Census
	mirror *mirrored // nil: none over UDP is expected
}

type flowKey struct {
	device     int32
	server     netip.AddrPort
	fromServer bool
	outgoing   bool
}

// synKey knows a SYN again.
type synKey struct {
	client netip.AddrPort
	seq    seqnum.Value
}

// openCensus begins to capture, in the thread's namespace. What comes from now on is counted.
func (c *collector) openCensus() *census {
	s := &census{
		c: c, names: map[int32]string{}, ports: map[uint16]bool{},
		flows: map[flowKey]*doctor.Flow{}, result: &doctor.Census{},
		syns: map[synKey]netip.AddrPort{}, passed: map[[2]netip.AddrPort]int{},
	}
	if links, err := netlink.LinkList(); err == nil {
		for _, l := range links {
			s.names[int32(l.Attrs().Index)] = l.Attrs().Name
		}
	}
	for _, m := range c.Mappings {
		s.ports[m.Production.Port()] = true
	}
	for _, l := range c.facts.Listeners.All {
		s.ports[l.Addr.Port()] = true
	}
	for _, p := range c.Ports {
		s.ports[p] = true
	}
	if c.Filter != nil {
		s.user, s.err = filter.CompileExpr(c.Filter, filter.Options{})
	}
	what := "tcp or icmp or icmp6"
	if c.From.overUDP() {
		s.mirror = &mirrored{from: &c.From, facts: c.facts, servers: map[netip.AddrPort]int{}}
		c.facts.Mirror = &s.mirror.result
		what += " or udp"
	}
	program, err := filter.Compile(what, filter.Options{AcceptLen: censusBytes})
	if err == nil && s.err == nil {
		start := time.Now()
		s.source, err = afpacket.Open(afpacket.Config{
			Filter: program, Memory: censusRing,
			Now: func() mono.Time { return mono.Time(time.Since(start)) },
		})
	}
	if err != nil {
		s.err = err
	}
	return s
}

// run counts for the given time and until attempts is done, or until ctx is done.
func (s *census) run(ctx, attempts context.Context, span time.Duration) *doctor.Census {
	if s.err != nil {
		s.result.Err = s.err.Error()
		return s.result
	}
	for end, over := time.Now().Add(span), false; ctx.Err() == nil && !over; {
		left := time.Until(end)
		over = left < 0 && attempts.Err() != nil // what has come by now is read
		frames, err := s.source.Next(max(min(left, 100*time.Millisecond), 10*time.Millisecond))
		if err != nil {
			s.result.Err = fmt.Sprint(err)
			break
		}
		for i := range frames {
			s.count(&frames[i])
		}
	}
	s.result.Dropped = int(s.source.Stats().Dropped)
	s.source.Close()
	s.source.Next(0) // frees the ring
	if s.mirror != nil {
		s.mirror.end()
	}
	for _, w := range s.flows {
		s.result.Flows = append(s.result.Flows, *w)
	}
	for k, n := range s.passed {
		s.result.Translated = append(s.result.Translated, doctor.Translation{
			Before: k[0], After: k[1], Local: s.c.isLocal(k[0].Addr()), SYNs: n,
		})
	}
	slices.SortFunc(s.result.Translated, func(a, b doctor.Translation) int {
		return cmp.Or(b.SYNs-a.SYNs, a.Before.Compare(b.Before), a.After.Compare(b.After))
	})
	slices.SortFunc(s.result.Flows, func(a, b doctor.Flow) int {
		if a.Packets != b.Packets {
			return b.Packets - a.Packets
		}
		return a.Server.Compare(b.Server)
	})
	return s.result
}

// count counts one packet, as one to a server and as one from it, as far as it can be either.
func (s *census) count(f *source.Frame) {
	var seg packet.Segment
	if packet.Decode(f.Data, f.Wire, &seg) != nil {
		if s.mirror == nil || f.Outgoing || !s.mirror.count(f) {
			s.countICMP(f.Data)
		}
		return
	}
	s.result.Packets++
	s.c.window.saw(&seg, f.Outgoing)
	passed := s.user == nil || s.user.Match(f.Data, &filter.Meta{
		Len: f.Wire, Outgoing: f.Outgoing, VLAN: f.VLAN, HasVLAN: f.VLAN != 0,
	}) > 0
	isSYN, isACK := seg.Flags.Has(packet.SYN), seg.Flags.Has(packet.ACK)
	if isSYN && !isACK {
		s.countSYN(&seg)
	}
	if s.ports[seg.Dst.Port()] || isSYN && !isACK {
		w := s.flow(f, seg.Dst, false)
		if w == nil {
			return
		}
		add(w, passed, isSYN && !isACK, seg.Src.Addr())
		if len(seg.Payload) > 0 {
			if isTLS(seg.Payload) {
				w.TLS++
			} else {
				w.Plain++
			}
		}
	}
	if s.ports[seg.Src.Port()] || isSYN && isACK {
		if w := s.flow(f, seg.Src, true); w != nil {
			add(w, passed, isSYN && isACK, seg.Dst.Addr())
			w.Local = s.c.isLocal(seg.Dst.Addr())
		}
	}
}

// countSYN notes where a SYN goes, and whether it went elsewhere before.
func (s *census) countSYN(seg *packet.Segment) {
	k := synKey{seg.Src, seg.Seq}
	before, known := s.syns[k]
	switch {
	case !known && len(s.syns) < mostSYNs:
		s.syns[k] = seg.Dst
	case known && before.IsValid() && before != seg.Dst && len(s.passed) < mostFlows:
		s.passed[[2]netip.AddrPort{before, seg.Dst}]++
		s.syns[k] = netip.AddrPort{} // once, on however many interfaces it is seen behind
	}
}

// add counts a packet of a flow.
func add(w *doctor.Flow, passed, isSYN bool, client netip.Addr) {
	w.Packets++
	if passed {
		w.Passed++
	}
	if isSYN {
		w.SYNs++
	}
	if len(w.Clients) < mostClients && !slices.Contains(w.Clients, client) {
		w.Clients = append(w.Clients, client)
	}
}

// flow returns the counts of a server on an interface, or nil if there are too many.
func (s *census) flow(f *source.Frame, server netip.AddrPort, fromServer bool) *doctor.Flow {
	k := flowKey{f.Ifindex, server, fromServer, f.Outgoing}
	w := s.flows[k]
	if w == nil && len(s.flows) < mostFlows {
		w = &doctor.Flow{
			Interface: s.names[f.Ifindex], Loopback: f.Loopback, Server: server,
			FromServer: fromServer, Outgoing: f.Outgoing, Local: s.c.isLocal(server.Addr()),
		}
		s.flows[k] = w
	}
	return w
}

func (s *census) countICMP(b []byte) {
	e, err := packet.DecodeICMP(b)
	if err != nil || e.Kind != packet.Unreachable || len(s.result.Errors) >= mostClients ||
		s.c.isLocal(e.From) { // this host's own words about a next hop, or of its firewall
		return
	}
	s.result.Errors = append(s.result.Errors, doctor.ICMP{
		From: e.From, About: e.Dst, Reason: icmpReason(e.From.Is4(), e.Code),
	})
}

// icmpReason returns the code of a "destination unreachable" in words.
func icmpReason(v4 bool, code uint8) string {
	words := map[uint8]string{
		0: "no route", 1: "administratively prohibited", 3: "address unreachable",
		4: "port unreachable", 5: "source address failed policy", 6: "route rejected",
	}
	if v4 {
		words = map[uint8]string{
			0: "network unreachable", 1: "host unreachable", 2: "protocol unreachable",
			3: "port unreachable", 9: "network prohibited", 10: "host prohibited",
			13: "administratively prohibited",
		}
	}
	if w := words[code]; w != "" {
		return w
	}
	return fmt.Sprintf("unreachable, code %d", code)
}

// isTLS reports whether payload begins a TLS record (RFC 8446 §5.1).
func isTLS(b []byte) bool {
	const changeCipherSpec, applicationData, mostRecord = 20, 23, 1<<14 + 256
	return len(b) >= 5 && b[0] >= changeCipherSpec && b[0] <= applicationData && b[1] == 3 &&
		b[2] <= 4 && binary.BigEndian.Uint16(b[3:]) <= mostRecord
}

// clientsSeen completes the return paths of a target by what the census saw: the interfaces on
// which clients' packets come in and, if no client was named, some clients.
func (c *collector) clientsSeen() {
	f := c.facts
	seen := map[netip.Addr][]string{} // interfaces
	for _, w := range f.Census.Flows {
		if w.FromServer || w.Outgoing || w.Loopback || w.SYNs == 0 ||
			!slices.Contains(c.Ports, w.Server.Port()) {
			continue
		}
		for _, client := range w.Clients {
			i := slices.IndexFunc(f.ReturnRoutes, func(p doctor.ReturnPath) bool {
				return p.Client == client
			})
			if i < 0 && len(c.Clients) > 0 {
				continue
			}
			if i < 0 {
				i = len(f.ReturnRoutes)
				f.ReturnRoutes = append(f.ReturnRoutes, c.returnPaths([]netip.Addr{client})...)
			}
			seen[client] = append(seen[client], w.Interface)
			f.ReturnRoutes[i].Arrives = f.Outermost(seen[client])[0]
			f.ReturnRoutes[i].Arrived = true
		}
	}
	c.guessArrival()
}

// guessArrival says where the packets of the other clients come in: where those that were seen did
// or, if there were none, on the only interface besides loopback.
func (c *collector) guessArrival() {
	var in []string
	for _, p := range c.facts.ReturnRoutes {
		if p.Arrived && !slices.Contains(in, p.Arrives) {
			in = append(in, p.Arrives)
		}
	}
	if only := c.onlyDevice(); len(in) == 0 && only != "" {
		in = []string{only}
	}
	for i := range c.facts.ReturnRoutes {
		if p := &c.facts.ReturnRoutes[i]; p.Arrives == "" && len(in) == 1 {
			p.Arrives = in[0]
		}
	}
}

// onlyDevice returns the interface on which packets of other hosts come in, if there is but one.
func (c *collector) onlyDevice() string {
	var all []string
	for _, i := range c.facts.Interfaces {
		if !i.Loopback && i.Up {
			all = append(all, i.Name)
		}
	}
	if all = c.facts.Outermost(all); len(all) != 1 {
		return ""
	}
	return all[0]
}
