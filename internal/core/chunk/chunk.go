// Package chunk holds payload that outlives the packet it came in.
//
// A Pool hands out buffers of a few sizes and reuses them, so that a shard allocates nothing in its
// steady state. The shard's memory bound counts the buffers that are handed out. A buffer is
// written once, before it is shared, and not changed until it is put back. One shard owns a Pool,
// which is not safe for concurrent use.
package chunk

import "math/bits"

const (
	minShift = 7         // 128 bytes: a small request
	maxShift = 17        // 128 KB: larger than any captured TSO frame
	keep     = 256 << 10 // bytes of idle buffers that are kept of each size
)

// Pool hands out buffers. The zero value is ready.
type Pool struct {
	free  [maxShift + 1][][]byte
	inUse int64
	idle  [maxShift + 1]int
}

// class returns the binary logarithm of the smallest buffer that holds n bytes.
func class(n int) int {
	if n <= 1<<minShift {
		return minShift
	}
	return bits.Len(uint(n - 1))
}

// Get returns a buffer of length n, whose content is undefined. The caller owns it until Put.
func (p *Pool) Get(n int) []byte {
	c := class(n)
	if c > maxShift { // larger than any packet: not reused
		p.inUse += int64(n)
		return make([]byte, n)
	}
	p.inUse += 1 << c
	if f := p.free[c]; len(f) > 0 {
		b := f[len(f)-1]
		f[len(f)-1] = nil
		p.free[c] = f[:len(f)-1]
		p.idle[c] -= 1 << c
		return b[:n]
	}
	return make([]byte, n, 1<<c)
}

// Put takes back a buffer that Get returned. It must begin where that one began. The pool keeps
// some buffers of each size and leaves the others to the garbage collector.
func (p *Pool) Put(b []byte) {
	size := cap(b)
	c := class(size)
	if c > maxShift {
		p.inUse -= int64(size)
		return
	}
	p.inUse -= 1 << c
	if p.idle[c] >= keep && len(p.free[c]) > 16 {
		return
	}
	p.idle[c] += 1 << c
	p.free[c] = append(p.free[c], b[:0])
}

// Charge counts n bytes more as in use, which the pool's owner has allocated elsewhere; a negative
// n counts fewer.
func (p *Pool) Charge(n int) { p.inUse += int64(n) }

// InUse returns how many bytes are handed out, counted by the size of the buffers, and charged.
func (p *Pool) InUse() int64 { return p.inUse }
