package chunk

import (
	"testing"

	"pgregory.net/rapid"
)

func TestGetRoundsUpAndPutGivesBack(t *testing.T) {
	for _, c := range []struct {
		name      string
		n         int
		wantInUse int64
	}{
		{"nothing", 0, 128},
		{"a byte", 1, 128},
		{"the smallest size", 128, 128},
		{"one more", 129, 256},
		{"a segment", 1448, 2048},
		{"the largest size", 128 << 10, 128 << 10},
		{"more than any packet", 128<<10 + 1, 128<<10 + 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			var p Pool
			b := p.Get(c.n)
			if len(b) != c.n {
				t.Errorf("Get(%d) has length %d", c.n, len(b))
			}
			if p.InUse() != c.wantInUse {
				t.Errorf("InUse() = %d, wanted %d", p.InUse(), c.wantInUse)
			}
			p.Put(b)
			if p.InUse() != 0 {
				t.Errorf("InUse() = %d after Put, wanted 0", p.InUse())
			}
		})
	}
}

func TestPutIsUsedAgain(t *testing.T) {
	var p Pool
	p.Put(p.Get(1000))
	if n := testing.AllocsPerRun(100, func() { p.Put(p.Get(700)) }); n != 0 {
		t.Errorf("%v allocations for each Get, wanted 0", n)
	}
}

// The memory that a peak leaves allocated is bounded.
func TestPoolKeepsLittle(t *testing.T) {
	var p Pool
	const size, peak = 64 << 10, 1000
	var all [][]byte
	for range peak {
		all = append(all, p.Get(size))
	}
	for _, b := range all {
		p.Put(b)
	}
	if n := len(p.free[class(size)]); n > 17 {
		t.Errorf("%d buffers of %d bytes are kept, wanted at most 17", n, size)
	}
}

func TestPoolProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var p Pool
		type loan struct {
			b    []byte
			mark byte
		}
		var out []loan
		var want int64
		for i := range rapid.IntRange(1, 200).Draw(t, "steps") {
			if len(out) > 0 && rapid.Bool().Draw(t, "put") {
				k := rapid.IntRange(0, len(out)-1).Draw(t, "which")
				l := out[k]
				for _, x := range l.b {
					if x != l.mark {
						t.Fatalf("somebody else has written into a buffer of %d bytes", len(l.b))
					}
				}
				want -= int64(cap(l.b))
				p.Put(l.b)
				out = append(out[:k], out[k+1:]...)
			} else {
				b := p.Get(rapid.SampledFrom([]int{0, 1, 100, 128, 129, 1448, 9000, 65535,
					200000}).Draw(t, "n"))
				for j := range b {
					b[j] = byte(i)
				}
				out = append(out, loan{b, byte(i)})
				want += int64(cap(b))
			}
			if p.InUse() != want {
				t.Fatalf("InUse() = %d, wanted %d", p.InUse(), want)
			}
		}
	})
}

func BenchmarkGetPut(b *testing.B) {
	var p Pool
	b.ReportAllocs()
	for b.Loop() {
		p.Put(p.Get(1448))
	}
}
