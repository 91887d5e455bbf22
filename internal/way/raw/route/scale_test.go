package route

import (
	"net/netip"
	"runtime"
	"testing"

	"tcpcopy/internal/core/mono"
)

// A quarter of ten million connections, of fifty targets, costs a quarter of what all of them do:
// the index has a power of two of slots, which for four times the entries is four times as large.
func TestMemoryOfManyConnections(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 250 MB")
	}
	const n, targets = 2_500_000, 50
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	tb := New(0, Config{MaxEntries: 10_000_000})
	a, err := tb.Join(alice, 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		s := synAck(netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8),
			byte(i)}), uint16(1024+i%60000)), 1)
		s.Src = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 200, 0, byte(i % targets)}), 8080)
		if o, _ := tb.Route(mono.Time(i), s); o != a {
			t.Fatalf("connection %d: owner %d", i, o)
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	each := float64(after.HeapAlloc-before.HeapAlloc) / n
	t.Logf("%.1f bytes for each of %d connections", each, tb.Stats().Entries)
	if tb.Stats().Entries != n || each > 100 {
		t.Errorf("%d connections of %.1f bytes, wanted %d of at most 100", tb.Stats().Entries, each,
			n)
	}
}
