package shard

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
)

var target2, target3 = netip.MustParseAddrPort("203.0.113.2:8080"), netip.MustParseAddrPort("203.0.113.3:8080")

// several is a shard of one mapping with three targets.
func several(t *testing.T, how balance.Config, change ...func(*Service)) *bed {
	return newBed(t, func(c *Config) {
		svc := serviceFor(target, target2, target3)
		svc.Targets.Set(how, targetsOf(svc))
		for _, f := range change {
			f(svc)
		}
		c.Services = []*Service{svc}
	})
}

// noWait has turns go when they come.
func noWait(s *Service) { s.Session.Gate = gate.NewService(gate.Config{Mode: gate.None}) }

// opened says how many copies were opened at each target.
func (b *bed) opened() map[netip.AddrPort]int {
	n := make(map[netip.AddrPort]int)
	for _, f := range b.open.all {
		n[f.spec.Target]++
	}
	return n
}

func (b *bed) account(a netip.AddrPort) TargetCount {
	for _, t := range b.sh.Targets() {
		if t.Addr == a {
			return t
		}
	}
	b.Fatalf("nothing is counted of %v", a)
	panic("not reached")
}

func TestEveryTargetOfAll(t *testing.T) {
	b := several(t, balance.Config{Method: balance.All}, func(s *Service) { s.Copies = 2 })
	c := b.conn("192.0.2.1:40000").syn()
	c.data("GET")
	if n := b.opened(); n[target] != 2 || n[target2] != 2 || n[target3] != 2 {
		t.Fatalf("copies at the targets: %v, wanted 2 each", n)
	}
	b.live(6)
	for _, f := range b.open.all {
		if string(f.text) != "GET" {
			t.Errorf("a copy at %v was given %q", f.spec.Target, f.text)
		}
	}
	// One target's trouble is not the others'.
	for _, f := range b.open.all {
		if f.spec.Target == target2 {
			f.tell(session.Event{Kind: session.Failed, Reason: ledger.TargetRefused})
		}
	}
	b.step()
	c.answers(10)
	for _, f := range b.open.all {
		f.tell(session.Event{Kind: session.Received, N: 10})
	}
	b.step()
	b.wait(sec)
	c.data("PUT")
	for _, f := range b.open.all[:6] {
		if f.spec.Target != target2 && string(f.text) != "GETPUT" {
			t.Errorf("a copy at %v was given %q", f.spec.Target, f.text)
		}
	}
	if n := b.opened(); n[target2] != 4 { // health is off: begun again there, at the next turn
		t.Errorf("%d copies were opened at the target that failed, wanted 4", n[target2])
	}
	if a := b.account(target2); a.Out || a.Count.Failed != 2 {
		t.Errorf("%+v", a)
	}
}

// With health looked after, a target that is out gets no session of all's, and that is counted.
func TestAllButTheOneThatIsOut(t *testing.T) {
	b := several(t, balance.Config{Method: balance.All, Health: true})
	b.open.refuses = map[netip.AddrPort]bool{target2: true}
	for i := range 3 {
		b.conn(fmt.Sprintf("192.0.2.1:%d", 40000+i)).syn()
	}
	c := b.conn("192.0.2.1:40100").syn()
	c.data("GET")
	if n := b.opened(); n[target] != 4 || n[target2] != 3 || n[target3] != 4 {
		t.Errorf("copies at the targets: %v", n)
	}
	if !b.account(target2).Out {
		t.Error("three refusals, and it is not out")
	}
	c.fin()
	b.step()
	b.sessions(12, ledger.TargetOut, 1)
}

// The clients of a target that refuses go elsewhere while it is out, and come back when a trial has
// succeeded; the sessions at the other targets are neither moved nor lost.
func TestTargetGoesAndComesBack(t *testing.T) {
	b := several(t, balance.Config{Method: balance.Client, Health: true})
	at := make(map[string]netip.AddrPort)
	n := 0
	connect := func(client int) netip.AddrPort {
		n++
		c := b.conn(fmt.Sprintf("192.0.2.%d:%d", client, 10000+n)).syn()
		to := b.open.all[len(b.open.all)-1].spec.Target
		c.data("GET")
		return to
	}
	for i := range 60 {
		at[fmt.Sprint(i)] = connect(i)
	}
	if n := b.opened(); n[target] < 10 || n[target2] < 10 || n[target3] < 10 {
		t.Fatalf("copies at the targets: %v, wanted about 20 each", n)
	}
	b.open.refuses = map[netip.AddrPort]bool{target2: true}
	for _, f := range b.open.all { // it is stopped: its connections are reset
		if f.spec.Target == target2 {
			f.tell(session.Event{Kind: session.ResetByPeer, N: 3})
		}
	}
	b.step()
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
	if a := b.account(target2); !a.Out || a.Count.TakenOut != 1 || a.Count.Live != 0 {
		t.Errorf("%+v", a)
	}
	b.open.refuses = nil
	b.wait(2 * sec)
	for i := range 60 {
		if is := connect(i); is != at[fmt.Sprint(i)] {
			t.Errorf("client %d is at %v, wanted %v again", i, is, at[fmt.Sprint(i)])
		}
	}
	for _, f := range b.open.all {
		if f.spec.Target != target2 && (f.aborted || string(f.text) != "GET") {
			t.Errorf("a session at %v was lost: %+v", f.spec.Target, f)
		}
	}
}

// A copy that begins again does so where it was, unless that target is out.
func TestBeginsAgainWhereItWas(t *testing.T) {
	b := several(t, balance.Config{Method: balance.RoundRobin, Health: true})
	c := b.conn("192.0.2.1:40000").syn()
	c.data("a")
	next := func(text string) netip.AddrPort {
		b.open.all[len(b.open.all)-1].tell(session.Event{Kind: session.ResetByPeer, N: 1})
		b.step()
		c.answers(5)
		c.data(text)
		return b.open.all[len(b.open.all)-1].spec.Target
	}
	first := b.open.all[0].spec.Target
	if got := next("bb"); got != first {
		t.Errorf("begins again at %v, was at %v", got, first)
	}
	for _, to := range b.sh.cfg.Services[0].Targets.Targets() {
		if to.Addr == first {
			for range 3 {
				to.Failed(b.now)
			}
		}
	}
	if got := next("cc"); got == first {
		t.Error("begins again at the target that is out")
	}
}

func TestFractionOfACopy(t *testing.T) {
	b := newBed(t, func(c *Config) { c.Services[0].Copies = 2.5; c.MaxSessions = 10000 })
	for i := range 1000 {
		b.conn(fmt.Sprintf("192.0.2.%d:%d", i%200, 10000+i)).syn()
	}
	if n := len(b.open.all); n < 2450 || n > 2550 {
		t.Errorf("%d copies of 1,000 connections, wanted 2,500 ± 2 %%", n)
	}
	if c := b.sh.Snapshot(); c.Connections != 1000 || c.Copies != uint64(len(b.open.all)) {
		t.Errorf("counted %d copies of %d connections", c.Copies, c.Connections)
	}
}

// Staggered copies live all of a session, each so much later than the one before.
func TestStagger(t *testing.T) {
	b := newBed(t, func(c *Config) {
		c.Services[0].Copies, c.Services[0].Stagger = 3, 100*time.Millisecond
		noWait(c.Services[0])
	})
	c := b.conn("192.0.2.1:40000").syn()
	c.data("GET")
	texts := func(want ...string) {
		t.Helper()
		var got []string
		for _, f := range b.open.all {
			got = append(got, string(f.text))
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("at %v: %q, wanted %q", b.now, got, want)
		}
	}
	texts("GET")
	b.wait(50 * ms)
	c.answers(10)
	c.data("PUT")
	c.fin()
	texts("GETPUT")
	b.wait(49 * ms)
	texts("GETPUT")
	b.wait(2 * ms)
	texts("GETPUT", "GET")
	b.wait(50 * ms)
	texts("GETPUT", "GETPUT")
	b.wait(50 * ms)
	texts("GETPUT", "GETPUT", "GET")
	b.wait(50 * ms)
	texts("GETPUT", "GETPUT", "GETPUT")
	for i, f := range b.open.all {
		if !f.shut {
			t.Errorf("copy %d is not closed", i)
		}
		f.tell(session.Event{Kind: session.Finished, N: 6})
	}
	b.step()
	b.sessions(3, ledger.None, 3)
	b.bytes(18, ledger.None, 18)
}

// What a staggered copy has still to live when the capture ends, it lives at once; a client that uses its
// port again does not mix its old connection with its new one.
func TestStaggerEnds(t *testing.T) {
	t.Run("drain", func(t *testing.T) {
		b := newBed(t, func(c *Config) { c.Services[0].Copies, c.Services[0].Stagger = 2, time.Minute })
		b.conn("192.0.2.1:40000").syn().data("GET")
		b.sh.Drain(b.now)
		b.step()
		if len(b.open.all) != 2 || string(b.open.all[1].text) != "GET" {
			t.Errorf("%d copies: %+v", len(b.open.all), b.open.all)
		}
	})
	t.Run("port reuse", func(t *testing.T) {
		b := newBed(t, func(c *Config) { c.Services[0].Copies, c.Services[0].Stagger = 2, 100*time.Millisecond })
		b.conn("192.0.2.1:40000").syn().data("old")
		c := b.conn("192.0.2.1:40000")
		c.isn = 77000
		c.syn().data("new")
		b.wait(200 * ms)
		var got []string
		for _, f := range b.open.all {
			got = append(got, string(f.text))
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
	b := newBed(t, func(c *Config) {
		c.Services[0].Only, c.Services[0].Except = nets("192.0.2.0/24", "2001:db8::/32"), nets("192.0.2.128/25")
	})
	for _, tc := range []struct {
		client string
		copied bool
	}{{"192.0.2.1:1000", true}, {"192.0.2.200:1000", false}, {"198.51.100.7:1000", false}} {
		n := len(b.open.all)
		b.conn(tc.client).syn().data("GET")
		if got := len(b.open.all) > n; got != tc.copied {
			t.Errorf("%s: copied: %v, wanted %v", tc.client, got, tc.copied)
		}
	}
	b.sessions(3, ledger.Filtered, 2)
	b.bytes(9, ledger.Filtered, 6)
}

// Two copiers that take the same share of clients take the same clients, with all their connections.
func TestSampleByClient(t *testing.T) {
	chosen := func() map[string]int {
		b := newBed(t, func(c *Config) { c.Services[0].Sample, c.Services[0].SampleClients, c.MaxSessions = 0.1, true, 1000 })
		n := make(map[string]int)
		for i := range 400 {
			for port := range 3 {
				b.conn(fmt.Sprintf("10.0.%d.%d:%d", i/200, i%200, 10000+port)).syn()
			}
		}
		for _, f := range b.open.all {
			n[f.spec.Client.Addr().String()]++
		}
		return n
	}
	one, other := chosen(), chosen()
	if len(one) < 20 || len(one) > 60 {
		t.Errorf("%d of 400 clients, wanted about 40", len(one))
	}
	for a, n := range one {
		if n != 3 || other[a] != 3 {
			t.Errorf("%s has %d connections copied by one and %d by the other, wanted all 3 by both", a, n, other[a])
		}
	}
}

// Sessions over the rate are left out whole: nothing of them is copied later.
func TestMaxRate(t *testing.T) {
	b := newBed(t, func(c *Config) { c.Services[0].MaxRate = 10; c.Services[0].Copies = 2 })
	var all []*conn
	for i := range 100 { // a hundred within a second
		all = append(all, b.conn(fmt.Sprintf("192.0.2.1:%d", 10000+i)).syn())
		b.wait(10 * ms)
	}
	n := len(b.open.all)
	if n < 8 || n > 14 || n%2 != 0 {
		t.Errorf("%d copies, wanted about 10, by twos", n)
	}
	b.wait(5 * sec)
	for _, c := range all {
		c.data("GET")
		c.data("GET")
	}
	if len(b.open.all) != n {
		t.Errorf("%d copies were begun in mid-connection", len(b.open.all)-n)
	}
	b.sessions(200, ledger.OverRate, uint64(200-n))
}

// Above the bandwidth no session begins, and one that brings it far above is left out whole.
func TestMaxBandwidth(t *testing.T) {
	b := newBed(t, func(c *Config) { c.Services[0].MaxBandwidth = 1000 })
	c := b.conn("192.0.2.1:10000").syn()
	c.data(string(make([]byte, 600)))
	c.data(string(make([]byte, 500)))
	b.conn("192.0.2.1:10001").syn()
	b.sessions(2, ledger.OverBandwidth, 1)
	b.wait(sec)
	d := b.conn("192.0.2.1:10002").syn()
	if b.live(2); len(b.open.all) != 2 {
		t.Fatalf("%d copies, wanted 2", len(b.open.all))
	}
	d.data(string(make([]byte, 1000)))
	d.data(string(make([]byte, 1200)))
	b.sessions(3, ledger.OverBandwidth, 2)
}

func TestConfigure(t *testing.T) {
	b := newBed(t, func(c *Config) { noWait(c.Services[0]) })
	c := b.conn("192.0.2.1:40000").syn()
	c.data("a")
	b.sh.Configure(0, func(s *Service) {
		s.Targets.Set(balance.Config{}, []mapping.Target{{Addr: target2, Weight: 1}})
	})
	c.answers(5)
	c.data("b")
	if string(b.open.all[0].text) != "ab" || b.open.all[0].aborted {
		t.Errorf("the live session came to harm: %+v", b.open.all[0])
	}
	b.conn("192.0.2.1:40001").syn()
	if got := b.open.all[1].spec.Target; got != target2 {
		t.Errorf("a new session goes to %v, wanted %v", got, target2)
	}
	b.sh.Configure(0, func(s *Service) { s.Closed = true })
	b.conn("192.0.2.1:40002").syn()
	if len(b.open.all) != 2 {
		t.Error("a session of a mapping that is no more was begun")
	}
	b.sh.Configure(1, func(s *Service) { *s = *serviceFor(target3) })
	d := b.conn("192.0.2.1:40003")
	d.hold = true
	d.syn()
	b.in.Packets[0].Service = 1
	b.step()
	if got := b.open.all[2].spec.Target; got != target3 {
		t.Errorf("a session of the new mapping goes to %v, wanted %v", got, target3)
	}
}

// Copies that the tunnel carries come from tuples of their own, of this shard, and give them back.
func TestSources(t *testing.T) {
	b := newBed(t, func(c *Config) {
		c.Sources, c.Services[0].Copies, c.MaxSessions = true, 50, 20000
		c.Index, c.Count = 1, 3
	})
	seen := make(map[netip.AddrPort]bool)
	n := 0
	for port := 40000; n < 100; port++ {
		if Of(uint16(port), 3) != 1 {
			continue
		}
		n++
		b.conn(fmt.Sprintf("192.0.2.1:%d", port)).syn()
		first := b.open.all[(n-1)*50].spec
		if first.Source != first.Client {
			t.Errorf("the first copy of %v comes from %v", first.Client, first.Source)
		}
	}
	for _, f := range b.open.all {
		s := f.spec.Source
		if seen[s] || s.Addr() != f.spec.Client.Addr() || Of(s.Port(), 3) != 1 {
			t.Errorf("a copy of %v comes from %v, seen before: %v", f.spec.Client, s, seen[s])
		}
		seen[s] = true
	}
	if len(seen) != 5000 || len(b.sh.used) != 5000 {
		t.Errorf("%d tuples, %d in use, wanted 5,000", len(seen), len(b.sh.used))
	}
	for _, f := range b.open.all[:50] {
		f.tell(session.Event{Kind: session.ResetByPeer})
	}
	b.step()
	if len(b.sh.used) != 4950 {
		t.Errorf("%d in use, wanted 4,950", len(b.sh.used))
	}
	b.live(5000)
}

// A client's address has 64,512 ports: what is more than that is counted, and nothing collides.
func TestSourcesRunOut(t *testing.T) {
	b := newBed(t, func(c *Config) {
		c.Sources, c.Services[0].Copies, c.MaxSessions = true, 1023, 1<<20
		c.MaxMemory = 1 << 30
	})
	for i := range 64 {
		b.conn(fmt.Sprintf("192.0.2.1:%d", 40000+i)).syn()
	}
	seen := make(map[netip.AddrPort]bool)
	for _, f := range b.open.all {
		if seen[f.spec.Source] {
			t.Fatalf("%v twice", f.spec.Source)
		}
		seen[f.spec.Source] = true
	}
	c := b.sh.Snapshot()
	lost := c.Sessions.Dropped[ledger.NoSourceAddress]
	if len(seen) < 64000 || uint64(len(seen))+lost != 64*1023 || lost == 0 {
		t.Errorf("%d copies, %d without a tuple, wanted nearly 64,512, and the rest of %d", len(seen), lost, 64*1023)
	}
	if c.Copies != uint64(len(seen)) || c.Connections != 64 {
		t.Errorf("counted %d copies of %d connections", c.Copies, c.Connections)
	}
}
