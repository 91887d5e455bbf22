// Package bytestream reads what a server sends on a connection whose protocol is not known, for a
// comparison: it makes a keyed hash of the bytes, in pieces of any size. From the hashes of pieces
// follow those of what they make together, and of parts of it, so that two servers' bytes can be
// compared wherever both have a piece's end.
package bytestream

import (
	"math/bits"

	"tcpcopy/internal/proto"
)

// Kind is the kind of the readers that this package makes. It is no protocol that a mapping speaks.
const Kind proto.Kind = 255

// Answers reads a server's bytes. Each piece that it is fed is an answer; the last one is empty,
// and is the end of the server's direction.
type Answers struct{ at uint64 }

var _ proto.Answers = (*Answers)(nil)

// Expect is of proto.Answers.
func (*Answers) Expect(uint64, proto.Hint) {}

// Feed is of proto.Answers.
func (a *Answers) Feed(p []byte, out []proto.Answer) ([]proto.Answer, error) {
	a.at += uint64(len(p))
	return append(out, proto.Answer{End: a.at, Size: uint64(len(p))}), nil
}

// Blind is of proto.Answers.
func (*Answers) Blind() uint64 { return 0 }

// Skip is of proto.Answers.
func (*Answers) Skip(_ uint64, out []proto.Answer) []proto.Answer { return out }

// Kept is of proto.Answers.
func (*Answers) Kept() bool { return false }

// Close is of proto.Answers.
func (a *Answers) Close(out []proto.Answer) []proto.Answer {
	return append(out, proto.Answer{End: a.at, Last: true})
}

// NewDigester returns a digester of pieces. The Sum of their digests is their hash and 1.
func NewDigester(with *proto.Digesting) proto.Digester { return &digester{key: NewKey(with)} }

type digester struct {
	key  Key
	hash uint64
}

// Write is of proto.Digester.
func (d *digester) Write(p []byte) { d.hash = d.key.Append(d.hash, p) }

// End is of proto.Digester.
func (d *digester) End(*proto.Answer) *proto.Digest {
	sum := d.hash + 1
	d.hash = 0
	return &proto.Digest{Sum: sum}
}

// Close is of proto.Digester.
func (d *digester) Close() { d.hash = 0 }

// half masks the lower half of a word.
const half = 1<<32 - 1

// prime is 2^61 − 1. A hash is the value of a polynomial modulo it: the bytes are its coefficients,
// and the key is where it is evaluated. Different bytes of the same length n have the same hash for
// n keys at most.
const prime = 1<<61 - 1

// Key is the key of hashes: its powers from 0 to 8.
type Key [9]uint64

// NewKey returns the key that follows from a seed.
func NewKey(with *proto.Digesting) Key {
	k := Key{0: 1, 1: with.Hash([]byte("bytestream"))%(prime-1<<16) + 1<<16}
	for i := 2; i < len(k); i++ {
		k[i] = times(k[i-1], k[1])
	}
	return k
}

// Append returns the hash of bytes whose hash is h, followed by p. The hash of none is 0.
func (k *Key) Append(h uint64, p []byte) uint64 {
	for ; len(p) >= 8; p = p[8:] {
		// Each power is taken in two halves, so that the products of eight bytes fit into a word.
		c0, c1, c2, c3 := uint64(p[0]), uint64(p[1]), uint64(p[2]), uint64(p[3])
		c4, c5, c6, c7 := uint64(p[4]), uint64(p[5]), uint64(p[6]), uint64(p[7])
		low := c0*(k[7]&half) + c1*(k[6]&half) + c2*(k[5]&half) + c3*(k[4]&half) +
			c4*(k[3]&half) + c5*(k[2]&half) + c6*(k[1]&half) + c7
		high := c0*(k[7]>>32) + c1*(k[6]>>32) + c2*(k[5]>>32) + c3*(k[4]>>32) +
			c4*(k[3]>>32) + c5*(k[2]>>32) + c6*(k[1]>>32)
		hi, lo := bits.Mul64(h, k[8])
		lo, carry := bits.Add64(lo, low, 0)
		hi += carry
		lo, carry = bits.Add64(lo, high<<32, 0)
		h = reduce(hi+carry+high>>32, lo)
	}
	for _, c := range p {
		hi, lo := bits.Mul64(h, k[1])
		lo, carry := bits.Add64(lo, uint64(c), 0)
		h = reduce(hi+carry, lo)
	}
	return h
}

// Join returns the hash of bytes whose hash is a, followed by n bytes whose hash is b.
func (k *Key) Join(a, b, n uint64) uint64 { return plus(times(a, k.power(n)), b) }

// Rest returns the hash of the last n of some bytes. all is the hash of all of them, and a that of
// the others.
func (k *Key) Rest(all, a, n uint64) uint64 { return plus(all, prime-times(a, k.power(n))) }

// power returns the n-th power of the key.
func (k *Key) power(n uint64) uint64 {
	p := uint64(1)
	for square := k[1]; n > 0; n >>= 1 {
		if n&1 != 0 {
			p = times(p, square)
		}
		square = times(square, square)
	}
	return p
}

// times returns a·b modulo prime.
func times(a, b uint64) uint64 { return reduce(bits.Mul64(a, b)) }

// plus returns a+b modulo prime. Both are at most prime.
func plus(a, b uint64) uint64 {
	if a += b; a >= prime {
		a -= prime
	}
	return a % prime
}

// reduce returns hi·2^64 + lo modulo prime. hi is below 2^60.
func reduce(hi, lo uint64) uint64 {
	// 2^61 is 1 modulo prime.
	r := lo&prime + (lo>>61 | hi<<3)
	r = r&prime + r>>61
	if r >= prime {
		r -= prime
	}
	return r
}
