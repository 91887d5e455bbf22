package shard

import (
	"testing"

	"tcpcopy/internal/mono"
	"tcpcopy/internal/proto"
	"tcpcopy/internal/wire"
)

// reads makes a bed's connections speak a protocol in which a request is a line, and one that begins with H has
// the hint 1; n intercepts read the answers.
func reads(b *rawBed, n int) *rawBed {
	s := b.sh.cfg.Services[0].Session
	s.Certain = true
	s.Protocols = []proto.Protocol{{Kind: proto.HTTP1, NewClient: func() proto.Client { return &lines{} }}}
	b.sh.SetReaders(n)
	return b
}

type lines struct{ line []byte }

func (*lines) Edits() bool                   { return false }
func (*lines) Begin(bool, *proto.Out) error  { return nil }
func (*lines) Kept([]byte, *proto.Out) error { return nil }
func (*lines) Holds() bool                   { return false }
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

// confirm has an intercept confirm readings.
func (b *rawBed) confirm(all []wire.Reading) {
	for _, r := range all {
		b.in.Found = append(b.in.Found, wire.Found{Kind: wire.FoundConfirmed, Tuple: r.Tuple, Serial: r.Serial})
	}
	b.run(10 * ms)
	b.in.Found = nil
}

func (b *rawBed) found(f wire.Found, r *wire.Reading) {
	f.Tuple = r.Tuple
	b.in.Found = []wire.Found{f}
	b.run(0)
	b.in.Found = nil
}

// begun is a connection whose first request waits for the intercepts.
func (b *rawBed) begun(request string) (*conn, []wire.Reading) {
	b.Helper()
	c := b.conn("192.0.2.1:40000").syn()
	c.data(request)
	b.step()
	b.tg.take(b.now, b.sh.Output())
	asked := b.sh.Readings()
	if len(asked) == 0 || asked[0].Proto != proto.HTTP1 || asked[0].BaseKnown || asked[0].Tuple.Client != c.addr || asked[0].Tuple.Target != target {
		b.Fatalf("asked for %+v, wanted the answers of %v", asked, c.addr)
	}
	return c, asked
}

func (b *rawBed) targetHas(text string) {
	b.Helper()
	if got := string(b.peer().text); got != text {
		b.Errorf("at %v: the target has %q, wanted %q", b.now, got, text)
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
	again := b.sh.Readings()
	if len(again) != 1 || !again[0].BaseKnown || again[0].Proto != proto.HTTP1 {
		t.Fatalf("asked for %+v, wanted the same again with the base", again)
	}
	b.confirm(again)
	b.targetHas("one\n")
	c.answers(100)
	c.data("two\n")
	b.peer().say(b.now, 300)
	b.run(2 * sec)
	b.targetHas("one\n") // silence proves nothing
	b.found(wire.Found{Kind: wire.FoundAnswer, Answer: proto.Answer{End: 300}}, &asked[0])
	b.run(10 * ms)
	b.targetHas("one\ntwo\n")
	if b.sh.count.GateKnown != 1 || b.sh.count.Requests.Answered != 1 {
		t.Errorf("%d turns by what is known, %d answers", b.sh.count.GateKnown, b.sh.count.Requests.Answered)
	}
	// An answer counts when it has arrived here too.
	c.answers(100)
	c.data("three\n")
	b.found(wire.Found{Kind: wire.FoundAnswer, Answer: proto.Answer{End: 400}}, &asked[0])
	b.run(10 * ms)
	b.targetHas("one\ntwo\n")
	b.peer().say(b.now, 100)
	b.run(10 * ms)
	b.targetHas("one\ntwo\nthree\n")
}

// A request of which something is said goes when all intercepts have confirmed that they know.
func TestRawHintsAreConfirmed(t *testing.T) {
	b := reads(newRawBed(t), 2)
	c, asked := b.begun("one\n")
	b.confirm(asked)
	b.confirm(asked)
	again := b.sh.Readings()
	b.confirm(again)
	b.targetHas("")
	b.confirm(again)
	b.targetHas("one\n")
	c.data("HEAD\n")
	b.run(10 * ms)
	hints := b.sh.Readings()
	if len(hints) != 1 || hints[0].Hint != 1 || hints[0].Request != 1 || hints[0].Proto != proto.None {
		t.Fatalf("said %+v, wanted the hint of request 1", hints)
	}
	c.fin() // it waits behind the request
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
		{"no confirmation", func(b *rawBed, _ []wire.Reading) { b.run(mono.Time(askLimit)) }},
		{"the intercept says so", func(b *rawBed, asked []wire.Reading) { b.found(wire.Found{Kind: wire.FoundLost}, &asked[0]) }},
		{"a link changes", func(b *rawBed, _ []wire.Reading) { b.sh.SetReaders(1) }},
		{"too much at once", func(b *rawBed, asked []wire.Reading) {
			for range maxFound + 1 {
				b.found(wire.Found{Kind: wire.FoundAnswer, Answer: proto.Answer{End: 1 << 40}}, &asked[0])
			}
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := reads(newRawBed(t), 1)
			c, asked := b.begun("one\n")
			tc.lose(b, asked)
			b.run(50 * ms)
			b.targetHas("one\n")
			c.answers(100)
			c.data("two\n")
			b.peer().say(b.now, 300)
			b.run(5 * sec)
			b.targetHas("one\ntwo\n") // by guessing
			if b.sh.count.ProtoLost != 1 {
				t.Errorf("lost %d times, wanted once", b.sh.count.ProtoLost)
			}
		})
	}
}

func TestRawNobodyReads(t *testing.T) {
	b := reads(newRawBed(t), 0)
	c := b.conn("192.0.2.1:40000").syn()
	c.data("one\n")
	b.run(50 * ms)
	b.targetHas("one\n")
	if r := b.sh.Readings(); r != nil {
		t.Errorf("asked for %+v of intercepts that cannot", r)
	}
}
