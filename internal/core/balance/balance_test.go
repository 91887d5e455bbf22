package balance

import (
	"fmt"
	"math"
	"net/netip"
	"testing"
	"time"

	"pgregory.net/rapid"

	"tcpcopy/internal/core/mapping"
	"tcpcopy/internal/core/mono"
)

const sec = mono.Time(time.Second)

// targets returns one target of each weight.
func targets(weights ...int) (list []mapping.Target) {
	for i, w := range weights {
		a := netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i + 1)})
		list = append(list, mapping.Target{Addr: netip.AddrPortFrom(a, 8080), Weight: w})
	}
	return list
}

func group(m Method, weights ...int) *Group {
	return NewGroup(Config{Method: m, Health: true}, targets(weights...))
}

func client(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, byte(i >> 8), byte(i)}),
		uint16(20000+i%1000))
}

var production = netip.MustParseAddrPort("198.51.100.1:80")

func pick(g *Group, now mono.Time, c netip.AddrPort) *Target {
	return g.Pick(now, HashClient(c.Addr()), HashConnection(c, production, 0))
}

// By each method, targets get their shares within 3 % of all over 10,000 sessions of as many
// clients.
func TestShares(t *testing.T) {
	const n = 10000
	for _, m := range []Method{Client, Session, RoundRobin, Least} {
		for _, weights := range [][]int{{1, 1}, {1, 1, 1}, {3, 1}, {1, 2, 7}, {10, 10, 10, 1}} {
			t.Run(fmt.Sprint(m, weights), func(t *testing.T) {
				g := group(m, weights...)
				got := make(map[*Target]int)
				for i := range n {
					got[pick(g, 0, client(i))]++
				}
				sum := 0
				for _, w := range weights {
					sum += w
				}
				for i, target := range g.Targets() {
					want := float64(weights[i]) / float64(sum)
					if share := float64(got[target]) / n; math.Abs(share-want) > 0.03 {
						t.Errorf("target %d has %.3f of the sessions, wanted %.3f", i, share, want)
					}
				}
			})
		}
	}
}

func TestWhatStaysTogether(t *testing.T) {
	c := netip.MustParseAddr("192.0.2.7")
	distinct := func(m Method) int {
		g := group(m, 1, 1, 1, 1)
		all := make(map[*Target]bool)
		for port := range uint16(100) {
			all[pick(g, 0, netip.AddrPortFrom(c, 10000+port))] = true
		}
		return len(all)
	}
	if n := distinct(Client); n != 1 {
		t.Errorf("by client: the connections of one go to %d targets, wanted 1", n)
	}
	if n := distinct(Session); n != 4 {
		t.Errorf("by session: the connections of one client go to %d targets, wanted all 4", n)
	}
}

// Every shard, process and version makes the same choice by hash.
func TestChoiceIsStable(t *testing.T) {
	g := group(Client, 1, 1, 1, 1, 1)
	var got []byte
	for i := range 16 {
		a := pick(g, 0, client(i)).Addr.Addr().As4()
		got = append(got, '0'+a[3])
	}
	if want := "5422142314354434"; string(got) != want {
		t.Errorf("16 clients go to targets %s, wanted %s", got, want)
	}
}

// A target that is removed moves its own share only, and one that is added takes from all.
func TestLittleMoves(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		weights := rapid.SliceOfN(rapid.IntRange(1, 9), 2, 12).Draw(t, "weights")
		gone := rapid.IntRange(0, len(weights)-1).Draw(t, "gone")
		method := rapid.SampledFrom([]Method{Client, Session}).Draw(t, "method")
		list := targets(weights...)
		all := NewGroup(Config{Method: method}, list)
		fewer := NewGroup(Config{Method: method}, append(append([]mapping.Target{}, list[:gone]...),
			list[gone+1:]...))
		for i := range 200 {
			c := client(rapid.IntRange(0, 65535).Draw(t, "client") + i)
			a, b := pick(all, 0, c), pick(fewer, 0, c)
			if a.Addr != list[gone].Addr && a.Addr != b.Addr {
				t.Fatalf("%v moves from %v to %v because %v has gone", c, a.Addr, b.Addr,
					list[gone].Addr)
			}
		}
	})
}

func TestLeastGoesByWhatIsLive(t *testing.T) {
	g := group(Least, 1, 1)
	a, b := g.Targets()[0], g.Targets()[1]
	for range 10 {
		pick(g, 0, client(1))
	}
	if a.Count.Live != 5 || b.Count.Live != 5 {
		t.Fatalf("%d and %d live, wanted 5 each", a.Count.Live, b.Count.Live)
	}
	for range 4 {
		a.Ended()
	}
	for range 4 {
		if got := pick(g, 0, client(2)); got != a {
			t.Fatalf("went to the busier target")
		}
	}
}

// TestHealth has scripts of what happens to the first of two targets, and whether it gets the next
// copy.
func TestHealth(t *testing.T) {
	type step struct {
		at   mono.Time
		what string // fail, open, pick (a copy comes its way), or nothing
		out  bool   // after it
	}
	for _, tc := range []struct {
		name  string
		steps []step
	}{
		{"one failure is an accident", []step{{0, "fail", false}, {0, "fail", false},
			{0, "open", false}, {0, "fail", false}, {0, "fail", false}}},
		{"three in a row are not", []step{{0, "fail", false}, {0, "fail", false},
			{0, "fail", true}}},
		{"after a second there is one trial", []step{
			{0, "fail", false}, {0, "fail", false}, {0, "fail", true},
			{sec - 1, "", true}, {sec, "", false}, {sec, "pick", true}, {2 * sec, "", true},
		}},
		{"a trial that opens brings it back", []step{
			{0, "fail", false}, {0, "fail", false}, {0, "fail", true}, {sec, "pick", true},
			{sec, "open", false}, {sec, "pick", false},
		}},
		{"a trial that fails makes it wait for longer", []step{
			{0, "fail", false}, {0, "fail", false}, {0, "fail", true}, {sec, "pick", true},
			{sec, "fail", true},
			{3*sec - 1, "", true}, {3 * sec, "pick", true}, {3 * sec, "fail", true},
			{7*sec - 1, "", true}, {7 * sec, "", false},
		}},
		{"failures of copies begun before count once", []step{
			{0, "fail", false}, {0, "fail", false}, {0, "fail", true}, {0, "fail", true},
			{0, "fail", true}, {sec, "", false},
		}},
		{"a trial of which nothing is heard is not the last", []step{
			{0, "fail", false}, {0, "fail", false}, {0, "fail", true}, {sec, "pick", true},
			{16*sec - 1, "", true}, {16 * sec, "", false},
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			g := group(Client, 1, 1)
			target := g.Targets()[0]
			for i, s := range tc.steps {
				switch s.what {
				case "fail":
					target.Failed(s.at)
				case "open":
					target.Opened()
				case "pick":
					if !g.Again(s.at, target) {
						t.Fatalf("step %d: no copy may go there", i)
					}
				}
				// If the target is any client's choice, it is one of these clients'.
				chosen := false
				for c := range 50 {
					h := *g // looking must not be a trial
					chosen = chosen || h.pick(s.at, HashClient(client(c).Addr()), 0, true) == target
				}
				if chosen == s.out {
					t.Fatalf("step %d, %s at %v: chosen: %v", i, s.what, s.at, chosen)
				}
			}
		})
	}
}

// While a target is out its clients get other targets, and other clients keep theirs.
func TestOutMovesItsShareOnly(t *testing.T) {
	g := group(Client, 1, 1, 1)
	down := g.Targets()[1]
	before := make(map[int]*Target)
	for i := range 1000 {
		before[i] = pick(g, 0, client(i))
	}
	for range failuresToOut {
		down.Failed(0)
	}
	if !g.Out(down) || down.Count.TakenOut != 1 {
		t.Fatalf("out: %v, %d times", g.Out(down), down.Count.TakenOut)
	}
	for i := range 1000 {
		switch got := pick(g, 0, client(i)); {
		case got == down:
			t.Fatalf("client %d goes to the target that is out", i)
		case before[i] != down && got != before[i]:
			t.Fatalf("client %d was moved", i)
		}
	}
	down.Opened()
	for i := range 1000 {
		if pick(g, 0, client(i)) != before[i] {
			t.Fatalf("client %d does not come back", i)
		}
	}
}

func TestAllOutIsAsIfNoneWere(t *testing.T) {
	for _, m := range []Method{Client, Session, RoundRobin, Least} {
		g := group(m, 1, 1)
		for _, target := range g.Targets() {
			for range failuresToOut {
				target.Failed(0)
			}
		}
		if pick(g, 0, client(1)) == nil {
			t.Errorf("%v: no target", m)
		}
	}
}

func TestWithoutHealthNothingIsOut(t *testing.T) {
	g := NewGroup(Config{Method: All}, targets(1, 1))
	down := g.Targets()[0]
	for range 10 {
		down.Failed(0)
	}
	if g.Out(down) || !g.Begin(0, down) {
		t.Error("out, though health is not checked")
	}
}

func TestSet(t *testing.T) {
	g := group(Client, 1, 1, 1)
	kept, gone := g.Targets()[0], g.Targets()[1]
	kept.Opened()
	g.Set(Config{Method: Least}, append(targets(5), targets(1, 1, 1, 1)[3]))
	switch {
	case g.Method() != Least || len(g.Targets()) != 2:
		t.Errorf("%v of %d targets", g.Method(), len(g.Targets()))
	case g.Targets()[0] != kept || kept.Weight != 5 || kept.Removed():
		t.Errorf("the target that stays became %+v", g.Targets()[0])
	case !gone.Removed() || g.Again(0, gone):
		t.Error("the target that went may still be used")
	}
}

func BenchmarkPick(b *testing.B) {
	for _, n := range []int{3, 50} {
		weights := make([]int, n)
		for i := range weights {
			weights[i] = 1
		}
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			g := group(Client, weights...)
			b.ReportAllocs()
			for i := range b.N {
				g.Pick(0, uint64(i), 0)
			}
		})
	}
}
