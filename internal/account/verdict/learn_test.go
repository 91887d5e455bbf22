package verdict

import (
	"fmt"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"

	"tcpcopy/internal/core/session"
	"tcpcopy/internal/proto"
)

// learning compares 40 answers of two servers that differ by a host's name, an optional field and
// the order of a list; broken has one fail once.
func learning(rules *Rules, broken bool) *Result {
	w := newWorld(1)
	w.tally = NewTally(proto.NewDigesting(w.with.Seed, 1<<25), rules, ManyBases)
	for i := range 40 {
		p := answer{200, `{"host":"a","list":[1,2],"n":{"it's":1}}`}
		c := answer{200, `{"host":"b","list":[2,1],"n":{"it's":"1"}}`}
		if broken && i == 7 {
			c = answer{500, ""}
		}
		w.tally.Due()
		w.tally.Compare(&session.Exchange{Unit: new(session.Unit), Endpoint: "GET /", Request: 1,
			Production: w.digest(p), Target: w.digest(c)})
	}
	return whole(w.tally).Result(rules)
}

// TestLearn checks that the rules that a run of equal servers suggests are taken back, and silence
// what differs between them; and that a fault suggests no rule.
func TestLearn(t *testing.T) {
	lesson, err := Learn(learning(new(Rules), true), learning(new(Rules), false))
	if err != nil {
		t.Fatal(err)
	}
	if lesson.Compared != 80 || len(lesson.Faults) != 1 ||
		!strings.Contains(lesson.Faults[0], "GET /: status: status (200 → 500) in 1 sessions") {
		t.Errorf("%+v", lesson)
	}
	var b strings.Builder
	if err := lesson.Write(&b); err != nil {
		t.Fatal(err)
	}
	var file struct{ Ignore, Unordered []string }
	if err := yaml.Unmarshal([]byte(b.String()), &file); err != nil {
		t.Fatalf("%v\n%s", err, b.String())
	}
	want := struct{ Ignore, Unordered []string }{
		[]string{"GET / body.host", "GET / body.n.it's"}, []string{"GET / body.list[]"}}
	if d := cmp.Diff(want, file); d != "" {
		t.Errorf("(-want +got)\n%s\n%s", d, b.String())
	}
	rules := new(Rules)
	for _, s := range file.Ignore {
		r, err := ParseRule(s)
		if err != nil {
			t.Fatal(err)
		}
		rules.Ignore = append(rules.Ignore, r)
	}
	for _, s := range file.Unordered {
		r, err := ParseRule(s)
		if err != nil {
			t.Fatal(err)
		}
		rules.Unordered = append(rules.Unordered, r)
	}
	if r := learning(rules, false); r.Verdict != Same {
		t.Errorf("by these rules: %s %q", r.Verdict, r.Why)
	}
	for i, x := range lesson.Rules {
		if got := fmt.Sprint(x.Kinds); x.Sessions != 40 ||
			got != map[string]string{"body.host": "[value]", "body.n.it's": "[type]",
				"body.list[]": "[order]"}[x.Rule.Path] {
			t.Errorf("rule %d: %+v", i, x)
		}
	}
	if _, err := Learn(nil); err == nil {
		t.Error("a run without a comparison is taken")
	}
}
