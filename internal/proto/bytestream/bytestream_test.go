package bytestream

import (
	"math/big"
	"math/rand/v2"
	"testing"

	"tcpcopy/internal/proto"
)

// polynomial is what Key.Append computes, by its definition.
func polynomial(k *Key, p []byte) uint64 {
	h, m := new(big.Int), big.NewInt(prime)
	for _, c := range p {
		h.Mul(h, new(big.Int).SetUint64(k[1]))
		h.Add(h, big.NewInt(int64(c))).Mod(h, m)
	}
	return h.Uint64()
}

func randomBytes(r *rand.Rand, n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(r.Uint32())
		if r.IntN(4) == 0 {
			p[i] = 0xff
		}
	}
	return p
}

func TestHashIsThePolynomial(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for n := range 100 {
		k := NewKey(proto.NewDigesting(r.Uint64(), 0))
		p := randomBytes(r, n)
		if got, want := k.Append(0, p), polynomial(&k, p); got != want {
			t.Fatalf("%d bytes: %d, wanted %d", n, got, want)
		}
	}
}

// TestPieces checks that the hashes of pieces give that of all of them and of each part, wherever
// the bytes are cut.
func TestPieces(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	with := proto.NewDigesting(7, 0)
	k := NewKey(with)
	for range 300 {
		all := randomBytes(r, r.IntN(200))
		a := r.IntN(len(all) + 1)
		b := a + r.IntN(len(all)-a+1)
		first, mid := k.Append(0, all[:a]), k.Append(0, all[a:b])
		n := uint64(b - a)
		if got, want := k.Join(first, mid, n), k.Append(0, all[:b]); got != want {
			t.Fatalf("joined: %d, wanted %d", got, want)
		}
		if got := k.Append(first, all[a:b]); got != k.Append(0, all[:b]) {
			t.Fatalf("appended: %d", got)
		}
		if got := k.Rest(k.Append(0, all[:b]), first, n); got != mid {
			t.Fatalf("rest: %d, wanted %d", got, mid)
		}
	}
}

// TestFollowed checks what a follower finds of a stream, fed in pieces of any size.
func TestFollowed(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	with := proto.NewDigesting(7, 0)
	k := NewKey(with)
	for range 100 {
		f := proto.Follow(new(Answers))
		f.Digest(NewDigester(with))
		var scratch []proto.Answer
		var sum, at uint64
		all := randomBytes(r, 1+r.IntN(300))
		for p := all; len(p) > 0; {
			n := 1 + r.IntN(len(p))
			for _, told := range f.Feed(0, p[:n], nil, &scratch) {
				sum = k.Join(sum, told.Digest.Sum-1, told.End-at)
				at = told.End
			}
			p = p[n:]
		}
		if want := k.Append(0, all); at != uint64(len(all)) || sum != want {
			t.Fatalf("%d bytes with hash %d, wanted %d with %d", at, sum, len(all), want)
		}
		end := f.Close(0, nil, &scratch)
		if len(end) != 1 || !end[0].Last || end[0].Size != 0 || !f.Over() || f.Lost() {
			t.Fatalf("at the end: %+v", end)
		}
	}
}

func BenchmarkHash(b *testing.B) {
	k := NewKey(proto.NewDigesting(7, 0))
	p := make([]byte, 64<<10)
	b.SetBytes(int64(len(p)))
	for b.Loop() {
		k.Append(0, p)
	}
}
