package way

import (
	"sync"

	"tcpcopy/internal/proto"
)

// Buffers is memory for answers that are compared, which goes from the goroutine that reads an
// answer to the one that compares it, and back. It implements proto.Buffers. The zero value is
// empty and ready.
type Buffers struct {
	mu     sync.Mutex
	free   [maxBuffer / bufferStep][][]byte // by size
	packed []proto.Packed
}

var _ proto.Buffers = (*Buffers)(nil)

const (
	bufferStep = 1 << 10
	maxBuffer  = 32 << 10 // larger ones are not kept
	// maxFree bounds the buffers of one size: those of answers that are on their way at once.
	maxFree = 64
	// maxPacked bounds the digests that are kept, of some 200 bytes.
	maxPacked = 256
)

// Get returns an empty buffer that has room for n bytes.
func (b *Buffers) Get(n int) []byte {
	k := (max(n, 1) - 1) / bufferStep
	if k >= len(b.free) {
		return make([]byte, 0, n)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if all := b.free[k]; len(all) > 0 {
		p := all[len(all)-1]
		all[len(all)-1] = nil
		b.free[k] = all[:len(all)-1]
		return p
	}
	return make([]byte, 0, (k+1)*bufferStep)
}

// Put takes back a buffer, which nobody uses any more.
func (b *Buffers) Put(p []byte) {
	k := cap(p)/bufferStep - 1
	if k < 0 || k >= len(b.free) {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.free[k]) < maxFree {
		b.free[k] = append(b.free[k], p[:0])
	}
}

// GetPacked returns a digest that was put; nil if there is none.
func (b *Buffers) GetPacked() proto.Packed {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := len(b.packed) - 1
	if n < 0 {
		return nil
	}
	p := b.packed[n]
	b.packed[n], b.packed = nil, b.packed[:n]
	return p
}

// PutPacked takes back a digest, which nobody uses any more.
func (b *Buffers) PutPacked(p proto.Packed) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.packed) < maxPacked {
		b.packed = append(b.packed, p)
	}
}
