// Package reasm reassembles one direction of a captured connection.
//
// A Reader takes the client's segments as they were captured: out of order, overlapping, repeated,
// with sequence numbers that wrap. It keeps the bytes in order, each once, until they are taken. It
// also keeps Marks: the offsets from which on the client had seen more of the server's bytes than
// before, which is where a turn begins. It knows no timeouts and no target; the session decides how
// long a hole may stay open.
package reasm

import (
	"slices"
	"sort"

	"tcpcopy/internal/core/chunk"
	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/seqnum"
)

// maxHeld bounds how many segments wait behind a hole.
const maxHeld = 1024

// Note is what is known of the other direction when a segment is captured.
type Note struct {
	Seen uint64    // server bytes that the client had received when it sent the segment
	Sent uint64    // server bytes that were sent when the segment arrived; Seen if not known
	At   mono.Time // when it was captured
}

// Mark is the start of a turn: when the client sent the bytes from the offset Off on, it had seen
// more of the server's bytes than before.
type Mark struct {
	Off uint64
	Note
}

// End is how a direction ended.
type End uint8

// The ways a direction ends.
const (
	Open   End = iota
	Closed     // FIN
	Reset      // RST
)

// piece is a run of bytes.
type piece struct {
	off uint64
	buf []byte // owned: it goes back to the pool
}

// end returns the offset after the last byte.
func (p *piece) end() uint64 { return p.off + uint64(len(p.buf)) }

// held is a piece that waits behind a hole.
type held struct {
	piece
	note Note
}

// Reader is one direction of a connection. Init makes it ready.
type Reader struct {
	pool *chunk.Pool
	base seqnum.Value // the sequence number of offset 0
	next uint64       // the offset after the last byte in order
	seen uint64       // Seen of the last byte in order
	// skipped reports that the bytes before next were given up. The bytes from there on tell what
	// the client had seen, but not whether a turn begins with them.
	skipped bool

	pieces []piece // in order, contiguous, ending at next
	first  int     // pieces before it were taken
	ahead  []held  // behind a hole, by offset, not overlapping
	marks  []Mark
	mark   int // marks before it were consumed
	kept   int // bytes of buffers in pieces and ahead

	end     End
	fin     bool // a FIN has come; a RST may have followed
	endOff  uint64
	endNote Note
}

// Init starts a direction whose first byte has the sequence number base. seen is how many of the
// server's bytes the client had seen by then. Buffers come from pool.
func (r *Reader) Init(pool *chunk.Pool, base seqnum.Value, seen uint64) {
	*r = Reader{pool: pool, base: base, seen: seen, pieces: r.pieces[:0], ahead: r.ahead[:0],
		marks: r.marks[:0]}
}

// Verdict is what became of a segment.
type Verdict uint8

// The verdicts of Insert.
const (
	Known       Verdict = iota // nothing in it was new
	InOrder                    // it extended the bytes in order
	Ahead                      // it waits behind a hole
	TooMuch                    // too many segments wait behind a hole
	OutOfWindow                // far outside the window, so not of this connection
)

// maxWindow is the largest window (RFC 7323 §2.3).
const maxWindow = 1 << 30

// Insert adds the payload that starts at the sequence number seq. New bytes in it are copied.
func (r *Reader) Insert(seq seqnum.Value, payload []byte, note Note) Verdict {
	off := seqnum.Unwrap(seq, r.base, r.next)
	if int64(off) < 0 { // before the first byte: a keepalive probe, or from before an adoption
		before := -int64(off)
		if before >= int64(len(payload)) {
			return Known
		}
		payload, off = payload[before:], 0
	}
	end := off + uint64(len(payload))
	switch {
	case end <= r.next:
		return Known
	case off > r.next+maxWindow:
		return OutOfWindow
	case off < r.next:
		payload, off = payload[r.next-off:], r.next
	}
	if off == r.next && len(r.ahead) == 0 {
		r.append(piece{off: off, buf: r.copy(payload)}, note)
		return InOrder
	}
	return r.insertAround(off, payload, note)
}

// insertAround keeps the parts of a segment that do not overlap what waits behind a hole, and
// advances past every hole that this has closed. Bytes that came first stay: a middlebox that
// resends other bytes in their place must not change what the server has read.
func (r *Reader) insertAround(off uint64, payload []byte, note Note) Verdict {
	before := r.next
	r.sentBy(off+uint64(len(payload)), note)
	full := false
	i := sort.Search(len(r.ahead), func(i int) bool { return r.ahead[i].end() > off })
	fresh := false
	for len(payload) > 0 {
		room := uint64(len(payload))
		if i < len(r.ahead) {
			h := &r.ahead[i]
			if h.off <= off {
				known := min(h.end()-off, room)
				payload, off = payload[known:], off+known
				i++
				continue
			}
			room = min(room, h.off-off)
		}
		if full = len(r.ahead) >= maxHeld && off != r.next; full {
			break
		}
		h := held{piece{off: off, buf: r.copy(payload[:room])}, note}
		if i < len(r.ahead) { // sent before those bytes were
			h.note.notAfter(r.ahead[i].note)
		}
		r.kept += cap(h.buf)
		r.ahead = slices.Insert(r.ahead, i, h)
		payload, off = payload[room:], off+room
		fresh = true
		i++
	}
	r.drain()
	switch {
	case r.next > before:
		return InOrder
	case full:
		return TooMuch
	case fresh:
		return Ahead
	default:
		return Known
	}
}

// sentBy notes that all bytes below end had been sent when n was noted. A retransmission tells what
// its client has seen by now. When the client first sent the bytes, it had seen no more than any
// segment with the same or later bytes tells.
func (r *Reader) sentBy(end uint64, n Note) {
	i := sort.Search(len(r.ahead), func(i int) bool { return r.ahead[i].end() > end })
	for i--; i >= 0 && (r.ahead[i].note.Seen > n.Seen || r.ahead[i].note.Sent > n.Sent); i-- {
		r.ahead[i].note.notAfter(n)
	}
}

// notAfter lowers n to what was known of the other direction when m was noted.
func (n *Note) notAfter(m Note) {
	n.Seen, n.Sent = min(n.Seen, m.Seen), min(n.Sent, m.Sent)
}

// drain moves the pieces that are now in order from behind the hole.
func (r *Reader) drain() {
	n := 0
	for n < len(r.ahead) && r.ahead[n].off == r.next {
		h := &r.ahead[n]
		r.kept -= cap(h.buf)
		r.append(h.piece, h.note)
		n++
	}
	r.ahead = slices.Delete(r.ahead, 0, n)
}

// copy returns a buffer of the pool that holds the payload.
func (r *Reader) copy(payload []byte) []byte {
	b := r.pool.Get(len(payload))
	copy(b, payload)
	return b
}

// append adds a piece that starts at r.next.
func (r *Reader) append(p piece, note Note) {
	if r.skipped {
		r.skipped, r.seen = false, note.Seen
	}
	if note.Seen > r.seen {
		r.marks = appendQueue(r.marks, &r.mark, Mark{Off: r.next, Note: note})
		r.seen = note.Seen
	}
	r.next = p.end()
	r.kept += cap(p.buf)
	r.pieces = appendQueue(r.pieces, &r.first, p)
}

// appendQueue appends v to a queue whose entries before *first are used up. While half of the queue
// is used up it moves the rest to the front rather than grow.
func appendQueue[T any](q []T, first *int, v T) []T {
	if len(q) == cap(q) && *first > 0 && *first >= len(q)/2 {
		n := copy(q, q[*first:])
		clear(q[n:])
		q, *first = q[:n], 0
	}
	return append(q, v)
}
