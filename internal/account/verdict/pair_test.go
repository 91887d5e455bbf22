package verdict

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tcpcopy/internal/core/session"
)

// TestPairs checks that the first answers that differ are kept side by side, with what differs, and
// without a value; and that they are not part of a shortened result.
func TestPairs(t *testing.T) {
	w := newWorld(1)
	for i, c := range []string{`{"a":"s3cr3t","b":[1,2]}`, `{"a":12345678,"b":[1,2],"c":{}}`,
		`{"a":true}`} {
		w.tally.Due()
		w.tally.Compare(&session.Exchange{Unit: new(session.Unit), Endpoint: "GET /", Request: 1,
			Production: w.digest(answer{200, `{"a":"s3cr3t","b":[1,2]}`}),
			Target:     w.digest(answer{200, c})})
		if i == 0 && len(w.tally.count.places) > 0 {
			t.Fatal("equal answers differ")
		}
	}
	w.tally.Due()
	w.tally.Compare(&session.Exchange{Unit: new(session.Unit), Endpoint: "GET /", Request: 1,
		Production: w.digest(answer{200, `{"a":"s3cr3t"}`})})
	r := whole(w.tally).Result(new(Rules))
	var got *Cell
	for i := range r.Cells {
		if c := &r.Cells[i]; c.Path == "body.a" && strings.HasSuffix(c.To, "number") {
			got = c
		} else if c.Kind == NoAnswer && (len(c.Pair) == 0 || c.Pair[0].Path != "answer" ||
			c.Pair[0].Differ != NoAnswer) {
			t.Errorf("without an answer: %+v", c.Pair)
		}
	}
	if got == nil {
		t.Fatalf("not found: %+v", r.Cells)
	}
	want := []Row{{Path: "status", From: "200", To: "200"},
		{Path: "body", From: "object", To: "object"},
		{Path: "body.a", From: "text of 6 bytes", To: "number of 8 bytes", Differ: Type},
		{Path: "body.b", From: "list of 2", To: "list of 2"},
		{Path: "body.b[]", From: "2 × number", To: "2 × number"},
		{Path: "body.c", From: "absent", To: "object", Differ: Extra}}
	rows := slices.DeleteFunc(slices.Clone(got.Pair), func(r Row) bool {
		return strings.HasPrefix(r.Path, "header ")
	})
	if d := cmp.Diff(want, rows); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
	if r.Shorten(); got.Pair != nil {
		t.Error("a shortened result has examples")
	}
}

// TestPairsAreBounded checks the bounds of examples: their number and their rows. What differs
// stays.
func TestPairsAreBounded(t *testing.T) {
	var a, b strings.Builder
	for i := range 500 {
		fmt.Fprintf(&a, `,"f%03d":1`, i)
		if fmt.Fprintf(&b, `,"f%03d":1`, i); i%100 == 99 {
			fmt.Fprintf(&b, `,"g%03d":1`, i)
		}
	}
	w := newWorld(1)
	for i := range 3 * maxPairs {
		w.tally.Due()
		w.tally.Compare(&session.Exchange{Unit: new(session.Unit),
			Endpoint:   fmt.Sprintf("GET /%d", i),
			Production: w.digest(answer{200, "{" + a.String()[1:] + "}"}),
			Target:     w.digest(answer{200, "{" + b.String()[1:] + "}"})})
	}
	kept := 0
	for _, c := range whole(w.tally).Result(new(Rules)).Cells {
		if c.Pair == nil {
			continue
		}
		kept++
		differ := 0
		for _, row := range c.Pair {
			if row.Differ != "" {
				differ++
			}
		}
		if len(c.Pair) != maxRows || differ != 5 {
			t.Fatalf("%d rows, of which %d differ", len(c.Pair), differ)
		}
	}
	if kept != maxPairs {
		t.Errorf("%d pairs are kept", kept)
	}
}

// TestExclusionsAreDocumented checks that docs/verdict.md has each reason for which answers are not
// compared, as reports and pages explain it.
func TestExclusionsAreDocumented(t *testing.T) {
	text, err := os.ReadFile("../../../docs/verdict.md")
	if err != nil {
		t.Fatal(err)
	}
	for e := range session.Exclusions {
		row := fmt.Sprintf("| `%s` | %s |\n", e, e.Meaning())
		if !strings.Contains(string(text), row) {
			t.Errorf("docs/verdict.md does not have %q", row)
		}
		if back, ok := session.ExclusionNamed(e.String()); !ok || back != e {
			t.Errorf("%s is not found", e)
		}
	}
}
