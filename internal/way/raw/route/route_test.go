package route

import (
	"errors"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"
	"unsafe"

	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/core/seqnum"
)

const ms = time.Millisecond

var (
	target  = netip.MustParseAddrPort("10.0.0.2:8080")
	target6 = netip.MustParseAddrPort("[fd00::2]:8080")
	alice   = Instance{1}
	bob     = Instance{2}
)

func client(n int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, byte(n >> 16), byte(n >> 8)}),
		uint16(40000+n&0xff))
}

func join(t testing.TB, tb *Table, id Instance, slot uint8) uint8 {
	t.Helper()
	o, err := tb.Join(id, slot, nil)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func seg(c netip.AddrPort, flags packet.Flags, seq, ack uint32) *packet.Segment {
	return &packet.Segment{Src: target, Dst: c, Flags: flags, Seq: seqnum.Value(seq),
		Ack: seqnum.Value(ack)}
}

// isn makes an initial sequence number that carries slot.
func isn(slot uint8) uint32 { return 0xabcdef00 | uint32(slot) }

func synAck(c netip.AddrPort, slot uint8) *packet.Segment {
	return seg(c, packet.SYN|packet.ACK, 1000, isn(slot)+1)
}

func ack(c netip.AddrPort) *packet.Segment { return seg(c, packet.ACK, 1001, 5) }

func TestOwnerBySlot(t *testing.T) {
	tb := New(0, Config{})
	a, b := join(t, tb, alice, 7), join(t, tb, bob, 255)
	route := func(s *packet.Segment) uint8 { o, _ := tb.Route(0, s); return o }
	for _, tc := range []struct {
		name string
		s    *packet.Segment
		want uint8
	}{
		{"SYN-ACK names the first", synAck(client(1), 7), a},
		{"its connection is learned", ack(client(1)), a},
		{"SYN-ACK names the second, slot 255: the acknowledgment wraps in its low bits",
			synAck(client(2), 255), b},
		{"its connection is learned, too", ack(client(2)), b},
		{"retransmitted SYN-ACK", synAck(client(1), 7), a},
		{"a slot that nobody has", synAck(client(3), 9), 0},
		{"slot 0", synAck(client(3), 0), 0},
		{"and nothing was learned from it", ack(client(3)), 0},
		{"SYN refused", seg(client(4), packet.RST|packet.ACK, 0, isn(7)+1), a},
		{"refused, tuple of another: the number decides",
			seg(client(2), packet.RST|packet.ACK, 0, isn(7)+1), a},
		{"reset of a known connection", seg(client(2), packet.RST|packet.ACK, 77, isn(7)+1), b},
		{"reset of an unknown connection names nobody",
			seg(client(5), packet.RST|packet.ACK, 77, isn(7)+1), 0},
		{"SYN of the target's own", seg(client(1), packet.SYN, 1, 0), 0},
		{"tuple used again by another", synAck(client(1), 255), b},
		{"is the other's from now on", ack(client(1)), b},
		{"a real client's SYN-ACK on a known tuple", synAck(client(1), 44), 0},
	} {
		if got := route(tc.s); got != tc.want {
			t.Errorf("%s: owner %d, want %d", tc.name, got, tc.want)
		}
	}
	if s := tb.Stats(); s.Learned != 3 || s.TakenOver != 1 || s.Unowned != 4 {
		t.Errorf("%+v", s)
	}
}

func TestTargetsBoundASlot(t *testing.T) {
	many := make([]netip.AddrPort, 100)
	for i := range many {
		many[i] = netip.AddrPortFrom(netip.MustParseAddr("10.0.9.9"), uint16(i+1))
	}
	for _, tc := range []struct {
		name    string
		targets []netip.AddrPort
		ours    bool
	}{
		{"none named: all", nil, true},
		{"the one", []netip.AddrPort{target}, true},
		{"another", []netip.AddrPort{target6}, false},
		{"many others", many, false},
		{"among many", append(many[:99:99], target), true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tb := New(0, Config{})
			a, err := tb.Join(alice, 7, tc.targets)
			if err != nil {
				t.Fatal(err)
			}
			if o, _ := tb.Route(0, synAck(client(1), 7)); (o == a) != tc.ours {
				t.Errorf("owner %d", o)
			}
			if ok := tb.Claim(0, a, client(2), target, nil); ok != tc.ours {
				t.Errorf("claim accepted: %v", ok)
			}
		})
	}
}

func TestHoldQueue(t *testing.T) {
	tb := New(0, Config{MaxHeld: 3, Settle: 1})
	a, b := join(t, tb, alice, 1), join(t, tb, bob, 2)
	at := func(n int) mono.Time { return mono.Time(0).Add(time.Duration(n) * ms) }
	var got []uint32
	deliver := func(s *packet.Segment, _ mono.Time, _ uint32) { got = append(got, uint32(s.Seq)) }
	want := func(name string, w ...uint32) {
		t.Helper()
		if len(got) != len(w) {
			t.Fatalf("%s: delivered %v, want %v", name, got, w)
		}
		for i := range w {
			if got[i] != w[i] {
				t.Fatalf("%s: delivered %v, want %v", name, got, w)
			}
		}
		got = nil
	}
	send := func(now mono.Time, c int, seq uint32) {
		t.Helper()
		if o, _ := tb.Route(now, seg(client(c), packet.ACK, seq, 9)); o != 0 {
			t.Fatalf("segment %d went to %d", seq, o)
		}
	}

	send(at(0), 1, 10)
	send(at(10), 2, 20)
	send(at(20), 1, 11)
	tb.Claim(at(30), a, client(1), target, deliver)
	want("claimed in time, in order", 10, 11)
	if o, _ := tb.Route(at(31), ack(client(1))); o != a {
		t.Errorf("after the claim: owner %d", o)
	}

	if next := tb.Expire(at(50)); next != at(210) {
		t.Errorf("next deadline %v, want 210 ms", next)
	}
	if tb.Expire(at(210)); tb.Stats().HeldExpired != 1 || tb.Stats().Waiting != 0 {
		t.Errorf("after 200 ms: %+v", tb.Stats())
	}
	tb.Claim(at(211), b, client(2), target, deliver)
	want("claimed too late")

	for i := range uint32(5) { // room for 3: the oldest two go
		send(at(300), 3, 30+i)
	}
	tb.Claim(at(301), b, client(3), target, deliver)
	want("overflow drops the oldest", 32, 33, 34)

	send(at(400), 4, 40)
	send(at(400), 5, 50)
	send(at(400), 6, 60)
	send(at(400), 7, 70) // pushes 40 out, and with it the entry
	if o, sure := tb.Owner(at(400), client(4), target); o != 0 || !sure {
		t.Errorf("owner %d, sure %v", o, sure)
	}
	tb.Claim(at(401), a, client(6), target, deliver)
	want("from the middle of the queue", 60)
	tb.Expire(at(600))

	s := tb.Stats()
	if s.Held != s.HeldReleased+s.HeldExpired+s.HeldOverflow+uint64(s.Waiting) || s.Waiting != 0 ||
		s.HeldOverflow != 3 {
		t.Errorf("the account does not balance: %+v", s)
	}
	if s.Entries != 4 { // 1, 2, 3 and 6 are owned; 4, 5 and 7 are forgotten
		t.Errorf("%d entries, want 4", s.Entries)
	}
}

func TestClaims(t *testing.T) {
	const start = mono.Time(time.Hour)
	tb := New(start, Config{})
	a, b := join(t, tb, alice, 1), join(t, tb, bob, 2)
	now := start.Add(time.Second)
	tb.Route(now, synAck(client(1), 1))
	for _, tc := range []struct {
		name string
		do   func() bool
		want bool
	}{
		{"one's own", func() bool { return tb.Claim(now, a, client(1), target, nil) }, true},
		{"another's", func() bool { return tb.Claim(now, b, client(1), target, nil) }, false},
		{"still the first's", func() bool { o, _ := tb.Route(now, ack(client(1))); return o == a },
			true},
		{"nobody's", func() bool { return tb.Claim(now, b, client(2), target, nil) }, true},
		{"the second may not release the first's", func() bool {
			tb.Release(now, b, client(1), target)
			return tb.Claim(now, b, client(1), target, nil)
		}, false},
		{"released", func() bool {
			tb.Release(now, a, client(1), target)
			return tb.Claim(now, b, client(1), target, nil)
		}, true},
		{"after a reset", func() bool {
			tb.Route(now, seg(client(1), packet.RST, 1, 0))
			return tb.Claim(now, a, client(1), target, nil)
		}, true},
		{"after a FIN only: still owned", func() bool {
			tb.Route(now, seg(client(1), packet.FIN|packet.ACK, 1, 0))
			return tb.Claim(now, b, client(1), target, nil)
		}, false},
		{"of one who has left: it is the successor's", func() bool {
			tb.Route(now, synAck(client(3), 1))
			tb.Leave(now, a)
			return tb.Claim(now, b, client(3), target, nil)
		}, true},
		{"back again, without what was taken over", func() bool {
			join(t, tb, alice, 1)
			return tb.Claim(now, a, client(3), target, nil)
		}, false},
		{"by nobody", func() bool { return tb.Claim(now, 99, client(8), target, nil) }, false},
		{"ownership unsure just after the start",
			func() bool { _, sure := tb.Owner(now, client(9), target); return sure }, false},
		{"sure of what it knows", func() bool {
			o, sure := tb.Owner(now, client(1), target)
			return sure && o == a
		}, true},
		{"sure later", func() bool {
			_, sure := tb.Owner(start.Add(10*time.Second), client(9), target)
			return sure
		}, true},
	} {
		if got := tc.do(); got != tc.want {
			t.Errorf("%s: %v, want %v", tc.name, got, tc.want)
		}
	}
}

func TestAging(t *testing.T) {
	const s = time.Second
	sec := func(n int) mono.Time { return mono.Time(0).Add(time.Duration(n) * s) }
	cfg := Config{Idle: 100 * s, FINLinger: 20 * s, RSTLinger: 5 * s}
	for _, tc := range []struct {
		name  string
		do    func(tb *Table)
		alive mono.Time // still known then
		gone  mono.Time // forgotten then
	}{
		{"idle", func(tb *Table) {}, sec(99), sec(100)},
		{"used", func(tb *Table) { tb.Route(sec(50), ack(client(1))) }, sec(149), sec(150)},
		{"FIN", func(tb *Table) { tb.Route(sec(1), seg(client(1), packet.FIN|packet.ACK, 1, 1)) },
			sec(20), sec(21)},
		{"half-closed but used", func(tb *Table) {
			tb.Route(sec(1), seg(client(1), packet.FIN|packet.ACK, 1, 1))
			tb.Route(sec(15), ack(client(1)))
		}, sec(34), sec(35)},
		{"RST", func(tb *Table) { tb.Route(sec(1), seg(client(1), packet.RST, 1, 1)) }, sec(5),
			sec(6)},
		{"RST after FIN", func(tb *Table) {
			tb.Route(sec(1), seg(client(1), packet.FIN, 1, 1))
			tb.Route(sec(2), seg(client(1), packet.RST, 1, 1))
		}, sec(6), sec(7)},
		{"released", func(tb *Table) { tb.Release(sec(1), 1, client(1), target) }, sec(5), sec(6)},
		{"used again", func(tb *Table) {
			tb.Route(sec(1), seg(client(1), packet.RST, 1, 1))
			tb.Route(sec(2), synAck(client(1), 1))
		}, sec(101), sec(102)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tb := New(0, cfg)
			a := join(t, tb, alice, 1)
			tb.Route(0, synAck(client(1), 1))
			tc.do(tb)
			if next := tb.Expire(tc.alive); next != tc.gone {
				t.Errorf("next deadline %v, want %v", next, tc.gone)
			}
			if o, _ := tb.Owner(tc.alive, client(1), target); o != a {
				t.Error("forgotten too early")
			}
			tb.Expire(tc.gone)
			if o, _ := tb.Owner(tc.gone, client(1), target); o != 0 || tb.Stats().Entries != 0 {
				t.Error("not forgotten")
			}
		})
	}
}

func TestCopiersComeAndGo(t *testing.T) {
	sec := func(n int) mono.Time { return mono.Time(0).Add(time.Duration(n) * time.Second) }
	tb := New(0, Config{Grace: 60 * time.Second})
	a := join(t, tb, alice, 7)
	if _, err := tb.Join(bob, 7, nil); !errors.Is(err, ErrSlot) {
		t.Errorf("a slot that is taken: %v", err)
	}
	if _, err := tb.Join(bob, 0, nil); !errors.Is(err, ErrSlot) {
		t.Errorf("slot 0: %v", err)
	}
	tb.Route(0, synAck(client(1), 7))

	tb.Leave(sec(1), a)
	if _, err := tb.Join(bob, 7, nil); !errors.Is(err, ErrSlot) {
		t.Errorf("a slot kept for one who is away: %v", err)
	}
	if again := join(t, tb, alice, 7); again != a {
		t.Errorf("came back as %d", again)
	}
	if o, _ := tb.Route(sec(2), ack(client(1))); o != a {
		t.Errorf("its connection is %d's", o)
	}

	// Another slot: the copier stays the same, and answers to SYNs with the old one are its own.
	if again := join(t, tb, alice, 8); again != a {
		t.Errorf("with another slot it is %d", again)
	}
	for _, slot := range []uint8{7, 8} {
		if o, _ := tb.Route(sec(2), synAck(client(10+int(slot)), slot)); o != a {
			t.Errorf("slot %d is %d's", slot, o)
		}
	}

	tb.Leave(sec(10), a)
	if next := tb.Expire(sec(20)); next != sec(70) {
		t.Errorf("next deadline %v, want 70 s", next)
	}
	tb.Expire(sec(70))
	if tb.SlotTaken(7) || tb.SlotTaken(8) {
		t.Error("slots not freed")
	}
	b := join(t, tb, bob, 7)
	if b != a {
		t.Fatalf("the test wants the same number to be given again, got %d and %d", a, b)
	}
	if o, _ := tb.Route(sec(71), ack(client(1))); o != 0 {
		t.Error("the new copier got a connection of the old one")
	}
	if ok := tb.Claim(sec(71), b, client(1), target,
		func(*packet.Segment, mono.Time, uint32) {}); !ok {
		t.Error("what a forgotten copier owned cannot be claimed")
	}
}

func TestManyCopiers(t *testing.T) {
	tb := New(0, Config{})
	for i := 1; i <= 255; i++ {
		join(t, tb, Instance{byte(i)}, uint8(i))
	}
	if _, err := tb.Join(Instance{1, 1}, 5, nil); !errors.Is(err, ErrSlot) {
		t.Errorf("the 256th: %v", err)
	}
	tb.Leave(0, 100)
	if _, err := tb.Join(Instance{1, 1}, 5, nil); !errors.Is(err, ErrSlot) {
		t.Errorf("a slot in use: %v", err)
	}
	if _, err := tb.Join(Instance{1, 1}, 100, nil); err != nil {
		t.Errorf("the slot of one who is away, where no other is free: %v", err)
	}
}

func TestFullTable(t *testing.T) {
	tb := New(0, Config{MaxEntries: 4})
	a := join(t, tb, alice, 1)
	for i := 1; i <= 4; i++ {
		tb.Route(mono.Time(i), synAck(client(i), 1))
	}
	tb.Route(5, seg(client(3), packet.RST, 1, 1))
	tb.Route(6, synAck(client(5), 1)) // in the place of 3, which was reset
	tb.Route(7, synAck(client(6), 1)) // in the place of 1, the least used
	for i, want := range map[int]uint8{1: 0, 2: a, 3: 0, 4: a, 5: a, 6: a} {
		if o, _ := tb.Owner(8, client(i), target); o != want {
			t.Errorf("connection %d: owner %d, want %d", i, o, want)
		}
	}
	for i := 10; i < 20; i++ { // strangers push out what waits, then what is open, one at a time
		tb.Route(9, ack(client(i)))
	}
	if s := tb.Stats(); s.Entries != 4 {
		t.Errorf("%d entries", s.Entries)
	}
}

func TestIPv6(t *testing.T) {
	tb := New(0, Config{})
	a := join(t, tb, alice, 1)
	c := netip.MustParseAddrPort("[fd00::1:2]:5000")
	s := &packet.Segment{Src: target6, Dst: c, Flags: packet.SYN | packet.ACK,
		Ack: seqnum.Value(isn(1) + 1)}
	if o, _ := tb.Route(0, s); o != a {
		t.Fatalf("owner %d", o)
	}
	s = &packet.Segment{Src: target6, Dst: c, Flags: packet.ACK}
	if o, _ := tb.Route(0, s); o != a {
		t.Errorf("owner %d", o)
	}
}

func TestSizes(t *testing.T) {
	if n := unsafe.Sizeof(entry{}); n != 64 {
		t.Errorf("an entry has %d bytes, want a cache line", n)
	}
	// with the index at its emptiest
	if n := unsafe.Sizeof(entry{}) + 4*unsafe.Sizeof(slot{}); n > 120 {
		t.Errorf("%d bytes for each entry", n)
	}
}

// TestAgainstModel plays random events on a small table and on a plain map, and compares who owns
// what.
func TestAgainstModel(t *testing.T) {
	for seed := range uint64(30) {
		r := rand.New(rand.NewPCG(seed, 1))
		tb := New(0, Config{MaxEntries: 1 << 12, MaxHeld: 16, Idle: time.Hour, Grace: time.Hour,
			Seed: seed})
		owners := map[uint8]uint8{1: join(t, tb, alice, 1), 2: join(t, tb, bob, 2)}
		type state struct {
			owner  uint8
			closed bool
			last   mono.Time
		}
		model := map[int]*state{}
		var now mono.Time
		for step := range 5000 {
			now = now.Add(time.Duration(r.IntN(200)) * ms)
			tb.Expire(now)
			for n, s := range model {
				if s.closed && s.last.Add(7*time.Second).Reached(now) {
					delete(model, n) // surely aged
				}
			}
			n := r.IntN(40)
			slot := uint8(1 + r.IntN(2))
			switch r.IntN(5) {
			case 0:
				tb.Route(now, synAck(client(n), slot))
				model[n] = &state{owners[slot], false, now}
			case 1:
				o, _ := tb.Route(now, seg(client(n), packet.RST, 9, 9))
				if s := model[n]; s != nil && o != 0 {
					s.closed, s.last = true, now
				}
			case 2, 3:
				o, _ := tb.Route(now, ack(client(n)))
				s := model[n]
				switch {
				case s == nil && o != 0, s != nil && !s.closed && o != s.owner, s != nil &&
					s.closed && o != 0 && o != s.owner:
					t.Fatalf("seed %d step %d: connection %d went to %d, want %+v", seed, step, n,
						o, s)
				}
				if s != nil && s.closed {
					if o == 0 {
						delete(model, n)
					} else {
						s.last = now
					}
				}
			case 4:
				o, _ := tb.Owner(now, client(n), target)
				ok := tb.Claim(now, owners[slot], client(n), target,
					func(*packet.Segment, mono.Time, uint32) {})
				s := model[n]
				want := s == nil || s.closed || s.owner == owners[slot]
				if ok != want {
					t.Fatalf("seed %d step %d: claim of %d by %d (owner %d): %v, want %v", seed,
						step, n, owners[slot], o, ok, want)
				}
				if ok {
					model[n] = &state{owners[slot], false, now}
				}
			}
			st := tb.Stats()
			if st.Held != st.HeldReleased+st.HeldExpired+st.HeldOverflow+uint64(st.Waiting) {
				t.Fatalf("seed %d step %d: %+v", seed, step, st)
			}
		}
	}
}

// TestSlabAgainstMap adds and removes at random in an index that is as full as it gets, and finds
// what a map finds.
func TestSlabAgainstMap(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 2))
		var s slab
		s.init(seed)
		s.index, s.mask = make([]slot, 16), 15 // grows, and then stays half full
		places := map[int]uint32{}
		for step := range 20000 {
			n := r.IntN(200)
			k := keyOf(client(n), target)
			h := s.hash(&k)
			i := s.find(&k, h)
			if i != places[n] {
				t.Fatalf("seed %d step %d: found %d, want %d", seed, step, i, places[n])
			}
			switch {
			case i != 0:
				s.remove(i)
				delete(places, n)
			case s.n < 64:
				places[n] = s.add(&k, h, listOpen, 0)
			}
		}
		if s.n != len(places) {
			t.Errorf("seed %d: %d entries, want %d", seed, s.n, len(places))
		}
	}
}

func filled(b testing.TB, n int) *Table {
	tb := New(0, Config{Seed: 42})
	join(b, tb, alice, 1)
	for i := range n {
		tb.Route(0, synAck(client(i), 1))
	}
	return tb
}

func TestRouteAllocatesNothing(t *testing.T) {
	tb := filled(t, 5000)
	s, stranger, i := ack(client(0)), ack(client(9999)), 0
	var now mono.Time
	if n := testing.AllocsPerRun(1000, func() {
		now = now.Add(10 * ms)
		i = (i + 1) % 5000
		s.Dst = client(i)
		tb.Route(now, s)
		tb.Route(now, stranger)
		tb.Expire(now)
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkRoute(b *testing.B) {
	for _, bc := range []struct {
		name string
		n    int
	}{{"1k", 1000}, {"100k", 100_000}, {"1M", 1_000_000}} {
		b.Run(bc.name, func(b *testing.B) {
			tb := filled(b, bc.n)
			s := ack(client(0))
			r := rand.New(rand.NewPCG(1, 2))
			b.ReportAllocs()
			for b.Loop() {
				s.Dst = client(int(r.Uint32() % uint32(bc.n)))
				if o, _ := tb.Route(1, s); o == 0 {
					b.Fatal("nobody's")
				}
			}
		})
	}
}

func BenchmarkLearn(b *testing.B) {
	tb := New(0, Config{MaxEntries: 1 << 16})
	join(b, tb, alice, 1)
	s, i := synAck(client(0), 1), 0
	b.ReportAllocs()
	for b.Loop() {
		i++
		s.Dst = client(i & (1<<20 - 1))
		tb.Route(mono.Time(i), s)
	}
}

// seekWorld is a table with two copiers, a and b.
type seekWorld struct {
	tb   *Table
	a, b uint8
	got  int // segments that were held and delivered
}

func second(n int) mono.Time { return mono.Time(0).Add(time.Duration(n) * time.Second) }

// seek makes a copier seek client 1's connection; its first SYN was sent at since.
func (w *seekWorld) seek(owner uint8, now, since int) bool {
	return w.tb.Seek(second(now), owner, client(1), target, second(since),
		func(*packet.Segment, mono.Time, uint32) { w.got++ })
}

// routed returns the owner of an ACK on that connection.
func (w *seekWorld) routed(now int) uint8 {
	o, _ := w.tb.Route(second(now), ack(client(1)))
	return o
}

// sure reports whether the table is sure of the connection's owner.
func (w *seekWorld) sure(now int) bool {
	_, s := w.tb.Owner(second(now), client(1), target)
	return s
}

var seeks = []struct {
	name string
	do   func(w *seekWorld) bool
}{
	{"without an owner", func(w *seekWorld) bool {
		return w.seek(w.a, 1, 1) && w.routed(1) == w.a
	}},
	{"what was held is delivered", func(w *seekWorld) bool {
		return w.routed(1) == 0 && w.seek(w.a, 1, 1) && w.got == 1
	}},
	{"sought by another: both may, and the last one owns it", func(w *seekWorld) bool {
		return w.seek(w.a, 1, 1) && w.seek(w.b, 1, 1) && w.routed(1) == w.b
	}},
	{"the target decides between them", func(w *seekWorld) bool {
		w.seek(w.a, 1, 1)
		w.seek(w.b, 1, 1)
		w.tb.Route(second(1), synAck(client(1), 1))
		return w.routed(1) == w.a && !w.seek(w.b, 2, 1) && w.seek(w.a, 2, 1) &&
			w.tb.Stats().TakenOver == 0
	}},
	{"another's", func(w *seekWorld) bool {
		w.tb.Route(second(1), synAck(client(1), 1))
		return !w.seek(w.b, 2, 2) && w.routed(2) == w.a
	}},
	{"another's that the target has closed", func(w *seekWorld) bool {
		w.tb.Route(second(1), synAck(client(1), 1))
		w.tb.Route(second(2), seg(client(1), packet.FIN|packet.ACK, 9, 9))
		return !w.seek(w.b, 3, 3)
	}},
	{"was another's when our SYN came", func(w *seekWorld) bool {
		w.tb.Route(second(1), synAck(client(1), 1))
		w.tb.Release(second(3), w.a, client(1), target)
		return !w.seek(w.b, 4, 2)
	}},
	{"was another's shortly before our SYN", func(w *seekWorld) bool {
		w.tb.Route(second(1), synAck(client(1), 1))
		w.tb.Release(second(3), w.a, client(1), target)
		return !w.seek(w.b, 6, 5)
	}},
	{"was another's long before our SYN", func(w *seekWorld) bool {
		w.tb.Route(second(1), synAck(client(1), 1))
		w.tb.Release(second(3), w.a, client(1), target)
		return w.seek(w.b, 7, 6) && w.routed(7) == w.b
	}},
	{"of a copier that is gone", func(w *seekWorld) bool {
		w.tb.Route(second(1), synAck(client(1), 1))
		w.tb.Leave(second(2), w.a)
		return w.seek(w.b, 3, 3) && w.routed(3) == w.b && w.sure(3) && w.seek(w.b, 4, 3)
	}},
	{"of a copier that is gone, when our SYN had met it", func(w *seekWorld) bool {
		w.tb.Route(second(1), synAck(client(1), 1))
		w.tb.Leave(second(2), w.a)
		return !w.seek(w.b, 3, 2) && w.seek(w.b, 4, 4)
	}},
	{"of a copier that was forgotten", func(w *seekWorld) bool {
		w.tb.Route(second(1), synAck(client(1), 1))
		w.tb.Leave(second(2), w.a)
		w.tb.Expire(second(100))
		return w.seek(w.b, 101, 101) && w.routed(101) == w.b
	}},
	{"claimed by the copier that has it open", func(w *seekWorld) bool {
		w.seek(w.b, 1, 1)
		return w.tb.Claim(second(2), w.a, client(1), target, nil) && w.routed(2) == w.a &&
			!w.seek(w.b, 3, 1)
	}},
	{"unsure just after the start: another may still claim it", func(w *seekWorld) bool {
		w.seek(w.b, 1, 1)
		return !w.sure(1) && w.sure(3)
	}},
	{"one's own", func(w *seekWorld) bool {
		w.tb.Route(second(1), synAck(client(1), 1))
		return w.seek(w.a, 2, 2) && w.sure(2) && !w.seek(w.b, 3, 3)
	}},
	{"given up without a release", func(w *seekWorld) bool {
		w.seek(w.a, 1, 1)
		w.tb.Expire(second(500))
		return w.tb.Stats().Entries == 0
	}},
	{"by no copier", func(w *seekWorld) bool { return !w.seek(99, 1, 1) }},
}

// TestSeek: who may send a SYN, and who owns segments that name no copier.
func TestSeek(t *testing.T) {
	for _, tc := range seeks {
		t.Run(tc.name, func(t *testing.T) {
			w := &seekWorld{tb: New(0, Config{})}
			w.a, w.b = join(t, w.tb, alice, 1), join(t, w.tb, bob, 2)
			if !tc.do(w) {
				t.Errorf("%+v, %+v", w, w.tb.Stats())
			}
		})
	}
}

// TestBehind: a SYN-ACK to a copier that is behind another one is distinguished from that of the
// next connection.
func TestBehind(t *testing.T) {
	sec := func(n int) mono.Time { return mono.Time(0).Add(time.Duration(n) * time.Second) }
	for _, tc := range []struct {
		name   string
		before func(tb *Table, a, b uint8)
		at     int
		seg    *packet.Segment
		want   bool
	}{
		{"of a new connection", func(*Table, uint8, uint8) {}, 1, synAck(client(1), 2), false},
		{"of one that another has closed a moment ago", func(tb *Table, a, b uint8) {
			tb.Route(sec(1), synAck(client(1), 1))
			tb.Route(sec(9), seg(client(1), packet.FIN|packet.ACK, 9, 9))
			tb.Release(sec(9), a, client(1), target)
		}, 11, synAck(client(1), 2), true},
		{"long ago", func(tb *Table, a, b uint8) {
			tb.Route(sec(1), synAck(client(1), 1))
			tb.Release(sec(9), a, client(1), target)
		}, 12, synAck(client(1), 2), false},
		{"that another has just used", func(tb *Table, a, b uint8) {
			tb.Route(sec(1), synAck(client(1), 1))
		}, 2, synAck(client(1), 2), true},
		{"of the same copier", func(tb *Table, a, b uint8) {
			tb.Route(sec(1), synAck(client(1), 1))
		}, 2, synAck(client(1), 1), false},
		{"of nobody", func(tb *Table, a, b uint8) { tb.Route(sec(1), synAck(client(1), 1)) }, 2,
			synAck(client(1), 9), false},
		{"of one who is gone", func(tb *Table, a, b uint8) {
			tb.Route(sec(1), synAck(client(1), 1))
			tb.Leave(sec(1), a)
		}, 2, synAck(client(1), 2), false},
		{"that another seeks", func(tb *Table, a, b uint8) {
			tb.Seek(sec(1), a, client(1), target, sec(1), nil)
		}, 2, synAck(client(1), 2), false},
		{"no SYN-ACK", func(tb *Table, a, b uint8) { tb.Route(sec(1), synAck(client(1), 1)) }, 2,
			ack(client(1)), false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tb := New(0, Config{})
			a, b := join(t, tb, alice, 1), join(t, tb, bob, 2)
			tc.before(tb, a, b)
			owner, _, got := tb.Behind(sec(tc.at), tc.seg)
			if got != tc.want || got && owner != b {
				t.Errorf("%v, copier %d; wanted %v", got, owner, tc.want)
			}
		})
	}
}

// TestGreedyCopier: a copier that claims and seeks without end drives out no connection of another
// one, and has the whole table where it is alone.
func TestGreedyCopier(t *testing.T) {
	const most = 4096
	for _, alone := range []bool{false, true} {
		tb := New(0, Config{MaxEntries: most})
		a := join(t, tb, alice, 1)
		kept := most / 4
		if alone {
			kept = 0
		} else {
			b := join(t, tb, bob, 2)
			for i := range kept {
				if o, _ := tb.Route(0, synAck(client(1<<20+i), 2)); o != b {
					t.Fatalf("learned for %d", o)
				}
			}
		}
		granted := 0
		for i := range 10 * most {
			now := mono.Time(i) * mono.Time(ms)
			c := client(i)
			if i%2 == 0 && tb.Claim(now, a, c, target, nil) ||
				i%2 == 1 && tb.Seek(now, a, c, target, now, nil) {
				granted++
			}
			if n := tb.Stats().Entries; n > most {
				t.Fatalf("%d entries", n)
			}
		}
		for i := range kept {
			if o, _ := tb.Route(mono.Time(time.Minute), ack(client(1<<20+i))); o == 0 || o == a {
				t.Fatalf("connection %d of the other copier is routed to %d", i, o)
			}
		}
		if want := most - kept; !alone && granted != want || alone && granted != 10*most {
			t.Errorf("alone: %v: %d were granted", alone, granted)
		}
	}
}
