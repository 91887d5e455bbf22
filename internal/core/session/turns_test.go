package session

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/proto"
	"tcpcopy/internal/proto/bytestream"
)

// turnNotes is a Comparer that writes down what the answers of unknown protocols are.
type turnNotes struct{ notes }

func (n *turnNotes) Compare(x *Exchange) {
	n.open--
	describe := func(d *proto.Digest) string {
		switch {
		case d == nil:
			return x.Failed.String()
		case len(d.Fields) == 0:
			return "nothing"
		}
		return fmt.Sprintf("%d bytes", d.Fields[0].Length)
	}
	how := "other"
	if x.Target != nil && x.Production.Same(x.Target) {
		how = "same"
	}
	n.all = append(n.all, fmt.Sprintf("%s %s, %s", how, describe(x.Production),
		describe(x.Target)))
}

// rawTalk is a rig whose connections speak no protocol that is known. It writes down what is
// compared.
type rawTalk struct {
	*rig
	n      *turnNotes
	target proto.Follower
}

func newRawTalk(t *testing.T) *rawTalk {
	r := &rawTalk{rig: newRig(t, func(svc *Service) { svc.Production = true }),
		n: &turnNotes{notes{with: proto.NewDigesting(7, room)}}}
	r.compare = r.n
	r.rewind()
	return r
}

// rewind begins to read another connection of the target.
func (r *rawTalk) rewind() {
	r.target = proto.Follow(new(bytestream.Answers))
	r.target.Digest(bytestream.NewDigester(r.n.with))
}

// asks has the client send a turn, which goes to the target at once.
func (r *rawTalk) asks(text string) {
	r.Helper()
	r.data(text)
	r.copiedAll()
}

func (r *rawTalk) copiedAll() {
	r.Helper()
	r.wait(15 * sec / 2) // a turn waits until the target is silent
	if f := r.stream(); !f.gone && len(f.text) > f.taken {
		r.takes()
	}
}

// hears has production answer, and the client see that.
func (r *rawTalk) hears(text string) {
	r.Helper()
	r.speaks(text)
	r.sees()
}

// says has the target send text, in pieces.
func (r *rawTalk) says(text string, pieces ...int) {
	r.Helper()
	for len(text) > 0 {
		n := len(text)
		if len(pieces) > 0 {
			n, pieces = min(n, pieces[0]), pieces[1:]
		}
		if !r.hasStream() {
			return
		}
		r.replies(n)
		var scratch []proto.Answer
		for _, told := range r.target.Feed(r.now, []byte(text[:n]), nil, &scratch) {
			if r.hasStream() { // the answer may have let the copy end
				r.event(Event{Kind: AnswerEnd, Answer: told.Answer})
			}
		}
		text = text[n:]
	}
}

// leaves has the client close, then the target and production.
func (r *rawTalk) leaves() {
	r.Helper()
	r.fin()
	r.next++
	r.serverFIN()
	r.copiedAll()
	r.targetShuts()
	r.finishes()
}

func (r *rawTalk) noted(want ...string) {
	r.Helper()
	if r.s.State() != Gone {
		r.s.Shutdown(r.now)
		r.settle()
	}
	r.s.Close()
	if d := cmp.Diff(want, r.n.all); d != "" {
		r.Errorf("(-want +got)\n%s", d)
	}
	if r.n.open != 0 {
		r.Errorf("%d of %d answers due are open", r.n.open, r.n.due)
	}
	if r.n.with.Room != room {
		r.Errorf("%d bytes of room are lost", room-r.n.with.Room)
	}
}

// rawCase is what happens on a connection, and what is noted of it.
type rawCase struct {
	name   string
	script func(r *rawTalk)
	want   []string
}

var wholeTurns = []rawCase{
	{"the same", func(r *rawTalk) {
		r.asks("one")
		r.hears("first")
		r.says("first", 2)
		r.asks("two")
		r.hears("second")
		r.says("second")
		r.leaves()
	}, []string{"same 5 bytes, 5 bytes", "same 6 bytes, 6 bytes"}},
	{"another byte", func(r *rawTalk) {
		r.asks("one")
		r.hears("first")
		r.says("fjrst")
		r.asks("two")
		r.hears("second")
		r.says("second")
		r.leaves()
	}, []string{"other 5 bytes, 5 bytes", "same 6 bytes, 6 bytes"}},
	{"a greeting", func(r *rawTalk) {
		r.hears("hello")
		r.says("hallo")
		r.asks("one")
		r.hears("first")
		r.says("first")
		r.leaves()
	}, []string{"other 5 bytes, 5 bytes", "same 5 bytes, 5 bytes"}},
	{"another length, and then the same answers", func(r *rawTalk) {
		r.asks("one")
		r.hears("first")
		r.says("first!")
		r.asks("two")
		r.hears("second")
		r.says("second")
		r.leaves()
	}, []string{"other 5 bytes, 6 bytes", "same 6 bytes, 6 bytes"}},
	{"a byte more in each answer", func(r *rawTalk) {
		for range 3 {
			r.asks("one")
			r.hears("first")
			r.says("first!")
		}
		r.leaves()
	}, []string{"other 5 bytes, 6 bytes", "other 5 bytes, 6 bytes", "other 5 bytes, 6 bytes"}},
	{"cut elsewhere", func(r *rawTalk) {
		r.asks("one")
		r.hears("first")
		r.says("first, and more")
		r.asks("two")
		r.hears(", and more, second")
		r.says(", second")
		r.leaves()
	}, []string{"same 5 bytes, 5 bytes", "same 18 bytes, 18 bytes"}},
	{"production was still sending", func(r *rawTalk) {
		r.asks("one")
		r.speaks("fir")
		r.sees()
		r.speaks("st")
		r.says("first")
		r.asks("two")
		r.hears("and second")
		r.says("and other")
		r.leaves()
	}, []string{"other 15 bytes, 14 bytes", "misaligned"}},
}

var brokenTurns = []rawCase{
	{"cut short", func(r *rawTalk) {
		r.asks("one")
		r.hears("first")
		r.says("fir")
		r.targetShuts()
		r.data("two")
		r.wait(sec)
		r.hears("second")
		r.leavesLost()
	}, []string{"other 5 bytes, 3 bytes", "other 6 bytes, target_closed"}},
	{"nothing", func(r *rawTalk) {
		r.asks("one")
		r.hears("first")
		r.targetResets(3)
		r.leavesLost()
	}, []string{"other 5 bytes, target_reset"}},
	{"refused", func(r *rawTalk) {
		r.data("one")
		r.hears("first")
		r.leavesLost()
	}, []string{"other 5 bytes, target_refused"}},
}

var endedTurns = []rawCase{
	{"closed early", func(r *rawTalk) {
		r.asks("one")
		r.hears("first")
		r.says("first")
		r.targetShuts()
		r.fin()
		r.next++
		r.serverFIN()
		r.wait(sec)
		r.finishes()
	}, []string{"same 5 bytes, 5 bytes",
		"port 80: closed by the client, closed by the server"}},
	{"production closes", func(r *rawTalk) {
		r.asks("one")
		r.hears("first")
		r.says("first")
		r.serverFIN()
		r.sent++
		r.sees()
		r.fin()
		r.wait(sec)
		r.targetShuts()
		r.finishes()
	}, []string{"same 5 bytes, 5 bytes"}},
	{"the client goes before the answer", func(r *rawTalk) {
		r.asks("one")
		r.speaks("fir")
		r.says("first")
		r.rst()
		r.wait(sec)
	}, []string{"in_flight"}},
	{"a gap", func(r *rawTalk) {
		r.asks("one")
		r.hears("first")
		r.says("first")
		r.asks("two")
		r.sent += 4 // which are not captured
		r.hears("nd")
		r.says("second")
		r.asks("three")
		r.hears("third")
		r.says("third")
		r.leaves()
	}, []string{"same 5 bytes, 5 bytes", "capture_gap", "capture_gap"}},
	{"the end of the run", func(r *rawTalk) {
		r.asks("one")
		r.hears("first")
		r.says("first")
	}, []string{"same 5 bytes, 5 bytes"}},
	{"the end of the run, before the whole answer", func(r *rawTalk) {
		r.asks("one")
		r.hears("first")
		r.says("fir")
	}, []string{"in_flight"}},
}

func TestTurnsAreCompared(t *testing.T) {
	for _, c := range slices.Concat(wholeTurns, brokenTurns, endedTurns) {
		t.Run(c.name, func(t *testing.T) {
			r := newRawTalk(t)
			r.syn()
			if c.name == "refused" {
				r.fails(ledger.TargetRefused, 0)
			} else {
				r.opened()
			}
			c.script(r)
			r.noted(c.want...)
		})
	}
}

// leavesLost has the client and production close when there is no copy.
func (r *rawTalk) leavesLost() {
	r.Helper()
	r.fin()
	r.next++
	r.serverFIN()
	r.wait(sec)
}

// TestTurnsOfKnownProtocol checks that nothing is compared by turns where a protocol is recognised,
// and that what is not recognised is.
func TestTurnsOfKnownProtocol(t *testing.T) {
	for text, want := range map[string][]string{
		get("/a"): {"other nothing, nothing"}, "\x01\x02\x03": {"same 8 bytes, 8 bytes"},
	} {
		t.Run(fmt.Sprintf("%.3q", text), func(t *testing.T) {
			r := newRawTalk(t)
			r.svc.Protocols = []proto.Protocol{httpProtocol}
			r.syn()
			r.opened()
			r.data(text)
			r.takes()
			if answer := "an answr"; text[0] == 'G' {
				r.answersWith(200)
				r.digested(200)
			} else {
				r.hears(answer)
				r.says(answer)
			}
			r.leaves()
			r.noted(want...)
		})
	}
}

// TestTurnsAnyPieces checks that equal servers never differ: whatever the pieces in which their
// bytes come, and wherever turns are cut.
func TestTurnsAnyPieces(t *testing.T) {
	for seed := range uint64(200) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		r := newRawTalk(t)
		r.syn()
		r.opened()
		pushed := 0 // what the target has sent before its time
		for range 1 + rnd.IntN(8) {
			r.asks("ask")
			text := strings.Repeat("answer and more ", 1+rnd.IntN(20))
			for rest := text; len(rest) > 0; {
				n := 1 + rnd.IntN(len(rest))
				r.speaks(rest[:n])
				rest = rest[n:]
			}
			r.sees()
			ahead := text[min(pushed, len(text)):]
			pushed = 0
			if rnd.IntN(3) == 0 {
				ahead += "answer and"
				pushed = len("answer and")
			}
			r.says(ahead, 1+rnd.IntN(20), 1+rnd.IntN(20))
		}
		if pushed > 0 {
			r.asks("ask")
			r.hears("answer and that is all")
			r.says(" that is all")
		}
		r.leaves()
		r.s.Close()
		for _, what := range r.n.all {
			if !strings.HasPrefix(what, "same") {
				t.Fatalf("seed %d: %q", seed, r.n.all)
			}
		}
	}
}

// TestTurnsBounds checks that what is kept of a connection is bounded, where production is never
// captured.
func TestTurnsBounds(t *testing.T) {
	r := newRawTalk(t)
	r.syn()
	r.opened()
	for i := range maxPairs + 100 {
		r.seen++
		r.fromClient(packet.Segment{Seq: r.isn.Add(1 + i), Ack: r.irs.Add(1 + r.seen),
			Flags: packet.ACK, Payload: []byte("x"), Len: 1})
		if n := len(r.s.turns.all); n > maxPairs+1 {
			t.Fatalf("%d turns are kept", n)
		}
	}
	if r.s.turns.lost != true {
		t.Error("the comparison goes on")
	}
}

// TestTurnsOfAnyConnection checks that, whatever happens on a connection, each answer that was due
// is compared or excluded once, and all memory is given back.
func TestTurnsOfAnyConnection(t *testing.T) {
	compared := 0
	rapid.Check(t, func(rt *rapid.T) {
		r := newRawTalk(t)
		r.svc.Hold = rapid.SampledFrom([]time.Duration{0, time.Second}).Draw(rt, "hold")
		if rapid.Bool().Draw(rt, "recognised") {
			r.svc.Protocols = []proto.Protocol{httpProtocol}
		}
		if rapid.IntRange(0, 4).Draw(rt, "found") == 0 {
			r.init(packet.Segment{Seq: r.isn + 1, Ack: r.irs + 1, Flags: packet.ACK}, false)
		} else {
			r.syn()
		}
		streams := 0
		for range rapid.IntRange(0, 40).Draw(rt, "steps") {
			if r.s.State() == Gone {
				break
			}
			if len(r.streams) != streams {
				streams = len(r.streams)
				r.rewind()
			}
			switch text := rapid.SampledFrom(texts).Draw(rt, "text"); rapid.IntRange(0, 4).Draw(rt,
				"step") {
			case 0:
				r.hears(text)
			case 1:
				r.speaks(text)
			case 2, 3:
				if r.hasStream() && !r.s.gate.Closed() {
					r.says(text)
				}
			default:
				anyStep(rt, r.rig)
			}
		}
		if r.s.State() != Gone {
			r.s.Shutdown(r.now)
			r.settle()
		}
		r.s.Close()
		if r.n.open != 0 {
			rt.Fatalf("%d of %d answers due are open: %q", r.n.open, r.n.due, r.n.all)
		}
		if r.n.with.Room != room {
			rt.Fatalf("%d bytes of room are lost", room-r.n.with.Room)
		}
		compared += len(r.n.all)
		r.begun = false
	})
	if compared == 0 {
		t.Error("nothing was compared")
	}
}
