// Package chunk keeps the payload that outlives the packet it came in.
//
// A Pool belongs to one shard and is not safe for use by others. It hands out buffers of a few
// sizes and takes them back, so that a shard in its steady state allocates nothing; what it has
// handed out is what the shard's memory bound counts. Bytes in a buffer are written once, before
// anybody else sees them, and never changed until it is put back.
package chunk

import "math/bits"

const (
	minShift = 7  // 128 bytes: a small request
	maxShift = 17 // 128 KB: larger than any captured TSO frame
	keep     = 256 << 10
)

// Pool hands out buffers. The zero value is ready.
type Pool struct {
	free  [maxShift + 1][][]byte
	inUse int64
	idle  [maxShift + 1]int
}

func class(n int) int {
	if n <= 1<<minShift {
		return minShift
	}
	return bits.Len(uint(n - 1))
}

// Get returns a buffer of length n; its content is not defined. It must go back through Put.
func (p *Pool) Get(n int) []byte {
	c := class(n)
	if c > maxShift { // more than any packet has: not worth keeping
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

// Put takes back a buffer that Get returned, whole: the caller must not have cut its start off. A
// pool keeps some of each size and leaves the rest to the garbage collector.
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

// InUse is how many bytes are handed out, counted by the size of the buffers.
func (p *Pool) InUse() int64 { return p.inUse }
