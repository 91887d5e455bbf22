package reasm

import (
	"slices"
	"sort"

	"tcpcopy/internal/core/seqnum"
)

// Next returns the offset after the last byte in order.
func (r *Reader) Next() uint64 { return r.next }

// Start returns the offset of the first byte that is still kept.
func (r *Reader) Start() uint64 {
	if r.first < len(r.pieces) {
		return r.pieces[r.first].off
	}
	return r.next
}

// NextSeq returns the sequence number of the next byte in order.
func (r *Reader) NextSeq() seqnum.Value { return r.base + seqnum.Value(r.next) }

// OffsetOf returns the offset of the byte with the sequence number seq that is nearest to Next. As
// an int64 it is negative for a byte before the first.
func (r *Reader) OffsetOf(seq seqnum.Value) uint64 { return seqnum.Unwrap(seq, r.base, r.next) }

// Hole reports whether bytes wait behind a hole.
func (r *Reader) Hole() bool { return len(r.ahead) > 0 }

// Ahead returns the number of bytes that wait behind holes.
func (r *Reader) Ahead() int {
	n := 0
	for i := range r.ahead {
		n += len(r.ahead[i].buf)
	}
	return n
}

// Kept returns how much of the pool the reader holds, in bytes of buffers.
func (r *Reader) Kept() int { return r.kept }

// Seen returns how many of the server's bytes the client had received when it sent the last byte in
// order.
func (r *Reader) Seen() uint64 { return r.seen }

// View returns at most max bytes in order from the offset off on, which end where the segment ends
// that they came in. It returns none outside what is kept. The view is the reader's, and valid
// until the bytes are taken.
func (r *Reader) View(off uint64, max int) []byte {
	live := r.pieces[r.first:]
	if off >= r.next || len(live) == 0 || off < live[0].off {
		return nil
	}
	i := len(live) - 1 // the last piece is most often the one that is sent next
	if off < live[i].off {
		i = sort.Search(len(live), func(i int) bool { return live[i].end() > off })
	}
	b := live[i].buf[off-live[i].off:]
	return b[:min(len(b), max)]
}

// Peek copies bytes in order from the offset off on to b, across the boundaries of segments. It
// returns how many it copied.
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

// Take releases the segments that lie entirely below the offset end.
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

// Mark returns the first mark that was not consumed. ok is false if there is none.
func (r *Reader) Mark() (m Mark, ok bool) {
	if r.mark == len(r.marks) {
		return m, false
	}
	return r.marks[r.mark], true
}

// MarkAfter returns the first mark after the offset off that was not consumed. ok is false if there
// is none.
func (r *Reader) MarkAfter(off uint64) (m Mark, ok bool) {
	for i := r.mark; i < len(r.marks); i++ {
		if r.marks[i].Off > off {
			return r.marks[i], true
		}
	}
	return m, false
}

// MarkFrom returns the first mark at the offset off or later that was not consumed, but for the
// first skip such marks. ok is false if there is none.
func (r *Reader) MarkFrom(off uint64, skip int) (m Mark, ok bool) {
	for i := r.mark; i < len(r.marks); i++ {
		if r.marks[i].Off < off {
			continue
		}
		if skip--; skip < 0 {
			return r.marks[i], true
		}
	}
	return m, false
}

// LastMark returns the newest mark. ok is false if it was consumed.
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

// StartTurn makes the next byte in order the start of a turn that was sent at n.
func (r *Reader) StartTurn(n Note) {
	r.marks = appendQueue(r.marks, &r.mark, Mark{Off: r.next, Note: n})
	r.seen, r.skipped = n.Seen, false
}

// SetEnd notes that the direction ends at the sequence number seq, by FIN or RST. Only the first
// end counts, except that a RST may follow a FIN. A FIN is ignored if it precedes bytes that have
// come, or is far outside the window.
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

// Ended returns how the direction ended, once all bytes before its end are in order, and what was
// noted then. Bytes that are missing before a RST do not count: the client does not send them
// again.
func (r *Reader) Ended() (how End, note Note) {
	switch {
	case r.end == Closed && r.next != r.endOff:
		return Open, Note{}
	default:
		return r.end, r.endNote
	}
}

// EndOff returns the offset at which the client's FIN ends its direction. ok is false unless a FIN
// has come. A RST may have followed it.
func (r *Reader) EndOff() (off uint64, ok bool) { return r.endOff, r.fin }

// HasEnd reports whether the client's end was captured, even if bytes before it are missing.
func (r *Reader) HasEnd() bool { return r.end != Open }

// Close returns all buffers to the pool. The Reader may be used again after Init.
func (r *Reader) Close() {
	r.Take(r.next)
	for i := range r.ahead {
		r.pool.Put(r.ahead[i].buf)
	}
	clear(r.ahead)
	r.pieces, r.ahead, r.marks = shrunk(r.pieces), shrunk(r.ahead), shrunk(r.marks)
	r.first, r.mark, r.kept = 0, 0, 0
}

// keepCap is for how many entries a queue keeps room when its connection has ended.
const keepCap = 16

// shrunk returns q without entries, and without its array if that is large.
func shrunk[T any](q []T) []T {
	if cap(q) > keepCap {
		return nil
	}
	return q[:0]
}

// SkipTo gives up on the bytes before the offset off that are missing, or in order and not taken.
// off must not be less than Next, and becomes Next. The bytes at off begin no turn whatever their
// client had seen, since the turn may have begun in what is missing. SkipTo returns how many bytes
// that waited behind a hole were given up.
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
	r.next, r.skipped = off, true
	r.drain()
	return lost
}

// End returns the offset after the last byte that has come, in order or not.
func (r *Reader) End() uint64 {
	if n := len(r.ahead); n > 0 {
		return r.ahead[n-1].end()
	}
	return r.next
}

// FirstAhead returns the offset of the first byte that waits behind a hole. ok is false if none
// waits.
func (r *Reader) FirstAhead() (off uint64, ok bool) {
	if len(r.ahead) == 0 {
		return 0, false
	}
	return r.ahead[0].off, true
}
