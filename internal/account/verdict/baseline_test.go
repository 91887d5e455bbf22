package verdict

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/session"
)

// noisy answers a request for document n as serve does, and with what rules and recognised types do
// not know: an identifier of its own, the host's name, and which of two forms the host prefers.
func (w *world) noisy(host string, n int) answer {
	a := w.serve(n)
	if a.status == 200 {
		a.body = strings.Replace(a.body, `{"id":`, fmt.Sprintf(
			`{"nonce":"%x","host":"%s","form":%s,"id":`, w.r.Uint64(), host,
			map[bool]string{true: `"text"`, false: "7"}[host == "production"]), 1)
	}
	return a
}

// three runs n sessions of one request each, which production, the old version and the candidate
// answer; old and candidate change the answers of theirs. A nil old is a version that is dead.
func three(seed uint64, n int, rules *Rules, old, candidate func(answer) answer) *Result {
	w := newWorld(seed)
	w.tally.rules, w.tally.count.silenced = rules, make([]uint64, rules.silencers())
	for i := range n {
		w.threeAnswers(new(session.Unit), i, old, candidate)
	}
	return whole(w.tally).Result(rules)
}

func (w *world) threeAnswers(u *session.Unit, i int, old, candidate func(answer) answer) {
	document := w.r.IntN(20)
	x := &session.Exchange{Unit: u, Endpoint: "GET /doc/{id}", Request: uint64(document),
		Production: w.digest(w.noisy("production", document)),
		Target:     w.digest(candidate(w.noisy("target", document))),
		At:         mono.Time(i) * 1e8, Took: 1e6}
	if old == nil {
		x.NoBaseline = "target_refused"
	} else {
		x.Baseline = w.digest(old(w.noisy("target", document)))
		x.BaselineAt, x.BaselineTook = x.At, x.Took
	}
	w.tally.Due()
	w.tally.Compare(x)
}

// replacing returns a change of answers.
func replacing(old, now string) func(answer) answer {
	return func(a answer) answer {
		a.body = strings.Replace(a.body, old, now, 1)
		return a
	}
}

// provenAt returns the paths and kinds that are proven.
func provenAt(r *Result) (all []string) {
	for _, c := range r.Cells {
		if c.Proven {
			all = append(all, c.Path+": "+string(c.Kind))
		}
	}
	slices.Sort(all)
	return all
}

func ignoring(t *testing.T, paths ...string) *Rules {
	t.Helper()
	rules := new(Rules)
	for _, p := range paths {
		r, err := ParseRule(p)
		if err != nil {
			t.Fatal(err)
		}
		rules.Ignore = append(rules.Ignore, r)
	}
	return rules
}

// TestAgainst checks what is found with an old version as the baseline: what the candidate alone
// changes, and nothing in which both differ from production.
func TestAgainst(t *testing.T) {
	nonce := ignoring(t, "body.nonce", "body.hits", "body.tags*")
	for _, c := range []struct {
		name      string
		rules     *Rules
		old       func(answer) answer
		candidate func(answer) answer
		verdict   Word
		proven    []string
	}{
		{"without an old version the host is a difference", nonce, nil, unchanged, Differs,
			[]string{"body.form: type", "body.host: value"}},
		{"with one it is not", nonce, unchanged, unchanged, Same, nil},
		{"what differs in all three cannot be told", new(Rules), unchanged, unchanged, CannotTell,
			nil},
		{"a field is changed", nonce, unchanged, replacing(`"big":1`, `"big":2`), Differs,
			[]string{"body.big: value"}},
		{"a field of the same host is changed", nonce, unchanged,
			replacing(`"host":"target"`, `"host":"another"`), CannotTell, nil},
		{"the type of a field that differs in all three", ignoring(t, "body.other"), unchanged,
			replacing(`"nonce":"`, `"nonce":7,"other":"`), Differs, []string{"body.nonce: type"}},
		{"the type of one in which both differ", nonce, unchanged,
			replacing(`"form":7`, `"form":true`), CannotTell, nil},
		{"a field is lost", nonce, unchanged, replacing(`"big":1234567890123456789`, `"b":0`),
			Differs, []string{"body.b: extra", "body.big: missing"}},
		{"it fails", nonce, unchanged, failing, Differs, []string{"status: status"}},
		{"both fail", nonce, failing, failing, Same, nil},
		{"the old version fails, and says nothing of the host", nonce, failing, unchanged, Differs,
			[]string{"body.form: type"}},
		{"the old version alone has changed", nonce, replacing(`"big":1`, `"big":2`), unchanged,
			Same, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := three(1, 400, c.rules, c.old, c.candidate)
			got := provenAt(r)
			if d := cmp.Diff(c.proven, got); d != "" || r.Verdict != c.verdict {
				t.Errorf("%s, wanted %s; (-want +got)\n%s\n%q", r.Verdict, c.verdict, d, r.Why)
			}
		})
	}
}

// A dead old version changes nothing but what is said of it.
func TestAgainstADeadVersion(t *testing.T) {
	rules := ignoring(t, "body.nonce")
	for name, change := range map[string]func(answer) answer{
		"the same": unchanged, "failing": failing, "a field": replacing(`"big":1`, `"big":2`)} {
		dead := three(2, 300, rules, nil, change)
		if a := dead.Against; a == nil || a.Answered != 0 || a.Lacking["target_refused"] != 300 {
			t.Errorf("%s: against %+v", name, a)
		}
		var table bytes.Buffer
		if err := dead.Write(&table); err != nil ||
			!strings.Contains(table.String(), "300 compared without it: target_refused") {
			t.Errorf("%s: not said: %v\n%s", name, err, table.String())
		}
		w := newWorld(2)
		w.tally.rules, w.tally.count.silenced = rules, make([]uint64, rules.silencers())
		for i := range 300 {
			w.withoutOld(i, change)
		}
		without := whole(w.tally).Result(rules)
		dead.Against = nil
		a, errA := json.Marshal(dead)
		b, errB := json.Marshal(without)
		if errA != nil || errB != nil || string(a) != string(b) {
			t.Errorf("%s: %v %v %s", name, errA, errB, cmp.Diff(without, dead))
		}
	}
}

func (w *world) withoutOld(i int, candidate func(answer) answer) {
	document := w.r.IntN(20)
	w.tally.Due()
	w.tally.Compare(&session.Exchange{Unit: new(session.Unit), Endpoint: "GET /doc/{id}",
		Request:    uint64(document),
		Production: w.digest(w.noisy("production", document)),
		Target:     w.digest(candidate(w.noisy("target", document))),
		At:         mono.Time(i) * 1e8, Took: 1e6})
}

// Equal versions on another host than production's are never called different, though one looks
// after every request and both answer wrongly at times.
func TestEqualVersionsDoNotDiffer(t *testing.T) {
	n, wrong := runs(320, 10000), 0
	for i := range n {
		w := newWorld(uint64(i))
		at := func(a answer) answer {
			if w.r.IntN(20) == 0 {
				return answer{200, `{"id":null}`}
			}
			return a
		}
		unit := new(session.Unit)
		for k := range runs(60, 300) {
			if w.r.IntN(4) == 0 {
				unit = new(session.Unit)
			}
			w.threeAnswers(unit, k, at, at)
			if w.suspect() && w.proven() != nil {
				wrong++
				break
			}
		}
	}
	t.Logf("%d of %d runs: at most %.3f %% (95 %%)", wrong, n, 100*upper(wrong, n))
	if upper(wrong, n) > 0.01 {
		t.Errorf("%d of %d runs of equal versions differ", wrong, n)
	}
}

// TestMasking checks that a field that is always different hides nothing but its value: another
// type is found, and without one the verdict is that it cannot be told.
func TestMasking(t *testing.T) {
	typed := replacing(`"hits":`, `"hits":null,"was":`)
	for name, old := range map[string]func(answer) answer{"alone": nil, "against": unchanged} {
		rules := ignoring(t, "body.nonce", "body.host", "body.form", "body.was")
		r := three(3, 300, rules, old, unchanged)
		if r.Verdict != CannotTell || !strings.Contains(strings.Join(r.Why, " "), "body.hits") {
			t.Errorf("%s: %s %q", name, r.Verdict, r.Why)
		}
		r = three(3, 300, rules, old, typed)
		if d := cmp.Diff([]string{"body.hits: type"}, provenAt(r)); d != "" {
			t.Errorf("%s: %s %s", name, r.Verdict, d)
		}
	}
}

// The candidate is slower than the old version where it is, by the times of both, if that is asked
// for, and by as much as is asked for.
func TestSlowerThanTheOldVersion(t *testing.T) {
	slower, differs := Judged{Slower: true}, Judged{Differs: true}
	for _, c := range []struct {
		took   int64
		blocks int
		status uint16 // of the candidate's answers
		judged Judged
		want   Word
	}{
		{20e6, 40, 200, Judged{}, Same},
		{26e6, 40, 200, Judged{}, IsSlower},
		{26e6, 40, 200, Judged{By: 0.5}, Same},
		{26e6, 40, 200, differs, Same},
		{26e6, 40, 500, differs, Differs},
		{26e6, 40, 500, Judged{}, Differs},
		{26e6, 40, 500, slower, IsSlower},
		{20e6, 40, 500, slower, Same},
		{20e6, 10, 500, slower, CannotTell},
		{20e6, 10, 200, slower, CannotTell},
	} {
		w := newWorld(4)
		for i := range 100 * c.blocks {
			a := w.digest(answer{200, "1"})
			w.tally.Due()
			w.tally.Compare(&session.Exchange{Unit: new(session.Unit), Endpoint: "GET /",
				Production: a, Target: w.digest(answer{c.status, "1"}), Baseline: a,
				At: mono.Time(i) * 1e7, BaselineAt: mono.Time(i) * 1e7,
				Took: c.took + w.r.Int64N(2e6), BaselineTook: 20e6 + w.r.Int64N(2e6)})
		}
		r := whole(w.tally).Result(&Rules{Judged: c.judged})
		if r.Verdict != c.want || c.blocks > minBlocks && len(r.Against.Times) != len(judged) {
			t.Errorf("%+v: %s %q %+v", c, r.Verdict, r.Why, r.Against.Times)
		}
		text, err := r.JUnit()
		if passed := strings.Contains(string(text), `failures="0"`); err != nil ||
			passed != (c.want == Same || c.want == CannotTell) {
			t.Errorf("%+v: %v %s", c, err, text)
		}
	}
}
