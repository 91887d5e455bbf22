package stream

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"tcpcopy/internal/core/gate"
	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/core/session"
	"tcpcopy/internal/proto"
	"tcpcopy/internal/proto/http1"
	"tcpcopy/internal/test/rig"
	"tcpcopy/internal/way/link/wire"
)

// reads makes a bed's connections speak a protocol in which a request is a line, and one that
// begins with H has the hint 1; n intercepts read the answers.
func reads(b *rawBed, n int) *rawBed {
	s := b.services[0].Session
	s.Certain = true
	s.Protocols = []proto.Protocol{{Kind: http1.Kind, NewClient: func() proto.Client {
		return &lines{}
	}}}
	b.table.SetReaders(n)
	return b
}

type lines struct{ line []byte }

func (*lines) Edits() bool                   { return false }
func (*lines) Begin(bool, *proto.Out) error  { return nil }
func (*lines) Kept([]byte, *proto.Out) error { return nil }
func (*lines) Holds() bool                   { return false }
func (*lines) Expects() bool                 { return false }
func (*lines) Server(uint64, []byte)         {}

func (l *lines) Feed(p []byte, _ uint64, out *proto.Out) error {
	for _, c := range p {
		out.Pass(1)
		if l.line = append(l.line, c); c == '\n' {
			var h proto.Hint
			if l.line[0] == 'H' {
				h = 1
			}
			out.Request(proto.Request{Hint: h})
			l.line = l.line[:0]
		}
	}
	return nil
}

// confirm has an intercept confirm readings of connections whose beginning it may not have.
func (b *rawBed) confirm(all []wire.Reading) { b.confirmAs(all, false) }

func (b *rawBed) confirmAs(all []wire.Reading, whole bool) {
	for _, r := range all {
		b.In.Found = append(b.In.Found, wire.Found{Kind: wire.FoundConfirmed, Tuple: r.Tuple,
			Serial: r.Serial, Whole: whole})
	}
	b.run(10 * ms)
	b.In.Found = nil
}

func (b *rawBed) found(f wire.Found, r *wire.Reading) {
	f.Tuple = r.Tuple
	b.In.Found = []wire.Found{f}
	b.run(0)
	b.In.Found = nil
}

// begun is a connection whose first request waits for the intercepts.
func (b *rawBed) begun(request string) (*rig.Conn, []wire.Reading) {
	b.Helper()
	c := b.conn("192.0.2.1:40000").Syn()
	c.Data(request)
	b.Step()
	b.tg.take(b.Now, b.table.Output())
	asked := b.table.Readings()
	if len(asked) == 0 || asked[0].Proto != http1.Kind || asked[0].BaseKnown || !asked[0].Held ||
		asked[0].Tuple.Client != c.Addr || asked[0].Tuple.Target != rig.Target {
		b.Fatalf("asked for %+v, wanted the answers of %v", asked, c.Addr)
	}
	return c, asked
}

func (b *rawBed) targetHas(text string) {
	b.Helper()
	if got := string(b.peer().text); got != text {
		b.Errorf("at %v: the target has %q, wanted %q", b.Now, got, text)
	}
}

func TestRawReadsAnswers(t *testing.T) {
	b := reads(newRawBed(t), 1)
	c, asked := b.begun("one\n")
	b.run(50 * ms)
	b.targetHas("") // nobody knows yet that answers are to be read
	// The target has accepted meanwhile, perhaps before the intercept knew of the connection.
	b.confirm(asked)
	b.targetHas("")
	again := b.table.Readings()
	if len(again) != 1 || !again[0].BaseKnown || again[0].Proto != http1.Kind {
		t.Fatalf("asked for %+v, wanted the same again with the base", again)
	}
	b.confirm(again)
	b.targetHas("one\n")
	c.Answers(100)
	c.Data("two\n")
	b.peer().say(b.Now, 300)
	b.run(2 * sec)
	b.targetHas("one\n") // silence proves nothing
	b.found(wire.Found{Kind: wire.FoundAnswer, Answer: proto.Answer{End: 300}}, &asked[0])
	b.run(10 * ms)
	b.targetHas("one\ntwo\n")
	if b.Sh.Snapshot().GateKnown != 1 || b.Sh.Snapshot().Requests.Answered != 1 {
		t.Errorf("%d turns by what is known, %d answers", b.Sh.Snapshot().GateKnown,
			b.Sh.Snapshot().Requests.Answered)
	}
	// An answer counts when it has arrived here too.
	c.Answers(100)
	c.Data("three\n")
	b.found(wire.Found{Kind: wire.FoundAnswer, Answer: proto.Answer{End: 400}}, &asked[0])
	b.run(10 * ms)
	b.targetHas("one\ntwo\n")
	b.peer().say(b.Now, 100)
	b.run(10 * ms)
	b.targetHas("one\ntwo\nthree\n")
}

// What is said of a request when answers have come is no word about where the reading began.
func TestRawHintsBehindAnswers(t *testing.T) {
	b := reads(newRawBed(t), 1)
	c, asked := b.begun("one\n")
	b.confirm(asked)
	again := b.table.Readings()
	b.confirm(again)
	c.Answers(100)
	b.peer().say(b.Now, 300)
	b.found(wire.Found{Kind: wire.FoundAnswer, Answer: proto.Answer{End: 300}}, &asked[0])
	b.run(10 * ms)
	c.Data("HEAD\n")
	b.run(10 * ms)
	b.confirm(b.table.Readings())
	b.targetHas("one\nHEAD\n")
	c.Answers(100)
	c.Data("three\n")
	b.peer().say(b.Now, 100)
	b.run(2 * sec)
	b.targetHas("one\nHEAD\n") // it is still known where answers end
	b.found(wire.Found{Kind: wire.FoundAnswer, Answer: proto.Answer{End: 400}}, &asked[0])
	b.run(10 * ms)
	b.targetHas("one\nHEAD\nthree\n")
	if n := b.Sh.Snapshot().ProtoLost; n > 0 {
		t.Errorf("%d copies lost their protocol", n)
	}
}

// A request of which something is said goes when all intercepts have confirmed that they know.
func TestRawHintsAreConfirmed(t *testing.T) {
	b := reads(newRawBed(t), 2)
	c, asked := b.begun("one\n")
	b.confirm(asked)
	b.confirm(asked)
	again := b.table.Readings()
	b.confirm(again)
	b.targetHas("")
	b.confirm(again)
	b.targetHas("one\n")
	c.Data("HEAD\n")
	b.run(10 * ms)
	hints := b.table.Readings()
	if len(hints) != 1 || hints[0].Hint != 1 || hints[0].Request != 1 ||
		hints[0].Proto != proto.None {
		t.Fatalf("said %+v, wanted the hint of request 1", hints)
	}
	c.Fin() // it waits behind the request
	p := b.peer()
	b.run(100 * ms)
	b.targetHas("one\n")
	b.confirm(hints)
	b.targetHas("one\n")
	b.confirm(hints)
	if string(p.text) != "one\nHEAD\n" {
		t.Errorf("the target has %q", p.text)
	}
}

func TestRawReadingIsLost(t *testing.T) {
	for _, tc := range []struct {
		name string
		lose func(b *rawBed, asked []wire.Reading)
	}{
		{"no confirmation", func(b *rawBed, _ []wire.Reading) { b.run(mono.Time(confirmLimit)) }},
		{"the intercept says so", func(b *rawBed, asked []wire.Reading) {
			b.found(wire.Found{Kind: wire.FoundLost}, &asked[0])
		}},
		{"a link changes", func(b *rawBed, _ []wire.Reading) { b.table.SetReaders(1) }},
		{"too much at once", func(b *rawBed, asked []wire.Reading) {
			b.run(50 * ms) // the target accepts
			for range maxFound + 1 {
				b.found(wire.Found{Kind: wire.FoundAnswer, Answer: proto.Answer{End: 1 << 40}},
					&asked[0])
			}
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := reads(newRawBed(t), 1)
			c, asked := b.begun("one\n")
			tc.lose(b, asked)
			b.run(50 * ms)
			b.targetHas("one\n")
			c.Answers(100)
			c.Data("two\n")
			b.peer().say(b.Now, 300)
			b.run(5 * sec)
			b.targetHas("one\ntwo\n") // by guessing
			if b.Sh.Snapshot().ProtoLost != 1 {
				t.Errorf("lost %d times, wanted once", b.Sh.Snapshot().ProtoLost)
			}
		})
	}
}

// What is found before the SYN-ACK has come is of the connection that had the tuple before.
func TestRawReadingOfEarlierConnection(t *testing.T) {
	s := newSingle(t)
	s.reachReading("Asked", "")
	of := wireTupleOf(s.st)
	s.table.Found(s.now, []wire.Found{
		{Kind: wire.FoundAnswer, Tuple: of, Answer: proto.Answer{End: 10}},
		{Kind: wire.FoundBytes, Tuple: of, Data: []byte("late")}})
	if n := len(s.st.reading.found); n != 0 || slices.Contains(s.copy.told, session.AnswerBytes) {
		t.Errorf("%d events wait, and %v were told", n, s.copy.told)
	}
	s.synAck()
	s.table.Found(s.now, []wire.Found{
		{Kind: wire.FoundAnswer, Tuple: of, Answer: proto.Answer{End: 10}}})
	if n := len(s.st.reading.found); n != 1 {
		t.Errorf("%d events wait, wanted that of this connection", n)
	}
}

func TestRawNobodyReads(t *testing.T) {
	b := reads(newRawBed(t), 0)
	c := b.conn("192.0.2.1:40000").Syn()
	c.Data("one\n")
	b.run(50 * ms)
	b.targetHas("one\n")
	if r := b.table.Readings(); r != nil {
		t.Errorf("asked for %+v of intercepts that cannot", r)
	}
}

// kept returns a bed whose n intercepts keep what the target says before they are told
// what to read, from a first connection that has ended.
func kept(t *testing.T, n int, change ...func(*config)) *rawBed {
	b := reads(newRawBed(t, change...), n)
	c, asked := b.begun("one\n")
	b.run(10 * ms)
	b.targetHas("")
	for range n {
		b.confirmAs(asked, true)
	}
	b.targetHas("one\n")
	b.peer().say(b.Now, 100)
	b.found(wire.Found{Kind: wire.FoundAnswer, Answer: proto.Answer{End: 100}}, &asked[0])
	c.Answers(100)
	c.Fin()
	b.run(sec)
	if len(b.tg.conns) != 0 || len(b.table.Readings()) != 0 {
		t.Fatalf("the target has %d connections left", len(b.tg.conns))
	}
	return b
}

// next is a connection after the first one, with what is asked of it.
func (b *rawBed) next(text string) (*rig.Conn, []wire.Reading) {
	b.Helper()
	c := b.conn("192.0.2.1:40001").Syn()
	if text != "" {
		c.Data(text)
	}
	b.run(10 * ms)
	asked := b.table.Readings()
	if len(asked) != 1 || asked[0].Proto != http1.Kind ||
		asked[0].Held == (b.Sh.Snapshot().Sessions.Delivered > 0) {
		b.Fatalf("asked for %+v, wanted the answers of %v", asked, c.Addr)
	}
	return c, asked
}

// Of a target that is read already a request does not wait for a confirmation, though one has to
// come.
func TestRawReadsEarly(t *testing.T) {
	b := kept(t, 1)
	c, asked := b.next("one\n")
	b.targetHas("one\n")
	b.peer().say(b.Now, 300)
	c.Answers(100)
	c.Data("two\n")
	b.run(500 * ms)
	b.targetHas("one\n")
	b.confirmAs(asked, true)
	b.targetHas("one\n")
	b.found(wire.Found{Kind: wire.FoundAnswer, Answer: proto.Answer{End: 300}}, &asked[0])
	b.run(10 * ms)
	b.targetHas("one\ntwo\n")
	if again := b.table.Readings(); len(again) != 0 || b.Sh.Snapshot().ProtoLost != 0 ||
		b.Sh.Snapshot().Requests.Answered != 2 {
		t.Errorf("asked again for %+v; lost %d, %d answers", again, b.Sh.Snapshot().ProtoLost,
			b.Sh.Snapshot().Requests.Answered)
	}
	c.Answers(100)
	c.Fin()
	b.peer().say(b.Now, 100)
	b.found(wire.Found{Kind: wire.FoundAnswer, Answer: proto.Answer{End: 400}}, &asked[0])
	b.run(sec)
	b.Sessions(2, ledger.None, 2)
}

// The target's end waits until the intercepts have confirmed, and what they have found by then is
// told: for a second at most.
func TestRawEndWaits(t *testing.T) {
	for _, confirmed := range []bool{true, false} {
		t.Run(fmt.Sprint("confirmed=", confirmed), func(t *testing.T) {
			b := kept(t, 1)
			b.services[0].Session.Gate = gate.NewService(gate.Config{Mode: gate.None})
			c, asked := b.next("one\ntwo\n")
			b.peer().say(b.Now, 300)
			c.Answers(100)
			c.Fin() // which the target follows
			b.run(500 * ms)
			if n := b.Sh.Snapshot().Sessions.Delivered; n != 1 {
				t.Errorf("%d sessions have ended, wanted the one before", n)
			}
			want := uint64(1) // of the connection before
			if confirmed {
				r := &asked[0]
				b.In.Found = []wire.Found{
					{Kind: wire.FoundConfirmed, Tuple: r.Tuple, Serial: r.Serial, Whole: true},
					{Kind: wire.FoundAnswer, Tuple: r.Tuple, Answer: proto.Answer{End: 200}},
					{Kind: wire.FoundAnswer, Tuple: r.Tuple, Answer: proto.Answer{End: 300}},
				}
				b.run(0)
				b.In.Found = nil
				b.run(10 * ms)
				want += 2
			} else {
				b.run(sec)
			}
			b.Sessions(2, ledger.None, 2)
			if n := b.Sh.Snapshot().Requests.Answered; n != want {
				t.Errorf("%d answers, wanted %d", n, want)
			}
		})
	}
}

// The client's end waits for no confirmation either.
func TestRawEndsEarly(t *testing.T) {
	b := kept(t, 1)
	c, _ := b.next("one\n")
	before := len(b.tg.heard)
	c.Fin()
	b.run(10 * ms)
	if !slices.ContainsFunc(b.tg.heard[before:],
		func(s packet.Segment) bool { return s.Flags.Has(packet.FIN) }) {
		t.Error("the target is not told of the client's end")
	}
}

// What is said of a request is confirmed before its last byte goes, on such a connection too.
func TestRawHintsOfEarlyReadings(t *testing.T) {
	b := kept(t, 2)
	b.conn("192.0.2.1:40001").Syn().Data("HEAD\n")
	b.run(10 * ms)
	asked := b.table.Readings()
	if len(asked) != 2 || asked[0].Proto != http1.Kind || asked[1].Hint != 1 || asked[0].Held ||
		!asked[1].Held {
		t.Fatalf("asked for %+v, wanted the answers and a hint", asked)
	}
	b.targetHas("")
	b.confirmAs(asked, true)
	b.targetHas("")
	b.confirm(asked)
	b.targetHas("HEAD\n")
	if n := b.Sh.Snapshot().ProtoLost; n != 0 {
		t.Errorf("lost %d times", n)
	}
}

func TestRawEarlyIsSure(t *testing.T) {
	for _, tc := range []struct {
		name string
		n    int // intercepts
		do   func(b *rawBed, asked []wire.Reading)
		lost uint64
	}{
		{"not confirmed", 1, func(b *rawBed, _ []wire.Reading) { b.run(mono.Time(confirmLimit)) },
			1},
		{"forgotten", 1, func(b *rawBed, asked []wire.Reading) {
			b.peer().say(b.Now, 300)
			b.run(10 * ms)
			b.confirm(asked)
			b.confirm(b.table.Readings())
		}, 1},
		{"forgotten, before a byte was said", 1, func(b *rawBed, asked []wire.Reading) {
			b.confirm(asked)
			b.confirm(b.table.Readings())
		}, 0},
		{"the intercept says so", 1, func(b *rawBed, asked []wire.Reading) {
			b.found(wire.Found{Kind: wire.FoundLost}, &asked[0])
		}, 1},
		{"a link changes", 1, func(b *rawBed, _ []wire.Reading) { b.table.SetReaders(1) }, 1},
		{"one of two sees it", 2, func(b *rawBed, asked []wire.Reading) {
			b.peer().say(b.Now, 300)
			b.run(10 * ms)
			b.confirm(asked)
			b.confirmAs(asked, true)
		}, 0},
		{"neither of two does", 2, func(b *rawBed, asked []wire.Reading) {
			b.peer().say(b.Now, 300)
			b.run(10 * ms)
			b.confirm(asked)
			b.confirm(asked)
			again := b.table.Readings()
			b.confirm(again)
			b.confirm(again)
		}, 1},
		{"one of two was told before the SYN-ACK, the other is late", 2,
			func(b *rawBed, asked []wire.Reading) {
				b.confirm(asked)
				b.peer().say(b.Now, 300)
				b.run(10 * ms)
				b.confirm(asked)
				again := b.table.Readings()
				if len(again) != 1 || !again[0].BaseKnown {
					b.Fatalf("asked again for %+v, wanted the base", again)
				}
				b.confirmAs(again, true)
				b.confirm(again)
			}, 0},
		{"a confirmation of another connection's", 2, func(b *rawBed, asked []wire.Reading) {
			old := asked[0]
			old.Serial = 1 // the first one's
			b.confirmAs([]wire.Reading{old, old}, true)
			b.run(mono.Time(confirmLimit))
		}, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := kept(t, tc.n)
			_, asked := b.next("one\n")
			b.targetHas("one\n")
			tc.do(b, asked)
			b.run(mono.Time(confirmLimit))
			if n := b.Sh.Snapshot().ProtoLost; n != tc.lost {
				t.Errorf("lost %d times, wanted %d", n, tc.lost)
			}
		})
	}
}

// recognised has a bed's protocol be known by the first bytes of its clients.
func recognised(b *rawBed) *rawBed {
	s := b.services[0].Session
	s.Certain = false
	s.Protocols[0].Recognise = func(client, _ []byte) proto.Verdict {
		if client[0] == 'o' {
			return proto.Yes
		}
		return proto.No
	}
	return b
}

// hears is lines that notes what the target says first.
type hears struct {
	lines
	heard *string
}

func (h *hears) Kept(p []byte, _ *proto.Out) error {
	*h.heard += string(p)
	return nil
}

// greeted has the target greet a client, which then sends a line, and returns what the intercepts
// are asked.
func (b *rawBed) greeted(client string) []wire.Reading {
	b.Helper()
	c := b.conn(client).Syn()
	b.run(10 * ms)
	b.peer().say(b.Now, 80)
	b.run(10 * ms)
	c.Answers(80)
	c.Data("one\n")
	b.run(10 * ms)
	asked := b.table.Readings()
	if len(asked) != 1 || asked[0].Tuple.Client != c.Addr || asked[0].Proto != http1.Kind ||
		!asked[0].BaseKnown {
		b.Fatalf("asked for %+v", asked)
	}
	return asked
}

// What a target says before its protocol is recognised is read, if the intercepts have it.
func TestRawGreets(t *testing.T) {
	for _, whole := range []bool{true, false} {
		b := recognised(kept(t, 1))
		heard := ""
		b.services[0].Session.Protocols[0].NewClient = func() proto.Client {
			return &hears{heard: &heard}
		}
		asked := b.greeted("192.0.2.1:40001")
		b.confirmAs(asked, whole)
		b.found(wire.Found{Kind: wire.FoundBytes, Data: []byte("hello")}, &asked[0])
		b.targetHas("one\n")
		if lost := b.Sh.Snapshot().ProtoLost == 1; lost == whole || (heard == "hello") != whole {
			t.Errorf("whole %v, lost %v, heard %q", whole, lost, heard)
		}
	}
}

// Where all answers of a target are to be read, the intercepts keep what it says on its first
// connection, too.
func TestRawKeepsFromTheBeginning(t *testing.T) {
	b := recognised(reads(newRawBed(t), 0))
	b.table.cfg.Keep = func() []netip.AddrPort { return []netip.AddrPort{rig.Target} }
	b.table.SetReaders(2)
	keep := b.table.Readings()
	if len(keep) != 1 || !keep[0].OfTarget() || keep[0].Proto != wire.AnyProto ||
		keep[0].Tuple.Target != rig.Target {
		t.Fatalf("asked for %+v", keep)
	}
	for range 2 {
		b.confirm(keep)
	}
	asked := b.greeted("192.0.2.1:40000")
	for range 2 {
		b.confirmAs(asked, true)
	}
	b.targetHas("one\n")
	if n := b.Sh.Snapshot().ProtoLost; n != 0 {
		t.Errorf("lost %d times", n)
	}
}

// The first connection to a target that greets is lost, because no intercept kept the greeting;
// the next one is not.
func TestRawGreetsFirst(t *testing.T) {
	b := recognised(reads(newRawBed(t), 2))
	for i, lost := range []uint64{1, 1} {
		c := b.conn(fmt.Sprintf("192.0.2.1:%d", 40000+i)).Syn()
		b.run(10 * ms)
		for _, p := range b.tg.conns {
			if p.tuple.Client() == c.Addr {
				p.say(b.Now, 80)
			}
		}
		b.run(10 * ms)
		c.Answers(80)
		c.Data("one\n")
		b.run(10 * ms)
		asked := b.table.Readings()
		if len(asked) != 1 || asked[0].Tuple.Client != c.Addr {
			t.Fatalf("asked for %+v of connection %d", asked, i)
		}
		b.confirmAs(asked, i > 0)
		b.confirm(asked)
		if n := b.Sh.Snapshot().ProtoLost; n != lost {
			t.Errorf("lost %d after connection %d, wanted %d", n, i, lost)
		}
	}
}

// Both of two intercepts must have said that they read the target.
func TestRawOneOfTwoKeeps(t *testing.T) {
	b := reads(newRawBed(t), 2)
	_, asked := b.begun("HEAD\n")
	b.run(10 * ms)
	asked = append(asked, b.table.Readings()...)
	b.confirmAs(asked, true)
	c, again := b.next("one\n")
	for _, p := range b.tg.conns {
		if p.tuple.Client() == c.Addr && len(p.text) > 0 {
			t.Errorf("the target has %q before the second intercept has said anything", p.text)
		}
	}
	b.confirmAs(again, true)
	b.confirmAs(again, true)
	for _, p := range b.tg.conns {
		if p.tuple.Client() == c.Addr && string(p.text) != "one\n" {
			t.Errorf("the target has %q", p.text)
		}
	}
}

// A target greets while the first record about it is on its way: it is not known whether that came
// in time.
func TestRawGreetsMeanwhile(t *testing.T) {
	for _, whole := range []bool{true, false} {
		b := recognised(reads(newRawBed(t), 1))
		c := b.conn("192.0.2.1:40000").Syn()
		b.run(10 * ms)
		c.Data("one\n")
		b.run(10 * ms)
		asked := b.table.Readings()
		if len(asked) != 1 || !asked[0].BaseKnown || !asked[0].Held {
			t.Fatalf("asked for %+v", asked)
		}
		b.peer().say(b.Now, 80)
		b.run(10 * ms)
		b.targetHas("")
		b.confirmAs(asked, whole)
		b.targetHas("one\n")
		if lost := b.Sh.Snapshot().ProtoLost == 1; lost == whole {
			t.Errorf("whole %v, lost %v", whole, lost)
		}
	}
}

// refuses ends a copy because of what its target says.
type refuses struct{ lines }

func (*refuses) Kept([]byte, *proto.Out) error {
	return &proto.Refusal{Reason: ledger.Denied, Final: true}
}

func TestRawAnswerEndsTheCopy(t *testing.T) {
	b := reads(newRawBed(t), 1)
	b.services[0].Session.Protocols[0].NewClient = func() proto.Client { return &refuses{} }
	_, asked := b.begun("one\n")
	b.run(10 * ms)
	b.found(wire.Found{Kind: wire.FoundBytes, Data: []byte("no")}, &asked[0])
	b.run(10 * ms)
	b.Sessions(1, ledger.Denied, 1)
	if len(b.table.streams) != 0 {
		t.Errorf("%d connections are left", len(b.table.streams))
	}
}

// What is known of a target holds for as long as the links stay as they are, and of a connection
// for a while.
func TestRawEarlyNoMore(t *testing.T) {
	for _, tc := range []struct {
		name   string
		before func(b *rawBed) // the connection begins
		after  func(b *rawBed)
	}{
		{"after a link's change", func(b *rawBed) { b.table.SetReaders(1) }, func(*rawBed) {}},
		{"after a link's change, begun before", func(*rawBed) {},
			func(b *rawBed) { b.table.SetReaders(1) }},
		{"after a while", func(*rawBed) {}, func(b *rawBed) { b.run(mono.Time(keptFor)) }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := recognised(kept(t, 1))
			tc.before(b)
			c := b.conn("192.0.2.1:40001").Syn()
			b.run(10 * ms)
			tc.after(b)
			c.Data("one\n")
			b.run(10 * ms)
			b.targetHas("")
			b.confirm(b.table.Readings())
			b.targetHas("one\n")
			if n := b.Sh.Snapshot().ProtoLost; n != 0 {
				t.Errorf("lost %d times", n)
			}
		})
	}
}
