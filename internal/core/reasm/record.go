package reasm

import (
	"slices"
	"sort"

	"tcpcopy/internal/core/seqnum"
)

// Next is the offset after the last byte in order.
func (r *Reader) Next() uint64 { return r.next }

// Start is the offset of the first byte that is still kept.
func (r *Reader) Start() uint64 {
	if r.first < len(r.pieces) {
		return r.pieces[r.first].off
	}
	return r.next
}

// NextSeq is the sequence number of the next byte in order.
func (r *Reader) NextSeq() seqnum.Value { return r.base + seqnum.Value(r.next) }

// OffsetOf is the offset of the byte with the sequence number seq, the nearest to Next; for numbers
// before the first byte it is huge.
func (r *Reader) OffsetOf(seq seqnum.Value) uint64 { return seqnum.Unwrap(seq, r.base, r.next) }

// Hole says whether bytes wait behind a hole.
func (r *Reader) Hole() bool { return len(r.ahead) > 0 }

// Ahead is the number of bytes that wait behind holes.
func (r *Reader) Ahead() int {
	n := 0
	for i := range r.ahead {
		n += len(r.ahead[i].buf)
	}
	return n
}

// Kept is how much of the pool the reader holds, in bytes of buffers.
func (r *Reader) Kept() int { return r.kept }

// Seen is how many of the server's bytes the client had received when it sent the last byte in
// order.
func (r *Reader) Seen() uint64 { return r.seen }

// View returns at most max bytes in order from the offset off; it ends where the segment that they
// came in ends. It is empty outside what is kept, and holds until those bytes are taken.
func (r *Reader) View(off uint64, max int) []byte {
	live := r.pieces[r.first:]
	if off >= r.next || len(live) == 0 || off < live[0].off {
		return nil
	}
	i := len(live) - 1 // what is sent next is most often what came last
	if off < live[i].off {
		i = sort.Search(len(live), func(i int) bool { return live[i].end() > off })
	}
	b := live[i].buf[off-live[i].off:]
	return b[:min(len(b), max)]
}

// Peek copies bytes in order from the offset off on to b, across the borders of segments, and
// returns how many there were.
func (r *Reader) Peek(off uint64, b []byte) (n int) {
	for n < len(b) {
		v := r.View(off+uint64(n), len(b)-n)
		if len(v) == 0 {
			break
		}
		n += copy(b[n:], v)
	}
	return n
}

// Take gives back what lies wholly below the offset end.
func (r *Reader) Take(end uint64) {
	for r.first < len(r.pieces) && r.pieces[r.first].end() <= end {
		p := &r.pieces[r.first]
		r.kept -= cap(p.buf)
		r.pool.Put(p.buf)
		*p = piece{}
		r.first++
	}
	if r.first == len(r.pieces) {
		r.pieces, r.first = r.pieces[:0], 0
	}
}

// Mark returns the first mark that was not consumed.
func (r *Reader) Mark() (m Mark, ok bool) {
	if r.mark == len(r.marks) {
		return m, false
	}
	return r.marks[r.mark], true
}

// MarkAfter returns the first mark behind the offset off that was not consumed.
func (r *Reader) MarkAfter(off uint64) (m Mark, ok bool) {
	for i := r.mark; i < len(r.marks); i++ {
		if r.marks[i].Off > off {
			return r.marks[i], true
		}
	}
	return m, false
}

// LastMark returns the newest mark, if it was not consumed.
func (r *Reader) LastMark() (m Mark, ok bool) {
	if r.mark == len(r.marks) {
		return m, false
	}
	return r.marks[len(r.marks)-1], true
}

// NextMark consumes the first mark, if there is one.
func (r *Reader) NextMark() {
	if r.mark < len(r.marks) {
		r.mark++
	}
	if r.mark == len(r.marks) {
		r.marks, r.mark = r.marks[:0], 0
	}
}

// StartTurn makes the next byte in order the start of a turn, sent at n.
func (r *Reader) StartTurn(n Note) {
	r.marks = appendQueue(r.marks, &r.mark, Mark{Off: r.next, Note: n})
	r.seen, r.adrift = n.Seen, false
}

// SetEnd notes that the direction ends at the sequence number seq, by FIN or RST; the first end
// stays, but a RST overrules a FIN. A FIN before bytes that have come, or nowhere near the window,
// is none.
func (r *Reader) SetEnd(how End, seq seqnum.Value, note Note) {
	if r.end >= how {
		return
	}
	off := seqnum.Unwrap(seq, r.base, r.next)
	if how == Closed && off-r.next > maxWindow { // before next it is huge
		return
	}
	if r.end == Open {
		r.endOff, r.endNote = off, note
	}
	r.end, r.fin = how, r.fin || how == Closed
}

// Ended says how the direction ended, once all bytes before its end are in order. A RST counts
// where the bytes in order end: what a reset client had sent before, and we have not seen, nobody
// waits for.
func (r *Reader) Ended() (how End, note Note) {
	switch {
	case r.end == Closed && r.next != r.endOff:
		return Open, Note{}
	default:
		return r.end, r.endNote
	}
}

// EndOff is the offset where the client's FIN ends its direction, if it has come; a RST may have
// come behind it.
func (r *Reader) EndOff() (off uint64, ok bool) { return r.endOff, r.fin }

// HasEnd says whether the client's end was seen, whether or not all bytes before it are in order.
func (r *Reader) HasEnd() bool { return r.end != Open }

// Close gives back everything. The Reader may be used again after Init.
func (r *Reader) Close() {
	r.Take(r.next)
	for i := range r.ahead {
		r.pool.Put(r.ahead[i].buf)
	}
	clear(r.ahead)
	r.pieces, r.ahead, r.marks = shrunk(r.pieces), shrunk(r.ahead), shrunk(r.marks)
	r.first, r.mark, r.kept = 0, 0, 0
}

// keepCap is how many entries a queue keeps room for when its connection has ended.
const keepCap = 16

func shrunk[T any](q []T) []T {
	if cap(q) > keepCap {
		return nil
	}
	return q[:0]
}

// SkipTo gives up on what is missing before the offset off, which is not before Next, and on all
// that is in order before it: the next byte in order is at off. Offsets and sequence numbers keep
// their relation. The bytes at off begin no turn, whatever their client had seen, for it may have
// begun in what is missing. It returns how many bytes that had waited behind a hole were given up
// with it.
func (r *Reader) SkipTo(off uint64) (lost int) {
	r.Take(r.next)
	r.marks, r.mark = r.marks[:0], 0
	n := 0
	for n < len(r.ahead) && r.ahead[n].off < off {
		h := &r.ahead[n]
		r.kept -= cap(h.buf)
		if h.end() > off {
			cut := int(off - h.off)
			rest := r.copy(h.buf[cut:])
			r.kept += cap(rest)
			r.pool.Put(h.buf)
			h.off, h.buf = off, rest
			lost += cut
			break
		}
		lost += len(h.buf)
		r.pool.Put(h.buf)
		n++
	}
	r.ahead = slices.Delete(r.ahead, 0, n)
	r.next, r.adrift = off, true
	r.drain()
	return lost
}

// End is the offset after the last byte that has come, in order or not.
func (r *Reader) End() uint64 {
	if n := len(r.ahead); n > 0 {
		return r.ahead[n-1].end()
	}
	return r.next
}

// FirstAhead is the offset of the first byte that waits behind a hole.
func (r *Reader) FirstAhead() (off uint64, ok bool) {
	if len(r.ahead) == 0 {
		return 0, false
	}
	return r.ahead[0].off, true
}
