// Package seqnum is arithmetic on TCP sequence numbers, which wrap at 2^32 (RFC 9293 §3.4).
package seqnum

// Value is a sequence or acknowledgment number.
type Value uint32

// Less says whether v comes before w in the half of the circle that ends at w.
func (v Value) Less(w Value) bool { return int32(v-w) < 0 }

// LessEq says whether v is w or comes before it.
func (v Value) LessEq(w Value) bool { return int32(v-w) <= 0 }

// Add returns v moved forward by n bytes.
func (v Value) Add(n int) Value { return v + Value(n) }

// Sub returns the signed distance in bytes from w to v: negative when v comes before w.
func (v Value) Sub(w Value) int { return int(int32(v - w)) }

// InWindow says whether v lies in the window of size bytes that starts at first.
func (v Value) InWindow(first Value, size uint32) bool { return uint32(v-first) < size }

// Max returns the later of v and w.
func Max(v, w Value) Value {
	if v.Less(w) {
		return w
	}
	return v
}

// Min returns the earlier of v and w.
func Min(v, w Value) Value {
	if v.Less(w) {
		return v
	}
	return w
}

// Unwrap returns the 64-bit offset nearest to near whose low 32 bits are those of base+v's
// distance: with base the sequence number of offset 0, it places v on a line that does not wrap. It
// is exact while v lies within 2^31 of near.
func Unwrap(v, base Value, near uint64) uint64 {
	low := uint32(v - base)
	return uint64(int64(near) + int64(int32(low-uint32(near))))
}
