package config

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"tcpcopy/internal/account/verdict"
	"tcpcopy/internal/proto"
)

func TestCompare(t *testing.T) {
	noKeyInEnvironment(t)
	c, _, err := parse(t, "-x", "80-10.0.0.2:8080", "--compare", "--ignore", "body.id", "--ignore",
		"GET /a* header vary", "--junit", "a.xml", "--unordered", "body.list", "--endpoint",
		"GET /user/{name}", "--tolerance", "GET /a body.price 1%", "--headers", "X-A,vary",
		"--show", "body.name")
	if err != nil {
		t.Fatal(err)
	}
	if !c.Compare.On || !c.Both || c.Compare.JUnit != "a.xml" || len(c.Compare.Rules.Ignore) != 2 ||
		c.Compare.Rules.Ignore[1] != (verdict.Rule{Endpoint: "GET /a*", Path: "header vary"}) {
		t.Errorf("%+v, both %v", c.Compare, c.Both)
	}
	if r := c.Compare.Rules; len(r.Unordered) != 1 || len(r.Endpoints) != 1 ||
		r.Unordered[0].Path != "body.list" || r.Endpoints[0] != "GET /user/{name}" {
		t.Errorf("%+v", r)
	}
	only, _, err := parse(t, "-x", "80-10.0.0.2:8080", "--compare", "--against", "10.0.0.3:80",
		"--against-only")
	if err != nil || only.Both || !only.Compare.OldOnly {
		t.Errorf("against the old version alone: %v, both %v", err, only.Both)
	}
	only, _, err = parse(t, "-x", "80-10.0.0.2:8080", "--compare", "--against", "10.0.0.3:80",
		"--fail-on", "slower", "--slower-by", "25%")
	if j := (verdict.Judged{Slower: true, By: 0.25}); err != nil ||
		only.Compare.Rules.Judged != j {
		t.Errorf("%v: judged %+v, wanted %+v", err, only.Compare.Rules.Judged, j)
	}
	want := proto.Wanted{Values: []string{"body.name", "body.price"},
		Headers: []string{"x-a", "vary"}}
	if d := cmp.Diff(want, c.Compare.Rules.Wanted()); d != "" {
		t.Error(d)
	}
	c, _, err = parse(t, "-x", "80-10.0.0.2:8080", "--compare", "--against", "[fd00::3]:80")
	if err != nil || len(c.OldVersions()) != 1 || len(c.Targets()) != 2 ||
		c.Targets()[1].String() != "[fd00::3]:80" {
		t.Errorf("%v %+v", err, c)
	}
	for _, args := range [][]string{
		{"--compare", "--from", "vxlan://:4789", "--from-peers", "10.0.0.9"},
		{"--compare", "--proto", "redis"},
		{"--compare", "--proto", "none"},
		{"--compare", "-s", "10.0.0.3"},
		{"--compare", "-s", "10.0.0.3", "--via", "raw"},
		{"--compare", "-s", "10.0.0.3", "--via", "tunnel"},
	} {
		c, _, err := parse(t, append([]string{"-x", "10.0.0.1:80-10.0.0.2:8080"}, args...)...)
		if err != nil {
			t.Errorf("%q: %v", args, err)
		} else if c.Both == c.From.Remote() {
			t.Errorf("%q: both is %v", args, c.Both)
		}
	}
}
