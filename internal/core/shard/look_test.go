package shard_test

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"tcpcopy/internal/core/session"
	"tcpcopy/internal/core/shard"
	"tcpcopy/internal/test/rig"
)

// look looks through a shard, so many places at a time, and returns the sessions' clients.
func look(b *rig.Bed, q shard.Query, at int) (clients []string, l *shard.Look) {
	l = &shard.Look{Query: q}
	for b.Sh.Look(b.Now, l, at) {
	}
	for _, s := range l.Found() {
		clients = append(clients, s.Client.String())
	}
	return clients, l
}

// The order, the bound and the filters of a look, however small its parts are.
func TestLook(t *testing.T) {
	b := rig.NewBed(t)
	for i := range 5 { // the first has waited the longest for an answer
		c := b.Conn(fmt.Sprintf("192.0.2.%d:4000%d", i+1, i)).Syn()
		b.Wait(10 * ms)
		if i < 3 {
			c.Data("GET 1")
		}
		b.Wait(10 * ms)
	}
	all := []string{"192.0.2.1:40000", "192.0.2.2:40001", "192.0.2.3:40002", "192.0.2.5:40004",
		"192.0.2.4:40003"}
	var answer shard.WaitSet
	answer = answer.With(session.WaitAnswer).With(session.WaitSend)
	for _, tt := range []struct {
		name    string
		q       shard.Query
		want    []string
		matched int
	}{
		{"all", shard.Query{Most: 10}, all, 5},
		{"as many as there are", shard.Query{Most: 5}, all, 5},
		{"two", shard.Query{Most: 2}, all[:2], 5},
		{"one", shard.Query{Most: 1}, all[:1], 5},
		{"by client", shard.Query{Most: 9, Order: shard.ByClient},
			slices.Sorted(slices.Values(all)), 5},
		{"by lag", shard.Query{Most: 1, Order: shard.ByLag}, all[:1], 5},
		{"an address", shard.Query{Most: 9, Within: netip.MustParsePrefix("192.0.2.2/32")},
			all[1:2], 1},
		{"the target's address",
			shard.Query{Most: 9, Within: netip.PrefixFrom(rig.Target.Addr(), 32)}, all, 5},
		{"another address", shard.Query{Most: 9, Within: netip.MustParsePrefix("10.0.0.0/8")},
			nil, 0},
		{"a port", shard.Query{Most: 9, Port: 40004}, all[3:4], 1},
		{"an address with another's port", shard.Query{Most: 9, Port: 40004,
			Within: netip.MustParsePrefix("192.0.2.1/32")}, nil, 0},
		{"a wait", shard.Query{Most: 9, Wait: answer}, all[:3], 3},
		{"a state", shard.Query{Most: 9, State: []session.State{session.Closing}}, nil, 0},
	} {
		for _, at := range []int{1, 2, 100} {
			got, l := look(b, tt.q, at)
			if !slices.Equal(got, tt.want) || l.Looked != 5 || l.Matched != tt.matched {
				t.Errorf("%s, %d at a time: %q of %d, looked at %d; want %q of %d", tt.name, at,
					got, l.Matched, l.Looked, tt.want, tt.matched)
			}
		}
	}
}

// A look sees each session that stays once, while others come and go.
func TestLookWhileSessionsComeAndGo(t *testing.T) {
	b := rig.NewBed(t)
	var conns []*rig.Conn
	for i := range 20 {
		conns = append(conns, b.Conn(fmt.Sprintf("192.0.2.1:%d", 40000+i)).Syn())
	}
	l := &shard.Look{Query: shard.Query{Most: 100, Order: shard.ByClient}}
	for i := 0; b.Sh.Look(b.Now, l, 1); i++ {
		if i < 5 { // ends one before the place that is looked at, and one behind it
			for _, k := range []int{i, 19 - i} {
				conns[k].Fin()
				finish(b, k)
			}
			b.Conn(fmt.Sprintf("192.0.2.2:%d", 41000+i)).Syn()
		}
	}
	seen := map[string]int{}
	for _, s := range l.Found() {
		seen[s.Client.String()]++
	}
	for client, n := range seen {
		if n > 1 {
			t.Errorf("%s was seen %d times", client, n)
		}
	}
	for i := 5; i < 15; i++ {
		if client := fmt.Sprintf("192.0.2.1:%d", 40000+i); seen[client] != 1 {
			t.Errorf("%s stayed, and was seen %d times", client, seen[client])
		}
	}
}

// With more sessions than are wanted, those that are left out come after those that are not.
func TestLookKeepsTheFirst(t *testing.T) {
	l := rig.NewLoad(&quietPort{}, 1000, settle, settle)
	of := &shard.Look{Query: shard.Query{Most: 7, Order: shard.ByClient}}
	for l.Sh.Look(l.Now, of, 64) {
	}
	got := of.Found()
	if len(got) != 7 || of.Matched != 1000 || of.Looked != 1000 {
		t.Fatalf("%d of %d", len(got), of.Matched)
	}
	for i := range got {
		if got[i].Client != l.Clients[i].Addr {
			t.Errorf("%d: %v, want %v", i, got[i].Client, l.Clients[i].Addr)
		}
	}
}

// BenchmarkLook is one part of a look, as the engine has it done, in a shard of 60,000 sessions.
func BenchmarkLook(b *testing.B) {
	l := rig.NewLoad(&quietPort{}, 60_000, settle, settle)
	for _, bench := range []struct {
		name  string
		order shard.Order
	}{{"wait", shard.ByWait}, {"held", shard.ByHeld}, {"client", shard.ByClient}} {
		b.Run(bench.name, func(b *testing.B) {
			of := &shard.Look{Query: shard.Query{Most: 200, Order: bench.order}}
			b.ReportAllocs()
			for b.Loop() {
				if !l.Sh.Look(l.Now, of, 128) {
					of = &shard.Look{Query: of.Query}
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/128, "ns/session")
		})
	}
}

// BenchmarkOpen counts the open connections among 60,000 sessions.
func BenchmarkOpen(b *testing.B) {
	l := rig.NewLoad(&quietPort{}, 60_000, settle, settle)
	b.ReportAllocs()
	for b.Loop() {
		if l.Sh.Open() != 60_000 {
			b.Fatal(l.Sh.Open())
		}
	}
}
