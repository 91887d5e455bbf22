package session

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"tcpcopy/internal/core/gate"
	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/proto"
)

func certain(t *testing.T) *rig { return fresh(t, spoken(true, newLines)) }

// An answer that differs in length from production's, and comes in pieces with silence between
// them, is over when the protocol says so.
func TestKnownAnswer(t *testing.T) {
	r := certain(t)
	r.data("one\n")
	r.copied("one\n")
	r.takes()
	r.answers(10)
	r.data("two\n")
	r.replies(30)
	r.wait(5 * sec)
	r.copied("one\n")
	r.ends(30)
	r.copied("one\ntwo\n")
	r.takes()
	r.ends(10)
	r.answers(10)
	r.data("three\n")
	r.copied("one\ntwo\nthree\n")
	r.requests(ledger.Requests{Sent: 3, Answers: ledger.Answers{Answered: 2}})
	if r.count.GateKnown != 2 || r.count.Turns != 3 {
		t.Errorf("%d of %d turns by what is known, wanted 2 of 3", r.count.GateKnown, r.count.Turns)
	}
}

func TestKnownWaitsForAll(t *testing.T) {
	r := certain(t)
	r.data("one\ntwo\n-nothing\nthree\n")
	r.takes()
	r.answers(30)
	r.data("four\n")
	r.ends(10)
	r.ends(10)
	r.wait(5 * sec)
	r.copied("one\ntwo\n-nothing\nthree\n")
	r.ends(10)
	r.copied("one\ntwo\n-nothing\nthree\nfour\n")
	r.requests(ledger.Requests{Sent: 5, Answers: ledger.Answers{Answered: 3}})
}

// The copy of a client that keeps several requests outstanding does so as well: each turn that was
// sent while production was still answering waits for one answer more.
func TestKnownWindow(t *testing.T) {
	r := certain(t)
	r.data("1\n2\n3\n")
	r.takes()
	r.says(20)
	r.seen = 10
	r.data("4\n")
	r.copied("1\n2\n3\n")
	r.ends(10)
	r.copied("1\n2\n3\n4\n")
	r.seen = 20
	r.says(10)
	r.data("5\n")
	r.copied("1\n2\n3\n4\n")
	r.ends(10)
	r.copied("1\n2\n3\n4\n5\n")
}

func TestKnownEnd(t *testing.T) {
	r := certain(t)
	r.data("one\n")
	r.takes()
	r.answers(10)
	r.fin()
	r.replies(10)
	r.wait(5 * sec) // as long as production's, and quiet: but not whole
	if r.stream().shut {
		t.Error("the client's FIN went before the answer was whole")
	}
	r.ends(5)
	if !r.stream().shut {
		t.Error("the answer is whole, and the client's FIN waits")
	}
	r.takes()
	r.finishes()
	r.ended(false, ledger.None)
}

// The client sends the rest of its request after an interim answer (RFC 9110 §10.1.1).
func TestKnownInside(t *testing.T) {
	r := certain(t)
	r.data("one")
	r.takes()
	r.answers(5)
	r.data(" and the rest\n")
	r.wait(100 * ms)
	r.copied("one")
	r.endsInterim(7)
	r.copied("one and the rest\n")
	r.takes()
	r.ends(9)
	r.answers(9)
	r.data("two\n")
	r.copied("one and the rest\ntwo\n")
	// Half of a request, before the answer to the previous one.
	r.takes()
	r.data("thr")
	r.answers(9)
	r.data("ee\n")
	r.copied("one and the rest\ntwo\nthr")
	r.ends(20)
	r.copied("one and the rest\ntwo\nthree\n")
}

// The rest of a request that does not wait is sent, although its client has seen answers meanwhile
// that the target had sent before.
func TestKnownInsideOfOthers(t *testing.T) {
	r := certain(t)
	r.data("zero\none\ntw")
	r.takes()
	r.ends(5)
	r.ends(5)
	r.answers(9)
	r.data("o")
	r.copied("zero\none\ntwo")
	r.takes()
	r.answers(9)
	r.data("!\n")
	r.copied("zero\none\ntwo!\n")
}

// The rest of a request that waits needs another answer.
func TestKnownInsideOfOne(t *testing.T) {
	r := certain(t)
	r.data("zero\n")
	r.takes()
	r.ends(5)
	r.answers(9)
	r.data("%one")
	r.copied("zero\n%one")
	r.takes()
	r.answers(9)
	r.data(" and the rest\n")
	r.wait(sec)
	r.copied("zero\n%one")
	r.endsInterim(9)
	r.copied("zero\n%one and the rest\n")
}

func TestKnownNoInterim(t *testing.T) {
	r := certain(t)
	r.data("one")
	r.takes()
	r.answers(5)
	r.data(" and the rest\n")
	r.replies(7) // nothing that the reader of answers makes anything of
	r.wait(sec)
	r.copied("one and the rest\n")
}

// An answer that precedes the end of its request counts.
func TestKnownAnsweredEarly(t *testing.T) {
	r := certain(t)
	r.data("one")
	r.takes()
	r.answers(5)
	r.data(" and the rest\n")
	r.ends(5)
	r.copied("one and the rest\n")
	r.takes()
	r.answers(1)
	r.data("two\n")
	r.copied("one and the rest\ntwo\n")
	if r.count.ProtoLost != 0 {
		t.Error("lost")
	}
}

func TestPush(t *testing.T) {
	r := certain(t)
	r.data("~listen\n")
	r.takes()
	r.answers(5)
	r.data("two\n")
	r.copied("~listen\ntwo\n")
	r.ends(5)
	r.ends(5)
	r.ends(5)
	if r.count.ProtoLost != 0 {
		t.Error("what the server said unasked counts as lost")
	}
}

func TestSwitch(t *testing.T) {
	r := certain(t)
	r.data("=other\n")
	r.takes()
	r.answers(5)
	r.data("!who knows\n")
	r.wait(100 * ms)
	r.copied("=other\n")
	r.replies(5)
	r.wait(sec)
	r.copied("=other\n!who knows\n") // by silence
	r.requests(ledger.Requests{})
	if r.count.GateQuiet != 1 || r.count.ProtoLost != 0 {
		t.Errorf("%d turns by silence, %d lost, wanted 1 and none", r.count.GateQuiet,
			r.count.ProtoLost)
	}
}

func TestProtoLost(t *testing.T) {
	lose := map[string]func(*rig){
		"by the client's bytes": func(r *rig) { r.data("!\n") },
		"by the target's": func(r *rig) {
			r.data("two\n")
			r.event(Event{Kind: AnswersLost})
		},
		"by an answer to nothing": func(r *rig) { r.ends(3); r.data("two\n") },
	}
	for name, f := range lose {
		t.Run(name, func(t *testing.T) {
			r := certain(t)
			r.data("one\n")
			r.takes()
			r.ends(10)
			r.answers(10)
			f(r)
			r.wait(sec)
			r.takes()
			r.replies(10)
			r.event(Event{Kind: AnswerEnd, Answer: proto.Answer{End: 99}}) // says nothing any more
			r.event(Event{Kind: AnswersLost})
			r.answers(10)
			before := r.stream().text
			r.data("next\n")
			r.wait(10 * sec)
			r.copied(before + "next\n")
			if r.count.ProtoLost != 1 {
				t.Errorf("lost %d times, wanted once", r.count.ProtoLost)
			}
			if r.count.GateQuiet+r.count.GatePredicted == 0 {
				t.Error("the gate does not guess")
			}
		})
	}
}

// Lengths that were learned while the protocol was known serve when it is lost.
func TestKnownLearns(t *testing.T) {
	r := certain(t)
	for range 6 {
		r.data("x\n")
		r.takes()
		r.ends(30)
		r.answers(10)
	}
	r.data("!\n")
	r.takes()
	r.answers(10)
	before := len(r.stream().text)
	r.data("y\n")
	r.replies(30)
	if got := r.stream().text[before:]; got != "y\n" {
		t.Errorf("released %q at the predicted number, wanted the turn", got)
	}
	if r.count.GatePredicted != 1 {
		t.Errorf("%d predicted, wanted 1", r.count.GatePredicted)
	}
}

func TestKnownLimit(t *testing.T) {
	r := certain(t)
	r.data("one\n")
	r.takes()
	r.answers(10)
	r.data("two\n")
	r.replies(30)
	r.wait(10 * sec)
	r.copied("one\ntwo\n")
	if r.count.GateForced != 1 {
		t.Errorf("%d forced, wanted 1", r.count.GateForced)
	}
	r.takes()
	r.answers(10)
	r.data("three\n") // waits for both answers
	r.ends(10)
	r.wait(sec)
	r.copied("one\ntwo\n")
	r.ends(10)
	r.copied("one\ntwo\nthree\n")
	// And one that never begins.
	r.takes()
	r.answers(10)
	r.data("four\n")
	r.wait(10 * sec)
	r.sessions(1, ledger.GateTimeout, 1)
}

func TestExpect(t *testing.T) {
	r := certain(t)
	r.data("one\n-\n?two\n")
	if want := []string{"1:5 behind 0"}; !reflect.DeepEqual(r.stream().hints, want) {
		t.Errorf("hints %q, wanted %q", r.stream().hints, want)
	}
	r.copied("one\n-\n?two\n")
}

func TestOtherWaits(t *testing.T) {
	r := fresh(t, spoken(true, newLines),
		func(svc *Service) { svc.Gate = gate.NewService(gate.Config{Mode: gate.Quiet}) })
	r.data("one\n")
	r.takes()
	r.answers(10)
	r.data("two\n")
	r.ends(10)
	r.copied("one\n")
	r.wait(sec)
	r.copied("one\ntwo\n")
	r.requests(ledger.Requests{Sent: 2, Answers: ledger.Answers{Answered: 1}})
}

func TestRecognise(t *testing.T) {
	cases := []struct {
		name   string
		greets string
		parts  []string
		kinds  []proto.Kind
		held   bool // until the wait is over
	}{
		{"yes", "", []string{"ABC\n"}, []proto.Kind{linesKind}, false},
		{"in two", "", []string{"AB", "C\n"}, []proto.Kind{linesKind}, false},
		{"no", "", []string{"abc\n"}, []proto.Kind{proto.None}, false},
		{"never sure", "", []string{"ABC"}, []proto.Kind{proto.None}, true},
		{"the server speaks first", "220 hello", []string{"ABC\n"}, []proto.Kind{proto.None},
			false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, spoken(false, newLines))
			r.syn()
			if !r.stream().spec.Listen {
				t.Error("the stream need not listen, and a protocol may follow")
			}
			r.opened()
			if c.greets != "" {
				r.replies(len(c.greets))
				r.fromServer(packet.Segment{Seq: r.irs + 1, Ack: r.isn + 1, Flags: packet.ACK,
					Len: len(c.greets), Payload: []byte(c.greets)})
				r.sent, r.seen = len(c.greets), len(c.greets)
			}
			text := ""
			for i, p := range c.parts {
				r.data(p)
				text += p
				if i+1 < len(c.parts) {
					r.copied("")
				}
			}
			if c.held {
				r.copied("")
				r.wait(sec)
			}
			r.wait(2 * sec)
			r.copied(text)
			if !reflect.DeepEqual(r.stream().kinds, c.kinds) {
				t.Errorf("read as %v, wanted %v", r.stream().kinds, c.kinds)
			}
		})
	}
	t.Run("no protocol", func(t *testing.T) {
		r := fresh(t)
		r.data("ABC\n")
		if r.stream().spec.Listen || r.stream().kinds != nil {
			t.Error("a stream is to read answers, and there is no protocol")
		}
	})
}

// Production's answer tells the protocol, which may come after much of the client: it waits for a
// second of silence, and for a bounded number of bytes.
func TestRecogniseByAnswer(t *testing.T) {
	line := "A" + strings.Repeat("a", 998) + "\n"
	begin := func(t *testing.T, lines int) (r *rig, sent string) {
		r = newRig(t, spoken(false, newLines), func(svc *Service) {
			svc.Production = true
			svc.MaxBytes = 4 << 20
			svc.Protocols[0].Recognise = func(_, server []byte) proto.Verdict {
				switch string(server) {
				case "":
					return proto.Unanswered
				case "yes":
					return proto.Yes
				}
				return proto.No
			}
		})
		r.syn()
		r.opened()
		for range lines {
			r.data(line)
			sent += line
		}
		return r, sent
	}
	read := func(t *testing.T, r *rig, sent string, want proto.Kind) {
		t.Helper()
		r.copied(sent)
		if got := r.stream().kinds; !reflect.DeepEqual(got, []proto.Kind{want}) {
			t.Errorf("read as %v, wanted %v", got, want)
		}
	}
	const lines = 10 * firstMost / 1000
	for answer, want := range map[string]proto.Kind{"yes": linesKind, "no": proto.None} {
		r, sent := begin(t, lines)
		r.wait(sec / 2)
		r.copied("")
		r.fromServer(packet.Segment{Seq: r.irs + 1, Ack: r.isn.Add(1 + len(sent)),
			Flags: packet.ACK, Len: len(answer), Payload: []byte(answer)})
		r.wait(sec / 100)
		read(t, r, sent, want)
	}
	r, sent := begin(t, lines)
	r.wait(2 * sec)
	read(t, r, sent, proto.None)
	r, sent = begin(t, unansweredMost/1000+1)
	read(t, r, sent, proto.None)
}

// A client sends its next turn before its protocol is recognised.
func TestRecogniseWholeTurn(t *testing.T) {
	r := fresh(t, spoken(false, newLines))
	r.data("AB")
	r.copied("")
	r.answers(3)
	r.data("CD\n")
	r.copied("AB")
	if !reflect.DeepEqual(r.stream().kinds, []proto.Kind{proto.None}) {
		t.Errorf("read as %v, wanted none", r.stream().kinds)
	}
}

func TestDeafStream(t *testing.T) {
	r := newRig(t, spoken(true, newLines))
	r.deaf = true
	r.syn()
	r.opened()
	r.data("one\n")
	r.takes()
	r.answers(10)
	r.data("two\n")
	r.replies(10)
	r.wait(sec)
	r.copied("one\ntwo\n") // by guessing
	r.requests(ledger.Requests{})
}

// The copy that follows a lost one begins its protocol again.
func TestKnownAgain(t *testing.T) {
	r := certain(t)
	r.data("one\n")
	r.takes()
	r.targetResets(4)
	r.answers(10)
	r.data("two\n")
	r.copies(2)
	r.opened()
	r.copied("two\n") // it waits for no greeting
	r.takes()
	r.answers(10)
	r.data("?three\n")
	r.wait(sec)
	r.copied("two\n")
	r.ends(10)
	r.copied("two\n?three\n")
	if want := []string{"1:5 behind 4"}; !reflect.DeepEqual(r.stream().hints, want) {
		t.Errorf("hints %q, wanted %q: the requests of a copy are numbered", r.stream().hints, want)
	}
}

func TestAdoptedIsRecognised(t *testing.T) {
	r := newRig(t, spoken(false, newLines))
	r.seen, r.sent = 100, 100
	r.ack()
	r.wait(2 * sec)
	r.data("ONE\n")
	r.copies(1)
	r.opened()
	r.copied("ONE\n")
	if !reflect.DeepEqual(r.stream().kinds, []proto.Kind{linesKind}) {
		t.Errorf("read as %v", r.stream().kinds)
	}
}

func ExampleService() {
	svc := Service{Protocols: []proto.Protocol{{Recognise: recogniseLines}}}
	for _, text := range []string{"GET\n", "GE", "get\n"} {
		_, v := svc.recognise([]byte(text), nil)
		fmt.Println(v == proto.Yes, v == proto.Unsure)
	}
	// Output:
	// true false
	// false true
	// false false
}

// What a protocol's reader holds counts as memory of the session, and no more when that has ended.
func TestReadersMemoryCounts(t *testing.T) {
	r := fresh(t, spoken(true, newLogins), func(svc *Service) {
		svc.Production, svc.MaxBytes = true, 64<<10
	})
	r.data("x")
	before := r.s.Held()
	text := strings.Repeat("s", 1000)
	says := func() {
		r.fromServer(packet.Segment{Seq: r.irs.Add(1 + r.sent), Ack: r.isn.Add(1 + r.next),
			Flags: packet.ACK, Len: len(text), Payload: []byte(text)})
		r.sent += len(text)
	}
	for range 20 {
		says()
	}
	if grown := r.s.Held() - before; grown < 20_000 || int(r.pool.InUse()) < grown {
		t.Errorf("of 20,000 bytes %d count, %d in the pool", grown, r.pool.InUse())
	}
	for range 60 {
		says()
	}
	r.data("x")
	r.state(Refused)
	r.bytes(2, ledger.OverSession, 2)
}
