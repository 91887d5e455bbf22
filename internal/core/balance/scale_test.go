package balance

import (
	"math"
	"net/netip"
	"testing"
)

// A thousand copiers each have a part of the clients and their own group of the same fifty targets.
// Every target gets its share; a client that two copiers see gets one target; and if a target is
// lost only its clients move, to all others alike.
func TestThousandCopiersFiftyTargets(t *testing.T) {
	const copiers, targetsN, clients = 1000, 50, 200
	list := targets(make([]int, targetsN)...)
	lost := list[17].Addr
	rest := append(append(list[:0:0], list[:17]...), list[18:]...)
	share, took := make(map[netip.AddrPort]int), make(map[netip.AddrPort]int)
	seen := make(map[netip.Addr]netip.AddrPort)
	moved := 0
	for c := range copiers {
		all, fewer := NewGroup(Config{Method: Client}, list), NewGroup(Config{Method: Client}, rest)
		for i := range clients {
			// Another copier sees every tenth client as well.
			n := uint32(c*clients + i)
			if i%10 == 0 {
				n = uint32((c+1)%copiers*clients + i + 1)
			}
			a := netip.AddrFrom4([4]byte{byte(10 + n>>24), byte(n >> 16), byte(n >> 8), byte(n)})
			h := HashClient(a)
			to := all.Pick(0, h, 0).Addr
			if was, ok := seen[a]; ok && was != to {
				t.Fatalf("copier %d sends %v to %v, another one to %v", c, a, to, was)
			}
			seen[a] = to
			share[to]++
			if then := fewer.Pick(0, h, 0).Addr; then != to {
				if to != lost {
					t.Fatalf("%v moves from %v to %v because %v is lost", a, to, then, lost)
				}
				moved++
				took[then]++
			}
		}
	}
	const each = float64(copiers*clients) / targetsN
	for _, target := range list {
		if n := float64(share[target.Addr]); math.Abs(n-each) > 0.06*each {
			t.Errorf("%v has %.0f of the clients, wanted %.0f ± 6 %%", target.Addr, n, each)
		}
	}
	if moved != share[lost] {
		t.Errorf("%d clients moved, wanted the %d of the target that was lost", moved, share[lost])
	}
	for _, target := range rest {
		if n := took[target.Addr]; n < moved/targetsN/2 || n > 2*moved/targetsN {
			t.Errorf("%v took %d of the %d that moved", target.Addr, n, moved)
		}
	}
}
