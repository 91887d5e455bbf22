package scrub

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/core/seqnum"
)

// rules returns the rules of tests.
func rules(t testing.TB, headers, paths string) (r Rules) {
	t.Helper()
	if headers != "" {
		if err := r.AddHeaders("header:" + headers); err != nil {
			t.Fatal(err)
		}
	}
	if paths != "" {
		if err := r.AddPaths(paths); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

// talk is a connection whose segments go through a scrubber.
type talk struct {
	t    testing.TB
	s    *Scrubber
	next [2]seqnum.Value // of the client and the server
}

func newTalk(t testing.TB, r Rules) *talk {
	k := &talk{t: t, s: New(r), next: [2]seqnum.Value{0xfffffff0, 0x7ffffff0}}
	k.send(false, packet.SYN, "")
	k.send(true, packet.SYN|packet.ACK, "")
	return k
}

// at sends a segment, and returns what has become of its payload.
func (k *talk) at(fromServer bool, seq seqnum.Value, flags packet.Flags, payload string,
	more int) string {
	k.t.Helper()
	s := packet.Segment{
		Src: netip.MustParseAddrPort("192.0.2.1:4000"), Dst: netip.MustParseAddrPort("10.0.0.1:80"),
		Seq: seq, Flags: flags | packet.ACK, Payload: []byte(payload), Len: len(payload) + more,
	}
	if flags == packet.SYN && !fromServer {
		s.Flags = packet.SYN
	}
	if fromServer {
		s.Src, s.Dst = s.Dst, s.Src
	}
	k.s.Segment(&s, fromServer)
	if len(s.Payload) != len(payload) {
		k.t.Fatalf("%d bytes have become %d", len(payload), len(s.Payload))
	}
	return string(s.Payload)
}

func (k *talk) send(fromServer bool, flags packet.Flags, payload string) string {
	k.t.Helper()
	n := 0
	if fromServer {
		n = 1
	}
	got := k.at(fromServer, k.next[n], flags, payload, 0)
	k.next[n] = k.next[n].Add(len(payload))
	if flags&packet.SYN != 0 {
		k.next[n] = k.next[n].Add(1)
	}
	return got
}

// pieces sends a text in pieces, and returns what has become of it.
func (k *talk) pieces(fromServer bool, text string, size func() int) string {
	k.t.Helper()
	var b strings.Builder
	for len(text) > 0 {
		n := min(size(), len(text))
		b.WriteString(k.send(fromServer, 0, text[:n]))
		text = text[n:]
	}
	return b.String()
}

// cases are streams, with what is left of them.
var cases = []struct {
	name, headers, paths string
	server               bool
	in, want             string
	foreign              bool
}{
	{name: "a header", headers: "authorization",
		in:   "GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Basic c2VjcmV0\r\nX: y\r\n\r\n",
		want: "GET / HTTP/1.1\r\nHost: a\r\nAuthorization: xxxxx xxxxxxxx\r\nX: y\r\n\r\n"},
	{name: "several, one without a space, one continued", headers: "cookie,x-key",
		in:   "POST /a HTTP/1.1\nCOOKIE:a=b; c=d\nx-Key : 12\n\t34\nx: 5\n\nbody\n",
		want: "POST /a HTTP/1.1\nCOOKIE:xxxx xxx\nx-Key : xx\n\txx\nx: 5\n\nbody\n"},
	{name: "pipelined, and one in a body", headers: "cookie",
		in: "GET / HTTP/1.1\r\ncookie: 1\r\n\r\nPOST / HTTP/1.1\r\nContent-Length: 11\r\n\r\n" +
			"Cookie: 234GET /b HTTP/1.1\r\nCookie: 5\r\n\r\n",
		want: "GET / HTTP/1.1\r\ncookie: x\r\n\r\nPOST / HTTP/1.1\r\nContent-Length: 11\r\n\r\n" +
			"Cookie: xxxxxx xx xxxxxxxx\r\nCookie: x\r\n\r\n"},
	{name: "an answer", headers: "set-cookie", server: true,
		in:   "HTTP/1.1 200 OK\r\nSet-Cookie: s=1; Path=/\r\n\r\nhello",
		want: "HTTP/1.1 200 OK\r\nSet-Cookie: xxxx xxxxxx\r\n\r\nhello"},
	{name: "JSON", paths: "user.password,**.token,list.n",
		in: "POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\n" +
			`{"user":{"name":"n","password":"p\"w\u0020é"},"password":"kept",` +
			`"a":[{"token":12.5e-3}],` +
			`"token":{"x":[true,false,null,"s"],"y":{}},"list":[{"n":-10},{"m":2},{"n":false}]}`,
		want: "POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\n" +
			`{"user":{"name":"n","password":"xxxxxxxxxxxx"},"password":"kept",` +
			`"a":[{"token":11.1e-1}],` +
			`"token":{"x":[null,null ,null,"x"],"y":{}},"list":[{"n":-11},{"m":2},{"n":null }]}`},
	{name: "JSON, an escaped key, any key, several values", paths: "*.k",
		in: "POST / HTTP/1.1\r\n\r\n{\"a\":{\"k\":1,\"\\u006b\":2,\"j\":3}}\n" +
			"[{\"b\":{\"k\":[4,5]}}]" +
			"POST / HTTP/1.1\r\n\r\n {\"c\":{\"k\":\"\"}}",
		want: "POST / HTTP/1.1\r\n\r\n{\"a\":{\"k\":1,\"\\u006b\":1,\"j\":3}}\n" +
			"[{\"b\":{\"k\":[1,1]}}]" +
			"POST / HTTP/1.1\r\n\r\n {\"c\":{\"k\":\"\"}}"},
	{name: "JSON in chunks", paths: "p", headers: "cookie",
		in: "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" +
			"5\r\n{\"p\":\r\n4;x=\"y\"\r\n\"sec\r\n" +
			"A\r\nret\",\"q\":1\r\n1\r\n}\r\n0\r\nCookie: t\r\n\r\n" +
			"GET / HTTP/1.1\r\ncookie: 6\r\n\r\n",
		want: "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" +
			"5\r\n{\"p\":\r\n4;x=\"y\"\r\n\"xxx\r\n" +
			"A\r\nxxx\",\"q\":1\r\n1\r\n}\r\n0\r\nCookie: x\r\n\r\n" +
			"GET / HTTP/1.1\r\ncookie: x\r\n\r\n"},
	{name: "an encoded body where JSON is private", paths: "p", server: true,
		in:   "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n\x1f\x8bzipped",
		want: "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\nxxxxxxxx"},
	{name: "an encoded body where it is not", headers: "x", server: true,
		in:   "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n\x1f\x8bzipped",
		want: "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n\x1f\x8bzipped"},
	{name: "what is no JSON", paths: "p",
		in:   "POST / HTTP/1.1\r\n\r\n{\"a\":\"b\nc\"}",
		want: "POST / HTTP/1.1\r\n\r\n{\"a\":\"bxxxx"},
	{name: "not HTTP", headers: "x", in: "*2\r\n$4\r\nAUTH\r\n$6\r\nsecret\r\n",
		want: strings.Repeat("x", 26), foreign: true},
	{name: "TLS", headers: "x", in: "\x16\x03\x01abc", want: "xxxxxx", foreign: true},
	{name: "HTTP/2", headers: "x", in: "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nsecret",
		want: "PRIxxxxxxxxxxxxxxxxxxxxxxxxxxx", foreign: true},
	{name: "another protocol on", headers: "x", server: true,
		in:   "HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\nsecret",
		want: "HTTP/1.1 101 Switching Protocols\r\n" + strings.Repeat("x", 22), foreign: true},
	{name: "a tunnel through a proxy", headers: "x",
		in:   "GET / HTTP/1.1\r\n\r\nCONNECT b:1 HTTP/1.1\r\n\r\nsecret",
		want: "GET / HTTP/1.1\r\n\r\nCONNECT b:1 HTTP/1.1\r\nxxxxxxxx", foreign: true},
}

// TestStreams sends each stream whole, byte by byte, and cut at random.
func TestStreams(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, tc := range cases {
		for name, size := range map[string]func() int{
			"whole": func() int { return 1 << 20 }, "bytes": func() int { return 1 },
			"random": func() int { return 1 + r.IntN(20) },
		} {
			t.Run(tc.name+", "+name, func(t *testing.T) {
				k := newTalk(t, rules(t, tc.headers, tc.paths))
				got := k.pieces(tc.server, tc.in, size)
				// Where the cuts are decides where the first word is found to be foreign.
				if tc.foreign && name != "whole" {
					if strings.Contains(got, "secret") || k.s.Stats().Connections != 1 {
						t.Errorf("%q, %+v", got, k.s.Stats())
					}
					return
				}
				if got != tc.want {
					t.Errorf("got\n%q\nwant\n%q", got, tc.want)
				}
				if n := k.s.Stats().Connections; (n == 1) != tc.foreign {
					t.Errorf("%d connections are foreign, want %v", n, tc.foreign)
				}
				if tc.foreign && k.send(!tc.server, 0, "secret") != "xxxxxx" {
					t.Error("the other direction is not blanked")
				}
			})
		}
	}
}

// TestGaps has segments be lost, repeated, cut and exchanged: nothing private is left, and what
// follows on a line, or a message, is as it was.
func TestGaps(t *testing.T) {
	k := newTalk(t, rules(t, "cookie", ""))
	k.send(false, 0, "GET / HTTP/1.1\r\nCook")
	k.next[0] = k.next[0].Add(5) // "ie: a" is lost
	if got := k.send(false, 0, "bc\r\nX: 1\r\nCookie: d\r\n\r\n"); got !=
		"xxx\nX: 1\r\nCookie: x\r\n\r\n" {
		t.Errorf("after a gap: %q", got)
	}
	last := k.next[0]
	k.send(false, 0, "GET / HTTP/1.1\r\nCookie: e\r\n\r\n")
	if got := k.at(false, last, 0, "GET / HTTP/1.1\r\nCookie: e\r\n\r\n", 0); strings.Trim(got,
		"x") != "" {
		t.Errorf("repeated: %q", got)
	}
	if got := k.at(false, k.next[0].Add(-2), 0, "\r\nGET /b HTTP/1.1\r\n", 0); got !=
		"xxGET /b HTTP/1.1\r\n" {
		t.Errorf("repeated in part: %q", got)
	}
	k.next[0] = k.next[0].Add(17)
	// A segment that comes before the one that it follows.
	if got := k.at(false, k.next[0].Add(8), 0, "secret\r\nA: b\r\n\r\n", 0); got !=
		"xxxxxxx\nA: b\r\n\r\n" {
		t.Errorf("too early: %q", got)
	}
	if got := k.at(false, k.next[0], 0, "Cookie: ", 0); got != "xxxxxxxx" {
		t.Errorf("too late: %q", got)
	}
	k.next[0] = k.next[0].Add(8 + 16)
	if got := k.at(true, k.next[1], 0, "HTTP/1.1 200 OK\r\nCookie: z", 100); got !=
		"HTTP/1.1 200 OK\r\nCookie: x" {
		t.Errorf("cut: %q", got)
	}
	k.next[1] = k.next[1].Add(126)
	if got := k.send(true, 0, "zz\r\nX: 1\r\n"); got != "xxx\nX: 1\r\n" {
		t.Errorf("after a cut: %q", got)
	}
}

// TestGapsInJSON: the structure is lost with what is missing, and comes back with a message.
func TestGapsInJSON(t *testing.T) {
	k := newTalk(t, rules(t, "", "p"))
	k.send(false, 0, "POST / HTTP/1.1\r\n\r\n{\"a\":1,")
	k.next[0] = k.next[0].Add(5)
	if got := k.send(false, 0, "secret\"}\r\n"); strings.Trim(got, "x") != "" {
		t.Errorf("after a gap: %q", got)
	}
	if got := k.send(false, 0, "POST / HTTP/1.1\r\n\r\n{\"p\":1}"); got !=
		"POST / HTTP/1.1\r\n\r\n{\"p\":1}" || k.s.Stats().Values != 1 {
		t.Errorf("the next message: %q, %+v", got, k.s.Stats())
	}
}

// TestUnderWay: of a connection whose beginning was not seen, the first message is recognised.
func TestUnderWay(t *testing.T) {
	for _, server := range []bool{false, true} {
		k := &talk{t: t, s: New(rules(t, "cookie", "")), next: [2]seqnum.Value{5, 6}}
		if got := k.send(server, 0, "secret\r\nsecret\r\n"); strings.Trim(got, "x") != "" {
			t.Errorf("before a message: %q", got)
		}
		text := "GET / HTTP/1.1\r\nCookie: a\r\n\r\n"
		if server {
			text = "HTTP/1.1 200 OK\r\nCookie: a\r\n\r\n"
		}
		if got := k.send(server, 0, text); got != strings.Replace(text, "Cookie: a", "Cookie: x",
			1) {
			t.Errorf("a message: %q", got)
		}
	}
}

// TestManyConnections feeds more connections than are remembered.
func TestManyConnections(t *testing.T) {
	s := New(rules(t, "cookie", ""))
	for i := range 3 * maxConns {
		client := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
		seg := packet.Segment{Src: netip.AddrPortFrom(client, 9),
			Dst: netip.MustParseAddrPort("10.0.0.1:80"), Payload: []byte("secret"), Len: 6}
		s.Segment(&seg, false)
	}
	if n := len(s.conns) + len(s.older); n > 2*maxConns {
		t.Errorf("%d connections are remembered, want at most %d", n, 2*maxConns)
	}
}

// TestJSONStaysJSON scrubs values at random, and compares with what a decoder finds.
func TestJSONStaysJSON(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	var value func(depth int) any
	value = func(depth int) any {
		switch n := r.IntN(8); {
		case depth == 0 || n < 2:
			return fmt.Sprintf("s%d\"\\é\n", r.IntN(1000))
		case n == 2:
			return -1234.5e10 * r.Float64()
		case n == 3:
			return r.IntN(2) == 0
		case n == 4:
			return nil
		case n == 5:
			list := []any{}
			for range r.IntN(4) {
				list = append(list, value(depth-1))
			}
			return list
		default:
			m := map[string]any{}
			for range r.IntN(4) {
				m[string(rune('a'+r.IntN(4)))] = value(depth - 1)
			}
			return m
		}
	}
	for range 2000 {
		text, err := json.Marshal(map[string]any{"a": value(5), "b": value(5), "d": value(2)})
		if err != nil {
			t.Fatal(err)
		}
		k := newTalk(t, rules(t, "", "a.b,**.d"))
		k.send(false, 0, "POST / HTTP/1.1\r\n\r\n")
		got := k.pieces(false, string(text), func() int { return 1 + r.IntN(9) })
		var was, is any
		if json.Unmarshal(text, &was) != nil || json.Unmarshal([]byte(got), &is) != nil {
			t.Fatalf("%s has become %s", text, got)
		}
		if err := compare(was, is, []string{}, false); err != nil {
			t.Fatalf("%s has become %s: %v", text, got, err)
		}
	}
}

// compare returns how a value that was scrubbed differs from what it should be.
func compare(was, is any, at []string, private bool) error {
	path := strings.Join(at, ".")
	private = private || path == "a.b" || strings.HasSuffix("."+path, ".d")
	switch w := was.(type) {
	case map[string]any:
		i, ok := is.(map[string]any)
		if !ok || len(i) != len(w) {
			return fmt.Errorf("%s: another object", path)
		}
		for key := range w {
			below := append(at[:len(at):len(at)], key)
			if err := compare(w[key], i[key], below, private); err != nil {
				return err
			}
		}
		return nil
	case []any:
		i, ok := is.([]any)
		if !ok || len(i) != len(w) {
			return fmt.Errorf("%s: another list", path)
		}
		for n := range w {
			if err := compare(w[n], i[n], at, private); err != nil {
				return err
			}
		}
		return nil
	}
	a, _ := json.Marshal(was)
	b, _ := json.Marshal(is)
	switch text, isText := is.(string); {
	case !private && !bytes.Equal(a, b):
		return fmt.Errorf("%s: %s has become %s", path, a, b)
	case private && isText && strings.Trim(text, "x") != "":
		return fmt.Errorf("%s: %s is left", path, b)
	case private && strings.Trim(string(b), "-.e+1x\"nul0") != "":
		return fmt.Errorf("%s: %s is left", path, b)
	}
	return nil
}

func TestRulesRefused(t *testing.T) {
	for _, s := range []string{"", "cookie", "header:", "header:a,,b", "header:a b", "header:a:b",
		"header:" + strings.Repeat("a", maxName+1), "header:" + strings.Repeat("a,", 70) + "a"} {
		if err := new(Rules).AddHeaders(s); err == nil {
			t.Errorf("headers %q are accepted", s)
		}
	}
	for _, s := range []string{"", "a..b", "a.", "$.", "a[0]", "**", "a.**", "a b",
		strings.Repeat("a.", maxParts) + "a", strings.Repeat("a,", 70) + "a"} {
		if err := new(Rules).AddPaths(s); err == nil {
			t.Errorf("paths %q are accepted", s)
		}
	}
	if r := rules(t, "a", "$.b.c"); r.Empty() || len(r.paths[0]) != 2 {
		t.Errorf("%+v", r)
	}
}

// FuzzScrubber sends what it is given in two ways: whole, and cut in two. Both ways nothing may
// panic, lengths stay, and the name of a private value is never followed by the value.
func FuzzScrubber(f *testing.F) {
	for _, tc := range cases {
		f.Add([]byte(tc.in), uint16(len(tc.in)/2), tc.server)
	}
	f.Fuzz(func(t *testing.T, in []byte, cut uint16, server bool) {
		k := newTalk(t, rules(t, "cookie", "p,**.token"))
		n := int(cut) % (len(in) + 1)
		got := k.send(server, 0, string(in[:n])) + k.send(server, 0, string(in[n:]))
		for line := range strings.SplitSeq(strings.ToLower(got), "\n") {
			if v, ok := strings.CutPrefix(line, "cookie:"); ok && n == len(in) &&
				strings.Trim(v, "x \t\r") != "" && !strings.Contains(got, "{") &&
				!strings.Contains(strings.ToLower(got), "chunked") {
				t.Errorf("left: %q", line)
			}
		}
	})
}

// BenchmarkSegment scrubs requests, as they are on a production host.
func BenchmarkSegment(b *testing.B) {
	text := "POST /api/items HTTP/1.1\r\nHost: example.org\r\n" +
		"Cookie: session=0123456789abcdef\r\nContent-Length: 60\r\n\r\n" +
		"{\"user\":{\"password\":\"secret\"},\"text\":\"" +
		strings.Repeat("lorem ipsum ", 60) + "\"}"
	k := newTalk(b, rules(b, "cookie", "**.password"))
	payload := []byte(text)
	seg := packet.Segment{Src: netip.MustParseAddrPort("192.0.2.1:4000"),
		Dst: netip.MustParseAddrPort("10.0.0.1:80"), Seq: k.next[0], Payload: payload,
		Len: len(payload)}
	b.SetBytes(int64(len(payload)))
	b.ReportAllocs()
	for b.Loop() {
		copy(payload, text)
		k.s.Segment(&seg, false)
		seg.Seq = seg.Seq.Add(seg.Len)
	}
}
