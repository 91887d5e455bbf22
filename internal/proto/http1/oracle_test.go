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

	"tcpcopy/internal/proto"
)

// message draws headers and a body, framed in one of the possible ways.
func message(t *rapid.T, what string, minor int, mayEnd bool) (text string, ends bool) {
	var b strings.Builder
	for range rapid.IntRange(0, 4).Draw(t, "headers") {
		name := rapid.StringMatching(`X-[A-Za-z-]{1,40}`).Draw(t, "name")
		fmt.Fprintf(&b, "%s:%s%s\r\n", name, rapid.SampledFrom([]string{"", " ", "\t "}).Draw(t,
			"space"),
			rapid.StringMatching(`[ -~]{0,120}`).Draw(t, "value"))
	}
	body := rapid.StringOfN(rapid.RuneFrom([]rune("ab\r\n0:;")), 0, 300, -1).Draw(t, "body")
	ways := []string{"length", "none"}
	if minor > 0 { // HTTP/1.0 has no chunks, though net/http reads them
		ways = append(ways, "chunked")
	}
	if mayEnd {
		ways = append(ways, "end")
	}
	switch rapid.SampledFrom(ways).Draw(t, what+" framing") {
	case "length":
		fmt.Fprintf(&b, "%s: %d\r\n\r\n%s",
			rapid.SampledFrom([]string{"Content-Length", "content-length"}).Draw(t, "case"),
			len(body), body)
	case "chunked":
		b.WriteString("Transfer-Encoding: chunked\r\n\r\n")
		for len(body) > 0 {
			n := rapid.IntRange(1, len(body)).Draw(t, "chunk")
			fmt.Fprintf(&b, "%x%s\r\n%s\r\n", n, rapid.SampledFrom([]string{"", ";a=b"}).Draw(t,
				"extension"), body[:n])
			body = body[n:]
		}
		b.WriteString("0\r\n")
		if rapid.Bool().Draw(t, "trailer") {
			b.WriteString("X-Sum: 1\r\n")
		}
		b.WriteString("\r\n")
	case "none":
		if what == "answer" {
			b.WriteString("Content-Length: 0\r\n")
		}
		b.WriteString("\r\n")
	case "end":
		b.WriteString("Connection: close\r\n\r\n" + body)
		return b.String(), true
	}
	return b.String(), false
}

var methods = []string{"GET", "HEAD", "POST", "PUT", "OPTIONS", "PROPFIND"}

// split feeds text in pieces of drawn lengths.
func split(t *rapid.T, text string, feed func(p []byte)) {
	for len(text) > 0 {
		n := min(len(text), rapid.IntRange(1, 200).Draw(t, "piece"))
		feed([]byte(text[:n]))
		text = text[n:]
	}
}

// Requests end where net/http ends them.
func TestRequestsOracle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var all strings.Builder
		for range rapid.IntRange(1, 5).Draw(t, "requests") {
			text, _ := message(t, "request", 1, false)
			fmt.Fprintf(&all, "%s /%s HTTP/1.1\r\nHost: a\r\n%s",
				rapid.SampledFrom(methods).Draw(t, "method"),
				rapid.StringMatching(`[a-z]{0,100}`).Draw(t, "path"), text)
		}
		var want []int
		src := strings.NewReader(all.String())
		r := bufio.NewReader(src)
		for {
			req, err := http.ReadRequest(r)
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Skip("not a request to net/http: ", err)
			}
			if _, err := io.Copy(io.Discard, req.Body); err != nil {
				t.Skip("not a body to net/http: ", err)
			}
			want = append(want, all.Len()-src.Len()-r.Buffered())
		}
		var got []int
		c := NewClient()
		at := 0
		split(t, all.String(), func(p []byte) {
			var out proto.Out
			if err := c.Feed(p, 0, &out); err != nil {
				t.Fatalf("%v in %q", err, all.String())
			}
			for _, s := range out.Steps {
				at += s.N
				if s.Kind == proto.Requested {
					got = append(got, at)
				}
			}
		})
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("requests end at %v, net/http says %v: %q", got, want, all.String())
		}
	})
}

// Answers end where net/http ends them, with the same status.
func TestAnswersOracle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var all strings.Builder
		var asked []string
		a := NewAnswers()
		ends := false
		for i := range rapid.IntRange(1, 5).Draw(t, "answers") {
			method := rapid.SampledFrom(methods).Draw(t, "method")
			asked = append(asked, method)
			if method == "HEAD" {
				a.Expect(uint64(i), hintHead)
			}
			if rapid.IntRange(0, 9).Draw(t, "interim") == 0 {
				all.WriteString("HTTP/1.1 100 Continue\r\n\r\n")
			}
			status := rapid.SampledFrom([]int{200, 201, 204, 206, 302, 304, 404, 500, 503}).Draw(t,
				"status")
			var text string
			bare := method == "HEAD" || status == 204 || status == 304
			minor := rapid.IntRange(0, 1).Draw(t, "minor")
			text, ends = message(t, "answer", minor, !bare)
			if bare { // it may speak of a body, and has none
				text = text[:strings.Index(text, "\r\n\r\n")+4]
				if strings.HasPrefix(text, "\r\n") {
					text = "\r\n"
				}
				ends = false
			}
			fmt.Fprintf(&all, "HTTP/1.%d %d %s\r\n%s", minor, status,
				rapid.SampledFrom([]string{"OK", "", "Some Words"}).Draw(t, "reason"), text)
			if ends {
				break
			}
		}
		type answer struct{ end, status int }
		var want []answer
		src := strings.NewReader(all.String())
		r := bufio.NewReader(src)
		for _, method := range asked {
			res, err := http.ReadResponse(r, &http.Request{Method: method})
			for err == nil && res.StatusCode == 100 {
				res, err = http.ReadResponse(r, &http.Request{Method: method})
			}
			if err != nil {
				t.Skip("not an answer to net/http: ", err)
			}
			var body bytes.Buffer
			if _, err := io.Copy(&body, res.Body); err != nil {
				t.Skip("not a body to net/http: ", err)
			}
			want = append(want, answer{all.Len() - src.Len() - r.Buffered(), res.StatusCode})
		}
		var list []proto.Answer
		split(t, all.String(), func(p []byte) {
			for len(p) > 0 {
				n := min(a.Blind(), uint64(len(p)))
				if n > 0 && rapid.Bool().Draw(t, "skip") {
					list = a.Skip(n, list)
					p = p[n:]
					continue
				}
				var err error
				if list, err = a.Feed(p, list); err != nil {
					t.Fatalf("%v in %q", err, all.String())
				}
				break
			}
		})
		var got []answer
		for _, x := range a.Close(list) {
			if !x.Interim {
				got = append(got, answer{int(x.End), int(x.Status)})
			}
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("answers end at %v, net/http says %v: %q", got, want, all.String())
		}
	})
}
