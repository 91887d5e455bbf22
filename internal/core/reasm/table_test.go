package reasm

import (
	"slices"
	"strings"
	"testing"

	"tcpcopy/internal/core/chunk"
	"tcpcopy/internal/core/seqnum"
)

// bench is a Reader and its test.
type bench struct {
	Reader
	t    *testing.T
	pool chunk.Pool
	base seqnum.Value
}

// near the end of sequence space, so that every table wraps.
const tableBase = seqnum.Value(0xfffffff8)

func newBench(t *testing.T) *bench {
	b := &bench{t: t, base: tableBase}
	b.Init(&b.pool, b.base, 0)
	return b
}

func (b *bench) in(off int, payload string, seen uint64) Verdict {
	return b.Insert(b.base.Add(off), []byte(payload), Note{Seen: seen, Sent: seen})
}

// text is what is kept, read through View, with a bar where a view ends.
func (b *bench) text() string {
	var views []string
	for off := b.Start(); off < b.Next(); {
		v := b.View(off, 1<<20)
		if len(v) == 0 {
			b.t.Fatalf("View(%d) is empty, though the bytes in order end at %d", off, b.Next())
		}
		views = append(views, string(v))
		off += uint64(len(v))
	}
	return strings.Join(views, "|")
}

type at struct{ off, seen uint64 }

// marks consumes all marks.
func (b *bench) turns() (all []at) {
	for {
		m, ok := b.Mark()
		if !ok {
			return all
		}
		all = append(all, at{m.Off, m.Seen})
		b.NextMark()
	}
}

func (b *bench) close() {
	b.Close()
	if b.pool.InUse() != 0 {
		b.t.Errorf("%d bytes of the pool are still in use after Close", b.pool.InUse())
	}
	if b.Kept() != 0 {
		b.t.Errorf("Kept() = %d after Close", b.Kept())
	}
}

func TestInsert(t *testing.T) {
	type seg struct {
		off     int
		payload string
		seen    uint64
		want    Verdict
	}
	for _, c := range []struct {
		name  string
		segs  []seg
		text  string
		turns []at
		hole  bool
	}{
		{"in order", []seg{{0, "abc", 0, InOrder}, {3, "def", 0, InOrder}}, "abc|def", nil, false},
		{"twice", []seg{{0, "abc", 0, InOrder}, {0, "abc", 0, Known}}, "abc", nil, false},
		{"inside what is known", []seg{{0, "abcdef", 0, InOrder}, {2, "cd", 0, Known}}, "abcdef",
			nil, false},
		{"overlap on the left", []seg{{0, "abc", 0, InOrder}, {1, "bcde", 0, InOrder}}, "abc|de",
			nil, false},
		{"what came first stays", []seg{{0, "abc", 0, InOrder}, {0, "XYZde", 0, InOrder}}, "abc|de",
			nil, false},
		{"empty", []seg{{0, "", 0, Known}, {5, "", 0, Known}}, "", nil, false},
		{"keepalive before the start", []seg{{-1, "x", 0, Known}, {0, "abc", 0, InOrder}}, "abc",
			nil, false},
		{"from before the start into it", []seg{{-2, "xxabc", 0, InOrder}}, "abc", nil, false},
		{"keepalive later", []seg{{0, "abc", 0, InOrder}, {2, "c", 0, Known}}, "abc", nil, false},
		{"hole", []seg{{3, "def", 0, Ahead}}, "", nil, true},
		{"hole filled", []seg{{3, "def", 0, Ahead}, {0, "abc", 0, InOrder}}, "abc|def", nil, false},
		{"hole filled in pieces", []seg{{4, "ef", 0, Ahead}, {2, "cd", 0, Ahead},
			{1, "b", 0, Ahead}, {0, "a", 0, InOrder}},
			"a|b|cd|ef", nil, false},
		{"hole filled with too much", []seg{{2, "cd", 0, Ahead}, {0, "abXYef", 0, InOrder}},
			"ab|cd|ef", nil, false},
		{"held twice", []seg{{3, "def", 0, Ahead}, {3, "def", 0, Known}}, "", nil, true},
		{"overlap of what is held, right", []seg{{3, "def", 0, Ahead}, {5, "fgh", 0, Ahead},
			{0, "abc", 0, InOrder}},
			"abc|def|gh", nil, false},
		{"overlap of what is held, left", []seg{{3, "def", 0, Ahead}, {2, "cd", 0, Ahead},
			{0, "ab", 0, InOrder}},
			"ab|c|def", nil, false},
		{"two holes, one segment over both", []seg{{2, "c", 0, Ahead}, {5, "f", 0, Ahead},
			{1, "bXdeYg", 0, Ahead}, {0, "a", 0, InOrder}},
			"a|b|c|de|f|g", nil, false},
		{"out of window", []seg{{1 << 31 >> 1, "x", 0, Known}, {1<<30 + 1, "x", 0, OutOfWindow}},
			"", nil, true},

		{"the first bytes after a greeting", []seg{{0, "a", 10, InOrder}}, "a", []at{{0, 10}},
			false},
		{"a turn", []seg{{0, "ab", 0, InOrder}, {2, "cd", 10, InOrder}}, "ab|cd", []at{{2, 10}},
			false},
		{"a turn of several segments", []seg{{0, "a", 0, InOrder}, {1, "b", 10, InOrder},
			{2, "c", 10, InOrder}, {3, "d", 20, InOrder}},
			"a|b|c|d", []at{{1, 10}, {3, 20}}, false},
		{"a retransmission that says more makes no turn",
			[]seg{{0, "ab", 0, InOrder}, {0, "ab", 10, Known}, {2, "cd", 0, InOrder}},
			"ab|cd", nil, false},
		{"an old segment says less", []seg{{0, "a", 5, InOrder}, {1, "b", 3, InOrder},
			{2, "c", 5, InOrder}}, "a|b|c", []at{{0, 5}}, false},
		{"lost, and sent again by a client that has seen more",
			[]seg{{0, "a", 0, InOrder}, {2, "c", 0, Ahead}, {1, "b", 9, InOrder}}, "a|b|c", nil,
			false},
		{"a lost start of a turn",
			[]seg{{0, "a", 0, InOrder}, {2, "c", 5, Ahead}, {1, "b", 9, InOrder}}, "a|b|c",
			[]at{{1, 5}}, false},
		{"two lost, the later one comes first",
			[]seg{{0, "a", 0, InOrder}, {3, "d", 3, Ahead}, {2, "c", 7, Ahead},
				{1, "b", 9, InOrder}}, "a|b|c|d", []at{{1, 3}}, false},
		{"two holes, the later one filled first",
			[]seg{{0, "a", 0, InOrder}, {2, "c", 0, Ahead}, {4, "e", 0, Ahead}, {3, "d", 6, Ahead},
				{1, "b", 9, InOrder}},
			"a|b|c|d|e", nil, false},
		{"the first transmission comes late",
			[]seg{{0, "a", 0, InOrder}, {2, "c", 9, Ahead}, {2, "c", 3, Known},
				{1, "b", 0, InOrder}}, "a|b|c", []at{{2, 3}}, false},
		{"what is behind a hole was sent later",
			[]seg{{0, "a", 0, InOrder}, {2, "c", 5, Ahead}, {1, "b", 0, InOrder}}, "a|b|c",
			[]at{{2, 5}}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t)
			for i, s := range c.segs {
				if c.name == "out of window" && i == 0 {
					s.want = Ahead // as far as a window reaches
				}
				if got := b.in(s.off, s.payload, s.seen); got != s.want {
					t.Errorf("segment %d at %d: verdict %d, wanted %d", i, s.off, got, s.want)
				}
			}
			if got := b.text(); got != c.text {
				t.Errorf("kept %q, wanted %q", got, c.text)
			}
			if got := b.turns(); !slices.Equal(got, c.turns) {
				t.Errorf("turns at %v, wanted %v", got, c.turns)
			}
			if b.Hole() != c.hole {
				t.Errorf("Hole() = %v, wanted %v", b.Hole(), c.hole)
			}
			if _, ok := b.FirstAhead(); ok != c.hole {
				t.Errorf("FirstAhead() says %v, wanted %v", ok, c.hole)
			}
			b.close()
		})
	}
}

func TestEnds(t *testing.T) {
	fin := Note{Seen: 7}
	rst := Note{Seen: 8}
	for _, c := range []struct {
		name string
		do   func(b *bench)
		want End
		note Note
		has  bool
	}{
		{"none", func(b *bench) { b.in(0, "ab", 0) }, Open, Note{}, false},
		{"FIN", func(b *bench) { b.in(0, "ab", 0); b.SetEnd(Closed, b.base+2, fin) }, Closed, fin,
			true},
		{"FIN at once", func(b *bench) { b.SetEnd(Closed, b.base, fin) }, Closed, fin, true},
		{"FIN before the last bytes", func(b *bench) { b.SetEnd(Closed, b.base+2, fin) }, Open,
			Note{}, true},
		{"and then those", func(b *bench) { b.SetEnd(Closed, b.base+2, fin); b.in(0, "ab", 0) },
			Closed, fin, true},
		{"FIN twice: the first counts", func(b *bench) {
			b.in(0, "ab", 0)
			b.SetEnd(Closed, b.base+2, fin)
			b.SetEnd(Closed, b.base+2, rst)
		}, Closed, fin, true},
		{"FIN in the middle of what is known",
			func(b *bench) { b.in(0, "abcd", 0); b.SetEnd(Closed, b.base+2, fin) },
			Open, Note{}, false},
		{"FIN from nowhere", func(b *bench) { b.SetEnd(Closed, b.base+1<<30+1, fin) }, Open, Note{},
			false},
		{"RST", func(b *bench) { b.in(0, "ab", 0); b.SetEnd(Reset, b.base+2, rst) }, Reset, rst,
			true},
		{"RST beyond a hole", func(b *bench) { b.in(0, "ab", 0); b.SetEnd(Reset, b.base+9, rst) },
			Reset, rst, true},
		{"RST after FIN", func(b *bench) {
			b.in(0, "ab", 0)
			b.SetEnd(Closed, b.base+2, fin)
			b.SetEnd(Reset, b.base+3, rst)
		}, Reset, fin, true},
		{"RST after a FIN behind a hole", func(b *bench) {
			b.SetEnd(Closed, b.base+2, fin)
			b.SetEnd(Reset, b.base+3, rst)
		}, Reset, fin, true},
		{"FIN after RST", func(b *bench) {
			b.SetEnd(Reset, b.base, rst)
			b.SetEnd(Closed, b.base,
				fin)
		}, Reset, rst, true},
		{"used again", func(b *bench) {
			b.SetEnd(Reset, b.base, rst)
			b.Close()
			b.Init(&b.pool,
				b.base, 0)
		}, Open, Note{}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t)
			c.do(b)
			how, note := b.Ended()
			if how != c.want || note != c.note {
				t.Errorf("Ended() = %v, %+v; wanted %v, %+v", how, note, c.want, c.note)
			}
			if b.HasEnd() != c.has {
				t.Errorf("HasEnd() = %v, wanted %v", b.HasEnd(), c.has)
			}
			b.close()
		})
	}
}

func TestViewAndTake(t *testing.T) {
	b := newBench(t)
	b.in(0, "abc", 0)
	b.in(3, "defgh", 0)
	for _, c := range []struct {
		off  uint64
		max  int
		want string
	}{
		{0, 10, "abc"}, {0, 2, "ab"}, {1, 10, "bc"}, {3, 10, "defgh"}, {7, 10, "h"}, {8, 10, ""},
		{100, 1, ""},
		{2, 0, ""}, {^uint64(0), 10, ""},
	} {
		if got := string(b.View(c.off, c.max)); got != c.want {
			t.Errorf("View(%d, %d) = %q, wanted %q", c.off, c.max, got, c.want)
		}
	}
	var buf [6]byte
	for _, c := range []struct {
		off  uint64
		n    int
		want string
	}{{0, 6, "abcdef"}, {2, 3, "cde"}, {6, 6, "gh"}, {8, 6, ""}, {0, 0, ""}} {
		if got := string(buf[:b.Peek(c.off, buf[:c.n])]); got != c.want {
			t.Errorf("Peek(%d) of %d = %q, wanted %q", c.off, c.n, got, c.want)
		}
	}

	b.Take(2)
	if b.Start() != 0 || b.Kept() != 256 {
		t.Errorf("half a piece taken: Start() = %d, Kept() = %d; wanted 0, 256", b.Start(),
			b.Kept())
	}
	b.Take(4)
	if b.Start() != 3 || b.Kept() != 128 || b.pool.InUse() != 128 {
		t.Errorf("one piece taken: Start() = %d, Kept() = %d; wanted 3, 128", b.Start(), b.Kept())
	}
	if v := b.View(2, 10); len(v) != 0 {
		t.Errorf("View of what was taken = %q", v)
	}
	b.Take(8)
	b.Take(8)
	if b.Start() != 8 || b.Next() != 8 || b.Kept() != 0 {
		t.Errorf("all taken: Start() = %d, Next() = %d, Kept() = %d", b.Start(), b.Next(), b.Kept())
	}
	if got := b.in(8, "i", 0); got != InOrder || b.text() != "i" {
		t.Errorf("after that, verdict %d and %q", got, b.text())
	}
	if b.NextSeq() != b.base.Add(9) || b.OffsetOf(b.base.Add(20)) != 20 ||
		int64(b.OffsetOf(b.base-1)) != -1 {
		t.Errorf("NextSeq() = %d, OffsetOf = %d, %d", b.NextSeq(), b.OffsetOf(b.base.Add(20)),
			int64(b.OffsetOf(b.base-1)))
	}
	b.close()
}

func TestSkipTo(t *testing.T) {
	for _, c := range []struct {
		name  string
		do    func(b *bench)
		to    uint64
		lost  int
		next  uint64
		text  string
		turns []at
	}{
		{"over a hole", func(b *bench) { b.in(0, "ab", 0); b.in(4, "ef", 0) }, 4, 0, 6, "ef", nil},
		{"over a hole and what is behind it", func(b *bench) { b.in(4, "ef", 0); b.in(8, "ij", 0) },
			8, 2, 10, "ij", nil},
		{"into the middle of what waits", func(b *bench) { b.in(4, "efgh", 0) }, 6, 2, 8, "gh",
			nil},
		{"past everything", func(b *bench) { b.in(4, "ef", 0); b.in(8, "ij", 0) }, 20, 4, 20, "",
			nil},
		// A turn that begins in the hole has its start there: what follows the hole may be its
		// middle.
		{"a turn began in the hole", func(b *bench) {
			b.in(0, "ab", 0)
			b.in(4, "ef", 9)
			b.in(6,
				"gh", 9)
		}, 4, 0, 8, "ef|gh", nil},
		{"another one after it", func(b *bench) {
			b.in(0, "ab", 0)
			b.in(4, "ef", 9)
			b.in(6, "gh",
				12)
		}, 4, 0, 8, "ef|gh", []at{{6, 12}}},
		{"nothing waits, the turn comes later", func(b *bench) { b.in(0, "ab", 0) }, 4, 0, 4, "",
			nil},
		{"a mark before it is gone", func(b *bench) { b.in(0, "ab", 3); b.in(4, "ef", 3) }, 4, 0, 6,
			"ef", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t)
			c.do(b)
			if got := b.SkipTo(c.to); got != c.lost {
				t.Errorf("SkipTo(%d) gave up %d, wanted %d", c.to, got, c.lost)
			}
			if b.Next() != c.next || b.text() != c.text {
				t.Errorf("Next() = %d with %q, wanted %d with %q", b.Next(), b.text(), c.next,
					c.text)
			}
			if got := b.turns(); !slices.Equal(got, c.turns) {
				t.Errorf("turns at %v, wanted %v", got, c.turns)
			}
			// Sequence numbers keep their offsets, and the first bytes after a jump begin no turn.
			b.in(int(c.next), "A", 20)
			b.in(int(c.next)+1, "B", 30)
			want := []at{{c.next + 1, 30}}
			if c.text != "" {
				want = []at{{c.next, 20}, {c.next + 1, 30}}
			}
			if got := b.turns(); !slices.Equal(got, want) {
				t.Errorf("turns after it at %v, wanted %v", got, want)
			}
			b.close()
		})
	}
}

func TestStartTurn(t *testing.T) {
	b := newBench(t)
	b.in(0, "ab", 5)
	b.NextMark()
	b.StartTurn(Note{Seen: 5})
	b.in(2, "cd", 5)
	b.in(4, "ef", 8)
	if got, want := b.turns(), []at{{2, 5}, {4, 8}}; !slices.Equal(got, want) {
		t.Errorf("turns at %v, wanted %v", got, want)
	}
	// StartTurn makes the first bytes after a jump begin a turn.
	b.SkipTo(10)
	b.StartTurn(Note{Seen: 9})
	b.in(10, "kl", 9)
	b.in(12, "mn", 9)
	if got, want := b.turns(), []at{{10, 9}}; !slices.Equal(got, want) {
		t.Errorf("turns at %v, wanted %v", got, want)
	}
	if b.Seen() != 9 {
		t.Errorf("Seen() = %d, wanted 9", b.Seen())
	}
	b.NextMark() // nothing to consume
	b.close()
}

func TestMostIsHeld(t *testing.T) {
	b := newBench(t)
	for i := range maxHeld {
		if got := b.in(2+2*i, "x", 0); got != Ahead {
			t.Fatalf("segment %d: verdict %d, wanted %d", i, got, Ahead)
		}
	}
	if got := b.in(2+2*maxHeld, "x", 0); got != TooMuch {
		t.Errorf("one more: verdict %d, wanted %d", got, TooMuch)
	}
	if b.Ahead() != maxHeld {
		t.Errorf("Ahead() = %d, wanted %d", b.Ahead(), maxHeld)
	}
	// Bytes that fill the first hole are always accepted.
	if got := b.in(0, "xx", 0); got != InOrder || b.Next() != 3 {
		t.Errorf("the first hole filled: verdict %d and Next() = %d, wanted %d and 3", got,
			b.Next(), InOrder)
	}
	b.close()
}

// A connection that once had much in flight does not keep its memory.
func TestCloseGivesRoomBack(t *testing.T) {
	b := newBench(t)
	for i := range 5000 {
		b.in(i, "x", uint64(i))
	}
	for i := range 500 {
		b.in(6000+2*i, "x", 0)
	}
	b.close()
	if n := cap(b.pieces) + cap(b.ahead) + cap(b.marks); n > 3*keepCap {
		t.Errorf("room for %d entries is kept, wanted at most %d", n, 3*keepCap)
	}
}
