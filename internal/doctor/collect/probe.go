package collect

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/vishvananda/netlink"

	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/core/seqnum"
	"tcpcopy/internal/doctor"
	"tcpcopy/internal/doctor/exam"
	"tcpcopy/internal/way/link/wire"
	"tcpcopy/internal/way/raw/send"
)

const (
	mostProbed = 4 // targets
	// Probes come from ports that systems do not choose for their own connections.
	firstProbePort = 61000
	probePorts     = 4000
)

// prober runs the examinations of all targets.
type prober struct {
	*collector
	start  time.Time
	exams  map[uint32]*exam.Exam
	ends   []int // of the links, those that take part
	sender *send.Sender
}

// probe examines the path of the copies to each target, with the intercepts and the witnesses.
func (c *collector) probe() {
	p := prober{collector: c, start: time.Now(), exams: map[uint32]*exam.Exam{}}
	for i := range c.facts.Links {
		if c.facts.Links[i].Probes {
			p.ends = append(p.ends, i)
		}
	}
	failed := c.olderIntercepts()
	if len(p.ends) == 0 && failed == "" {
		return // there are no links, or none is up
	}
	if failed == "" && c.Via == "raw" {
		var err error
		if p.sender, err = send.New(send.Config{Mark: c.Mark, Single: true}); err != nil {
			failed = err.Error()
		} else {
			defer p.sender.Close()
		}
	}
	clients := c.someClients()
	for i := range c.facts.Targets {
		t := &c.facts.Targets[i]
		switch from := c.probeFrom(t, clients); {
		case failed != "":
			t.Probe = &doctor.Probe{Err: failed}
		case i >= mostProbed:
			t.Probe = &doctor.Probe{Err: fmt.Sprintf("only %d targets are probed", mostProbed)}
		case !from.IsValid():
			t.Probe = &doctor.Probe{Err: "no client was seen, from whose network a probe could " +
				"come: --probe names a free address"}
		default:
			p.begin(uint32(i), t, from, clients)
		}
	}
	p.run()
	for id, e := range p.exams {
		r := e.Result()
		c.facts.Targets[id].Probe = &r
	}
}

// olderIntercepts returns why no intercept can take part in examinations; empty if one can, or if
// none is connected.
func (c *collector) olderIntercepts() (failed string) {
	for i := range c.facts.Links {
		switch l := &c.facts.Links[i]; {
		case l.Probes:
			return ""
		case l.Outcome == doctor.Connected:
			failed = fmt.Sprintf("the intercept at %s is older (%s) and answers no probes: wanted "+
				"the same version on both hosts", l.Addr, l.Software)
		}
	}
	return failed
}

// someClients returns addresses of real clients that were seen: those of the mappings first.
func (c *collector) someClients() (all []netip.Addr) {
	if c.facts.Census == nil {
		return nil
	}
	for _, ours := range []bool{true, false} {
		for _, w := range c.facts.Census.Flows {
			mapped := slices.ContainsFunc(c.facts.Mappings, func(m doctor.Mapping) bool {
				return m.Production.Port() == w.Server.Port()
			})
			if w.FromServer || w.Outgoing || w.Loopback || !w.Local || mapped != ours {
				continue
			}
			for _, a := range w.Clients {
				if !c.isLocal(a) && !slices.Contains(all, a) && len(all) < wire.MaxLookClients {
					all = append(all, a)
				}
			}
		}
	}
	return all
}

// probeFrom returns the address from which probes to a target come.
func (c *collector) probeFrom(t *doctor.TargetFacts, clients []netip.Addr) netip.Addr {
	to := t.Addr.Addr()
	if c.Via != "raw" {
		return t.Route.Source // none is sent
	}
	if c.ProbeFrom != nil {
		if a := c.ProbeFrom(to); a.IsValid() && !c.isLocal(a) {
			return a
		}
	}
	taken := func(a netip.Addr) bool { return c.isLocal(a) || slices.Contains(clients, a) }
	if all, err := netlink.NeighList(0, netlink.FAMILY_ALL); err == nil {
		known := map[netip.Addr]bool{}
		for _, n := range all {
			a, _ := netip.AddrFromSlice(n.IP)
			known[a.Unmap()] = true
		}
		of := taken
		taken = func(a netip.Addr) bool { return known[a] || of(a) }
	}
	for _, a := range clients {
		if a.Is4() == to.Is4() {
			return freeNear(a, rand.Uint64(), taken)
		}
	}
	if a := c.LocalhostAs; a.IsValid() && a.Is4() == to.Is4() && !c.isLocal(a) {
		return a
	}
	return netip.Addr{}
}

// freeNear returns an address in the network of a client, taken to be a /24 or a /64, that is not
// taken; invalid if there is none.
func freeNear(client netip.Addr, random uint64, taken func(netip.Addr) bool) netip.Addr {
	if client.Is6() {
		b := client.As16()
		for i := range 8 {
			b[8+i] = byte(random >> (8 * i))
		}
		b[8] &^= 3 // no address that is made of a device's own
		if a := netip.AddrFrom16(b); !taken(a) {
			return a
		}
		return netip.Addr{}
	}
	b := client.As4()
	for last := 253; last > 1; last-- {
		b[3] = byte(last)
		if a := netip.AddrFrom4(b); !taken(a) {
			return a
		}
	}
	return netip.Addr{}
}

// begin begins the examination of a target.
func (p *prober) begin(id uint32, t *doctor.TargetFacts, from netip.Addr, clients []netip.Addr) {
	slot := uint32(p.links[p.ends[0]].State().Slot)
	port := uint16(firstProbePort + rand.IntN(probePorts))
	one := func(port uint16) wire.Probe {
		return wire.Probe{Port: port, Seq: seqnum.Value(rand.Uint32()&^0xff | slot)}
	}
	q := wire.Look{
		ID: id, Client: from, Target: t.Addr, Outside: one(port), Inside: one(port + 1),
		Clients: clients,
	}
	p.exams[id] = exam.New(p.now(), q, len(p.ends), p.Via != "raw")
}

func (p *prober) now() mono.Time { return mono.Time(time.Since(p.start)) }

// run does what the examinations want, until all are over.
func (p *prober) run() {
	for {
		next, left := mono.Never, false
		for _, e := range p.exams {
			d := e.Next(p.now())
			p.do(e, &d)
			if !d.Over {
				left = true
				next = min(next, d.Wait)
			}
		}
		if !left {
			return
		}
		select {
		case h := <-p.heard:
			if e := p.exams[h.seen.ID]; e != nil {
				e.Seen(slices.Index(p.ends, h.from), &h.seen)
			}
		case <-time.After(max(next.Sub(p.now()), time.Millisecond)):
		case <-p.ctx.Done():
			return
		}
	}
}

// do carries out a step.
func (p *prober) do(e *exam.Exam, d *exam.Do) {
	q := e.Look(d.Ask)
	for i, end := range p.ends {
		if d.Ask != 0 && (i == 0 || !d.First) {
			p.links[end].Look(&q)
		}
	}
	if d.SYN {
		p.sender.Send([]packet.Segment{q.SYN(q.Outside)})
	}
	if d.Reset && p.sender != nil {
		p.sender.Send([]packet.Segment{q.Reset(q.Outside)})
	}
}
