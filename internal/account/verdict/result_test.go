package verdict

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/session"
	"tcpcopy/internal/proto"
	"tcpcopy/internal/proto/known"
)

// versions runs n sessions of one request each. change makes the candidate's answer.
func versions(seed uint64, n int, rules *Rules, change func(answer) answer) *Result {
	w := newWorld(seed)
	w.tally = NewTally(proto.NewDigesting(w.with.Seed, 1<<25), rules, ManyBases)
	for i := range n {
		document := w.r.IntN(20)
		w.tally.Due()
		w.tally.Compare(&session.Exchange{Unit: new(session.Unit), Endpoint: "GET /doc/{id}",
			Request: uint64(document), Production: w.digest(w.serve(document)),
			Target: w.digest(change(w.serve(document))), At: mono.Time(i) * 1e8, Took: 1e6})
	}
	return whole(w.tally).Result(rules)
}

var both = Judged{Differs: true, Slower: true}

func unchanged(a answer) answer { return a }

func failing(a answer) answer { return answer{503, "busy"} }

func TestCoverage(t *testing.T) {
	for _, c := range []struct {
		name               string
		compared, excluded int
		want               Word
	}{
		{"nothing", 0, 0, CannotTell}, {"too few", enough - 1, 0, CannotTell},
		{"enough", enough, 0, Same}, {"91 %", 91, 9, Same}, {"89 %", 89, 11, CannotTell},
		{"none compared", 0, 100, CannotTell},
	} {
		w := newWorld(1)
		for i := range c.compared {
			a := w.digest(answer{200, "1"})
			w.tally.Due()
			w.tally.Compare(&session.Exchange{Unit: new(session.Unit), Endpoint: "GET /",
				Request: uint64(i), Production: a, Target: a})
		}
		for range c.excluded {
			w.tally.Due()
			w.tally.Exclude(session.Gap)
		}
		r := whole(w.tally).Result(new(Rules))
		if r.Verdict != c.want || len(r.Why) == 0 || r.Open != 0 {
			t.Errorf("%s: %s %q", c.name, r.Verdict, r.Why)
		}
		w.tally.Due()
		if r := whole(w.tally).Result(new(Rules)); r.Open != 1 || r.Verdict != c.want {
			t.Errorf("%s: with one under way %s, %d open", c.name, r.Verdict, r.Open)
		}
	}
}

// The account of shards is the sum of theirs, and in the same order each time.
func TestAccountsAreSummed(t *testing.T) {
	report := func(order []int) string {
		var all Account
		for _, i := range order {
			w := newWorld(uint64(i))
			w.run(200, failing, func() bool { return false })
			all.Add(whole(w.tally))
		}
		text, err := json.Marshal(all.Result(new(Rules)))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	if d := cmp.Diff(report([]int{1, 2, 3}), report([]int{3, 1, 2})); d != "" {
		t.Error(d)
	}
}

func TestRules(t *testing.T) {
	for _, c := range []struct{ rule, endpoint, path string }{
		{"body.id", "", "body.id"}, {" header x-a ", "", "header x-a"},
		{"GET /user/{id} body.list[]*", "GET /user/{id}", "body.list[]*"},
		{"GET /body header x", "GET /body", "header x"}, {"GET reply", "GET", "reply"},
		{"status", "", "status"},
		{"select body from status rows[].v", "select body from status", "rows[].v"},
		{"ping insert id", "ping", "insert id"},
	} {
		r, err := ParseRule(c.rule)
		if err != nil || r != (Rule{c.endpoint, c.path}) {
			t.Errorf("%q: %+v %v", c.rule, r, err)
		}
	}
	for _, bad := range []string{"", "id", "GET /user"} {
		if r, err := ParseRule(bad); err == nil {
			t.Errorf("%q: %+v", bad, r)
		}
	}
	rules := new(Rules)
	for _, s := range []string{"status", "GET /doc/* body.none", "POST * body*"} {
		r, err := ParseRule(s)
		if err != nil {
			t.Fatal(err)
		}
		rules.Ignore = append(rules.Ignore, r)
	}
	r := versions(1, 100, rules, failing)
	if r.Verdict == Differs || r.Rules[0].Silenced < 90 || r.Rules[1].Silenced != 0 {
		t.Errorf("%s %q %+v", r.Verdict, r.Why, r.Rules)
	}
}

// TestUnordered checks that a rule silences another order of a list, and of lists in it, where it
// is for, and nothing else.
func TestUnordered(t *testing.T) {
	for _, c := range []struct {
		rule, target string
		want         Word
		silenced     uint64
	}{
		{"", `{"a":[2,1],"b":1}`, Differs, 0}, {"body.a", `{"a":[2,1],"b":1}`, Same, 30},
		{"GET / body.a[]", `{"a":[2,1],"b":1}`, Same, 30},
		{"GET /x body.a", `{"a":[2,1],"b":1}`, Differs, 0},
		{"body", `{"a":[2,1],"b":1}`, Same, 30}, {"body.a", `{"a":[2,3],"b":1}`, Differs, 0},
		{"body.a", `{"a":[2],"b":1}`, Differs, 0},
	} {
		rules := new(Rules)
		if c.rule != "" {
			r, err := ParseRule(c.rule)
			if err != nil {
				t.Fatal(err)
			}
			rules.Unordered = append(rules.Unordered, r)
		}
		w := newWorld(1)
		w.tally = NewTally(proto.NewDigesting(w.with.Seed, 1<<25), rules, ManyBases)
		for range 30 {
			w.tally.Due()
			w.tally.Compare(&session.Exchange{Unit: new(session.Unit), Endpoint: "GET /",
				Request: 1, Production: w.digest(answer{200, `{"a":[1,2],"b":1}`}),
				Target: w.digest(answer{200, c.target})})
		}
		r := whole(w.tally).Result(rules)
		if r.Verdict != c.want {
			t.Errorf("%q of %s: %s %q", c.rule, c.target, r.Verdict, r.Why)
		}
		if c.rule != "" && (r.Rules[0].Silenced != c.silenced ||
			r.Rules[0].Rule != "unordered: "+c.rule) {
			t.Errorf("%q of %s: %+v", c.rule, c.target, r.Rules)
		}
	}
}

func TestEndpoints(t *testing.T) {
	for _, bad := range []string{"", "GET", "/user/{name}", "GET user/{name}", "GET /user",
		"GET /{}", "GET /a{b}", "GET /{a}?b", "GET /{a b}", "GET /{a}/{{b}}"} {
		if e, err := ParseEndpoint(bad); err == nil {
			t.Errorf("%q is taken as %q", bad, e)
		}
	}
	rules := new(Rules)
	for _, s := range []string{" GET /user/{name} ", "GET /{lang}/doc/{id}"} {
		e, err := ParseEndpoint(s)
		if err != nil {
			t.Fatal(err)
		}
		rules.Endpoints = append(rules.Endpoints, e)
	}
	for name, want := range map[string]string{
		"GET /user/anna": "GET /user/{name}", "GET /user/{id}": "GET /user/{name}",
		"GET /user/": "GET /user/", "GET /user": "GET /user", "POST /user/a": "POST /user/a",
		"GET /user/anna/x": "GET /user/anna/x", "GET /de/doc/{id}": "GET /{lang}/doc/{id}",
		"GET /de/dog/1": "GET /de/dog/1", "GET": "GET", "": "", "GET /user/a/": "GET /user/a/",
	} {
		if got := rules.endpoint(name); got != want {
			t.Errorf("%q belongs to %q, wanted %q", name, got, want)
		}
	}
	w := newWorld(1)
	tally := NewTally(proto.NewDigesting(w.with.Seed, 1<<25), rules, ManyBases)
	for i := range 30 {
		tally.Due()
		tally.Compare(&session.Exchange{Unit: new(session.Unit),
			Endpoint: fmt.Sprintf("GET /user/name%c", 'a'+i), Request: uint64(i),
			Production: w.digest(answer{200, "1"}), Target: w.digest(answer{200, "1"})})
	}
	r := whole(tally).Result(rules)
	if len(r.Endpoints) != 1 || r.Endpoints[0].Endpoint != "GET /user/{name}" ||
		r.Endpoints[0].Compared != 30 {
		t.Errorf("%+v", r.Endpoints)
	}
}

func TestPercent(t *testing.T) {
	for s, want := range map[string]float64{"10%": 0.1, "0.5%": 0.005, "250%": 2.5} {
		if got, err := ParsePercent(s); err != nil || got != want {
			t.Errorf("%q: %v %v", s, got, err)
		}
	}
	for _, bad := range []string{"", "10", "%", "0%", "-1%", "NaN%", "Inf%", "x%"} {
		if got, err := ParsePercent(bad); err == nil {
			t.Errorf("%q is taken as %v", bad, got)
		}
	}
}

func TestText(t *testing.T) {
	rule, _ := ParseRule("body.none")
	var b strings.Builder
	r := versions(1, 100, &Rules{Ignore: []Rule{rule}}, failing)
	if err := r.Write(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"differs: GET /doc/{id}: status: status", "200→503 ",
		"compared  100 of 100 answers due", `"body.none" silenced nothing`, "(200 → 503)"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
	if line := r.Line(); line != "compared 100 of 100 answers, 100 differed: differs" {
		t.Error(line)
	}
}

func TestJUnit(t *testing.T) {
	for _, c := range []struct {
		r                        *Result
		tests, failures, skipped int
	}{
		{versions(1, 100, new(Rules), failing), 2, 2, 0},
		{versions(1, 5, new(Rules), unchanged), 2, 0, 1},
		{&Result{Verdict: Same, Why: []string{"<script>&"},
			Endpoints: []EndpointResult{{Endpoint: "GET /\"<script>"}}}, 2, 0, 0},
	} {
		text, err := c.r.JUnit()
		if err != nil {
			t.Fatal(err)
		}
		var got junit
		if err := xml.Unmarshal(text, &got); err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		if got.Tests != c.tests || got.Failures != c.failures || got.Skipped != c.skipped ||
			len(got.Suite.Cases) != c.tests || strings.Contains(string(text), "<script") {
			t.Errorf("%s", text)
		}
	}
}

// What two runs show alike is no difference between them, whatever it is; what only one shows is.
func TestCompareRuns(t *testing.T) {
	other := func(a answer) answer {
		return answer{a.status, strings.Replace(a.body, `"name"`, `"title"`, 1)}
	}
	for _, c := range []struct {
		name     string
		old, now func(answer) answer
		paths    []string
	}{
		{"the same", unchanged, unchanged, nil},
		{"both differ from production", other, other, nil},
		{"the new one differs", unchanged, other, []string{"body.name", "body.title"}},
		{"the old one failed", failing, unchanged, nil},
	} {
		ch, err := Compare(versions(1, 300, new(Rules), c.old),
			versions(2, 300, new(Rules), c.now), both)
		if err != nil {
			t.Fatal(err)
		}
		var proven []string
		for _, m := range ch.Cells {
			if m.Proven {
				proven = append(proven, m.Path)
			}
		}
		if slices.Sort(proven); !slices.Equal(proven, c.paths) ||
			(ch.Verdict == Differs) != (c.paths != nil) {
			t.Errorf("%s: %s %q %v", c.name, ch.Verdict, ch.Why, proven)
		}
		var b strings.Builder
		if err := ch.Write(&b); err != nil || !strings.Contains(b.String(), string(ch.Verdict)) {
			t.Errorf("%s: %v\n%s", c.name, err, b.String())
		}
	}
	if _, err := Compare(nil, new(Result), both); err == nil {
		t.Error("a report without a comparison is taken")
	}
}

// Only what is asked for is judged.
func TestJudged(t *testing.T) {
	fast, slow := versions(1, 300, new(Rules), unchanged), versions(2, 300, new(Rules), failing)
	l := load{rand.New(rand.NewPCG(1, 1)), 60, 100}
	a, _ := l.times(same)
	b, _ := l.times(func(_ *rand.Rand, ms float64) float64 { return 2 * ms })
	fast.Times, slow.Times = a.report(), b.report()
	for text, want := range map[string]Word{"differs": Differs, "slower": IsSlower,
		"slower, differs": Differs} {
		j, err := ParseJudged(text)
		if err != nil {
			t.Fatal(err)
		}
		if ch, err := Compare(fast, slow, j); err != nil || ch.Verdict != want {
			t.Errorf("%s: %v %+v", text, err, ch)
		}
		if ch, err := Compare(fast, fast, j); err != nil || ch.Verdict == want {
			t.Errorf("%s, of the same: %v %+v", text, err, ch)
		}
	}
	fast.Times = nil
	if ch, err := Compare(fast, fast, Judged{Differs: true}); err != nil || ch.Verdict != Same {
		t.Errorf("without times: %v %+v", err, ch)
	}
	if _, err := ParseJudged("slower,faster"); err == nil {
		t.Error("a word that means nothing is taken")
	}
}

// Runs of equal versions are not called different.
func TestEqualRunsDoNotDiffer(t *testing.T) {
	n, wrong := runs(30, 1000), 0
	for i := range n {
		ch, err := Compare(versions(uint64(2*i), 300, new(Rules), unchanged),
			versions(uint64(2*i+1), 300, new(Rules), unchanged), both)
		if err != nil {
			t.Fatal(err)
		}
		if ch.Verdict == Differs {
			wrong++
		}
	}
	if wrong > 0 && upper(wrong, n) > 0.01 {
		t.Errorf("%d of %d pairs of equal runs differ", wrong, n)
	}
}

// What a tally keeps is bounded, whatever it is shown.
func TestTallyIsBounded(t *testing.T) {
	w := newWorld(1)
	w.tally = NewTally(proto.NewDigesting(w.with.Seed, 1<<19), new(Rules), ManyBases)
	r := rand.New(rand.NewPCG(1, 1))
	one := w.digest(answer{200, `{"a":1}`})
	for i := range 50_000 {
		two := w.digest(answer{200, fmt.Sprintf(`{"k%c%c%c":1}`, 'g'+r.IntN(20),
			'g'+r.IntN(20), 'g'+r.IntN(20))})
		w.tally.Due()
		w.tally.Compare(&session.Exchange{Unit: new(session.Unit), Endpoint: fmt.Sprint("GET /",
			i%6000), Request: uint64(i), Production: one, Target: two})
	}
	a := whole(w.tally)
	if len(a.places) > maxCells || len(a.endpoints) > maxEndpoints+1 || a.overCells == 0 {
		t.Errorf("%d places, %d endpoints, %d over", len(a.places), len(a.endpoints), a.overCells)
	}
	if n := w.tally.bases.count; n > ManyBases {
		t.Errorf("%d answers are kept", n)
	}
	if r := a.Result(new(Rules)); r.Verdict == Same {
		t.Errorf("%s though differences found no room", r.Verdict)
	}
}

// whole returns what a Tally has counted, copied in parts.
func whole(t *Tally) *Account {
	a := new(Account)
	for l := new(Look); !t.Look(a, l, true); {
	}
	return a
}

// A look copies a bounded number of cells at once, and what is counted meanwhile does not harm it.
func TestLooksComeInParts(t *testing.T) {
	w := newWorld(1)
	add := func(n int) {
		w.tally.Due()
		w.tally.Compare(&session.Exchange{Unit: new(session.Unit),
			Endpoint:   fmt.Sprintf("GET /%s", strings.Repeat("a", 1+n%600)),
			Production: w.digest(answer{200, fmt.Sprintf(`{"a%s":1}`, strings.Repeat("b", n%200))}),
			Target:     w.digest(answer{200, `{}`})})
	}
	for n := range 2000 {
		add(n)
	}
	a, l, parts, cells := new(Account), new(Look), 0, 0
	for done := false; !done; parts++ {
		done = w.tally.Look(a, l, false)
		if n := len(a.places) + len(a.endpoints); n-cells > lookPart {
			t.Fatalf("%d cells and endpoints at once", n-cells)
		} else {
			cells = n
		}
		add(2000 + parts)
	}
	if n := len(w.tally.count.known); parts < n/lookPart || n < 2*lookPart {
		t.Errorf("%d parts of %d cells", parts, n)
	}
	r := a.Result(new(Rules))
	if want := uint64(2000 + parts - 1); r.Due != want || r.Compared != want || r.Open != 0 {
		t.Errorf("%d due, %d compared, %d open, wanted %d", r.Due, r.Compared, r.Open, want)
	}
	if d := cmp.Diff(whole(w.tally).Result(new(Rules)),
		w.tally.count.Result(new(Rules))); d != "" {
		t.Errorf("the whole is not the sum of its parts: %s", d)
	}
}

// sealed is an answer whose fields must not be needed.
type sealed struct{ t *testing.T }

func (s sealed) Unpack(*proto.Digesting, *proto.Digest) { s.t.Error("the fields were made") }

func (s sealed) Drop(*proto.Digesting) {}

// Of answers whose sums are the same, the fields are not made.
func TestTheSameIsNotLookedInto(t *testing.T) {
	w := newWorld(1)
	for i := range 100 {
		seal := func() *proto.Digest {
			return &proto.Digest{Status: 200, Sum: uint64(1 + i%2), Packed: sealed{t}}
		}
		w.tally.Due()
		w.tally.Compare(&session.Exchange{Unit: new(session.Unit), Endpoint: "GET /", Took: 1,
			Request: uint64(i % 2), Production: seal(), Target: seal()})
	}
	if r := whole(w.tally).Result(new(Rules)); r.Verdict != Same || r.Endpoints[0].Based != 98 {
		t.Errorf("%+v", r)
	}
}

// Where the content of one answer is not known, the headers are compared, as far as they are.
func TestContentThatIsNotKnown(t *testing.T) {
	w := newWorld(1)
	digest := func(header string, skipped proto.Skip) *proto.Digest {
		w.b.Reset(0)
		w.b.Add([]byte("header "+header), nil, proto.Text)
		if skipped == proto.Compared {
			w.b.JSON("reply", []byte(`{"a":1}`))
		}
		d := &proto.Digest{Status: 200}
		w.b.Finish(d, skipped)
		return d
	}
	for _, c := range []struct {
		skipped proto.Skip
		want    int
	}{{proto.Compared, 3}, {proto.Oversize, 2}, {proto.UnknownEncoding, 2}, {proto.Headless, 0}} {
		p, q := digest("a", proto.Compared), digest("b", c.skipped)
		if c.skipped == proto.Compared { // both headers differ, and the reply as a whole
			q.Fields = q.Fields[:1]
		}
		got, partly := w.tally.differences(nil, p, q, false)
		if len(got) != c.want || partly != (c.skipped != proto.Compared) {
			t.Errorf("skipped %d: %+v, partly %v", c.skipped, got, partly)
		}
	}
}

// stack is proto.Buffers that hands out what came back last, at once.
type stack struct {
	free   [][]byte
	packed []proto.Packed
}

func (s *stack) Get(n int) []byte {
	if len(s.free) > 0 && cap(s.free[len(s.free)-1]) >= n {
		p := s.free[len(s.free)-1]
		s.free = s.free[:len(s.free)-1]
		return p[:0]
	}
	return make([]byte, 0, 4*n)
}

func (s *stack) Put(p []byte) {
	if cap(p) > 0 {
		clear(p[:cap(p)])
		s.free = append(s.free, p)
	}
}

func (s *stack) GetPacked() (p proto.Packed) {
	if n := len(s.packed); n > 0 {
		p, s.packed = s.packed[n-1], s.packed[:n-1]
	}
	return p
}

func (s *stack) PutPacked(p proto.Packed) { s.packed = append(s.packed, p) }

// Memory that is used again changes nothing of what is found.
func TestBuffersAreUsedAgain(t *testing.T) {
	shared := new(stack)
	run := func(buffers proto.Buffers) *Result {
		r := rand.New(rand.NewPCG(5, 5))
		reader := func() (*proto.Digesting, proto.Digester) {
			d := proto.NewDigesting(9, 1<<20)
			d.Buffers = buffers
			return d, known.Digester(known.Named("http1").Kind, d)
		}
		with, production := reader()
		_, target := reader()
		tally := NewTally(with, new(Rules), ManyBases)
		digest := func(d proto.Digester, n, more int) *proto.Digest {
			body := fmt.Sprintf(`{"id":%d,"n":[%s1],"v":%d}`, n, strings.Repeat("1,", n), more)
			fmt.Fprintf(&writer{d}, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"+
				"Content-Length: %d\r\n\r\n%s", len(body), body)
			return d.End(&proto.Answer{Status: 200})
		}
		for range 3000 {
			n, changed := r.IntN(50), r.IntN(3)/2
			tally.Due()
			tally.Compare(&session.Exchange{Unit: new(session.Unit), Endpoint: "GET /", Took: 1,
				Request: uint64(n), Production: digest(production, n, r.IntN(20)/19),
				Target: digest(target, n, changed)})
		}
		return whole(tally).Result(new(Rules))
	}
	want, got := run(nil), run(shared)
	if d := cmp.Diff(want, got); d != "" || want.Cells[0].Alone == 0 || len(shared.free) == 0 ||
		len(shared.packed) == 0 {
		t.Errorf("%d buffers and %d digests are free: (-want +got)\n%s", len(shared.free),
			len(shared.packed), d)
	}
}

// writer is a Digester as an io.Writer.
type writer struct{ to proto.Digester }

func (w *writer) Write(p []byte) (int, error) {
	w.to.Write(p)
	return len(p), nil
}
