package way

import (
	"slices"
	"testing"

	"tcpcopy/internal/proto"
)

// A buffer has room for what was asked, and comes back once for each time that it was put.
func TestBuffers(t *testing.T) {
	b := new(Buffers)
	for _, n := range []int{0, 1, 1023, 1024, 1025, 2048, 3000, 32 << 10, 32<<10 + 1, 1 << 20} {
		p := b.Get(n)
		if len(p) != 0 || cap(p) < n {
			t.Fatalf("%d bytes: a buffer of %d, %d long", n, cap(p), len(p))
		}
		p = append(p, slices.Repeat([]byte{7}, n)...)
		b.Put(p)
		first, second := b.Get(n), b.Get(n)
		if len(first) != 0 || cap(first) < n || cap(second) < n {
			t.Errorf("%d bytes: then %d and %d", n, cap(first), cap(second))
		}
		if n > 0 && &first[:1][0] == &second[:1][0] {
			t.Errorf("%d bytes: one buffer for two", n)
		}
		if again := n > 0 && &first[:1][0] == &p[0]; again != (n > 0 && n <= maxBuffer) {
			t.Errorf("%d bytes: used again is %v", n, again)
		}
	}
	b.Put(nil)
	for range 2 * maxFree {
		b.Put(make([]byte, 5000))
	}
	for k, all := range b.free {
		if len(all) > maxFree {
			t.Errorf("%d free buffers of %d KB", len(all), k+1)
		}
	}
	if n := testing.AllocsPerRun(100, func() { b.Put(b.Get(2000)) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// packed is a digest of a number.
type packed struct{ n int }

func (*packed) Unpack(*proto.Digesting, *proto.Digest) {}
func (*packed) Drop(*proto.Digesting)                  {}

// Digests come back once for each time that they were put; a bounded number is kept.
func TestPackedComeBackOnce(t *testing.T) {
	b := new(Buffers)
	if p := b.GetPacked(); p != nil {
		t.Errorf("%v before any was put", p)
	}
	for i := range 2 * maxPacked {
		b.PutPacked(&packed{i})
	}
	seen := make(map[proto.Packed]bool)
	for p := b.GetPacked(); p != nil; p = b.GetPacked() {
		if seen[p] {
			t.Fatalf("%v comes back twice", p)
		}
		seen[p] = true
	}
	if len(seen) != maxPacked {
		t.Errorf("%d come back, want %d", len(seen), maxPacked)
	}
	one := new(packed)
	if n := testing.AllocsPerRun(100, func() { b.PutPacked(one); b.GetPacked() }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
