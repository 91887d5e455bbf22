package http2

import (
	"maps"
	"strings"
	"testing"

	"golang.org/x/net/http2"

	"tcpcopy/internal/proto"
	"tcpcopy/internal/proto/semantics"
)

// asking is a request for an upgrade, as curl sends it.
const asking = "GET /a?b HTTP/1.1\r\nHost: a\r\nUser-Agent: curl\r\nAccept: */*\r\n" +
	"Connection: Upgrade, HTTP2-Settings, X-Hop\r\nX-Hop: 1\r\nUpgrade: h2c\r\n" +
	"HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n\r\n"

const switching = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n" +
	"Upgrade: h2c\r\n\r\n"

// TestUpgrade checks that the request which asks for an upgrade is the first stream's, once
// production has accepted it, and that the connection goes on.
func TestUpgrade(t *testing.T) {
	for step := range 40 {
		r := bareRig(t)
		r.step = step
		r.begin(false)
		must(r.answers.WriteSettings())
		r.hear()
		r.client.out.WriteString(asking)
		r.feed(0)
		r.wants("settings false", "window 0 2147418112", "settings true")
		r.production.out.WriteString(switching)
		must(r.production.WriteSettings())
		r.production.answer(1)
		seen := r.serve()
		r.client.out.WriteString(preface)
		must(r.client.WriteSettings())
		r.feed(uint64(len(switching)))
		r.wants("headers 1 GET /a?b curl */* end")
		r.client.get(3, "/c")
		r.feed(seen) // it has seen the answer
		r.wants()
		r.answers.answer(1)
		r.hear()
		r.wants("answered 0: 200", "headers 3 GET /c end")
		r.settled()
	}
}

// posting is asking with content, as a length and as chunks frame it.
var posting = [...]string{
	strings.Replace(asking, "GET /a?b HTTP/1.1\r\n", "POST /p HTTP/1.1\r\nContent-Length: 11\r\n",
		1) + "hello world",
	strings.Replace(asking, "GET /a?b HTTP/1.1\r\n", "POST /p HTTP/1.1\r\n"+
		"Transfer-Encoding: chunked\r\n", 1) + "5;x=y\r\nhello\r\n6\r\n world\r\n0\r\nT: 1\r\n\r\n",
}

// TestUpgradeContent checks that content of the request that asks for an upgrade is the first
// stream's, however it is framed and comes.
func TestUpgradeContent(t *testing.T) {
	for i, text := range posting {
		fields := []string{"headers 1 POST /p 11 curl */*", "headers 1 POST /p curl */*"}
		for step := range len(text) {
			r := bareRig(t)
			r.step = step
			r.begin(false)
			must(r.answers.WriteSettings())
			r.hear()
			r.take()
			r.client.out.WriteString(text)
			r.feed(0)
			r.wants()
			r.production.out.WriteString(switching)
			must(r.production.WriteSettings())
			r.serve()
			r.client.out.WriteString(preface)
			must(r.client.WriteSettings())
			r.client.get(3, "/c")
			r.feed(uint64(len(switching)))
			r.wants(fields[i], "data 1 hello world end", "headers 3 GET /c end")
			r.settled()
		}
	}
}

// TestUpgradeContentWindow checks that such content waits for the target's window.
func TestUpgradeContentWindow(t *testing.T) {
	r := bareRig(t)
	r.begin(false)
	must(r.answers.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 5}))
	r.hear()
	r.take()
	r.client.out.WriteString(posting[0] + preface)
	r.production.out.WriteString(switching)
	r.serve()
	r.feed(uint64(len(switching)))
	r.wants("headers 1 POST /p 11 curl */*", "data 1 hello")
	must(r.answers.WriteWindowUpdate(1, 100))
	r.hear()
	r.wants("data 1  world end")
	r.settled()
}

// TestUpgradeDenied checks that a filter holds for such a request, and that the copy ends where
// production has declined it.
func TestUpgradeDenied(t *testing.T) {
	r := bareRig(t)
	deny, err := semantics.ParsePattern("GET /a")
	must(err)
	r.c = NewClient(&Settings{Rules: &semantics.Rules{Deny: []semantics.Pattern{deny}}})
	r.begin(false)
	must(r.answers.WriteSettings())
	r.hear()
	r.client.out.WriteString(asking + preface)
	must(r.client.WriteSettings())
	r.client.get(3, "/c")
	r.feed(0)
	r.wants("settings false", "window 0 2147418112", "settings true", "refused denied",
		"headers 1 GET /c end")
	r.settled()
	if r.left != len(asking) {
		t.Errorf("%d bytes were left out of %d", r.left, len(asking))
	}

	for _, text := range posting { // its content is left out as well
		deny, err = semantics.ParsePattern("POST /p")
		must(err)
		r = bareRig(t)
		r.c = NewClient(&Settings{Rules: &semantics.Rules{Deny: []semantics.Pattern{deny}}})
		r.begin(false)
		must(r.answers.WriteSettings())
		r.hear()
		r.client.out.WriteString(text + preface)
		r.client.get(3, "/c")
		r.take()
		r.feed(0)
		r.wants("refused denied", "headers 1 GET /c end")
		r.settled()
		if r.left != len(text) {
			t.Errorf("%d bytes were left out of %d", r.left, len(text))
		}
	}

	r = bareRig(t)
	r.begin(false)
	if err := r.tryFeed([]byte(asking+asking), 0); !isLost(err) {
		t.Errorf("production has declined: %v", err)
	}
}

func TestRecogniseUpgrade(t *testing.T) {
	more := func(old, new string) string { return strings.Replace(asking, old, new, 1) }
	for _, c := range []struct {
		client, server string
		want           proto.Verdict
	}{
		{asking, switching, proto.Yes},
		{asking, switching[:12], proto.Unanswered},
		{asking, "", proto.Unanswered},
		{asking, "HTTP/1.1 200 OK\r\n", proto.No},
		{asking[:len(asking)-3], switching, proto.Unsure},
		{"G", "", proto.Unsure},
		{"P", "", proto.Unsure},
		{"POST ", "", proto.Unsure},
		{"GET / HTTP/1.0\r\n", "", proto.No},
		{"\x00", "", proto.No},
		{more("Upgrade: h2c", "Upgrade: websocket"), switching, proto.No},
		{more("HTTP2-Settings: ", "X: "), switching, proto.No},
		{more("Connection: Upgrade, ", "Connection: "), switching, proto.No},
		{more("Host:", "Content-Length: 1\r\nHost:"), switching, proto.Yes},
		{more("Host:", "content-length: 1\r\nHost:"), "", proto.Unanswered},
		{more("Host:", "Transfer-Encoding: Chunked\r\nHost:"), switching, proto.Yes},
		{more("Host:", "Transfer-Encoding: gzip, chunked\r\nHost:"), switching, proto.No},
		{more("Host:", "Content-Length: +1\r\nHost:"), switching, proto.No},
		{more("Host:", "Content-Length: 1234567890123456789\r\nHost:"), switching, proto.No},
		{more("Host:", "Content-Length: 1\r\nTransfer-Encoding: chunked\r\nHost:"), switching,
			proto.No},
		{more("Host:", "Content-Length: 1\r\nExpect: 100-continue\r\nHost:"), switching, proto.No},
		{more("Upgrade: h2c", "upgrade: H2C, x"), switching, proto.Yes},
	} {
		if got := Recognise([]byte(c.client), []byte(c.server)); got != c.want {
			t.Errorf("%q, %q: %v, wanted %v", c.client, c.server, got, c.want)
		}
	}
}

// TestUpgradeContentWatched checks that the readers that change nothing follow such content.
func TestUpgradeContentWatched(t *testing.T) {
	for _, text := range posting {
		p := newPeer()
		p.out.WriteString(text + preface)
		p.get(3, "/c")
		all := p.take()
		var want map[uint64]uint64
		for n := len(all); n > 0; n-- {
			got, hashes := labels(t, all, n)
			if want == nil {
				want = hashes
			}
			if w := "1 POST /p,3 GET /c"; strings.Join(got, ",") != w || len(hashes) != 2 ||
				!maps.Equal(hashes, want) {
				t.Fatalf("in pieces of %d: %q, hashes %v, wanted %s, %v", n, got, hashes, w, want)
			}
		}
	}
}

// TestUpgradeWatched checks that the readers that change nothing follow an upgrade.
func TestUpgradeWatched(t *testing.T) {
	p := newPeer()
	p.out.WriteString(asking + preface)
	must(p.WriteSettings())
	p.get(3, "/c")
	text := p.take()
	for n := len(text); n > 0; n-- {
		got, hashes := labels(t, text, n)
		if want := "1 GET /a,3 GET /c"; strings.Join(got, ",") != want || len(hashes) != 2 {
			t.Fatalf("in pieces of %d: %q, %d hashes, wanted %s", n, got, len(hashes), want)
		}
	}
	p.out.WriteString(switching)
	must(p.WriteSettings())
	p.answer(1)
	text = p.take()
	for n := len(text); n > 0; n-- {
		w := proto.NewDigesting(digestSeed, digestRoom)
		d, a := newDigester(w), newWatchedAnswers()
		var answers []proto.Answer
		for rest := text; len(rest) > 0; rest = rest[min(n, len(rest)):] {
			var err error
			if answers, err = a.Feed(rest[:min(n, len(rest))], answers); err != nil {
				t.Fatal(err)
			}
			d.Write(rest[:min(n, len(rest))])
		}
		stream, digest := d.Next()
		if len(answers) != 2 || answers[1].Status != 200 || stream != 1 || digest == nil {
			t.Fatalf("in pieces of %d: %+v, %+v", n, answers, digest)
		}
	}
}
