// Package seqnum is arithmetic on TCP sequence numbers, which wrap at 2^32 (RFC 9293 §3.4).
package seqnum

// Value is a sequence or acknowledgment number.
type Value uint32

// Less reports whether v precedes w: w is at most 2^31 after v.
func (v Value) Less(w Value) bool { return int32(v-w) < 0 }

// LessEq reports whether v precedes w or equals it.
func (v Value) LessEq(w Value) bool { return int32(v-w) <= 0 }

// Add returns v moved forward by n bytes.
func (v Value) Add(n int) Value { return v + Value(n) }

// Sub returns the distance from w to v in bytes. It is negative if v precedes w.
func (v Value) Sub(w Value) int { return int(int32(v - w)) }

// InWindow reports whether v lies in the window of size bytes that starts at first.
func (v Value) InWindow(first Value, size uint32) bool { return uint32(v-first) < size }

// Max returns the later of v and w.
func Max(v, w Value) Value {
	if v.Less(w) {
		return w
	}
	return v
}

// Unwrap returns the 64-bit offset of the sequence number v, where base is the sequence number of
// the offset 0. Of the offsets that v can have it is the one nearest to near.
func Unwrap(v, base Value, near uint64) uint64 {
	low := uint32(v - base)
	return uint64(int64(near) + int64(int32(low-uint32(near))))
}
