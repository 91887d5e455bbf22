package http2

import (
	"bytes"
	"compress/flate"
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// byClient returns a client's frame of WebSocket, whose mask changes nothing; first is its first
// byte. byServer returns a server's.
func byClient(first byte, payload string) string {
	return string([]byte{first, 0x80 | byte(len(payload)), 0, 0, 0, 0}) + payload
}

func byServer(first byte, payload string) string {
	if len(payload) > 125 {
		return string([]byte{first, 126, byte(len(payload) >> 8), byte(len(payload))}) + payload
	}
	return string([]byte{first, byte(len(payload))}) + payload
}

// The first bytes of whole frames.
const (
	wsText  = 0x81
	wsClose = 0x88
	wsPing  = 0x89
	wsPong  = 0x8a
)

var connects = http2.Setting{ID: settingConnect, Val: 1}

// socketRig returns a rig whose client has opened a WebSocket on stream 1. Production offers them,
// the target does if its settings say so.
func socketRig(t *testing.T, step int, settings ...http2.Setting) *rig {
	r := newRig(t, settings...)
	r.step = step
	must(r.production.WriteSettings(connects))
	r.client.connect(1)
	r.feed(r.serve())
	r.production.head(1, false, ":status 200")
	r.serve()
	return r
}

// connect writes a request for WebSocket.
func (p *peer) connect(stream uint32) {
	p.head(stream, false, ":method CONNECT", ":protocol websocket", ":scheme http", ":path /ws",
		":authority a", "sec-websocket-version 13")
}

// acceptedRig returns a socketRig whose target has accepted it.
func acceptedRig(t *testing.T, step int, fields ...string) *rig {
	r := socketRig(t, step, connects)
	r.wants("abandoned 0", "headers 1 CONNECT websocket /ws 13")
	r.answers.head(1, false, append([]string{":status 200"}, fields...)...)
	r.hear()
	return r
}

// says has one of them send content on stream 1.
func says(p *peer, text string) { must(p.WriteData(1, false, []byte(text))) }

// clientSays has the client send content, having seen all of production.
func (r *rig) clientSays(text string) {
	says(r.client, text)
	r.feed(r.serve())
}

// targetSays has the target send content.
func (r *rig) targetSays(text string) {
	says(r.answers, text)
	r.hear()
	r.goes()
}

// sends checks what the target has received on stream 1, without regard to how DATA is cut.
func (r *rig) sends(want ...string) {
	r.t.Helper()
	var got strings.Builder
	for line := range strings.Lines(r.take()) {
		line, is := strings.CutPrefix(line, "data 1 ")
		if !is {
			got.WriteString("?")
		}
		got.WriteString(strings.TrimSuffix(line, "\n"))
	}
	if got.String() != strings.Join(want, "") {
		r.t.Errorf("the target got %q, wanted %q", got.String(), want)
	}
}

// TestSocket checks that messages go in order, each when the target has sent as many as its client
// had seen, that pings are answered, and that the client's pongs do not go.
func TestSocket(t *testing.T) {
	for step := range 30 {
		r := acceptedRig(t, step)
		one, two, three := byClient(wsText, "one"), byClient(wsText, "two"), byClient(0x82, "3")
		r.clientSays(one)
		r.sends(one)
		says(r.production, byServer(wsPing, "p"))
		says(r.production, byServer(wsText, "answer"))
		r.clientSays(byClient(wsPong, "p") + two + three)
		r.sends()
		r.targetSays(byServer(wsText, strings.Repeat("other", 100)))
		r.sends(two, three)
		r.targetSays(byServer(wsPing, "ask"))
		if got := r.take(); !strings.HasPrefix(got, "data 1 \x8a\x83") {
			t.Fatalf("the ping was answered by %q", got)
		}
		r.clientSays(byClient(wsClose, "\x03\xe9"))
		r.sends(byClient(wsClose, "\x03\xe9"))
		must(r.client.WriteData(1, true, nil))
		r.feed(r.serve())
		r.wants("data 1  end")
		must(r.answers.WriteData(1, true, []byte(byServer(wsClose, "\x03\xe9"))))
		r.hear()
		r.wants("answered 0: 200")
		r.settled()
		if r.c.sockets != 0 || len(r.c.target.data.sockets) != 0 {
			t.Errorf("%d sockets are left, %d at the target", r.c.sockets,
				len(r.c.target.data.sockets))
		}
	}
}

// TestSocketPush checks that no message waits for longer than a second if servers push, and that
// other streams never wait.
func TestSocketPush(t *testing.T) {
	r := acceptedRig(t, 0)
	for i := range 9 {
		says(r.production, byServer(wsText, "push"))
		r.clientSays(byClient(wsText, fmt.Sprint(i)))
	}
	r.take()
	says(r.production, byServer(wsText, "push")+byServer(wsText, "push"))
	last := byClient(wsText, "last")
	r.clientSays(last)
	r.client.get(3, "/b")
	r.feed(r.serve())
	r.wants("headers 3 GET /b end")
	r.wait(10 * time.Second)
	if got := r.take(); !strings.HasSuffix(strings.TrimSpace(got), last) {
		t.Errorf("the target got %q, wanted all", got)
	}
}

// TestSocketEarly checks what is sent before the target has accepted the stream, and that
// production's content is read though it was captured before its client's request was read.
func TestSocketEarly(t *testing.T) {
	r := newRig(t, connects)
	must(r.production.WriteSettings(connects))
	r.production.head(1, false, ":status 200")
	before := r.serve()
	says(r.production, byServer(wsText, "hello"))
	seen := r.serve()
	r.client.connect(1)
	says(r.client, byClient(wsText, "one"))
	r.feed(before)
	says(r.client, byClient(wsText, "two"))
	r.feed(seen)
	r.wants("abandoned 0", "headers 1 CONNECT websocket /ws 13")
	r.answers.head(1, false, ":status 200")
	r.hear()
	r.goes()
	r.sends(byClient(wsText, "one"))
	r.targetSays(byServer(wsText, "hello"))
	r.sends(byClient(wsText, "two"))
	if r.c.server.pieced != 0 || len(r.c.server.pieces) != 0 {
		t.Errorf("%d bytes are kept", r.c.server.pieced)
	}
}

// TestSocketPieces checks that what is kept of later streams is bounded.
func TestSocketPieces(t *testing.T) {
	r := newRig(t, connects)
	must(r.production.WriteSettings(connects))
	for id := uint32(1); id < 200; id += 2 {
		must(r.production.WriteData(id, false, make([]byte, 4000)))
	}
	r.serve()
	if n := r.c.server.pieced; n > maxPieces || n < maxPieces/2 {
		t.Errorf("%d bytes are kept, wanted at most %d", n, maxPieces)
	}
	r.client.connect(199)
	r.feed(0)
	if r.c.server.pieced != 0 || len(r.c.server.pieces) != 0 {
		t.Errorf("%d bytes are kept, wanted none", r.c.server.pieced)
	}
}

// TestSocketUnread checks that messages go where production's answers are not captured.
func TestSocketUnread(t *testing.T) {
	r := newRig(t, connects)
	r.client.connect(1)
	r.feed(0)
	r.answers.head(1, false, ":status 200")
	r.hear()
	r.take()
	for i := range 5 {
		message := byClient(wsText, fmt.Sprint(i))
		says(r.client, message)
		r.feed(uint64(100 * (i + 1)))
		if i > 0 {
			r.sends()
			if i%2 > 0 {
				r.targetSays(byServer(wsText, "answer"))
			} else {
				r.wait(2 * time.Second)
			}
		}
		r.sends(message)
	}
}

// TestSocketNotOffered checks that a stream is left out by name if the target does not offer
// WebSocket, and that the others go.
func TestSocketNotOffered(t *testing.T) {
	for step := range 20 {
		r := socketRig(t, step)
		r.clientSays(byClient(wsText, "one"))
		r.client.get(3, "/b")
		r.feed(r.serve())
		r.wants("refused connect_unsupported", "headers 1 GET /b end")
		r.settled()
		if want := headerLen + len(byClient(wsText, "one")); r.left != want {
			t.Errorf("%d bytes were left out, wanted %d", r.left, want)
		}
		must(r.client.WriteRSTStream(1, http2.ErrCodeCancel))
		r.feed(r.serve())
		r.wants()
		r.settled()
	}
}

// TestSocketRefused checks that what follows is left out if the target does not open the stream.
func TestSocketRefused(t *testing.T) {
	for _, ends := range []bool{false, true} {
		r := socketRig(t, 0, connects)
		r.clientSays(byClient(wsText, "one"))
		r.take()
		r.answers.head(1, ends, ":status 403")
		if !ends {
			must(r.answers.WriteData(1, true, []byte("no")))
		}
		r.hear()
		r.wants("answered 0: 403 failed")
		r.clientSays(byClient(wsText, "two"))
		must(r.client.WriteRSTStream(1, http2.ErrCodeCancel))
		r.feed(r.serve())
		r.wants()
		r.settled()
		if r.left == 0 || r.c.Idle() == false {
			t.Errorf("%d bytes were left out; idle: %v", r.left, r.c.Idle())
		}
	}
}

// TestSocketInflates checks that compressed messages are inflated for a target that has not
// accepted compression, and pass if it has.
func TestSocketInflates(t *testing.T) {
	var packed bytes.Buffer
	w, err := flate.NewWriter(&packed, 9)
	must(err)
	_, err = w.Write([]byte("hello hello hello"))
	must(err)
	must(w.Flush())
	message := byClient(0xc1, strings.TrimSuffix(packed.String(), "\x00\x00\xff\xff"))
	r := acceptedRig(t, 0, "sec-websocket-extensions permessage-deflate")
	r.clientSays(message)
	r.sends(message)
	r = acceptedRig(t, 0)
	r.clientSays(message)
	got := r.take()
	if len(got) < 13 || !strings.HasPrefix(got, "data 1 \x81\x91") {
		t.Fatalf("the target got %q", got)
	}
	text, mask := []byte(strings.TrimSuffix(got[13:], "\n")), got[9:13]
	for i := range text {
		text[i] ^= mask[i%4]
	}
	if string(text) != "hello hello hello" {
		t.Errorf("the target got %q", text)
	}
	r = acceptedRig(t, 0, "sec-websocket-extensions x-other")
	r.wants("answered 0: 0 failed", "reset 1 8")
	r.clientSays(message)
	if r.settled(); r.left == 0 {
		t.Error("nothing was left out")
	}
}

// TestSocketWindow checks that the target's windows hold messages back, and pongs behind them.
func TestSocketWindow(t *testing.T) {
	r := socketRig(t, 0, connects, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 8})
	r.answers.head(1, false, ":status 200")
	r.hear()
	r.take()
	message := byClient(wsText, "hello")
	r.clientSays(message)
	r.targetSays(byServer(wsPing, ""))
	r.sends(message[:8])
	must(r.answers.WriteWindowUpdate(1, 100))
	r.hear()
	got := strings.ReplaceAll(r.take(), "\ndata 1 ", "")
	if !strings.HasPrefix(got, "data 1 "+message[8:]+"\x8a\x80") {
		t.Errorf("the target got %q", got)
	}
}

// TestSocketBacklog checks that a pong does not wait behind all that waits for the target's
// windows, and that all goes in order when they open.
func TestSocketBacklog(t *testing.T) {
	r := socketRig(t, 0, connects, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 8})
	r.answers.head(1, false, ":status 200")
	r.hear()
	r.take()
	const messages = 3 * roomForSocket / 100
	var want strings.Builder
	for i := range messages {
		message := byClient(wsText, fmt.Sprintf("%0100d", i))
		want.WriteString(message)
		says(r.client, message)
	}
	r.feed(0)
	r.targetSays(byServer(wsPing, "p"))
	must(r.answers.WriteWindowUpdate(0, 1<<20))
	must(r.answers.WriteWindowUpdate(1, 1<<20))
	r.hear()
	r.goes()
	var got strings.Builder
	for line := range strings.SplitSeq(r.take(), "data 1 ") {
		got.WriteString(strings.TrimSuffix(line, "\n"))
	}
	before, after, ok := strings.Cut(got.String(), "\x8a\x81")
	if !ok || len(before) > 2*roomForSocket || len(before)%106 != 0 {
		t.Fatalf("the pong came after %d of %d bytes", len(before), want.Len())
	}
	if after = after[5:]; before+after != want.String() {
		t.Errorf("%d and %d bytes went, wanted %d", len(before), len(after), want.Len())
	}
	r.settled()
}

// TestSocketPings checks that pings of a target whose window is closed are answered when it opens,
// and that a target which goes on asking does not make the copy grow.
func TestSocketPings(t *testing.T) {
	r := socketRig(t, 0, connects, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
	r.answers.head(1, false, ":status 200")
	r.hear()
	r.take()
	r.targetSays(byServer(wsPing, ""))
	r.client.get(3, "/b")
	r.feed(r.serve())
	r.wants("headers 3 GET /b end")
	must(r.answers.WriteWindowUpdate(1, 100))
	r.hear()
	if got := r.take(); !strings.HasPrefix(got, "data 1 \x8a\x80") {
		t.Errorf("the ping was answered by %q", got)
	}
	r.settled()
	r.c.held += maxHeld // as if so much waited for the target's windows
	r.targetSays(byServer(wsPing, ""))
	r.wants("answered 0: 0 failed", "reset 1 8")
	if r.c.held != maxHeld {
		t.Errorf("%d bytes more are held", r.c.held-maxHeld)
	}
}

// TestSocketBroken checks that bytes which are no frames end the stream, and no other.
func TestSocketBroken(t *testing.T) {
	for name, c := range map[string]func(*rig){
		"client": func(r *rig) { r.clientSays("\x83\x80\x00\x00\x00\x00") },
		"target": func(r *rig) { r.targetSays("\x81\x80\x00\x00\x00\x00") },
	} {
		for step := range 10 {
			r := acceptedRig(t, step)
			c(r)
			r.wants("answered 0: 0 failed", "reset 1 8")
			r.targetSays("\xff\xff")
			r.clientSays("\xff\xff")
			r.client.get(3, "/b")
			r.feed(r.serve())
			if r.wants("headers 3 GET /b end"); t.Failed() {
				t.Fatal(name, step)
			}
			must(r.client.WriteRSTStream(1, http2.ErrCodeCancel))
			r.feed(r.serve())
			r.settled()
		}
	}
	r := socketRig(t, 0, connects)
	r.take()
	r.targetSays(byServer(wsText, "too early"))
	r.targetSays("\xff\xff")
	r.answers.head(1, false, ":status 200")
	r.hear()
	r.clientSays(byClient(wsText, "one"))
	r.sends(byClient(wsText, "one"))
}

// TestSocketEnds checks that the ends of both directions, and a cancel, arrive.
func TestSocketEnds(t *testing.T) {
	r := acceptedRig(t, 0)
	must(r.client.WriteData(1, true, []byte(byClient(wsText, "one"))))
	r.feed(r.serve())
	r.wants("data 1 " + byClient(wsText, "one") + " end")
	must(r.answers.WriteData(1, true, nil))
	r.hear()
	r.wants("answered 0: 200")
	r.settled()

	r = acceptedRig(t, 0)
	must(r.client.WriteRSTStream(1, http2.ErrCodeCancel))
	r.feed(r.serve())
	r.wants("abandoned 0", "reset 1 8")
	r.settled()

	r = acceptedRig(t, 0) // the target ends it, and nothing that waits goes
	r.clientSays(byClient(wsText, "one"))
	says(r.production, byServer(wsText, "answer"))
	r.clientSays(byClient(wsText, "two"))
	r.sends(byClient(wsText, "one"))
	r.answers.head(1, true, "trailer 1")
	r.hear()
	r.goes()
	r.wants("answered 0: 200")
	r.settled()

	r = acceptedRig(t, 0)
	must(r.answers.WriteData(1, true, nil)) // the target ends it first
	r.hear()
	r.wants("answered 0: 200")
	r.clientSays(byClient(wsText, "one"))
	must(r.client.WriteData(1, true, nil))
	r.feed(r.serve())
	r.wants("data 1  end")
	r.settled()
}

// TestManySockets checks that a connection to the target takes a bounded number of sockets whose
// ends it does not tell.
func TestManySockets(t *testing.T) {
	r := newRig(t, connects)
	for id := uint32(1); id <= 2*maxSockets+1; id += 2 {
		r.client.connect(id)
		must(r.client.WriteRSTStream(id, http2.ErrCodeCancel))
		r.feed(0)
	}
	r.take()
	if n := len(r.c.target.data.sockets); n != maxSockets || !r.c.Reopens() {
		t.Errorf("%d sockets at the target, wanted %d, and then another connection", n, maxSockets)
	}
	if r.c.Size() > 1<<20 {
		t.Errorf("it holds %d bytes", r.c.Size())
	}
}
