package proto

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

// TestAhead hands in pieces of a text in any order, some of them twice: it comes out in order.
func TestAhead(t *testing.T) {
	text := make([]byte, 1000)
	for i := range text {
		text[i] = byte(i * 7)
	}
	for seed := range uint64(100) {
		r := rand.New(rand.NewPCG(seed, 1))
		var offs []int
		for off := 0; off < len(text); off += 10 {
			offs = append(offs, off, off)
		}
		r.Shuffle(len(offs), func(i, j int) { offs[i], offs[j] = offs[j], offs[i] })
		var a Ahead
		var got []byte
		for _, off := range offs {
			if !a.Keep(uint64(off), text[off:min(off+15, len(text))], 1000) {
				t.Fatal("there is no room")
			}
			for p, ok := a.Next(uint64(len(got))); ok; p, ok = a.Next(uint64(len(got))) {
				got = append(got, p...)
			}
		}
		if !bytes.Equal(got, text) || a.Size() != 0 {
			t.Fatalf("seed %d: %d bytes, %d are kept", seed, len(got), a.Size())
		}
	}
}

func TestAheadIsBounded(t *testing.T) {
	var a Ahead
	for i := range uint64(10) {
		if ok := a.Keep(100+10*i, make([]byte, 5), 7); ok != (i < 7) {
			t.Errorf("run %d of 7: %v", i+1, ok)
		}
	}
	a = Ahead{}
	for i := 0; a.Keep(uint64(1+i), make([]byte, 1000), 1<<20); i++ {
		if a.Size() > maxAhead {
			t.Fatalf("%d bytes are kept", a.Size())
		}
	}
	if a.Keep(1, nil, 1<<20) && a.Size() > maxAhead {
		t.Errorf("%d bytes are kept", a.Size())
	}
}
