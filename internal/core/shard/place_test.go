package shard_test

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"tcpcopy/internal/core/balance"
	"tcpcopy/internal/core/gate"
	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/core/mapping"
	"tcpcopy/internal/core/session"
	"tcpcopy/internal/core/shard"
	"tcpcopy/internal/test/rig"
)

var (
	target2 = netip.MustParseAddrPort("203.0.113.2:8080")
	target3 = netip.MustParseAddrPort("203.0.113.3:8080")
)

// several is a shard of one mapping with three targets.
func several(t *testing.T, how balance.Config, change ...func(*shard.Service)) *rig.Bed {
	return rig.NewBed(t, func(c *shard.Config) {
		svc := rig.ServiceFor(rig.Target, target2, target3)
		svc.Targets.Set(how, rig.TargetsOf(svc))
		for _, f := range change {
			f(svc)
		}
		c.Services = []*shard.Service{svc}
	})
}

// noWait has turns go when they come.
func noWait(s *shard.Service) { s.Session.Gate = gate.NewService(gate.Config{Mode: gate.None}) }

// copiesAt returns how many copies were opened at each target.
func copiesAt(b *rig.Bed) map[netip.AddrPort]int {
	n := make(map[netip.AddrPort]int)
	for _, f := range b.Open.All {
		n[f.Spec.Target]++
	}
	return n
}

// targetCount returns the account of a target.
func targetCount(b *rig.Bed, a netip.AddrPort) shard.TargetCount {
	for _, t := range b.Sh.Targets() {
		if t.Addr == a {
			return t
		}
	}
	b.Fatalf("nothing is counted of %v", a)
	panic("not reached")
}

func TestEveryTargetOfAll(t *testing.T) {
	b := several(t, balance.Config{Method: balance.All}, func(s *shard.Service) { s.Copies = 2 })
	c := b.Conn("192.0.2.1:40000").Syn()
	c.Data("GET")
	if n := copiesAt(b); n[rig.Target] != 2 || n[target2] != 2 || n[target3] != 2 {
		t.Fatalf("copies at the targets: %v, wanted 2 each", n)
	}
	b.Live(6)
	for _, f := range b.Open.All {
		if string(f.Text) != "GET" {
			t.Errorf("a copy at %v was given %q", f.Spec.Target, f.Text)
		}
	}
	// One target's trouble is not the others'.
	for _, f := range b.Open.All {
		if f.Spec.Target == target2 {
			f.Tell(session.Event{Kind: session.Failed, Reason: ledger.TargetRefused})
		}
	}
	b.Step()
	c.Answers(10)
	for _, f := range b.Open.All {
		f.Tell(session.Event{Kind: session.Received, N: 10})
	}
	b.Step()
	b.Wait(sec)
	c.Data("PUT")
	for _, f := range b.Open.All[:6] {
		if f.Spec.Target != target2 && string(f.Text) != "GETPUT" {
			t.Errorf("a copy at %v was given %q", f.Spec.Target, f.Text)
		}
	}
	if n := copiesAt(b); n[target2] != 4 { // health is off: begun again there, at the next turn
		t.Errorf("%d copies were opened at the target that failed, wanted 4", n[target2])
	}
	if a := targetCount(b, target2); a.Out || a.Count.Failed != 2 {
		t.Errorf("%+v", a)
	}
}

// With health looked after, a target that is out gets no session of all's, and that is counted.
func TestAllButTheOneThatIsOut(t *testing.T) {
	b := several(t, balance.Config{Method: balance.All, Health: true})
	b.Open.Refuses = map[netip.AddrPort]bool{target2: true}
	for i := range 3 {
		b.Conn(fmt.Sprintf("192.0.2.1:%d", 40000+i)).Syn()
	}
	c := b.Conn("192.0.2.1:40100").Syn()
	c.Data("GET")
	if n := copiesAt(b); n[rig.Target] != 4 || n[target2] != 3 || n[target3] != 4 {
		t.Errorf("copies at the targets: %v", n)
	}
	if !targetCount(b, target2).Out {
		t.Error("three refusals, and it is not out")
	}
	c.Fin()
	b.Step()
	b.Sessions(12, ledger.TargetOut, 1)
}

// The clients of a target that refuses go elsewhere while it is out, and come back when a trial has
// succeeded; the sessions at the other targets are neither moved nor lost.
func TestTargetGoesAndComesBack(t *testing.T) {
	b := several(t, balance.Config{Method: balance.Client, Health: true})
	at := make(map[string]netip.AddrPort)
	n := 0
	connect := func(client int) netip.AddrPort {
		n++
		c := b.Conn(fmt.Sprintf("192.0.2.%d:%d", client, 10000+n)).Syn()
		to := b.Open.All[len(b.Open.All)-1].Spec.Target
		c.Data("GET")
		return to
	}
	for i := range 60 {
		at[fmt.Sprint(i)] = connect(i)
	}
	if n := copiesAt(b); n[rig.Target] < 10 || n[target2] < 10 || n[target3] < 10 {
		t.Fatalf("copies at the targets: %v, wanted about 20 each", n)
	}
	b.Open.Refuses = map[netip.AddrPort]bool{target2: true}
	for _, f := range b.Open.All { // it is stopped: its connections are reset
		if f.Spec.Target == target2 {
			f.Tell(session.Event{Kind: session.ResetByPeer, N: 3})
		}
	}
	b.Step()
	refused := 0
	for i := range 60 {
		was, is := at[fmt.Sprint(i)], connect(i)
		switch {
		case is == target2:
			refused++
		case was != target2 && was != is:
			t.Errorf("client %d was moved from %v to %v", i, was, is)
		}
	}
	if refused != 3 {
		t.Errorf("%d sessions were sent to the target that is down, wanted 3", refused)
	}
	if a := targetCount(b, target2); !a.Out || a.Count.TakenOut != 1 || a.Count.Live != 0 {
		t.Errorf("%+v", a)
	}
	b.Open.Refuses = nil
	b.Wait(2 * sec)
	for i := range 60 {
		if is := connect(i); is != at[fmt.Sprint(i)] {
			t.Errorf("client %d is at %v, wanted %v again", i, is, at[fmt.Sprint(i)])
		}
	}
	for _, f := range b.Open.All {
		if f.Spec.Target != target2 && (f.Aborted || string(f.Text) != "GET") {
			t.Errorf("a session at %v was lost: %+v", f.Spec.Target, f)
		}
	}
}

// A copy that begins again does so where it was, unless that target is out.
func TestBeginsAgainWhereItWas(t *testing.T) {
	b := several(t, balance.Config{Method: balance.RoundRobin, Health: true})
	c := b.Conn("192.0.2.1:40000").Syn()
	c.Data("a")
	next := func(text string) netip.AddrPort {
		b.Open.All[len(b.Open.All)-1].Tell(session.Event{Kind: session.ResetByPeer, N: 1})
		b.Step()
		c.Answers(5)
		c.Data(text)
		return b.Open.All[len(b.Open.All)-1].Spec.Target
	}
	first := b.Open.All[0].Spec.Target
	if got := next("bb"); got != first {
		t.Errorf("begins again at %v, was at %v", got, first)
	}
	for _, to := range b.Sh.Services()[0].Targets.Targets() {
		if to.Addr == first {
			for range 3 {
				to.Failed(b.Now)
			}
		}
	}
	if got := next("cc"); got == first {
		t.Error("begins again at the target that is out")
	}
}

func TestFractionOfACopy(t *testing.T) {
	b := rig.NewBed(t, func(c *shard.Config) { c.Services[0].Copies = 2.5; c.MaxSessions = 10000 })
	for i := range 1000 {
		b.Conn(fmt.Sprintf("192.0.2.%d:%d", i%200, 10000+i)).Syn()
	}
	if n := len(b.Open.All); n < 2450 || n > 2550 {
		t.Errorf("%d copies of 1,000 connections, wanted 2,500 ± 2 %%", n)
	}
	if c := b.Sh.Snapshot(); c.Connections != 1000 || c.Copies != uint64(len(b.Open.All)) {
		t.Errorf("counted %d copies of %d connections", c.Copies, c.Connections)
	}
}

// Staggered copies repeat a session, each so much later than the one before.
func TestStagger(t *testing.T) {
	b := rig.NewBed(t, func(c *shard.Config) {
		c.Services[0].Copies, c.Services[0].Stagger = 3, 100*time.Millisecond
		noWait(c.Services[0])
	})
	c := b.Conn("192.0.2.1:40000").Syn()
	c.Data("GET")
	texts := func(want ...string) {
		t.Helper()
		var got []string
		for _, f := range b.Open.All {
			got = append(got, string(f.Text))
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("at %v: %q, wanted %q", b.Now, got, want)
		}
	}
	texts("GET")
	b.Wait(50 * ms)
	c.Answers(10)
	c.Data("PUT")
	c.Fin()
	texts("GETPUT")
	b.Wait(49 * ms)
	texts("GETPUT")
	b.Wait(2 * ms)
	texts("GETPUT", "GET")
	b.Wait(50 * ms)
	texts("GETPUT", "GETPUT")
	b.Wait(50 * ms)
	texts("GETPUT", "GETPUT", "GET")
	b.Wait(50 * ms)
	texts("GETPUT", "GETPUT", "GETPUT")
	for i, f := range b.Open.All {
		if !f.Shut {
			t.Errorf("copy %d is not closed", i)
		}
		f.Tell(session.Event{Kind: session.Finished, N: 6})
	}
	b.Step()
	b.Sessions(3, ledger.None, 3)
	b.Bytes(18, ledger.None, 18)
}

// When the capture ends, a staggered copy gets at once what it has not had yet. A client that uses
// its port again does not mix its old connection with its new one.
func TestStaggerEnds(t *testing.T) {
	t.Run("drain", func(t *testing.T) {
		b := rig.NewBed(t, func(c *shard.Config) {
			c.Services[0].Copies, c.Services[0].Stagger = 2, time.Minute
		})
		b.Conn("192.0.2.1:40000").Syn().Data("GET")
		b.Sh.Drain(b.Now)
		b.Step()
		if len(b.Open.All) != 2 || string(b.Open.All[1].Text) != "GET" {
			t.Errorf("%d copies: %+v", len(b.Open.All), b.Open.All)
		}
	})
	t.Run("port reuse", func(t *testing.T) {
		b := rig.NewBed(t, func(c *shard.Config) {
			c.Services[0].Copies, c.Services[0].Stagger = 2, 100*time.Millisecond
		})
		b.Conn("192.0.2.1:40000").Syn().Data("old")
		c := b.Conn("192.0.2.1:40000")
		c.Isn = 77000
		c.Syn().Data("new")
		b.Wait(200 * ms)
		var got []string
		for _, f := range b.Open.All {
			got = append(got, string(f.Text))
		}
		slices.Sort(got[2:]) // the late ones' order within one Step is any
		if fmt.Sprint(got) != "[old new new old]" {
			t.Errorf("copies: %q", got)
		}
	})
}

func TestOnlyAndExcept(t *testing.T) {
	nets := func(s ...string) (p []netip.Prefix) {
		for _, n := range s {
			p = append(p, netip.MustParsePrefix(n))
		}
		return p
	}
	b := rig.NewBed(t, func(c *shard.Config) {
		c.Services[0].Only = nets("192.0.2.0/24", "2001:db8::/32")
		c.Services[0].Except = nets("192.0.2.128/25")
	})
	for _, tc := range []struct {
		client string
		copied bool
	}{{"192.0.2.1:1000", true}, {"192.0.2.200:1000", false}, {"198.51.100.7:1000", false}} {
		n := len(b.Open.All)
		b.Conn(tc.client).Syn().Data("GET")
		if got := len(b.Open.All) > n; got != tc.copied {
			t.Errorf("%s: copied: %v, wanted %v", tc.client, got, tc.copied)
		}
	}
	b.Sessions(3, ledger.Filtered, 2)
	b.Bytes(9, ledger.Filtered, 6)
}

// Two copiers that take the same share of clients take the same clients, with all their
// connections.
func TestSampleByClient(t *testing.T) {
	chosen := func() map[string]int {
		b := rig.NewBed(t, func(c *shard.Config) {
			c.Services[0].Sample, c.Services[0].SampleClients, c.MaxSessions = 0.1, true, 1000
		})
		n := make(map[string]int)
		for i := range 400 {
			for port := range 3 {
				b.Conn(fmt.Sprintf("10.0.%d.%d:%d", i/200, i%200, 10000+port)).Syn()
			}
		}
		for _, f := range b.Open.All {
			n[f.Spec.Client.Addr().String()]++
		}
		return n
	}
	one, other := chosen(), chosen()
	if len(one) < 20 || len(one) > 60 {
		t.Errorf("%d of 400 clients, wanted about 40", len(one))
	}
	for a, n := range one {
		if n != 3 || other[a] != 3 {
			t.Errorf(
				"%s has %d connections copied by one and %d by the other, wanted all 3 by both", a,
				n, other[a])
		}
	}
}

// Sessions over the rate are left out whole: nothing of them is copied later.
func TestMaxRate(t *testing.T) {
	b := rig.NewBed(t, func(c *shard.Config) {
		c.Services[0].MaxRate = 10
		c.Services[0].Copies = 2
	})
	var all []*rig.Conn
	for i := range 100 { // a hundred within a second
		all = append(all, b.Conn(fmt.Sprintf("192.0.2.1:%d", 10000+i)).Syn())
		b.Wait(10 * ms)
	}
	n := len(b.Open.All)
	if n < 8 || n > 14 || n%2 != 0 {
		t.Errorf("%d copies, wanted about 10, by twos", n)
	}
	b.Wait(5 * sec)
	for _, c := range all {
		c.Data("GET")
		c.Data("GET")
	}
	if len(b.Open.All) != n {
		t.Errorf("%d copies were begun in mid-connection", len(b.Open.All)-n)
	}
	b.Sessions(200, ledger.OverRate, uint64(200-n))
}

// The last ACK of a connection that has ended begins none: it takes nothing of the rate.
func TestMaxRateLastACK(t *testing.T) {
	b := rig.NewBed(t, func(c *shard.Config) { c.Services[0].MaxRate = 8 })
	for i := range 100 {
		c := b.Conn(fmt.Sprintf("192.0.2.1:%d", 10000+i)).Syn()
		c.Data("GET")
		c.Fin()
		b.Wait(5 * ms)
		c.Seg(0, "")
		b.Wait(5 * ms)
	}
	if n := len(b.Open.All); n != 8 {
		t.Errorf("%d copies in a second, wanted 8", n)
	}
}

// Above the bandwidth no session begins, and one that brings it far above is left out whole.
func TestMaxBandwidth(t *testing.T) {
	b := rig.NewBed(t, func(c *shard.Config) { c.Services[0].MaxBandwidth = 1000 })
	c := b.Conn("192.0.2.1:10000").Syn()
	c.Data(string(make([]byte, 600)))
	c.Data(string(make([]byte, 500)))
	b.Conn("192.0.2.1:10001").Syn()
	b.Sessions(2, ledger.OverBandwidth, 1)
	b.Wait(sec)
	d := b.Conn("192.0.2.1:10002").Syn()
	if b.Live(2); len(b.Open.All) != 2 {
		t.Fatalf("%d copies, wanted 2", len(b.Open.All))
	}
	d.Data(string(make([]byte, 1000)))
	d.Data(string(make([]byte, 1200)))
	b.Sessions(3, ledger.OverBandwidth, 2)
}

func TestConfigure(t *testing.T) {
	b := rig.NewBed(t, func(c *shard.Config) { noWait(c.Services[0]) })
	c := b.Conn("192.0.2.1:40000").Syn()
	c.Data("a")
	b.Sh.Configure(0, func(s *shard.Service) {
		s.Targets.Set(balance.Config{}, []mapping.Target{{Addr: target2, Weight: 1}})
	})
	c.Answers(5)
	c.Data("b")
	if string(b.Open.All[0].Text) != "ab" || b.Open.All[0].Aborted {
		t.Errorf("the live session came to harm: %+v", b.Open.All[0])
	}
	b.Conn("192.0.2.1:40001").Syn()
	if got := b.Open.All[1].Spec.Target; got != target2 {
		t.Errorf("a new session goes to %v, wanted %v", got, target2)
	}
	b.Sh.Configure(0, func(s *shard.Service) { s.Closed = true })
	b.Conn("192.0.2.1:40002").Syn()
	if len(b.Open.All) != 2 {
		t.Error("a session of a mapping that is no more was begun")
	}
	b.Sh.Configure(1, func(s *shard.Service) { *s = *rig.ServiceFor(target3) })
	d := b.Conn("192.0.2.1:40003")
	d.Hold = true
	d.Syn()
	b.In.Packets[0].Service = 1
	b.Step()
	if got := b.Open.All[2].Spec.Target; got != target3 {
		t.Errorf("a session of the new mapping goes to %v, wanted %v", got, target3)
	}
}
