package reasm

import (
	"bytes"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"tcpcopy/internal/core/chunk"
	"tcpcopy/internal/core/seqnum"
)

// arrival is a segment on its way to the reader: bytes [off, end) of the stream.
type arrival struct {
	off, end int
	seen     uint64
}

// oracle computes what a Reader does, byte by byte and from the whole history.
type oracle struct {
	owner   []int // which arrival brought each byte first; -1: none
	known   []arrival
	next    int
	seen    uint64
	marks   []at
	ordered []byte
}

func (o *oracle) insert(a arrival, stream []byte) {
	id := len(o.known)
	o.known = append(o.known, a)
	for i := max(a.off, o.next); i < a.end; i++ {
		if o.owner[i] < 0 {
			o.owner[i] = id
		}
	}
	for o.next < len(o.owner) && o.owner[o.next] >= 0 {
		end := o.next // of the piece: what one arrival brought, without a break
		for end < len(o.owner) && o.owner[end] == o.owner[o.next] {
			end++
		}
		seen := ^uint64(0)
		for _, k := range o.known { // later bytes are not sent before earlier ones
			if k.end >= end {
				seen = min(seen, k.seen)
			}
		}
		if seen > o.seen {
			o.seen = seen
			o.marks = append(o.marks, at{uint64(o.next), seen})
		}
		o.ordered = append(o.ordered, stream[o.next:end]...)
		o.next = end
	}
}

func (o *oracle) hole() bool {
	for _, id := range o.owner[o.next:] {
		if id >= 0 {
			return true
		}
	}
	return false
}

// script is a client's stream, as it was first sent, and the segments that arrive.
type script struct {
	stream   []byte
	first    []arrival // as it was sent
	turns    []at      // where Seen rose then
	arrivals []arrival
	// joined reports that retransmissions may join segments. What was known at a part of such a
	// piece is not kept, so turns may be found earlier than they began, if the network delays the
	// originals beyond the retransmission.
	joined bool
}

func draw(t *rapid.T) script {
	var s script
	var first []arrival
	seen := uint64(rapid.IntRange(0, 3).Draw(t, "greeting"))
	if seen > 0 {
		s.turns = append(s.turns, at{0, seen})
	}
	for off := range rapid.IntRange(1, 30).Draw(t, "segments") {
		start := len(s.stream)
		if off > 0 {
			if rise := rapid.IntRange(-2, 3).Draw(t, "rise"); rise > 0 {
				seen += uint64(rise)
				s.turns = append(s.turns, at{uint64(start), seen})
			}
		}
		n := rapid.IntRange(1, 12).Draw(t, "length")
		for i := range n {
			s.stream = append(s.stream, byte(start+i)*7+byte(off))
		}
		first = append(first, arrival{start, start + n, seen})
	}
	// Segments are delayed, lost, and repeated: in other pieces, by a client that has seen more.
	s.first, s.arrivals = first, slices.Clone(first)
	s.joined = rapid.Bool().Draw(t, "joined")
	for range rapid.IntRange(0, 20).Draw(t, "again") {
		i := rapid.IntRange(0, len(first)-1).Draw(t, "from")
		j := i
		if s.joined {
			j = min(len(first)-1, i+rapid.IntRange(0, 3).Draw(t, "over"))
		}
		a := arrival{first[i].off + rapid.IntRange(0, first[i].end-first[i].off-1).Draw(t, "cut"),
			first[j].end,
			min(first[j].seen+uint64(rapid.IntRange(0, 6).Draw(t, "later")), seen)}
		s.arrivals = append(s.arrivals, a)
	}
	if rapid.Bool().Draw(t, "shuffled") {
		s.arrivals = rapid.Permutation(s.arrivals).Draw(t, "order")
	} else {
		for range rapid.IntRange(0, 4).Draw(t, "swaps") {
			i := rapid.IntRange(0, len(s.arrivals)-1).Draw(t, "i")
			j := min(len(s.arrivals)-1, i+rapid.IntRange(1, 5).Draw(t, "by"))
			s.arrivals[i], s.arrivals[j] = s.arrivals[j], s.arrivals[i]
		}
	}
	return s
}

// verdict inserts an arrival and returns the Verdict that a Reader must return.
func (o *oracle) verdict(a arrival, stream []byte) Verdict {
	before, fresh := o.next, 0
	for k := max(a.off, o.next); k < a.end; k++ {
		if o.owner[k] < 0 {
			fresh++
		}
	}
	o.insert(a, stream)
	switch {
	case o.next > before:
		return InOrder
	case fresh > 0:
		return Ahead
	}
	return Known
}

func TestReaderProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := draw(t)
		base := seqnum.Value(rapid.Uint32().Draw(t, "base"))
		if rapid.Bool().Draw(t, "wraps") {
			base = -seqnum.Value(rapid.IntRange(0, len(s.stream)).Draw(t, "before wrap"))
		}
		var pool chunk.Pool
		var r Reader
		r.Init(&pool, base, 0)
		o := oracle{owner: make([]int, len(s.stream))}
		for i := range o.owner {
			o.owner[i] = -1
		}
		var got []byte
		var marks []at
		taken := uint64(0)
		for i, a := range s.arrivals {
			want := o.verdict(a, s.stream)
			payload := slices.Clone(s.stream[a.off:a.end])
			v := r.Insert(base.Add(a.off), payload, Note{Seen: a.seen, Sent: a.seen})
			clear(payload) // the reader has its own copy
			if v != want {
				t.Fatalf("arrival %d %v: verdict %d, wanted %d", i, a, v, want)
			}
			if r.Next() != uint64(o.next) || r.Hole() != o.hole() || r.Seen() != o.seen &&
				!s.joined {
				t.Fatalf("arrival %d %v: Next() = %d, Hole() = %v, Seen() = %d; wanted %d, %v, %d",
					i, a, r.Next(), r.Hole(), r.Seen(), o.next, o.hole(), o.seen)
			}
			for m, ok := r.Mark(); ok && (m.Off < r.Next() && i%2 == 0); m, ok = r.Mark() {
				marks = append(marks, at{m.Off, m.Seen})
				r.NextMark()
			}
			if i%3 == 2 {
				for off := uint64(len(got)); off < r.Next(); {
					v := r.View(off, 5)
					got = append(got, v...)
					off += uint64(len(v))
				}
				taken = uint64(rapid.IntRange(int(taken), len(got)).Draw(t, "taken"))
				r.Take(taken)
				if r.Start() > taken {
					t.Fatalf("Take(%d) has taken all before %d", taken, r.Start())
				}
			}
			if int64(r.Kept()) != pool.InUse() {
				t.Fatalf("Kept() = %d, but %d bytes of the pool are in use", r.Kept(), pool.InUse())
			}
		}
		for off := uint64(len(got)); off < r.Next(); {
			v := r.View(off, 1<<20)
			got = append(got, v...)
			off += uint64(len(v))
		}
		if !bytes.Equal(got, s.stream) {
			t.Fatalf("read %x, wanted %x", got, s.stream)
		}
		for m, ok := r.Mark(); ok; m, ok = r.Mark() {
			marks = append(marks, at{m.Off, m.Seen})
			r.NextMark()
		}
		if !slices.Equal(marks, o.marks) && !s.joined {
			t.Fatalf("turns at %v, wanted %v", marks, o.marks)
		}
		r.Close()
		if pool.InUse() != 0 || r.Kept() != 0 {
			t.Fatalf("%d bytes of the pool are in use after Close, Kept() = %d", pool.InUse(),
				r.Kept())
		}
	})
}

// A capture without loss sees every segment that reached the server. If the network lost the first
// transmission of some, and each is repeated after a segment of its own turn or a later one has
// come, the turns are found where they began.
func TestTurnsSurviveLoss(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := draw(t)
		first, n := s.first, len(s.first)
		last := first[n-1].seen
		var order []arrival
		for i := 0; i < n; {
			// A burst of one turn: some of it is lost, but not its last segment.
			end := i
			for end < n && first[end].seen == first[i].seen {
				end++
			}
			var lost []arrival
			for k := i; k < end; k++ {
				if k < end-1 && rapid.Bool().Draw(t, "lost") {
					a := first[k]
					a.seen = min(a.seen+uint64(rapid.IntRange(0, 5).Draw(t, "later")), last)
					lost = append(lost, a)
				} else {
					order = append(order, first[k])
				}
			}
			order = append(order, rapid.Permutation(lost).Draw(t, "again")...)
			i = end
		}
		var pool chunk.Pool
		var r Reader
		r.Init(&pool, 7, 0)
		var marks []at
		for _, a := range order {
			r.Insert(seqnum.Value(7).Add(a.off), s.stream[a.off:a.end],
				Note{Seen: a.seen, Sent: a.seen})
			for m, ok := r.Mark(); ok; m, ok = r.Mark() {
				marks = append(marks, at{m.Off, m.Seen})
				r.NextMark()
			}
		}
		if !slices.Equal(marks, s.turns) {
			t.Fatalf("turns at %v, wanted %v", marks, s.turns)
		}
	})
}
