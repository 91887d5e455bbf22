package ontarget

import (
	"net/netip"
	"testing"
	"time"

	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/way/link/wire"
)

// TestRecentOwners: an owner is known for linger, also if its two ends come again meanwhile, and
// however many others end.
func TestRecentOwners(t *testing.T) {
	ends := func(i int) tuple {
		client := netip.AddrFrom4([4]byte{10, byte(i >> 24), byte(i >> 16), byte(i >> 8)})
		return tuple{client: netip.AddrPortFrom(client, uint16(i))}
	}
	var r recentOwners
	first, second := wire.Instance{1}, wire.Instance{2}
	now := mono.Time(time.Hour)
	r.add(now, ends(0), first)
	r.add(now.Add(linger/2), ends(0), second) // again, before the first time is forgotten
	for i, d := range []time.Duration{0, linger - 1, linger, linger*3/2 - 1} {
		r.add(now.Add(d), ends(i+1), first)
		if who, ok := r.owner(now.Add(d), ends(0)); !ok || who != second {
			t.Errorf("after %v: %v, %v, wanted the second owner", d, who, ok)
		}
	}
	if _, ok := r.owner(now.Add(linger*3/2), ends(0)); ok {
		t.Error("it is known for longer")
	}
	r.add(now.Add(linger/2+keepRecent-1), ends(9), first)
	if who, ok := r.owner(now, ends(0)); !ok || who != second {
		t.Errorf("for a copy that should have begun before: %v, %v", who, ok)
	}

	now = now.Add(10 * linger)
	const many = 4 * maxRecent
	for i := range many {
		r.add(now, ends(i), first)
		if len(r.by) > maxRecent || len(r.queue) > 2*maxRecent+2 {
			t.Fatalf("after %d ends: %d tuples, %d ends", i, len(r.by), len(r.queue))
		}
	}
	for i, want := range map[int]bool{many - 1: true, many - maxRecent: true, 0: false} {
		if _, ok := r.owner(now, ends(i)); ok != want {
			t.Errorf("the end of stream %d of %d: known: %v", i, many, ok)
		}
	}
}
