package session

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/proto"
	"tcpcopy/internal/proto/semantics"
)

// notes is a Comparer that writes down what it is told.
type notes struct {
	with  *proto.Digesting
	aside int
	due   int
	open  int
	all   []string
}

func (n *notes) Digesting() *proto.Digesting { return n.with }
func (n *notes) Aside() *int                 { return &n.aside }
func (n *notes) Due()                        { n.due++; n.open++ }

func (n *notes) Exclude(why Exclusion) {
	n.open--
	n.all = append(n.all, why.String())
}

func (n *notes) Compare(x *Exchange) {
	n.open--
	target := "no answer: " + x.Failed.String()
	if x.Target != nil {
		target = fmt.Sprint(x.Target.Status)
	}
	n.all = append(n.all, fmt.Sprintf("%s: %d, %s", x.Endpoint, x.Production.Status, target))
}

func (n *notes) Surplus(_ *Unit, endpoint string) {
	n.all = append(n.all, endpoint+": surplus")
}

func (n *notes) Ended(_ *Unit, endpoint string, production, target Ending) {
	n.all = append(n.all, fmt.Sprintf("%s: %v, %v", endpoint, production, target))
}

// room is what the digests of these tests may take.
const room = 1 << 20

// comparing returns a rig whose session's answers are compared, and that ends it to see what was
// noted.
func comparing(t *testing.T, protocol proto.Protocol) (*rig, func(want ...string)) {
	r := newRig(t, watched(true, protocol))
	n := &notes{with: proto.NewDigesting(7, room)}
	r.compare = n
	r.syn()
	return r, func(want ...string) {
		t.Helper()
		if r.s.State() != Gone {
			r.s.Shutdown(r.now)
			r.settle()
		}
		r.s.Close()
		if d := cmp.Diff(want, n.all); d != "" {
			t.Errorf("(-want +got)\n%s", d)
		}
		if n.open != 0 {
			t.Errorf("%d of %d answers due are open", n.open, n.due)
		}
		if n.with.Room != room {
			t.Errorf("%d bytes of room are lost", room-n.with.Room)
		}
		if r.s.pairs.open.len() != 0 {
			t.Errorf("left open: %+v", r.s.pairs.open)
		}
	}
}

func get(path string) string { return "GET " + path + " HTTP/1.1\r\nHost: a\r\n\r\n" }

func said(status int) string {
	return fmt.Sprintf("HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n", status)
}

// digested has the target end an answer with a status.
func (r *rig) digested(status uint16) {
	r.Helper()
	r.replies(10)
	r.event(Event{Kind: AnswerEnd, Answer: proto.Answer{End: r.stream().received, Size: 10,
		Status: status, Digest: &proto.Digest{Status: status}}})
}

// answersWith has production answer with a status.
func (r *rig) answersWith(status int) {
	r.Helper()
	r.speaks(said(status))
	r.sees()
}

// exchanges is a script, and what is noted of it.
type exchanges struct {
	name   string
	script func(r *rig)
	want   []string
}

func play(t *testing.T, all []exchanges) {
	t.Helper()
	for _, c := range all {
		t.Run(c.name, func(t *testing.T) {
			r, end := comparing(t, httpProtocol)
			c.script(r)
			end(c.want...)
		})
	}
}

func TestAnswersArePaired(t *testing.T) {
	play(t, []exchanges{
		{"one after the other", func(r *rig) {
			r.opened()
			for i, path := range []string{"/a", "/b"} {
				r.data(get(path))
				r.takes()
				r.answersWith(200)
				r.digested(uint16(200 + i))
			}
		}, []string{"GET /a: 200, 200", "GET /b: 200, 201"}},
		{"the target is first", func(r *rig) {
			r.opened()
			r.data(get("/a"))
			r.takes()
			r.digested(404)
			r.answersWith(200)
		}, []string{"GET /a: 200, 404"}},
		{"pipelined", func(r *rig) {
			r.opened()
			r.data(get("/a") + get("/b"))
			r.takes()
			r.answersWith(200)
			r.digested(200)
			r.digested(500)
			r.answersWith(404)
		}, []string{"GET /a: 200, 200", "GET /b: 404, 500"}},
	})
}

// A target that fails is what is found, and not left out.
func TestFailuresArePaired(t *testing.T) {
	play(t, []exchanges{
		{"the target resets", func(r *rig) {
			r.opened()
			r.data(get("/a"))
			r.takes()
			r.answersWith(200)
			r.targetResets(10)
		}, []string{"GET /a: 200, no answer: target_reset"}},
		{"the target resets before production answers", func(r *rig) {
			r.opened()
			r.data(get("/a"))
			r.takes()
			r.targetResets(10)
			r.answersWith(200)
		}, []string{"GET /a: 200, no answer: target_reset"}},
		{"the target refuses", func(r *rig) {
			r.data(get("/a"))
			r.fails(ledger.TargetRefused, 0)
			r.answersWith(200)
		}, []string{"GET /a: 200, no answer: target_refused"}},
		{"the next copy goes on", func(r *rig) {
			r.opened()
			r.data(get("/a"))
			r.takes()
			r.answersWith(200)
			r.targetResets(len(get("/a")))
			r.wait(2 * sec)
			r.data(get("/b"))
			r.opened()
			r.wait(2 * sec)
			r.takes()
			r.answersWith(201)
			r.digested(201)
		}, []string{"GET /a: 200, no answer: target_reset", "GET /b: 201, 201"}},
	})
}

func TestAnswersThatCannotBePaired(t *testing.T) {
	play(t, []exchanges{
		{"an answer too much", func(r *rig) {
			r.opened()
			r.data(get("/a"))
			r.takes()
			r.answersWith(200)
			r.digested(200)
			r.digested(200)
			r.data(get("/b"))
			r.answersWith(200)
		}, []string{"GET /a: 200, 200", "GET /a: surplus", "slipped"}},
		{"the target cannot be followed", func(r *rig) {
			r.opened()
			r.data(get("/a"))
			r.takes()
			r.answersWith(200)
			r.event(Event{Kind: AnswersLost})
		}, []string{"proto_lost"}},
		{"production's answer is not captured", func(r *rig) {
			r.opened()
			r.data(get("/a"))
			r.takes()
			r.sent += len(said(200))
			r.sees()
			r.digested(200)
			r.data(get("/b"))
			r.takes()
			r.answersWith(200)
			r.digested(200)
		}, []string{"capture_gap", "GET /b: 200, 200"}},
		{"a client that goes", func(r *rig) {
			r.opened()
			r.data(get("/a"))
			r.takes()
			r.rst()
		}, []string{"in_flight"}},
	})
}

// Requests that an option leaves out, or rewrites, pair nothing wrongly.
func TestRequestsLeftOutPairNothing(t *testing.T) {
	rules := new(semantics.Rules)
	for _, o := range rules.Options() {
		var err error
		switch o.Name {
		case "http-allow":
			err = o.Set("GET /a*")
		case "http-set":
			err = o.Set("Host: another.example")
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := rules.Complete(proto.Env{}); err != nil {
		t.Fatal(err)
	}
	r, end := comparing(t, httpProtocol.With(rules))
	r.opened()
	for i, path := range []string{"/a1x", "/secret", "/a2x"} {
		r.data(get(path))
		r.answersWith(200 + i)
		if path != "/secret" {
			r.takes()
			r.digested(uint16(200 + i))
		}
	}
	if n := r.count.Requests.Rewritten; n != 2 {
		t.Errorf("%d requests were rewritten", n)
	}
	end("GET /a1x: 200, 200", "denied", "GET /a2x: 202, 202")
}

// Of several copies of a connection, the first is compared.
func TestFurtherCopiesAreNotCompared(t *testing.T) {
	r := newRig(t, watched(true, httpProtocol))
	n := &notes{with: proto.NewDigesting(7, room)}
	r.compare, r.further = n, true
	r.syn()
	r.opened()
	r.data(get("/a"))
	r.takes()
	r.answersWith(200)
	r.digested(500)
	if n.due != 0 || n.all != nil {
		t.Errorf("%d answers due, %q", n.due, n.all)
	}
}

// What waits for a counterpart is bounded.
func TestPairsAreBounded(t *testing.T) {
	r, end := comparing(t, httpProtocol)
	r.opened()
	r.data(strings.Repeat(get("/a"), maxPairs+6))
	var want []string
	for range 6 {
		want = append(want, "over_compare")
	}
	for range maxPairs {
		want = append(want, "in_flight")
	}
	end(want...)
}

// Digests that wait for a counterpart share the room, on either side; what they took is given back.
func TestDigestsThatWaitAreBounded(t *testing.T) {
	r, end := comparing(t, httpProtocol)
	r.opened()
	big := func(status uint16) {
		r.replies(10)
		r.event(Event{Kind: AnswerEnd, Answer: proto.Answer{End: r.stream().received, Size: 10,
			Status: status, Digest: &proto.Digest{Status: status, Size: room/2 + 1}}})
	}
	r.data(get("/a"))
	r.takes()
	big(200) // before production has answered
	r.data(get("/b"))
	r.takes()
	big(201) // finds no room
	r.answersWith(200)
	r.answersWith(201)
	end("over_compare", "GET /a: 200, 200")
}

// Answers that are not compared cost nothing.
func TestNoComparisonCostsNothing(t *testing.T) {
	var g *pairing
	out := &proto.Out{Steps: []proto.Step{{Kind: proto.PassOn, N: 1}}}
	if n := testing.AllocsPerRun(100, func() {
		g.requested(nil, 0, 0, out)
		g.answered(0, nil)
		g.begin(0)
		g.step(1)
		g.send(0)
		g.leaveOut(0)
		g.receive(nil, 0)
		g.giveUp(Slipped)
		g.copyEnded(ledger.TargetReset)
		g.unread()
		g.close()
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
