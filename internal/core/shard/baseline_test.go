package shard_test

import (
	"fmt"
	"net/netip"
	"testing"

	"tcpcopy/internal/core/balance"
	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/core/mapping"
	"tcpcopy/internal/core/session"
	"tcpcopy/internal/core/shard"
	"tcpcopy/internal/test/rig"
)

// withBaseline is a shard of one mapping with two targets and an old version.
func withBaseline(t *testing.T, change ...func(*shard.Config)) *rig.Bed {
	all := append([]func(*shard.Config){func(c *shard.Config) {
		svc := rig.ServiceFor(rig.Target, target2)
		svc.Baseline = balance.NewGroup(balance.Config{Method: balance.All},
			[]mapping.Target{{Addr: target3, Weight: 1}})
		svc.Opposed = true
		c.Services = []*shard.Service{svc}
	}}, change...)
	b := rig.NewBed(t, all...)
	t.Cleanup(func() { // before that of the Bed
		b.Sh.Shutdown(b.Now)
		c := b.Sh.Baseline()
		if err := c.Check(); err != nil || c.Live != 0 || c.Sessions.InFlight() != 0 {
			t.Errorf("the old version's account at the end: %v %+v", err, c.Sessions)
		}
	})
	return b
}

// A session has one copy at the old version, whatever the targets share, with an account of its
// own: what happens to it is in no other count.
func TestBaselineHasAnAccountOfItsOwn(t *testing.T) {
	b := withBaseline(t)
	b.Open.Refuses = map[netip.AddrPort]bool{target3: true}
	const n = 8
	for i := range n {
		c := b.Conn(fmt.Sprintf("192.0.2.%d:40000", i+1)).Syn()
		c.Data("GET")
		c.Answers(10)
	}
	at := copiesAt(b)
	if at[rig.Target]+at[target2] != n || at[target3] < n {
		t.Errorf("copies at the targets: %v", at)
	}
	for _, f := range b.Open.All {
		if f.Spec.Target != target3 {
			f.Tell(session.Event{Kind: session.Opened})
		}
	}
	b.Step()
	c, old := b.Sh.Snapshot(), b.Sh.Baseline()
	if c.Sessions.Captured != n || c.Sessions.DroppedAll() != 0 || c.Connections != n ||
		c.Copies != n || c.Live != n {
		t.Errorf("the targets: %+v, %d connections, %d copies, %d live", c.Sessions, c.Connections,
			c.Copies, c.Live)
	}
	if old.Sessions.Dropped[ledger.TargetRefused] != n || old.Copies != 0 || old.Live != n ||
		old.Bytes.Captured != 3*n {
		t.Errorf("the old version: %+v %+v", old.Sessions, old.Bytes)
	}
	for _, a := range b.Sh.Targets() {
		if a.Addr == target3 || a.Out {
			t.Errorf("among the targets: %+v", a)
		}
	}
}

// Where there is no room for another session, the old version goes without; where the connection is
// not copied at all, both count it.
func TestBaselineIsTheFirstToGo(t *testing.T) {
	b := withBaseline(t, func(c *shard.Config) { c.MaxSessions = 3 })
	b.Conn("192.0.2.1:40000").Syn()
	b.Conn("192.0.2.2:40000").Syn()
	b.Conn("192.0.2.3:40000").Syn()
	b.Live(3)
	b.Sessions(3, ledger.OverSessions, 1)
	old := b.Sh.Baseline()
	if old.Sessions.Captured != 3 || old.Sessions.Dropped[ledger.OverSessions] != 2 {
		t.Errorf("the old version: %+v", old.Sessions)
	}
}

// An old version that a reload removes keeps the sessions that it has, and gets no other.
func TestBaselineIsRemoved(t *testing.T) {
	b := withBaseline(t)
	c := b.Conn("192.0.2.1:40000").Syn()
	b.Sh.Configure(0, func(s *shard.Service) { s.Opposed = false })
	b.Conn("192.0.2.2:40000").Syn()
	c.Data("GET")
	at := copiesAt(b)
	if at[rig.Target]+at[target2] != 2 || at[target3] != 1 {
		t.Errorf("copies at the targets: %v", at)
	}
	for _, f := range b.Open.All {
		if f.Spec.Target == target3 && string(f.Text) != "GET" {
			t.Errorf("the old version was given %q", f.Text)
		}
	}
}
