// Package collect gathers the facts that package doctor judges: one file for each kind of fact.
//
// It reads what the kernel tells, watches packets for a moment, and connects to targets and
// intercepts as a copier does, sending no request. It changes nothing on any host, keeps nothing,
// and decides nothing. Package app calls it.
package collect

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/vishvananda/netns"

	"tcpcopy/internal/core/mapping"
	"tcpcopy/internal/doctor"
	"tcpcopy/internal/source/filter"
	"tcpcopy/internal/source/locals"
	"tcpcopy/internal/sys"
	"tcpcopy/internal/way/link"
)

// Subject is what is to be examined: a host's part in a copy.
type Subject struct {
	Role    doctor.Role
	Via     string // socket, raw, tunnel
	Program string
	Args    []string // the command line that is examined, without the program
	Extra   []string // of these the words that are no options
	Watch   time.Duration
	// Evidence asks for what a bug report needs.
	Evidence bool
	Needs    []doctor.Need // Has is found out

	Interfaces []string    // -i; empty: all
	Filter     filter.Expr // -F; nil: none
	Remote     bool        // the packets come from other hosts: no interface is watched
	From       From        // of remote packets
	Mappings   []mapping.Mapping
	// OldVersions are servers that get what targets get.
	OldVersions []netip.AddrPort
	StandsIn    func(netip.Addr) bool // whether -c or -H has the address; nil: neither was given
	Mark        uint32                // of our own packets

	Intercepts []netip.AddrPort
	TLS        *tls.Config // of links; nil: no key
	LearnWay   bool        // Via is what the first intercept offers
	// ProbeFrom returns the address in place of the clients' from which probes to a target come;
	// invalid: one of a client's network. nil: always that.
	ProbeFrom func(target netip.Addr) netip.Addr
	// LocalhostAs is -H: probes come from it if no client from elsewhere was seen.
	LocalhostAs netip.Addr

	AllowForwarding bool
	Listens         []uint16     // ports on which this command listens
	Ports           []uint16     // of servers on a target; of targets, as an assistant knows them
	Clients         []netip.Addr // of which a target has to know the routes
	Assistant       netip.Addr   // invalid: not known
	Netns           string       // path of a target's network namespace; empty: this process's
}

// From is where packets come from, if not from this host's interfaces.
type From struct {
	Kind     string         // vxlan, geneve, mirror, agent or file; empty: they do
	Listen   netip.AddrPort // of vxlan and geneve; an invalid address: all of this host's
	Networks []uint32       // virtual networks that are copied; empty: all
}

// Collect gathers all facts. It takes a little longer than Watch, or than an attempt to connect.
func Collect(ctx context.Context, s *Subject) *doctor.Facts { return gather(ctx, s, true, nil) }

// Quick gathers the facts that need no waiting, and sends nothing.
func Quick(s *Subject) *doctor.Facts { return gather(context.Background(), s, false, nil) }

func gather(ctx context.Context, s *Subject, all bool, w *window) *doctor.Facts {
	f := &doctor.Facts{
		Role: s.Role, Via: s.Via, Program: s.Program, Args: s.Args, Extra: s.Extra,
		CaptureOn: s.Interfaces, Remote: s.Remote, StandsIn: s.StandsIn != nil, Ports: s.Ports,
		AllowForwarding: s.AllowForwarding, From: s.From.Kind,
	}
	work := func() {
		c := collector{Subject: s, ctx: ctx, facts: f, window: w}
		c.local()
		if all {
			c.watched()
		}
		c.verdicts()
		if s.Evidence {
			f.Evidence = evidence()
		}
	}
	if s.Netns == "" {
		work()
		return f
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		h, err := netns.GetFromPath(s.Netns)
		if err == nil {
			defer h.Close()
			err = netns.Set(h)
		}
		if err != nil {
			f.Listeners = &doctor.Listeners{Err: fmt.Sprintf("enter %s: %v", s.Netns, err)}
			return
		}
		work()
	}()
	<-done
	return f
}

// collector gathers the facts of one examination, in the network namespace of its thread.
type collector struct {
	*Subject
	ctx    context.Context
	facts  *doctor.Facts
	here   *locals.Set
	before ruleset
	window *window // of an examination that another host has asked for; nil: of none

	links []*link.Link // to the intercepts
	heard chan heard   // from them
}

// local gathers what the kernel tells at once.
func (c *collector) local() {
	f := c.facts
	for _, n := range c.Needs {
		n.Has = has(n.Capability)
		f.Needs = append(f.Needs, n)
	}
	if here, err := locals.Watch(); err == nil {
		c.here = here
		defer here.Close()
	}
	f.Interfaces = interfaces()
	f.Conntrack = conntrack()
	f.Listeners = listeners(c.Role == doctor.Target && c.Netns == "")
	if c.Role == doctor.Assistant {
		f.Forwarding, f.ForwardingErr = forwarding(c.Interfaces)
	}
	if c.Role == doctor.Target {
		f.NoForwarding = noForwarding()
	}
	for _, m := range c.Mappings {
		f.Mappings = append(f.Mappings, doctor.Mapping{
			Text: m.String(), Production: m.Production, Local: !m.Named() ||
				c.isLocal(m.Production.Addr()),
		})
		for _, t := range m.Targets {
			if !slices.ContainsFunc(f.Targets, func(x doctor.TargetFacts) bool {
				return x.Addr == t.Addr
			}) {
				f.Targets = append(f.Targets, c.target(t.Addr))
			}
		}
	}
	for _, a := range c.OldVersions {
		f.Targets = append(f.Targets, c.target(a))
	}
	if c.StandsIn != nil && c.here != nil {
		for _, a := range c.here.All() {
			if c.StandsIn(a) {
				f.LocalStands = append(f.LocalStands, a)
			}
		}
	}
	if c.Filter != nil {
		f.Filter = c.Filter.String()
		f.FilterEmpty = !c.possible()
	}
	f.ReturnRoutes = c.returnPaths(c.Clients)
	c.before = readRules()
}

// watched gathers what takes time: packets that come in, and connections.
func (c *collector) watched() {
	f := c.facts
	from := counters()
	begin := time.Now()
	counted := make(chan *doctor.Census, 1)
	attempts, over := context.WithCancel(c.ctx)
	if !c.Remote || c.Role == doctor.Copier {
		census := c.openCensus()
		go func() { counted <- census.run(c.ctx, attempts, c.Watch) }()
	} else {
		counted <- nil
	}
	c.window.open()
	var parts sync.WaitGroup
	if c.Role == doctor.Copier {
		c.link() // first: it tells the way
		defer c.unlink()
		f.Via = c.Via
		for i := range f.Targets {
			parts.Go(func() { c.try(&f.Targets[i]) })
		}
	}
	parts.Wait()
	c.window.wait()
	over()
	if f.Census = <-counted; f.Census != nil {
		f.Watched = time.Since(begin)
	}
	f.LinkQueues, f.LinkQueuesErr = c.linkQueues()
	f.Counters = counters().since(from)
	f.SYNCookies = number("net/ipv4/tcp_syncookies")
	if all, err := listen(); err == nil && c.Role == doctor.Target {
		f.Listeners.All = all // their queues may have filled meanwhile
	}
	if c.Role == doctor.Target && f.Census != nil {
		c.clientsSeen()
	}
	if c.Role == doctor.Copier {
		c.probe()
		f.Running = c.running()
	}
	for i := range f.Targets { // the attempts to connect have asked the next hops
		f.Targets[i].Neighbour = neighbour(&f.Targets[i])
	}
}

func (c *collector) isLocal(a netip.Addr) bool {
	return a.IsLoopback() || c.here != nil && c.here.Has(a)
}

// has reports whether this thread has a capability.
func has(capability string) bool {
	if capability == string(sys.CapNetAdmin) {
		return sys.HasNetAdmin()
	}
	return sys.HasNetRaw()
}
