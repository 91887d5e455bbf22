package verdict

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/session"
	"tcpcopy/internal/proto"
	"tcpcopy/internal/proto/content"
)

// runs returns how large a simulation is: small with -short.
func runs(small, whole int) int {
	if testing.Short() {
		return small
	}
	return whole
}

// world simulates clients that ask a server, and the copies of their requests.
type world struct {
	r     *rand.Rand
	with  *proto.Digesting
	b     *content.Builder
	tally *Tally
	seen  int
}

func newWorld(seed uint64) *world {
	s := rand.Uint64()
	with := proto.NewDigesting(s, 1<<26)
	return &world{r: rand.New(rand.NewPCG(seed, 1)), with: with, b: content.New(with),
		tally: NewTally(proto.NewDigesting(s, 1<<25), new(Rules), ManyBases)}
}

// answer is what one server says to the n-th document, with what differs from answer to answer.
type answer struct {
	status uint16
	body   string
}

func (w *world) uuid() string {
	return fmt.Sprintf("%08x-%04x-4%03x-8%03x-%012x", w.r.Uint32(), w.r.Uint32()&0xffff,
		w.r.Uint32()&0xfff, w.r.Uint32()&0xfff, w.r.Uint64()&0xffffffffffff)
}

// serve answers a request for document n: with identifiers, dates, a list in any order, a counter,
// and a failure in one of a thousand.
func (w *world) serve(n int) answer {
	if w.r.IntN(1000) == 0 {
		return answer{500, `{"error":"try again"}`}
	}
	tags := []string{"1", "2", "3"}
	w.r.Shuffle(3, func(i, j int) { tags[i], tags[j] = tags[j], tags[i] })
	name := "right"
	if w.r.IntN(1000) == 0 {
		name = "wrong"
	}
	return answer{200, fmt.Sprintf(`{"id":%d,"trace":"%s","at":"2026-03-01T12:00:%02dZ",`+
		`"tags":[%s,%s,%s],"name":"%s","hits":%d,"big":1234567890123456789}`, n, w.uuid(),
		w.r.IntN(60), tags[0], tags[1], tags[2], name, w.r.IntN(1000))}
}

func (w *world) digest(a answer) *proto.Digest {
	w.b.Reset(0)
	w.b.JSON("body", []byte(a.body))
	d := &proto.Digest{Status: a.status}
	w.b.Finish(d, proto.Compared)
	return d
}

// run has sessions of a few requests each, until stop or at the end. change makes the candidate's
// answer of an answer.
func (w *world) run(requests int, change func(answer) answer, stop func() bool) {
	unit := new(session.Unit)
	for i := range requests {
		if w.r.IntN(4) == 0 {
			unit = new(session.Unit)
		}
		n := w.r.IntN(20)
		p, c := w.serve(n), change(w.serve(n))
		w.tally.Due()
		w.tally.Compare(&session.Exchange{Unit: unit, Endpoint: "GET /doc/{id}",
			Request: uint64(n), Production: w.digest(p), Target: w.digest(c),
			At: mono.Time(i) * 1e6, Took: 1e6})
		w.seen++
		if stop() {
			return
		}
	}
}

func (w *world) proven() *Cell {
	r := w.tally.count.Result(w.tally.rules)
	if r.Verdict != Differs {
		return nil
	}
	return &r.Cells[0]
}

// upper returns the upper end of the 95 % interval (Clopper and Pearson, one-sided) of a
// probability of which k of n were seen.
func upper(k, n int) float64 {
	lo, hi := float64(k)/float64(n), 1.0
	for range 60 {
		p := (lo + hi) / 2
		if math.Exp(logUpper(float64(k+1), float64(n-k), p)) < 0.05 {
			hi = p
		} else {
			lo = p
		}
	}
	return hi
}

// Equal servers are never called different, though one looks after every request.
func TestEqualServersDoNotDiffer(t *testing.T) {
	n, wrong := runs(320, 10000), 0
	for i := range n {
		w := newWorld(uint64(i))
		w.run(runs(120, 300), func(a answer) answer { return a }, func() bool {
			if !w.suspect() {
				return false
			}
			c := w.proven()
			if c != nil && wrong < 5 {
				t.Logf("run %d, after %d: %+v", i, w.seen, c)
			}
			return c != nil
		})
		if w.proven() != nil {
			wrong++
		}
	}
	t.Logf("%d of %d runs of equal servers: at most %.3f %% (95 %%)", wrong, n, 100*upper(wrong, n))
	if upper(wrong, n) > 0.01 {
		t.Errorf("%d of %d runs of equal servers differ: at most %.2f %%", wrong, n,
			100*upper(wrong, n))
	}
}

// suspect reports whether a cell has evidence that can be proof, whatever the number of cells: a
// quick look before the whole verdict.
func (w *world) suspect() bool {
	for p, c := range w.tally.count.places {
		if c.alone > 0 && evidence(c.alone, w.tally.count.against(p, c), 0.5) >= threshold(1) {
			return true
		}
	}
	return false
}

// Of fair coins, looked at after each, the e-value calls one in a hundred unfair at most; a test
// that is meant for one look calls many more.
func TestEvidenceMayBeWatched(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	n, proven, plain := runs(1000, 10000), 0, 0
	for range n {
		var b, c uint64
		watched, naive := false, false
		for range 1000 {
			if r.IntN(2) == 0 {
				b++
			} else {
				c++
			}
			watched = watched || evidence(b, c, 0.5) >= -math.Log(alpha)
			// One-sided: P(at least b of n) for a fair coin.
			naive = naive || math.Exp(logLower(float64(b), float64(c+1), 0.5)) <= alpha && b > 0
		}
		if watched {
			proven++
		}
		if naive {
			plain++
		}
	}
	if upper(proven, n) > 0.015 {
		t.Errorf("%d of %d fair coins are called unfair", proven, n)
	}
	if float64(plain) < 0.03*float64(n) {
		t.Errorf("the plain test calls only %d of %d unfair: that shows nothing", plain, n)
	}
}

// The evidence agrees with the sum that defines it.
func TestEvidenceByNumbers(t *testing.T) {
	for _, c := range []struct {
		b, c uint64
		p    float64
	}{{0, 0, 0.5}, {1, 0, 0.5}, {10, 0, 0.5}, {5, 5, 0.5}, {100, 3, 0.5}, {30, 60, 0.2},
		{3, 90, 0.9}, {2000, 1900, 0.5}} {
		// The mean likelihood ratio over probabilities above p, by Simpson's rule.
		const steps = 20000
		f := func(q float64) float64 {
			return math.Exp(float64(c.b)*math.Log(q/c.p) +
				float64(c.c)*math.Log(math.Max(1-q, 1e-300)/(1-c.p)))
		}
		h, sum := (1-c.p)/steps, 0.0
		for i := range steps / 2 {
			x := c.p + float64(2*i)*h
			sum += f(x) + 4*f(x+h) + f(x+2*h)
		}
		want := math.Log(sum * h / 3 / (1 - c.p))
		if got := evidence(c.b, c.c, c.p); math.Abs(got-want) > 1e-3*math.Max(1, math.Abs(want)) {
			t.Errorf("evidence(%d, %d, %g) = %v, want %v", c.b, c.c, c.p, got, want)
		}
	}
}

// need returns how many sessions prove a difference that is the only one, if nothing speaks against
// it and so many places have differed.
func need(cells int) int {
	n := uint64(1)
	for evidence(n, 0, 0.5) < threshold(cells) {
		n++
	}
	return int(n)
}

// Each change of an answer is found at its path, with its kind, as soon as the formula says.
func TestChangesAreFound(t *testing.T) {
	const text = `{"id":7,"name":"right","list":[1,2,3],"big":1234567890123456789,"o":{"x":1}}`
	w := newWorld(1)
	digest := func(status uint16, body string, header string) *proto.Digest {
		w.b.Reset(0)
		if header != "" {
			w.b.Add([]byte("header content-type"), []byte(header), proto.Text)
		}
		if !w.b.JSON("body", []byte(body)) {
			w.b.Add([]byte("body"), []byte(body), proto.Opaque)
		}
		d := &proto.Digest{Status: status}
		w.b.Finish(d, proto.Compared)
		return d
	}
	for _, c := range []struct {
		name   string
		status uint16
		body   string
		header string
		path   string
		kind   Kind
		from   string
		to     string
	}{
		{"another status", 500, text, "json", "status", Status, "200", "500"},
		{"a missing field", 200, `{"id":7,"list":[1,2,3],"big":1234567890123456789,"o":{"x":1}}`,
			"json", "body.name", Missing, "text of 5 bytes", "absent"},
		{"a missing object", 200,
			`{"id":7,"name":"right","list":[1,2,3],"big":1234567890123456789}`, "json",
			"body.o", Missing, "object", "absent"},
		{"null", 200, `{"id":7,"name":null,"list":[1,2,3],"big":1234567890123456789,"o":{"x":1}}`,
			"json", "body.name", Type, "text", "null"},
		{"one too much in 19 digits", 200,
			`{"id":7,"name":"right","list":[1,2,3],"big":1234567890123456788,"o":{"x":1}}`, "json",
			"body.big", Value, "number of 19 bytes", "number of 19 bytes"},
		{"another order", 200,
			`{"id":7,"name":"right","list":[2,1,3],"big":1234567890123456789,"o":{"x":1}}`, "json",
			"body.list[]", Order, "3 × number", "3 × number"},
		{"a shorter list", 200,
			`{"id":7,"name":"right","list":[1,2],"big":1234567890123456789,"o":{"x":1}}`, "json",
			"body.list", Length, "list of 3", "list of 2"},
		{"a cut body", 200, text[:20], "json", "body", Type, "object", "bytes"},
		{"a lost header", 200, text, "", "header content-type", Missing, "text of 4 bytes",
			"absent"},
		{"another charset", 200, text, "json;charset=x", "header content-type", Value,
			"text of 4 bytes", "text of 14 bytes"},
		{"a key twice", 200, text[:len(text)-1] + `,"id":7}`, "json", "body.id", Extra,
			"number of 1 bytes", "2 × number"},
		{"no answer", 0, "", "", "answer", NoAnswer, "an answer", "target_reset"},
	} {
		tally := NewTally(proto.NewDigesting(w.with.Seed, 1<<19), new(Rules), ManyBases)
		feed := func(times int) *Result {
			for range times {
				x := &session.Exchange{Unit: new(session.Unit), Endpoint: "GET /",
					Production: digest(200, text, "json"),
					Target:     digest(c.status, c.body, c.header)}
				if c.status == 0 {
					x.Target, x.Failed = nil, ledger.TargetReset
				}
				tally.Due()
				tally.Compare(x)
			}
			return tally.count.Result(tally.rules)
		}
		feed(1) // production's first answer, by which the others are judged
		n := need(1)
		if c.kind.content() {
			n++ // the first has no other answer beside it
		}
		if r := feed(n - 2); r.Verdict == Differs {
			t.Errorf("%s: proven too early", c.name)
		}
		r := feed(1)
		if r.Verdict != Differs || len(r.Cells) != 1 {
			t.Errorf("%s: %s after %d: %+v", c.name, r.Verdict, n, r.Cells)
			continue
		}
		if got := r.Cells[0]; got.Path != c.path || got.Kind != c.kind || got.From != c.from ||
			got.To != c.to {
			t.Errorf("%s: %+v", c.name, got)
		}
	}
}

// Errors in 1 % of the answers are found beside the noise of equal servers, as soon as the formula
// says.
func TestRareErrorsAreFound(t *testing.T) {
	for seed := range uint64(runs(5, 50)) {
		w := newWorld(seed)
		failed := 0
		w.run(20_000, func(a answer) answer {
			if w.r.IntN(100) > 0 {
				return a
			}
			failed++
			return answer{500, "error"}
		}, func() bool { return w.suspect() && w.proven() != nil })
		c := w.proven()
		if c == nil || c.Path != "status" || c.Kind != Status || c.From != "200" || c.To != "500" {
			t.Fatalf("%d: not found in %d failures of %d answers: %+v", seed, failed, w.seen, c)
		}
		// Nothing else was needed: with one session fewer it was not proven.
		if e := evidence(c.Alone-1, c.Base, 0.5); round(e) >= c.Needed || failed > 100 {
			t.Errorf("%d: found after %d failures: %+v", seed, failed, c)
		}
	}
}

// A field that always differs says nothing, and hides nothing: another type is found.
func TestFieldsThatAlwaysDiffer(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(answer) answer
		want   Word
		path   string
	}{
		{"value only", func(a answer) answer { return a }, CannotTell, ""},
		{"another type", func(a answer) answer {
			return answer{a.status, `{"nonce":` + a.body[len(`{"nonce":"`):len(a.body)-2] + `}`}
		}, Differs, "body.nonce"},
	} {
		w := newWorld(5)
		for i := range 200 {
			serve := func() answer {
				return answer{200, fmt.Sprintf(`{"nonce":"%d"}`, 1+w.r.Uint32())}
			}
			w.tally.Due()
			w.tally.Compare(&session.Exchange{Unit: new(session.Unit), Endpoint: "GET /",
				Request: uint64(i % 3), Production: w.digest(serve()),
				Target: w.digest(c.change(serve()))})
		}
		r := w.tally.count.Result(w.tally.rules)
		if r.Verdict != c.want || c.path != "" && r.Cells[0].Path != c.path {
			t.Errorf("%s: %s %q %+v", c.name, r.Verdict, r.Why, r.Cells)
		}
	}
}

// What a session shows after its first difference is counted apart, until it has shown none for a
// while.
func TestConsequencesCountApart(t *testing.T) {
	w := newWorld(6)
	unit := new(session.Unit)
	one := func(status uint16) {
		w.tally.Due()
		w.tally.Compare(&session.Exchange{Unit: unit, Endpoint: "GET /", Production: w.digest(
			answer{200, "1"}), Target: w.digest(answer{status, "1"})})
	}
	for range 30 {
		one(500)
	}
	r := w.tally.count.Result(w.tally.rules)
	if r.First != 1 || r.Later != 29 || r.Cells[0].Alone != 1 || r.Verdict == Same {
		t.Errorf("%+v", r)
	}
	for range quiet {
		one(200)
	}
	one(500)
	if r = w.tally.count.Result(w.tally.rules); r.First != 2 || r.Cells[0].Alone != 2 {
		t.Errorf("after a while: %+v", r)
	}
}

// TestCompareAllocatesNothing is of answers that are the same, each to a request of its own.
func TestCompareAllocatesNothing(t *testing.T) {
	w := newWorld(1)
	d := w.digest(answer{200, `{"id":1}`})
	d.Sum, d.Size = 1, 300
	x := session.Exchange{Unit: new(session.Unit), Endpoint: "GET /doc/{id}", Production: d,
		Target: d, Took: 1e6}
	compare := func() {
		x.Request++
		w.tally.Due()
		w.tally.Compare(&x)
	}
	for range 2 * ManyBases { // until as much is kept as may be
		compare()
	}
	if n := testing.AllocsPerRun(1000, compare); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
