package reasm

import (
	"testing"

	"tcpcopy/internal/core/chunk"
	"tcpcopy/internal/core/seqnum"
)

// FuzzReader drives a Reader by the input, six bytes for each step, and checks its invariants.
func FuzzReader(f *testing.F) {
	f.Add([]byte{0, 0, 0, 8, 1, 0, 0, 0, 16, 8, 1, 0, 0, 0, 8, 8, 2, 0})
	f.Fuzz(func(t *testing.T, script []byte) {
		script = script[:min(len(script), 1200)]
		var pool chunk.Pool
		var r Reader
		base := seqnum.Value(0xffffff00)
		r.Init(&pool, base, 0)
		payload := make([]byte, 256)
		for ; len(script) >= 6; script = script[6:] {
			off := int(int16(script[1])<<8 | int16(script[2]))
			n, seen := int(script[3]), uint64(script[4])
			note := Note{Seen: seen, Sent: seen + uint64(script[5])}
			if script[0]&0x80 != 0 {
				off <<= 16
			}
			next := r.Next()
			switch script[0] & 0x0f {
			case 0, 1, 2, 3, 4, 5:
				r.Insert(base.Add(off), payload[:n], note)
			case 6:
				r.SetEnd(Closed, base.Add(off), note)
			case 7:
				r.SetEnd(Reset, base.Add(off), note)
			case 8:
				r.Take(uint64(off))
			case 9:
				r.NextMark()
			case 10:
				r.StartTurn(note)
			case 11:
				if to := next + uint64(n)<<8; to > next {
					r.SkipTo(to)
				}
			case 12:
				_ = r.View(uint64(off), n)
				_ = r.Peek(uint64(off), payload[:n])
			default:
				if off, ok := r.FirstAhead(); ok {
					r.SkipTo(off)
				}
			}
			check(t, &r, &pool, next)
		}
		r.Close()
		if pool.InUse() != 0 {
			t.Fatalf("%d bytes of the pool are in use after Close", pool.InUse())
		}
	})
}

func check(t *testing.T, r *Reader, pool *chunk.Pool, before uint64) {
	t.Helper()
	if r.Next() < before {
		t.Fatalf("Next() fell from %d to %d", before, r.Next())
	}
	if int64(r.Kept()) != pool.InUse() {
		t.Fatalf("Kept() = %d, but %d bytes of the pool are in use", r.Kept(), pool.InUse())
	}
	if len(r.ahead) > maxHeld+1 {
		t.Fatalf("%d segments are held", len(r.ahead))
	}
	for off := r.Start(); off < r.Next(); {
		v := r.View(off, 1<<20)
		if len(v) == 0 {
			t.Fatalf("no bytes at %d, of %d to %d", off, r.Start(), r.Next())
		}
		off += uint64(len(v))
	}
	for i := range r.ahead {
		h := &r.ahead[i]
		if h.off <= r.next || i > 0 && (h.off < r.ahead[i-1].end() ||
			h.note.Seen < r.ahead[i-1].note.Seen) {
			t.Fatalf("held %d: %d to %d, seen %d, after %+v", i, h.off, h.end(), h.note.Seen,
				r.ahead[max(i-1, 0)])
		}
	}
	for i := r.mark; i < len(r.marks); i++ {
		if i > r.mark && r.marks[i].Off < r.marks[i-1].Off {
			t.Fatalf("marks %v are not in order", r.marks[r.mark:])
		}
	}
}

func BenchmarkInsertInOrder(b *testing.B) {
	var pool chunk.Pool
	var r Reader
	r.Init(&pool, 1, 0)
	payload := make([]byte, 1448)
	seq, seen := seqnum.Value(1), uint64(0)
	b.ReportAllocs()
	b.SetBytes(int64(len(payload)))
	for b.Loop() {
		seen += 100
		r.Insert(seq, payload, Note{Seen: seen, Sent: seen})
		seq = seq.Add(len(payload))
		r.NextMark()
		r.Take(r.Next())
	}
}

func BenchmarkInsertReordered(b *testing.B) {
	var pool chunk.Pool
	var r Reader
	r.Init(&pool, 1, 0)
	payload := make([]byte, 1448)
	seq := seqnum.Value(1)
	b.ReportAllocs()
	b.SetBytes(int64(2 * len(payload)))
	for b.Loop() {
		r.Insert(seq.Add(len(payload)), payload, Note{})
		r.Insert(seq, payload, Note{})
		seq = seq.Add(2 * len(payload))
		r.Take(r.Next())
	}
}
