package semantics

import (
	"fmt"
	"strings"
	"testing"
)

func TestParseRules(t *testing.T) {
	for _, s := range []string{"", "GET", "/a", "GET a", "GET /a b", "G@T /a", "GET /a?b=1"} {
		if p, err := ParsePattern(s); err == nil || !strings.Contains(err.Error(),
			fmt.Sprintf("%q", s)) {
			t.Errorf("pattern %q: %v, %v, wanted an error that quotes it", s, p, err)
		}
	}
	for _, s := range []string{"", "X", ": a", "X Y: a", "X: a\r\nY: b", "Content-Length: 1",
		"transfer-encoding: chunked"} {
		if h, err := ParseHeader(s); err == nil {
			t.Errorf("header %q: %v, wanted an error", s, h)
		}
	}
	for _, s := range []string{"", "a b", "a/b", "http://a"} {
		if h, err := ParseHost(s); err == nil {
			t.Errorf("host %q: %v, wanted an error", s, h)
		}
	}
	if p, err := ParsePattern("post /a/*"); err != nil || p.String() != "POST /a/*" {
		t.Errorf("%v (%v)", p, err)
	}
}

func TestGlob(t *testing.T) {
	for _, c := range []struct {
		pattern, text string
		want          bool
	}{
		{"/a", "/a", true}, {"/a", "/ab", false}, {"/a*", "/a", true}, {"/a*", "/a/b/c", true},
		{"*", "", true},
		{"/*/edit", "/x/y/edit", true}, {"/*/edit", "/x/edit/", false},
		{"/a*b*c", "/aXbXbXc", true}, {"/a", "", false},
		{"*a*a*a*a*a*b", strings.Repeat("a", 2000), false},
	} {
		if got := glob(c.pattern, []byte(c.text)); got != c.want {
			t.Errorf("%q of %.20q: %v, wanted %v", c.pattern, c.text, got, c.want)
		}
	}
}
