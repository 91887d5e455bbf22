package session

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/proto"
)

// judged is a Comparer that writes down what is compared with what.
type judged struct {
	notes
	without map[string]int // why there was no answer of the old version
	beside  int            // compared with its answer
	oldOnly bool
	wrong   []string
}

func (j *judged) Compare(x *Exchange) {
	j.notes.Compare(x)
	switch {
	case j.oldOnly:
		if x.Baseline != nil || fmt.Sprint(x.Production.Status-1200) != x.Endpoint {
			j.wrong = append(j.wrong, fmt.Sprintf("%s: %d", x.Endpoint, x.Production.Status))
		}
	case x.Baseline == nil:
		j.without[x.NoBaseline]++
	case x.NoBaseline != "" || x.Baseline.Status != x.Production.Status+1000:
		j.wrong = append(j.wrong, fmt.Sprintf("%s: the old version's %d, %q", x.Endpoint,
			x.Baseline.Status, x.NoBaseline))
	default:
		j.beside++
	}
}

// requests is how many requests a script has, and size what a digest takes.
const (
	requests = 12
	size     = 100
)

func keyOf(i int) uint64 { return uint64(i+1) * 10 }

// side plays one of the servers of a script.
type side struct {
	c        counterpart
	asked    int // requests that the copy has sent
	answered int
	over     bool
}

// triple plays, in an order at random, what production, the target and the old version do.
type triple struct {
	*testing.T
	g           *pairing
	j           *judged
	target, old side
	known, read int // requests that production was asked, and has answered
	steps       []string
}

func newTriple(t *testing.T, aside int, baseline, oldOnly bool) *triple {
	j := &judged{notes: notes{with: proto.NewDigesting(7, room), aside: aside},
		without: make(map[string]int), oldOnly: oldOnly}
	s := &triple{T: t, j: j, g: newPairing(j, oldOnly)}
	s.target.c = s.g
	if baseline {
		s.old.c = s.g.addBaseline()
		s.old.c.begin(0)
	}
	s.target.c.begin(0)
	return s
}

// digest is of the answer of a server to the i-th request.
func digest(base, i int) *proto.Digest {
	return &proto.Digest{Status: uint16(base + i), Size: size}
}

// step carries out a step. Those of a server that has nothing to do do nothing.
func (s *triple) step(what string) {
	now := mono.Time(len(s.steps)) * sec
	s.steps = append(s.steps, what)
	at, base := &s.target, 500
	if what[0] == 'o' {
		if at, base = &s.old, 1200; at.c == nil {
			return
		}
	}
	switch what {
	case "asked":
		if s.known < requests {
			s.known++
			s.g.expect(&pair{end: keyOf(s.known - 1), key: keyOf(s.known - 1),
				number: uint64(s.known - 1),
				x:      Exchange{Unit: &s.g.unit, Endpoint: fmt.Sprint(s.known - 1)}})
		}
	case "answers":
		if s.read < s.known {
			s.g.answered(uint64(s.read), digest(200, s.read))
			s.read++
		}
	case "target sends", "old sends":
		if at.asked < s.known && !at.over {
			at.c.step(10)
			at.c.send(now)
			at.asked++
		}
	case "target answers", "old answers":
		if at.answered < at.asked && !at.over {
			at.c.receive(digest(base, at.answered), now)
			at.answered++
		}
	case "target resets", "old resets", "target is shed", "old is shed":
		if at.over {
			return
		}
		why := ledger.TargetReset
		if what == "target is shed" || what == "old is shed" {
			why = ledger.OverMemory
		}
		at.c.copyEnded(why)
		at.asked = max(at.asked, s.known) // the next copy begins with what comes next
		at.answered = at.asked
		at.c.begin(uint64(at.asked) * 10)
	case "target is lost", "old is lost":
		at.c.giveUp(LostTrack)
	case "target ends", "old ends":
		at.over = true
		at.c.close()
	}
}

var tripleSteps = []string{"asked", "answers", "target sends", "target answers", "old sends",
	"old answers"}

var tripleFaults = []string{"target resets", "old resets", "target is shed", "old is shed",
	"target is lost", "old is lost", "old ends"}

// Whatever becomes of the old version, and in whatever order the servers answer, production and the
// target are compared as without it; its answers are those to the same requests; and nothing is
// left or counted twice.
func TestBaselineChangesNothing(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		aside := rapid.SampledFrom([]int{0, 3 * size, room}).Draw(rt, "aside")
		steps := rapid.SliceOfN(rapid.SampledFrom(slices.Concat(tripleSteps, tripleSteps,
			tripleSteps, tripleFaults)), 0, 150).Draw(rt, "steps")
		with, without := newTriple(t, aside, true, false), newTriple(t, aside, false, false)
		ends := []string{"target ends", "old ends"}
		if rapid.Bool().Draw(rt, "the old version ends first") {
			slices.Reverse(ends)
		}
		for _, what := range append(steps, ends...) {
			with.step(what)
			without.step(what)
		}
		slices.Sort(with.j.all)
		slices.Sort(without.j.all)
		if d := cmp.Diff(without.j.all, with.j.all); d != "" {
			rt.Errorf("with the old version (-without +with):\n%s", d)
		}
		if n := with.g.open.len(); n != 0 || with.j.open != 0 || with.j.wrong != nil {
			rt.Errorf("%d pairs are left, %d open; %q", n, with.j.open, with.j.wrong)
		}
		if with.j.with.Room != room || with.j.aside != aside {
			rt.Errorf("%d and %d bytes of room are lost", room-with.j.with.Room,
				aside-with.j.aside)
		}
	})
}

// Where the old version takes production's place, each answer of the target is compared with its
// answer to the same request or excluded, once.
func TestBaselineInPlaceOfProduction(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		aside := rapid.SampledFrom([]int{0, 3 * size, room}).Draw(rt, "aside")
		s := newTriple(t, aside, true, true)
		ends := []string{"target ends", "old ends"}
		if rapid.Bool().Draw(rt, "the old version ends first") {
			slices.Reverse(ends)
		}
		for _, what := range append(rapid.SliceOfN(rapid.SampledFrom(slices.Concat(tripleSteps,
			tripleSteps, tripleFaults)), 0, 150).Draw(rt, "steps"), ends...) {
			if what != "answers" {
				s.step(what)
			}
		}
		if len(s.j.all) != s.j.due || s.g.open.len() != 0 || s.j.wrong != nil {
			rt.Errorf("%d due, %q; %d are left; %q", s.j.due, s.j.all, s.g.open.len(), s.j.wrong)
		}
		if s.j.with.Room != room || s.j.aside != aside {
			rt.Errorf("%d and %d bytes of room are lost", room-s.j.with.Room, aside-s.j.aside)
		}
	})
	s := newTriple(t, room, true, true)
	for _, what := range []string{"asked", "target sends", "target answers", "old sends",
		"old answers", "asked", "target sends", "old sends", "target answers", "old resets",
		"target ends", "old ends"} {
		s.step(what)
	}
	if d := cmp.Diff([]string{"0: 1200, 500", "no_old_answer"}, s.j.all); d != "" {
		t.Error(d)
	}
}

// A session that is compared with the old version alone reads the requests, and no answer of
// production, whole or not.
func TestDeafToProduction(t *testing.T) {
	r := newRig(t, watched(false, httpProtocol), func(s *Service) {
		s.Production, s.OldOnly = false, true
	})
	n := &notes{with: proto.NewDigesting(7, room), aside: room}
	r.compare = n
	r.syn()
	old := r.s.pairs.addBaseline()
	old.begin(0)
	r.opened()
	for i, path := range []string{"/a", "/b"} {
		r.data(get(path))
		old.step(len(get(path)))
		old.send(r.now)
		r.takes()
		r.answers(1000) // headers of packets alone
		r.digested(uint16(200 + i))
		old.receive(&proto.Digest{Status: 200}, r.now)
	}
	if d := cmp.Diff([]string{"GET /a: 200, 200", "GET /b: 200, 201"}, n.all); d != "" {
		t.Error(d)
	}
	if p := r.count.Requests.Production; p.Answered != 0 || r.count.Requests.ProductionLost != 0 {
		t.Errorf("production: %+v", p)
	}
}

// What is compared without the old version says why.
func TestWithoutBaseline(t *testing.T) {
	all := func(steps ...string) []string {
		return append([]string{"asked", "target sends", "target answers", "answers"}, steps...)
	}
	for _, c := range []struct {
		name  string
		aside int
		steps []string
		why   string // empty: it has answered
	}{
		{"it answers", room, all("old sends", "old answers"), ""},
		{"it is first", room, []string{"asked", "old sends", "old answers", "target sends",
			"target answers", "answers"}, ""},
		{"it resets", room, all("old sends", "old resets"), "target_reset"},
		{"it is shed", room, all("old sends", "old is shed"), "not_copied"},
		{"its copy began later", room, all("old is shed", "old sends"), "not_copied"},
		{"it cannot be followed", room, all("old sends", "old is lost"), "proto_lost"},
		{"it has not answered", room, all("old sends"), "in_flight"},
		{"no room to wait", 0, all("old sends", "old answers"), "over_compare"},
		{"no room for its answer", size, []string{"asked", "asked", "old sends", "old answers",
			"old sends", "old answers", "target sends", "target answers", "target sends",
			"target answers", "answers", "answers"}, "over_compare"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newTriple(t, c.aside, true, false)
			for _, what := range append(c.steps, "target ends", "old ends") {
				s.step(what)
			}
			if c.why == "" && (s.j.beside != 1 || len(s.j.without) > 0) ||
				c.why != "" && s.j.without[c.why] != 1 {
				t.Errorf("%d compared with it, without it %v", s.j.beside, s.j.without)
			}
		})
	}
}

// An old version that does not answer at all keeps nothing from being compared.
func TestBaselineThatHangs(t *testing.T) {
	j := &judged{notes: notes{with: proto.NewDigesting(7, room), aside: room},
		without: make(map[string]int)}
	g := newPairing(j, false)
	old := g.addBaseline()
	old.begin(0)
	g.begin(0)
	const n = 3 * maxPairs
	for i := range n {
		g.expect(&pair{end: keyOf(i), key: keyOf(i), number: uint64(i), x: Exchange{Unit: &g.unit}})
		g.step(10)
		old.step(10)
		g.send(0)
		old.send(0)
		g.receive(digest(200, 0), 0)
		g.answered(uint64(i), digest(200, 0))
		if len(g.open.all) > 2*maxPairs {
			t.Fatalf("%d pairs are kept", len(g.open.all))
		}
	}
	g.close()
	old.close()
	if j.due != n || len(j.all) != n || j.without["over_compare"] < n-maxPairs ||
		slices.Contains(j.all, "over_compare") {
		t.Errorf("%d due, %d compared, without the old version %v", j.due, len(j.all), j.without)
	}
}
