package raw

import (
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"

	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/core/session"
	"tcpcopy/internal/core/shard"
	"tcpcopy/internal/way/address"
	"tcpcopy/internal/way/link"
	"tcpcopy/internal/way/link/wire"
	"tcpcopy/internal/way/raw/stream"
)

// newEnds returns a way with ends whose tables have no streams.
func newEnds(n int) *Way {
	w := NewWay().(*Way)
	for range n {
		w.ends = append(w.ends, newEnd(w, stream.New(stream.Config{}), nil))
	}
	return w
}

// woken reports whether an end has a token, and takes it.
func woken(e *end) bool {
	select {
	case <-e.Wake():
		return true
	default:
		return false
	}
}

// batch is what an intercept has seen for clients with these ports.
func batch(ports ...uint16) *link.Batch {
	var b link.Batch
	for _, p := range ports {
		b.Segments = append(b.Segments, packet.Segment{
			Src: netip.MustParseAddrPort("10.0.0.2:80"), Flags: packet.ACK,
			Dst: netip.AddrPortFrom(netip.MustParseAddr("192.0.2.1"), p),
		})
	}
	return &b
}

// What an intercept reports goes to the shards of the clients, each of which is woken.
func TestReportsAreDealtOut(t *testing.T) {
	w := newEnds(3)
	w.rules.PortShift = 1000
	var want [3]uint64
	for port := range uint16(300) {
		port += 20000
		want[shard.Of(port-1000, 3)]++
		w.onBatch(batch(port))
		for _, e := range w.ends {
			if woken(e) {
				e.Deliver(1, false)
			}
		}
	}
	for i, e := range w.ends {
		c := shard.New(shard.Config{Streams: e}).Snapshot()
		if c.SegmentsIn != want[i] || c.ForeignAnswers != want[i] {
			t.Errorf("shard %d has %d segments, wanted %d", i, c.SegmentsIn, want[i])
		}
	}
}

// A shard that takes nothing in holds up those who report to it, until it does, or has ended.
func TestFullInbox(t *testing.T) {
	for _, ends := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			w := newEnds(1)
			e := w.ends[0]
			through := 0
			go func() {
				for range inboxSize + 1 {
					w.onBatch(batch(40000))
					through++
				}
			}()
			synctest.Wait()
			if through != inboxSize {
				t.Fatalf("%d reports went, wanted %d", through, inboxSize)
			}
			if ends {
				e.Detach()
			} else {
				e.Deliver(1, false)
			}
			synctest.Wait()
			if through != inboxSize+1 {
				t.Errorf("the last report waits, though the shard goes on or has ended")
			}
		})
	}
}

// One token is there for many messages, and Pending tells that one is left.
func TestPending(t *testing.T) {
	w := newEnds(1)
	e := w.ends[0]
	for range inboxSize {
		w.onBatch(batch(40000))
	}
	if !woken(e) || woken(e) {
		t.Error("wanted one token for all of it")
	}
	if !e.Pending() {
		t.Error("nothing is pending, with messages in the inbox")
	}
	if e.Deliver(1, false); len(e.inbox) != 0 || e.Pending() {
		t.Errorf("%d messages are left", len(e.inbox))
	}
}

// A call runs on the shard's goroutine, in the order of what was reported, and whoever made it
// waits for it.
func TestCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEnds(1).ends[0]
		var order []string
		go func() {
			e.put(message{do: func(mono.Time) { order = append(order, "before") }})
			e.call(func(mono.Time) { order = append(order, "call") })
			order = append(order, "after")
		}()
		synctest.Wait()
		if len(order) != 0 {
			t.Fatalf("%q without the shard", order)
		}
		e.Deliver(1, false)
		synctest.Wait()
		if !slices.Equal(order, []string{"before", "call", "after"}) {
			t.Errorf("order %q", order)
		}
		e.Detach()
		e.call(func(mono.Time) { t.Error("called after the end") })
	})
}

// Each of several links tells the shards only when it may have left a gap in what is read.
func TestReadsAnew(t *testing.T) {
	w := newEnds(0)
	for i, s := range []struct {
		state link.State
		want  bool
	}{
		{link.State{Intercept: "a", Up: true, Conns: 1}, true},
		{link.State{Intercept: "a", Up: true, Conns: 2}, false},
		{link.State{Intercept: "b", Up: true, Conns: 1}, true},
		{link.State{Intercept: "a", Up: true, Conns: 1}, true},
		{link.State{Intercept: "a", Up: false}, true},
		{link.State{Intercept: "b", Up: true, Conns: 2}, false},
	} {
		if got := w.readsAnew(s.state); got != s.want {
			t.Errorf("change %d: %v, wanted %v", i, got, s.want)
		}
	}
}

// The words of an intercept about a tuple reach its shard.
func TestWords(t *testing.T) {
	w := newEnds(2)
	tuple := wire.Tuple{Client: netip.MustParseAddrPort("192.0.2.1:40000"),
		Target: netip.MustParseAddrPort("10.0.0.2:80")}
	e := w.endOf(tuple.Client)
	next := func() word {
		select {
		case m := <-e.inbox:
			if m.tuple != shardTuple(tuple) {
				t.Errorf("word about %v", m.tuple)
			}
			return m.what
		default:
			return 0
		}
	}
	for _, tc := range []struct {
		name string
		say  func()
		want word
	}{
		{"nobody owns it", func() { w.onOwner(tuple, wire.Nobody) }, unowned},
		{"we own it", func() { w.onOwner(tuple, wire.You) }, unowned},
		{"another copier owns it", func() { w.onOwner(tuple, wire.Another) }, 0},
		{"it is free", func() { w.onSought(tuple, true) }, freed},
		{"it is not", func() { w.onSought(tuple, false) }, taken},
		{"it is refused", func() { w.onRefused([]wire.Tuple{tuple}) }, taken},
		{"its path is narrow", func() {
			w.onICMP(wire.ICMP{Kind: packet.FragNeeded, Tuple: tuple, MTU: 1400})
		}, tooBig},
		{"its port is unreachable", func() { w.onICMP(wire.ICMP{Tuple: tuple}) }, 0},
	} {
		if tc.say(); next() != tc.want {
			t.Errorf("%s: wanted the word %d", tc.name, tc.want)
		}
	}
}

// ICMP messages, which anyone can send, make no link's reader wait for a shard that is busy.
func TestICMPBlocksNobody(t *testing.T) {
	w := newEnds(1)
	m := wire.ICMP{Kind: packet.FragNeeded, MTU: 1400, Tuple: wire.Tuple{
		Client: netip.MustParseAddrPort("192.0.2.1:40000"),
		Target: netip.MustParseAddrPort("10.0.0.2:80")}}
	for range 10 * inboxSize {
		w.onICMP(m) // nobody takes anything from the inbox
	}
	if n := len(w.ends[0].inbox); n != inboxSize {
		t.Errorf("%d messages wait, want %d", n, inboxSize)
	}
}

// nobody is the session of a stream that does not matter.
type nobody struct{}

func (nobody) Tell(mono.Time, session.Event) {}
func (nobody) Touch()                        {}
func (nobody) Connection() shard.Tuple       { return shard.Tuple{} }
func (nobody) Content() bool                 { return false }
func (nobody) Behind(mono.Time) bool         { return false }
func (nobody) Replace(mono.Time)             {}

// Reports are taken in in the order in which they came: segments that were captured after a
// confirmation are not known when the confirmation is taken in. Otherwise the intercepts would be
// asked again about a connection whose beginning they have.
func TestReportsKeepTheirOrder(t *testing.T) {
	client, target := netip.MustParseAddrPort("192.0.2.1:40000"),
		netip.MustParseAddrPort("10.0.0.2:80")
	for _, segmentFirst := range []bool{false, true} {
		w := NewWay().(*Way)
		e := newEnd(w, stream.New(stream.Config{
			Address: address.Chooser{Count: 1}, MaxSegment: func(netip.Addr) int { return 1400 },
		}), nil)
		w.ends = append(w.ends, e)
		e.SetLink(true, 7)
		e.SetReaders(1)
		s := e.Open(1, &session.OpenSpec{Client: client, Target: target, Window: 1000}, nobody{})
		s.(session.AnswerReader).ReadAnswers(1)
		s.(shard.Poller).Poll(1)
		syn, asked := e.Output()[0], e.Readings()
		confirmed := func() {
			e.put(message{report: &report{found: []wire.Found{{
				Kind: wire.FoundConfirmed, Tuple: asked[0].Tuple, Serial: asked[0].Serial,
			}}}})
		}
		if !segmentFirst {
			confirmed()
		}
		e.put(message{report: &report{segs: []packet.Segment{{
			Src: target, Dst: client, Seq: 9000, Ack: syn.Seq + 1, Flags: packet.SYN | packet.ACK,
		}}}})
		if segmentFirst {
			confirmed()
		}
		e.Deliver(2, false)
		if again := len(e.Readings()) > 0; again != segmentFirst {
			t.Errorf("segment first: %v, asked again: %v", segmentFirst, again)
		}
	}
}
