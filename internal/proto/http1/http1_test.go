package http1

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"tcpcopy/internal/proto"
	"tcpcopy/internal/proto/semantics"
)

// requests feeds a client's bytes in pieces that end at the given places, and returns where
// requests end, what they are, and how it ended.
func requests(text string, cuts ...int) (found []string, err error) {
	c := NewClient()
	var out proto.Out
	at, from := 0, 0
	for _, to := range append(cuts, len(text)) {
		out.Reset()
		err = c.Feed([]byte(text[from:to]), 0, &out)
		for _, s := range out.Steps {
			switch s.Kind {
			case proto.PassOn:
				at += s.N
			case proto.Requested:
				found = append(found, fmt.Sprintf("%d %s hint %d reply %d", at,
					Methods[s.Request.Class], s.Request.Hint, s.Request.Reply))
			default:
				found = append(found, fmt.Sprintf("step %d", s.Kind))
			}
		}
		if err != nil {
			break
		}
		if from = to; at != to {
			found = append(found, fmt.Sprintf("passed %d of %d", at, to))
		}
	}
	return found, err
}

const (
	get   = "GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
	post  = "POST /a HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello"
	piece = "POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\nA: " +
		"b\r\n\r\n"
)

var requestTable = []struct {
	name string
	text string
	want []string // nil with lost
	lost bool
}{
	{"GET", get, []string{"28 GET hint 0 reply 0"}, false},
	{"bare LF", "GET /a HTTP/1.1\nHost: x\n\n", []string{"25 GET hint 0 reply 0"}, false},
	{"empty lines before it", "\r\n\n" + get, []string{"31 GET hint 0 reply 0"}, false},
	{"no headers", "GET / HTTP/1.0\r\n\r\n", []string{"18 GET hint 0 reply 0"}, false},
	{"pipelined", get + post + get, []string{"28 GET hint 0 reply 0", "72 POST hint 0 reply 0",
		"100 GET hint 0 reply 0"}, false},
	{"chunked with a trailer", piece + get, []string{"73 POST hint 0 reply 0",
		"101 GET hint 0 reply 0"}, false},
	{"HEAD", "HEAD / HTTP/1.1\r\n\r\n", []string{"19 HEAD hint 1 reply 0"}, false},
	{"two equal lengths", "PUT / HTTP/1.1\r\nContent-Length: 1\r\ncontent-length: 1\r\n\r\nx",
		[]string{"57 PUT hint 0 reply 0"}, false},
	{"length 0", "PUT / HTTP/1.1\r\nContent-Length:0\r\n\r\n" + get,
		[]string{"36 PUT hint 0 reply 0", "64 GET hint 0 reply 0"}, false},
	{"a name that is long", "GET / HTTP/1.1\r\n" + strings.Repeat("n", 300) + ": 1\r\n\r\n",
		[]string{"323 GET hint 0 reply 0"}, false},
	{"a folded header of no account", "GET / HTTP/1.1\r\nX: a\r\n b\r\n\r\n",
		[]string{"28 GET hint 0 reply 0"}, false},
	{"a method of its own", "PROPFIND /" + strings.Repeat("x", 300) + " HTTP/1.1\r\n\r\n",
		[]string{"323 other hint 0 reply 0"}, false},
	{"a header that is long", "GET / HTTP/1.1\r\nCookie: " + strings.Repeat("c", 5000) +
		"\r\n\r\n", []string{"5028 GET hint 0 reply 0"}, false},
	{"gzip, chunked", "POST / HTTP/1.1\r\nTransfer-Encoding: gzip, Chunked\r\n\r\n0\r\n\r\n",
		[]string{"58 POST hint 0 reply 0"}, false},
	{"upgrade, refused", "GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n" + get,
		[]string{"38 GET hint 0 reply 0", "66 GET hint 0 reply 0"}, false},
	{"upgrade", "GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n\x81\x05hello\n",
		[]string{"38 GET hint 0 reply 0", "38 other hint 0 reply 3"}, false},
	{"upgrade to what looks like text", "GET / HTTP/1.1\r\nUpgrade: x\r\n\r\nhello\n",
		[]string{"30 GET hint 0 reply 0", "36 other hint 0 reply 3"}, false},
	{"CONNECT", "CONNECT a:1 HTTP/1.1\r\n\r\n\x16\x03\x01",
		[]string{"24 CONNECT hint 2 reply 0", "24 other hint 0 reply 3"}, false},

	{"no version", "GET /\r\n\r\n", nil, true},
	{"not HTTP", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 and so on and so on", nil, true},
	{"HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", nil, true},
	{"two lengths", "PUT / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", nil, true},
	{"a list of lengths", "PUT / HTTP/1.1\r\nContent-Length: 1, 1\r\n\r\n", nil, true},
	{"a negative length", "PUT / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", nil, true},
	{"an enormous length", "PUT / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n", nil,
		true},
	{"length and chunked",
		"PUT / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", nil, true},
	{"chunked, gzip", "PUT / HTTP/1.1\r\nTransfer-Encoding: chunked, gzip\r\n\r\n", nil, true},
	{"not chunked at all", "PUT / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n", nil, true},
	{"a folded length", "PUT / HTTP/1.1\r\nContent-Length: 1\r\n 2\r\n\r\n", nil, true},
	{"white space before the colon", "PUT / HTTP/1.1\r\nContent-Length : 1\r\n\r\n", nil, true},
	{"something before the name", "PUT / HTTP/1.1\r\n\vContent-Length: 1\r\n\r\n", nil, true},
	{"white space, and a colon far away", "PUT / HTTP/1.1\r\nContent-Length" + strings.Repeat(" ",
		99) + ": 1\r\n\r\n", nil, true},
	{"chunked before HTTP/1.1", "PUT / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		nil, true},
	{"a header without a colon", "PUT / HTTP/1.1\r\nContent-Length\r\n\r\n", nil, true},
	{"a chunk's size that is none", "PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
		nil, true},
	{"a chunk's size that overflows",
		"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000000\r\n", nil, true},
	{"a chunk that goes on", "PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n",
		nil, true},
	{"a chunk that goes on, and no line ends",
		"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc", nil, true},
	{"headers without an end", "GET / HTTP/1.1\r\n" + strings.Repeat("A: b\r\n", maxHead/6), nil,
		true},
}

func TestRequests(t *testing.T) {
	for _, c := range requestTable {
		t.Run(c.name, func(t *testing.T) {
			got, err := requests(c.text)
			if c.lost != errors.Is(err, proto.ErrLost) {
				t.Fatalf("error %v, wanted lost: %v", err, c.lost)
			}
			if !c.lost && !reflect.DeepEqual(got, c.want) {
				t.Fatalf("found %q, wanted %q", got, c.want)
			}
			if len(c.text) > 10000 {
				return
			}
			// However the input is split.
			whole := got
			var each []int
			for i := 1; i < len(c.text); i++ {
				split, err := requests(c.text, i)
				if (err != nil) != c.lost || !reflect.DeepEqual(split, whole) {
					t.Fatalf("split at %d: %q (%v), wanted %q", i, split, err, whole)
				}
				each = append(each, i)
			}
			if split, err := requests(c.text, each...); (err != nil) != c.lost ||
				!reflect.DeepEqual(split, whole) {
				t.Fatalf("byte by byte: %q (%v), wanted %q", split, err, whole)
			}
		})
	}
}

// answers feeds a server's bytes in pieces, with blind bytes skipped if skip is set.
func answers(text string, hints []hinted, closed, skip bool, cuts ...int) (found []string,
	err error) {
	a := NewAnswers()
	for _, h := range hints {
		a.Expect(h.request, h.hint)
	}
	from := 0
	var list []proto.Answer
	for _, to := range append(cuts, len(text)) {
		p := []byte(text[from:to])
		if n := min(a.Blind(), uint64(len(p))); skip && n > 0 {
			list = a.Skip(n, list)
			p = p[n:]
		}
		if list, err = a.Feed(p, list); err != nil {
			break
		}
		from = to
	}
	if closed && err == nil {
		list = a.Close(list)
	}
	for _, x := range list {
		found = append(found, told(x))
	}
	return found, err
}

func told(x proto.Answer) string {
	s := fmt.Sprintf("%d: %d, %d bytes", x.End, x.Status, x.Size)
	if x.Interim {
		s += ", interim"
	}
	if x.Last {
		s += ", last"
	}
	if x.Failed {
		s += ", failed"
	}
	return s
}

const (
	ok    = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"
	goOn  = "HTTP/1.1 100 Continue\r\n\r\n"
	nope  = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
	parts = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n00\r\nT: 1\r\n\r\n"
)

var answerTable = []struct {
	name   string
	text   string
	hints  []hinted
	closed bool
	want   []string
	lost   bool
}{
	{"a length", ok, nil, false, []string{"41: 200, 41 bytes"}, false},
	{"several", ok + nope + parts + ok, nil, false,
		[]string{"41: 200, 41 bytes", "86: 404, 45 bytes, failed", "153: 200, 67 bytes",
			"194: 200, 41 bytes"}, false},
	{"100 first", goOn + ok, nil, false, []string{"25: 100, 25 bytes, interim",
		"66: 200, 66 bytes"}, false},
	{"204 and 304", "HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 304 Not " +
		"Modified\r\nContent-Length: 7\r\n\r\n" + ok, nil, false,
		[]string{"27: 204, 27 bytes", "75: 304, 48 bytes", "116: 200, 41 bytes"}, false},
	{"to HEAD", ok[:38] + ok, []hinted{{0, hintHead}}, false,
		[]string{"38: 200, 38 bytes", "79: 200, 41 bytes"}, false},
	{"to the second, HEAD", ok + ok[:38] + ok, []hinted{{1, hintHead}}, false,
		[]string{"41: 200, 41 bytes", "79: 200, 38 bytes", "120: 200, 41 bytes"}, false},
	{"100, then to HEAD", goOn + ok[:38] + nope, []hinted{{0, hintHead}}, false,
		[]string{"25: 100, 25 bytes, interim", "63: 200, 63 bytes", "108: 404, 45 bytes, failed"},
		false},
	{"until the end", "HTTP/1.0 200 OK\r\n\r\nabc", nil, true, []string{"22: 200, 22 bytes"},
		false},
	{"until the end, which does not come", "HTTP/1.0 200 OK\r\n\r\nabc", nil, false, nil, false},
	{"cut off", ok[:40], nil, true, nil, false},
	{"no reason phrase", "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", nil, false,
		[]string{"35: 200, 35 bytes"}, false},
	{"upgraded", "HTTP/1.1 101 Switching Protocols\r\n\r\n\x81\x00\n\n", nil, false,
		[]string{"36: 101, 36 bytes, last"}, false},
	{"tunnel", "HTTP/1.1 200 OK\r\n\r\nanything", []hinted{{0, hintConnect}}, false,
		[]string{"19: 200, 19 bytes, last"}, false},
	{"tunnel refused", nope + ok, []hinted{{0, hintConnect}}, false,
		[]string{"45: 404, 45 bytes, failed", "86: 200, 41 bytes"}, false},
	{"chunked overrules a length",
		"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", nil,
		false,
		[]string{"71: 200, 71 bytes"}, false},
	{"coded in another way, until the end", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nx",
		nil, true, []string{"45: 200, 45 bytes"}, false},

	{"chunked before HTTP/1.1", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		nil, false, nil, true},
	{"not HTTP", "220 mail.example.org ESMTP\r\n", nil, false, nil, true},
	{"no status", "HTTP/1.1 OK\r\n\r\n", nil, false, nil, true},
	{"a status of four digits", "HTTP/1.1 2000 OK\r\n\r\n", nil, false, nil, true},
	{"two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", nil,
		false, nil, true},
}

func TestAnswers(t *testing.T) {
	for _, c := range answerTable {
		t.Run(c.name, func(t *testing.T) {
			got, err := answers(c.text, c.hints, c.closed, false)
			if c.lost != errors.Is(err, proto.ErrLost) {
				t.Fatalf("error %v, wanted lost: %v", err, c.lost)
			}
			if !reflect.DeepEqual(got, c.want) {
				t.Fatalf("found %q, wanted %q", got, c.want)
			}
			for _, skip := range []bool{false, true} {
				var each []int
				for i := 1; i < len(c.text); i++ {
					split, err := answers(c.text, c.hints, c.closed, skip, i)
					if (err != nil) != c.lost || !reflect.DeepEqual(split, c.want) {
						t.Fatalf("split at %d (skip %v): %q (%v), wanted %q", i, skip, split, err,
							c.want)
					}
					each = append(each, i)
				}
				if split, err := answers(c.text, c.hints, c.closed, skip,
					each...); (err != nil) != c.lost || !reflect.DeepEqual(split, c.want) {
					t.Fatalf("byte by byte (skip %v): %q (%v), wanted %q", skip, split, err,
						c.want)
				}
			}
		})
	}
}

// A hint that comes after the answer's headers, and before a byte of the body, counts: the answer
// ends at the next call.
func TestLateHint(t *testing.T) {
	for _, c := range []struct {
		name, head string
		hint       proto.Hint
		want       string
	}{
		{"HEAD, a length", ok[:38], hintHead, "38: 200, 38 bytes"},
		{"HEAD, chunked", parts[:47], hintHead, "47: 200, 47 bytes"},
		{"HEAD, until the end", "HTTP/1.0 200 OK\r\n\r\n", hintHead, "19: 200, 19 bytes"},
		{"CONNECT", "HTTP/1.1 200 OK\r\n\r\n", hintConnect, "19: 200, 19 bytes, last"},
	} {
		for _, next := range []string{"", nope} {
			a := NewAnswers()
			list, err := a.Feed([]byte(c.head), nil)
			if len(list) != 0 || err != nil {
				t.Fatalf("%s: %v (%v), wanted nothing yet", c.name, list, err)
			}
			a.Expect(0, c.hint)
			if n := a.Blind(); n != 0 {
				t.Errorf("%s: %d bytes tell nothing, wanted none", c.name, n)
			}
			list, err = a.Feed([]byte(next), nil)
			if len(list) == 0 || err != nil || told(list[0]) != c.want {
				t.Errorf("%s, then %q: %v (%v), wanted %s", c.name, next, list, err, c.want)
			}
			if next != "" && c.hint == hintHead && (len(list) != 2 || list[1].Status != 404) {
				t.Errorf("%s: %v, wanted a 404, too", c.name, list)
			}
		}
	}
	a := NewAnswers()
	if list, err := a.Feed([]byte(ok[:39]), nil); len(list) != 0 || err != nil {
		t.Fatalf("%v (%v)", list, err)
	}
	a.Expect(0, hintHead) // there is a body
	if list, err := a.Feed([]byte(ok[39:]), nil); len(list) != 1 || list[0].End != 41 ||
		err != nil {
		t.Errorf("%v (%v), wanted an answer that ends at 41", list, err)
	}
}

// A reader that gets too many hints is lost: it could not tell which answers have no body.
func TestManyHints(t *testing.T) {
	a := NewAnswers()
	for i := range uint64(maxHints) {
		a.Expect(i, hintHead)
	}
	if _, err := a.Feed([]byte(ok[:38]), nil); err != nil {
		t.Fatal(err)
	}
	a.Expect(maxHints, hintHead)
	a.Expect(maxHints+1, hintHead)
	if _, err := a.Feed([]byte(ok[:38]), nil); !errors.Is(err, proto.ErrLost) {
		t.Errorf("error %v, wanted lost", err)
	}
}

func TestRecognise(t *testing.T) {
	for _, c := range []struct {
		name, client, server string
		want                 proto.Verdict
	}{
		{"nothing", "", "", proto.Unsure},
		{"a request", get, "", proto.Yes},
		{"a request and its answer", get, ok, proto.Yes},
		{"half a line", "GET /", "", proto.Unsure},
		{"a long line, not over", "GET /" + strings.Repeat("a", 1000), "", proto.Unsure},
		{"another protocol's line", "GET key\r\n", "", proto.No},
		{"redis", "*1\r\n$4\r\nPING\r\n", "", proto.No},
		{"inline redis", "PING\r\n", "", proto.No},
		{"memcached", "get a\r\n", "", proto.No},
		{"HTTP/2", "PRI * HTTP/2.0\r\n\r\n", "", proto.No},
		{"TLS", "\x16\x03\x01", "", proto.No},
		{"a greeting", "", "220 x\r\n", proto.No},
		{"SMTP", "EHLO x\r\n", "220 x\r\n", proto.No},
		{"SIP", "OPTIONS sip:a SIP/2.0\r\n", "", proto.No},
		{"RTSP", "OPTIONS rtsp://a RTSP/1.0\r\n", "", proto.No},
		{"a word longer than a method", strings.Repeat("A", 40), "", proto.No},
	} {
		if got := Recognise([]byte(c.client), []byte(c.server)); got != c.want {
			t.Errorf("%s: %d, wanted %d", c.name, got, c.want)
		}
	}
}

// A request expects an interim answer if its headers ask for one, until its body has come.
func TestExpects(t *testing.T) {
	for _, tc := range []struct {
		text string
		want bool
	}{
		{"PUT / HTTP/1.1\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n", true},
		{"PUT / HTTP/1.1\r\ncontent-length: 2\r\nEXPECT: 100-continue\r\n\r\nx", true},
		{"PUT / HTTP/1.1\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\nxx", false},
		{"PUT / HTTP/1.1\r\nContent-Length: 2\r\nExpect: 100-continue\r\n", false},
		{"PUT / HTTP/1.1\r\nContent-Length: 2\r\n\r\n", false},
		{"PUT / HTTP/1.1\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\nxxPUT / " +
			"HTTP/1.1\r\nContent-Length: 2\r\n\r\nx", false},
	} {
		for _, c := range []proto.Client{NewClient(), NewEditor(&semantics.Rules{})} {
			var out proto.Out
			c.Begin(false, &out)
			if err := c.Feed([]byte(tc.text), 0, &out); err != nil || c.Expects() != tc.want {
				t.Errorf("%T after %q: %v, %v, wanted %v", c, tc.text, c.Expects(), err, tc.want)
			}
		}
	}
}
