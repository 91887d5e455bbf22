package verdict

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"tcpcopy/internal/core/session"
	"tcpcopy/internal/proto"
	"tcpcopy/internal/proto/content"
)

// compared compares two bodies, 30 times.
func compared(t *testing.T, rules *Rules, production, target string) *Result {
	t.Helper()
	with := proto.NewDigesting(7, 1<<24)
	with.Wanted = rules.Wanted()
	b := content.New(with)
	digest := func(text string) *proto.Digest {
		b.Reset(0)
		if !b.JSON("body", []byte(text)) {
			t.Fatalf("not JSON: %q", text)
		}
		d := &proto.Digest{Status: 200}
		b.Finish(d, proto.Compared)
		return d
	}
	tally := NewTally(with, rules, ManyBases)
	for range 30 {
		tally.Due()
		tally.Compare(&session.Exchange{Unit: new(session.Unit), Endpoint: "GET /a",
			Production: digest(production), Target: digest(target)})
	}
	return whole(tally).Result(rules)
}

func TestTolerance(t *testing.T) {
	for _, c := range []struct {
		rule, production, target string
		want                     Word
	}{
		{"body.a 0.01", `{"a":1.00}`, `{"a":1.01}`, Same},
		{"body.a 0.1", `{"a":0.2}`, `{"a":0.3}`, Same},
		{"body.a 0.01", `{"a":1.00}`, `{"a":1.02}`, Differs},
		{"body.a 1%", `{"a":100}`, `{"a":101}`, Same},
		{"body.a 1%", `{"a":100}`, `{"a":102}`, Differs},
		{"body.a 1%", `{"a":0}`, `{"a":-0.001}`, Differs},
		{"GET /a body.a 5", `{"a":1e3}`, `{"a":1005}`, Same},
		{"GET /b body.a 5", `{"a":1e3}`, `{"a":1005}`, Differs},
		{"body.* 5", `{"a":1,"b":2}`, `{"a":2,"b":3}`, Same},
		{"body.a[] 1", `{"a":[1,2,3]}`, `{"a":[2,2,4]}`, Same},
		{"body.a[] 1", `{"a":[1,2,3]}`, `{"a":[1,2,5]}`, Differs},
		{"body.a 1", `{"a":1}`, `{"a":null}`, Differs}, // another type
		{"body.a 1", `{"a":"1"}`, `{"a":"2"}`, Same},   // as MySQL has them
		{"body.a 9", `{"a":"one"}`, `{"a":"two"}`, Differs},
		{"body.a 9", `{"a":"0x1"}`, `{"a":"0x2"}`, Differs},
		{"body.a 1", `{"a":1,"b":1}`, `{"a":2,"b":2}`, Differs}, // b
	} {
		rule, err := ParseTolerance(c.rule)
		if err != nil {
			t.Fatal(err)
		}
		rules := &Rules{Tolerate: []Tolerance{rule}}
		r := compared(t, rules, c.production, c.target)
		if r.Verdict != c.want || c.want == Same && r.Rules[0].Silenced == 0 {
			t.Errorf("%q: %s and %s: %s, %+v", c.rule, c.production, c.target, r.Verdict, r.Rules)
		}
		if got := r.Rules[0].Rule; got != "tolerance: "+c.rule {
			t.Errorf("%q is shown as %q", c.rule, got)
		}
	}
	for _, bad := range []string{"", "body.a", "body.a x", "body.a 0", "body.a -1", "body.a 1e999",
		"body.a NaN", "body.a %", "a 1", "body.password 1"} {
		if got, err := ParseTolerance(bad); err == nil {
			t.Errorf("%q: %+v", bad, got)
		}
	}
}

// Values are in no output but of the paths that are shown.
func TestShownValues(t *testing.T) {
	const p = `{"name":"pl\u0001anted","price":11.5,"secret":"s3cr3t","other":"h1dden"}`
	const c = `{"name":"changed","price":12.5,"secret":"s3cr4t","other":"h2dden"}`
	tolerance, err := ParseTolerance("body.price 0.1")
	if err != nil {
		t.Fatal(err)
	}
	rules := &Rules{Show: []string{"body.name", "body.se*"}, Tolerate: []Tolerance{tolerance}}
	r := compared(t, rules, p, c)
	if r.Verdict != Differs {
		t.Errorf("%s %q", r.Verdict, r.Why)
	}
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var table bytes.Buffer
	if err := r.Write(&table); err != nil {
		t.Fatal(err)
	}
	for _, out := range []string{string(text), table.String()} {
		if !strings.Contains(out, `pl_anted`) || !strings.Contains(out, `changed`) {
			t.Errorf("the values that are to be shown are not: %s", out)
		}
		for _, hidden := range []string{"s3cr", "dden", "11.5", "12.5"} {
			if strings.Contains(out, hidden) {
				t.Errorf("%s is shown: %s", hidden, out)
			}
		}
	}
	if r = compared(t, new(Rules), p, c); strings.Contains(r.Cells[0].From+r.Cells[0].To, "anted") {
		t.Errorf("a value is shown: %+v", r.Cells[0])
	}
}
