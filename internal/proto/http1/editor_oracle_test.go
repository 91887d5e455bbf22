package http1

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/proto"
	"tcpcopy/internal/proto/semantics"
)

// readAll reads requests with net/http: each as a line, with the body.
func readAll(text string) (all []string, err error) {
	for r := bufio.NewReader(strings.NewReader(text)); ; {
		req, err := http.ReadRequest(r)
		if err == io.EOF {
			return all, nil
		}
		if err != nil {
			return all, err
		}
		body, err := io.ReadAll(req.Body)
		if err != nil {
			return all, err
		}
		all = append(all, fmt.Sprintf("%s %s host %s x-copy %q: %q", req.Method, req.URL.Path,
			req.Host, req.Header["X-Copy"], body))
	}
}

// net/http reads from an editor's output the requests that pass, with the headers set.
func TestEditorOracle(t *testing.T) {
	rules := &semantics.Rules{}
	for _, s := range []string{"POST /a", "* /b*c"} {
		p, _ := semantics.ParsePattern(s)
		rules.Deny = append(rules.Deny, p)
	}
	for _, s := range []string{"X-Copy: yes", "Host: test"} {
		h, _ := semantics.ParseHeader(s)
		rules.Set = append(rules.Set, h)
	}
	rapid.Check(t, func(t *rapid.T) {
		var all strings.Builder
		var want []string
		for range rapid.IntRange(1, 5).Draw(t, "requests") {
			method := rapid.SampledFrom(methods).Draw(t, "method")
			path := rapid.SampledFrom([]string{"/", "/a", "/ab", "/bc", "/bxcx", "/b/a/c"}).Draw(t,
				"path")
			extra := rapid.SampledFrom([]string{"", "X-Copy: no\r\n",
				"x-copy: a\r\nX-COPY: b\r\n"}).Draw(t, "extra")
			text, _ := message(t, "request", 1, false)
			text = fmt.Sprintf("%s %s?x=/a HTTP/1.1\r\nHost: a\r\n%s%s", method, path, extra, text)
			all.WriteString(text)
			one, err := readAll(text)
			if err != nil || len(one) != 1 {
				t.Skip("not one request to net/http: ", err)
			}
			if method == "POST" && strings.HasPrefix(path, "/a") ||
				strings.HasPrefix(path, "/b") && strings.HasSuffix(path, "c") {
				continue
			}
			_, body, _ := strings.Cut(one[0], "]: ")
			want = append(want, fmt.Sprintf("%s %s host test x-copy [\"yes\"]: %s", method, path,
				body))
		}
		e := NewEditor(rules)
		var sent bytes.Buffer
		at, requests := 0, 0
		split(t, all.String(), func(p []byte) {
			var out proto.Out
			if err := e.Feed(p, 0, &out); err != nil {
				t.Fatalf("%v in %q", err, all.String())
			}
			for _, s := range out.Steps {
				switch s.Kind {
				case proto.PassOn:
					sent.WriteString(all.String()[at : at+s.N])
				case proto.Say:
					sent.Write(out.Text[s.From:s.To])
				case proto.Requested:
					requests++
				}
				at += s.N
			}
		})
		got, err := readAll(sent.String())
		if err != nil || fmt.Sprint(got) != fmt.Sprint(want) || requests != len(want) ||
			at != all.Len() {
			t.Fatalf("%d requests, %d of %d bytes told of, %q (%v), wanted %q: %q", requests, at,
				all.Len(), got, err, want, sent.String())
		}
	})
}

// An editor's output does not depend on how its input is split, and takes no more bytes than came.
func FuzzEditor(f *testing.F) {
	for _, c := range requestTable {
		if len(c.text) < 2000 {
			f.Add([]byte(c.text), uint(7))
		}
	}
	set, _ := semantics.ParseHeader("Host: test")
	deny, _ := semantics.ParsePattern("POST /*")
	rules := &semantics.Rules{Set: []semantics.Header{set}, Deny: []semantics.Pattern{deny}}
	f.Fuzz(func(t *testing.T, text []byte, at uint) {
		if len(text) == 0 {
			return
		}
		whole, err := edited(rules, string(text))
		split, again := edited(rules, string(text), int(at%uint(len(text))))
		same := whole == split
		if err != nil { // how much of the request under way has gone does not matter
			same = strings.HasPrefix(whole, split) || strings.HasPrefix(split, whole)
		}
		if (err == nil) != (again == nil) || !same {
			t.Fatalf("%q (%v); split at %d %q (%v)", whole, err, at%uint(len(text)), split, again)
		}
		var out, plain proto.Out
		if err := NewEditor(rules).Feed(text, 0, &out); err != nil {
			return
		}
		if err := NewClient().Feed(text, 0, &plain); err != nil {
			t.Fatalf("the editor reads what the reader does not: %v", err)
		}
		count := func(o *proto.Out) (n int) {
			for _, s := range o.Steps {
				if s.Kind == proto.Requested || s.Kind == proto.Refused {
					n++
				}
				if s.Kind == proto.LeaveOut && s.Reason != ledger.Denied {
					t.Fatalf("left out for %v", s.Reason)
				}
			}
			return n
		}
		if a, b := count(&out), count(&plain); a != b {
			t.Fatalf("%d requests, and %d without rules", a, b)
		}
	})
}
