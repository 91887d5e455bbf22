package http1

import (
	"fmt"
	"strings"
	"testing"

	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/proto"
	"tcpcopy/internal/proto/semantics"
)

// edited feeds a client's bytes in pieces, and returns what goes to the target, with | where a
// request ends and ! where one was left out.
func edited(rules *semantics.Rules, text string, cuts ...int) (string, error) {
	e := NewEditor(rules)
	var sent strings.Builder
	var out proto.Out
	at, from := 0, 0
	for _, to := range append(cuts, len(text)) {
		out.Reset()
		err := e.Feed([]byte(text[from:to]), 0, &out)
		from = to
		for _, s := range out.Steps {
			switch s.Kind {
			case proto.PassOn:
				sent.WriteString(text[at : at+s.N])
			case proto.Say:
				sent.Write(out.Text[s.From:s.To])
			case proto.LeaveOut:
				if s.Reason != ledger.Denied {
					return "", fmt.Errorf("left out for %v", s.Reason)
				}
			case proto.Requested:
				sent.WriteByte("|||>"[s.Request.Reply])
			case proto.Refused:
				sent.WriteByte('!')
			}
			at += s.N
			if at > to {
				return "", fmt.Errorf("%d bytes told of, and %d were there", at, to)
			}
		}
		if err != nil {
			return sent.String(), err
		}
	}
	return sent.String(), nil
}

func rules(t *testing.T, allow, deny, set string) *semantics.Rules {
	t.Helper()
	var r semantics.Rules
	for _, f := range []struct {
		list string
		to   *[]semantics.Pattern
	}{{allow, &r.Allow}, {deny, &r.Deny}} {
		for _, s := range strings.FieldsFunc(f.list, func(c rune) bool { return c == ';' }) {
			p, err := semantics.ParsePattern(s)
			if err != nil {
				t.Fatal(err)
			}
			*f.to = append(*f.to, p)
		}
	}
	for _, s := range strings.FieldsFunc(set, func(c rune) bool { return c == ';' }) {
		h, err := semantics.ParseHeader(s)
		if err != nil {
			t.Fatal(err)
		}
		r.Set = append(r.Set, h)
	}
	return &r
}

func TestEditor(t *testing.T) {
	const del = "DELETE /items/1?x=1 HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc"
	for _, c := range []struct {
		name             string
		allow, deny, set string
		text, want       string
	}{
		{"denied with its body", "", "DELETE /items/*", "", get + del + get,
			get + "|!" + get + "|"},
		{"denied, chunked", "", "POST /a", "", piece + get, "!" + get + "|"},
		{"another method", "", "POST /items/*", "", del, del + "|"},
		{"the path's beginning", "", "DELETE /items", "", del + get, "!" + get + "|"},
		{"another path", "", "DELETE /item/", "", del, del + "|"},
		{"all of another path", "", "DELETE /*s", "", del, del + "|"},
		{"any method", "", "* /items/*", "", del + get, "!" + get + "|"},
		{"only what is allowed", "GET *", "", "", get + del + get, get + "|!" + get + "|"},
		{"allowed, but denied", "* *", "GET /a", "", get + del, "!" + del + "|"},
		{"a header added", "", "", "X-Copy: yes", get,
			"GET /a HTTP/1.1\r\nHost: x\r\nX-Copy: yes\r\n\r\n|"},
		{"a header replaced, its second and its fold gone", "", "", "x-a: new",
			"GET / HTTP/1.1\r\nX-A: 1\r\n 2\r\nB: 1\r\nX-a: 3\r\n\r\n",
			"GET / HTTP/1.1\r\nx-a: new\r\nB: 1\r\n\r\n|"},
		{"the body stays as it is", "", "", "X: 1", post,
			"POST /a HTTP/1.1\r\nContent-Length: 5\r\nX: 1\r\n\r\nhello|"},
		{"the host", "", "", "Host: test", get, "GET /a HTTP/1.1\r\nHost: test\r\n\r\n|"},
		{"the host in absolute form", "", "", "Host: test:1",
			"GET http://x.org/a HTTP/1.1\r\nHost: x.org\r\n\r\n",
			"GET http://test:1/a HTTP/1.1\r\nHost: test:1\r\n\r\n|"},
		{"a path in absolute form", "", "GET /a", "", "GET http://x.org/a HTTP/1.1\r\n\r\n" + post,
			"!" + post + "|"},
		{"bare line feeds", "", "", "X: 1", "GET / HTTP/1.1\nA: b\n\n",
			"GET / HTTP/1.1\nA: b\nX: 1\r\n\n|"},
		{"an upgrade, and what follows", "", "", "X: 1",
			"GET / HTTP/1.1\r\nUpgrade: x\r\n\r\n\x81\x02hi",
			"GET / HTTP/1.1\r\nUpgrade: x\r\nX: 1\r\n\r\n|>\x81\x02hi"},
		{"an upgrade denied, and what follows", "", "GET *", "",
			"GET / HTTP/1.1\r\nUpgrade: x\r\n\r\n\x81\x02hi", "!>"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := rules(t, c.allow, c.deny, c.set)
			got, err := edited(r, c.text)
			if err != nil || got != c.want {
				t.Fatalf("%q (%v), wanted %q", got, err, c.want)
			}
			var each []int
			for i := 1; i < len(c.text); i++ {
				if got, err := edited(r, c.text, i); err != nil || got != c.want {
					t.Fatalf("split at %d: %q (%v), wanted %q", i, got, err, c.want)
				}
				each = append(each, i)
			}
			if got, err := edited(r, c.text, each...); err != nil || got != c.want {
				t.Fatalf("byte by byte: %q (%v), wanted %q", got, err, c.want)
			}
		})
	}
}

func TestEditorBounds(t *testing.T) {
	_, err := edited(rules(t, "", "", "X: 1"), "GET / HTTP/1.1\r\nA: "+strings.Repeat("a",
		maxEdited)+"\r\n\r\n")
	if err == nil {
		t.Error("a head larger than may be kept, and no error")
	}
}

// No buffer is kept between requests, however their headers were split.
func TestEditorKeepsNothing(t *testing.T) {
	e := NewEditor(rules(t, "", "", "X: 1"))
	var out proto.Out
	for _, p := range []string{get[:10], get[10:], get, post[:20], post[20:]} {
		out.Reset()
		if err := e.Feed([]byte(p), 0, &out); err != nil {
			t.Fatal(err)
		}
	}
	if cap(e.head) > 0 {
		t.Errorf("%d bytes are kept", cap(e.head))
	}
}
