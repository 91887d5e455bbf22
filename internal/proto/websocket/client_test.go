package websocket

import (
	"bytes"
	"compress/flate"
	"fmt"
	"strings"
	"testing"
	"time"

	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/proto"
	"tcpcopy/internal/proto/semantics"
)

func TestRecognise(t *testing.T) {
	for n := range len(asks) {
		if got := Recognise([]byte(asks[:n]), nil); got == proto.No {
			t.Errorf("%q is none", asks[:n])
		} else if got == proto.Yes && n < len(asks)-2 {
			t.Errorf("%q is one", asks[:n])
		}
	}
	for _, p := range []string{
		strings.Replace(asks, "websocket", "h2c", 1),
		strings.Replace(asks, "13", "8", 1),
		strings.Replace(asks, "GET", "PUT", 1),
		strings.Replace(asks, "Connection: Upgrade", "Connection: close", 1),
		"GET / HTTP/1.1\r\nHost: a\r\n\r\n" + asks,
		"GET /\r\n" + asks[len("GET /chat HTTP/1.1\r\n"):],
	} {
		if got := Recognise([]byte(p), nil); got != proto.No {
			t.Errorf("%q: %v", p, got)
		}
	}
	if Recognise([]byte(asks), []byte("220 hello")) != proto.No {
		t.Error("a server that speaks first is taken for one of HTTP")
	}
}

// Nothing goes before the target has accepted, and then a turn waits for the messages that its
// client had seen.
func TestMessagesWaitForMessages(t *testing.T) {
	eachStep(t, func(t *testing.T, step int) {
		r := newRig(t, step)
		r.feed(asks)
		r.wants(asks)
		r.serve(accepts)
		r.feed(text("one") + text("two"))
		r.wants("")
		r.hear(accepts)
		r.wants(text("one") + text("two"))

		r.serve(says("re one") + byServer(bitFin|opPing, "p"))
		r.feed(text("three"))
		r.serve(byServer(opText, "re ") + byServer(bitFin|opContinuation, "two"))
		r.feed(text("four"))
		r.wants("")
		r.hear(byServer(opText, "re"))
		r.hear(byServer(opContinuation, ""))
		r.wants("") // the message goes on
		r.hear(byServer(bitFin|opContinuation, " one, at more length"))
		r.wants(text("three"))
		r.hear(says(strings.Repeat("x", 300)))
		r.wants(text("four"))
		r.ended()
		r.wantsLog("request 0 true", "answer 0 101")
		if r.wake != 1<<63-1 {
			t.Errorf("woken at %v", r.wake)
		}
	})
}

// The target's pings are answered at once, between two frames, and the client's pongs do not go.
func TestPings(t *testing.T) {
	eachStep(t, func(t *testing.T, step int) {
		r := upgraded(t, step)
		r.feed(byClient(bitFin|opPong, "of production") + byClient(bitFin|opPing, "mine"))
		r.wantsFrames("9 mine")
		r.hear(byServer(bitFin|opPing, "a") + byServer(bitFin|opPong, "mine"))
		r.wantsFrames("10 a")

		long := text("a long message")
		r.feed(long[:9])
		r.hear(byServer(bitFin|opPing, "b") + byServer(bitFin|opPing, "c"))
		r.wants(long[:9])
		r.feed(long[9:] + byClient(bitFin|opPong, ""))
		if got := r.take(); !strings.HasPrefix(got, long[9:]) || len(got) != len(long[9:])+7 {
			t.Errorf("behind the message, %q", got)
		}
		r.serve(says("x"))
		r.feed(text("held"))
		r.hear(byServer(bitFin|opPing, ""))
		r.wantsFrames("10 ") // though a turn waits
		r.hear(says("x"))
		r.wantsFrames("1 held")
		r.ended()
	})
}

// Masks of the copy's own frames are not the same twice.
func TestMasks(t *testing.T) {
	r := upgraded(t, 0)
	seen := map[string]bool{}
	for range 1000 {
		r.hear(byServer(bitFin|opPing, ""))
		p := r.take()
		if seen[p] {
			t.Fatalf("the mask of %x came before", p)
		}
		seen[p] = true
	}
}

// A server that pushes keeps no turn back for more than a second, even if the target pushes less.
func TestPush(t *testing.T) {
	eachStep(t, func(t *testing.T, step int) {
		r := upgraded(t, step)
		r.feed(text("subscribe"))
		r.wantsFrames("1 subscribe")
		for i := range 20 { // ten pushes a turn at production, none at the target
			for range 10 {
				r.serve(says("push"))
			}
			r.wait(100 * time.Millisecond)
			r.feed(text(fmt.Sprint(i)))
		}
		r.wait(0)
		if got := len(r.frames()); got != 10 && got != 11 {
			t.Errorf("%d messages have gone, wanted all but the last second's", got)
		}
		r.wait(time.Second)
		if got := len(r.frames()); got != 9 && got != 10 {
			t.Errorf("%d messages have gone a second later", got)
		}
		r.ended()
	})
}

// In lock-step no time lets a turn go; a target that pushes where production does not is found out.
func TestLockStep(t *testing.T) {
	r := upgraded(t, 0)
	r.feed(text("a"))
	r.serve(says("re a"))
	r.feed(text("b"))
	r.wait(time.Hour)
	r.wantsFrames("1 a")
	r.hear(says("re a"))
	r.wantsFrames("1 b")
	if r.serve(says("re b")); r.c.pace.Pushes() {
		t.Error("an answer counts as pushed")
	}
	r.feed(text("c"))
	r.wait(time.Hour)
	r.wantsFrames()
	var out proto.Out
	if !r.c.Waits() || r.c.Settled(r.served) || !r.c.Force(&out) {
		t.Error("the turn does not wait, or cannot be forced")
	}
	r.goes()
	r.wantsFrames("1 c")
	if r.c.Force(&out) || !r.c.Settled(r.served) {
		t.Error("something still waits")
	}
	r.ended()
}

// Without production's frames, a turn waits for one message since the last turn.
func TestProductionUnread(t *testing.T) {
	r := newRig(t, 0)
	r.feed(asks)
	r.c.Server(0, []byte(accepts[:48]))
	r.served = uint64(len(accepts))
	r.feed(text("a"))
	r.hear(accepts)
	r.take()
	r.served += 10
	r.feed(text("b"))
	r.wait(time.Minute)
	r.wantsFrames()
	r.hear(says("1"))
	r.wantsFrames("1 b")
	r.served += 10
	r.feed(text("c"))
	r.wantsFrames()
	r.hear(says("2") + says("3")) // one more than it was asked for: it pushes
	r.wantsFrames("1 c")
	r.served += 10
	r.feed(text("d"))
	r.wait(999 * time.Millisecond)
	r.wantsFrames()
	r.wait(time.Millisecond)
	r.wantsFrames("1 d")
	r.ended()
}

// What a client sees within a frame does not hold the rest of it back, but what follows.
func TestTurnWithinFrame(t *testing.T) {
	r := upgraded(t, 0)
	long := text("a long message")
	r.feed(long[:9])
	r.serve(says("x"))
	r.feed(long[9:12])
	r.feed(long[12:] + text("b"))
	r.wants(long)
	r.hear(says("x"))
	r.wantsFrames("1 b")
	r.ended()
}

// A client that only listens may end though the target has pushed less.
func TestListener(t *testing.T) {
	r := upgraded(t, 0)
	r.serve(strings.Repeat(says("push"), 20))
	if !r.c.Settled(r.served) {
		t.Error("the end waits for pushes")
	}
	r.feed(text("a"))
	r.wait(time.Second)
	r.wantsFrames("1 a")
	r.serve(says("re a") + says("push"))
	if !r.c.Settled(r.served) {
		t.Error("the end waits for pushes")
	}
}

// Production's greeting is waited for.
func TestGreeting(t *testing.T) {
	r := newRig(t, 0)
	r.feed(asks)
	r.serve(accepts + says("hello"))
	r.feed(text("a"))
	r.hear(accepts)
	r.take()
	r.wait(900 * time.Millisecond)
	r.wantsFrames()
	r.hear(says("hello"))
	r.wantsFrames("1 a")
	r.serve(says("re a"))
	r.feed(text("b"))
	r.wait(time.Hour)
	r.wantsFrames()
	r.hear(says("re a"))
	r.wantsFrames("1 b")
}

// The codes of both sides' closes reach the target.
func TestCloses(t *testing.T) {
	eachStep(t, func(t *testing.T, step int) {
		r := upgraded(t, step)
		r.feed(text("a") + byClient(bitFin|opClose, "\x03\xe9bye"))
		r.wantsFrames("1 a", "8 \x03\xe9bye")
		r.hear(byServer(bitFin|opPing, "late") + byServer(bitFin|opClose, "\x03\xe9"))
		r.wantsFrames() // nothing follows a close
		r.ended()
		if !r.c.Settled(r.served) {
			t.Error("the copy has closed, and is not settled")
		}

		r = upgraded(t, step)
		part := text("going on")
		r.feed(part[:8])
		r.hear(byServer(bitFin|opClose, "\x0f\xa0full"))
		r.wants(part[:8])
		r.feed(part[8:])
		r.feed(text("too late") + byClient(bitFin|opPong, ""))
		if got := r.take(); !strings.HasPrefix(got, part[8:]) || len(got) != len(part[8:])+8 ||
			got[len(part[8:])] != bitFin|opClose {
			t.Errorf("behind the message, %q", got)
		}
		r.feed(text("later"))
		r.goes()
		r.wants("")
		r.ended()
		if n := r.left[ledger.TargetClosed]; n < len(text("too late")+text("later")) {
			t.Errorf("%d bytes were left out", n)
		}
	})
}

// TestCloseWithinFrame checks that the rest of a frame goes in which the target has closed, and
// that what follows it is left out, whatever it is.
func TestCloseWithinFrame(t *testing.T) {
	for _, after := range []string{text("b"), byClient(0x91, "b"), "\x91"} {
		eachStep(t, func(t *testing.T, step int) {
			r := upgraded(t, step)
			a := text("abc")
			r.feed(a[:len(a)-1])
			r.hear(byServer(bitFin|opClose, "\x03\xe8"))
			r.feed(a[len(a)-1:] + after)
			r.wantsFrames("1 abc", "8 \x03\xe8")
			r.ended()
			if n := r.left[ledger.TargetClosed]; n != len(after) {
				t.Errorf("%d bytes were left out, wanted %d", n, len(after))
			}
		})
	}
}

// A message that the target's last one releases precedes the answer to its close; one that waits
// for another is left out.
func TestCloseReleases(t *testing.T) {
	eachStep(t, func(t *testing.T, step int) {
		r := upgraded(t, step)
		r.serve(says("1"))
		r.feed(text("a"))
		r.serve(says("2"))
		r.feed(text("b"))
		r.wantsFrames()
		r.hear(says("1") + byServer(bitFin|opClose, "\x03\xe8") + says("2"))
		r.wantsFrames("1 a", "8 \x03\xe8")
		r.ended()
		if n := r.left[ledger.TargetClosed]; n != len(text("b")) {
			t.Errorf("%d bytes were left out", n)
		}
	})
}

// The target's end leaves out what waits, and what follows.
func TestShut(t *testing.T) {
	eachStep(t, func(t *testing.T, step int) {
		for _, early := range []bool{false, true} {
			r := newRig(t, step)
			r.feed(asks)
			r.serve(accepts)
			if r.feed(text("a")); !early {
				r.hear(accepts)
			}
			r.serve(says("x"))
			r.feed(text("b") + text("c")[:3])
			var out proto.Out
			r.c.Shut(&out)
			r.carryOut(&out)
			r.goes()
			r.feed(text("c")[3:])
			r.goes()
			r.ended()
			want := len(text("b") + text("c"))
			if early {
				want += len(text("a"))
			}
			if r.left[ledger.TargetClosed] != want {
				t.Errorf("left out %v, wanted %d", r.left, want)
			}
		}
	})
}

// Requests that precede the upgrade wait for answers; after a refusal the client may go on.
func TestRequestsBefore(t *testing.T) {
	eachStep(t, func(t *testing.T, step int) {
		r := newRig(t, step)
		head := "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n"
		r.feed(head + asks)
		r.wants(head + asks)
		r.serve("HTTP/1.1 200 OK\r\n\r\n" + refuses)
		r.feed(asks)
		r.wants("")
		r.hear("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n" + refuses[:20])
		r.wants("")
		r.hear(refuses[20:])
		r.wants(asks)
		r.hear("HTTP/1.1 103 Early Hints\r\n\r\n" + accepts)
		r.serve(accepts)
		r.feed(text("a"))
		r.wantsFrames("1 a")
		r.ended()
		r.wantsLog("request 0 true", "request 1 true", "answer 0 200", "answer 1 403",
			"request 2 true", "answer 2 103", "answer 2 101")
	})
}

// A target that answers in another way than production ends the copy by name.
func TestDiffers(t *testing.T) {
	for _, c := range []struct {
		name, production, target, next, want string
	}{
		{"target refuses", accepts, refuses, text("a"), "upgrade_differs"},
		{"target refuses a client that is silent", accepts, refuses, "", "upgrade_differs"},
		{"target fails", accepts, "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n",
			text("a"), "upgrade_differs"},
		{"production refuses", refuses, accepts, asks, "upgrade_differs"},
		{"both refuse", refuses, refuses, asks, "<nil>"},
		{"another protocol", accepts, strings.Replace(accepts, "websocket", "h2c", 1), "", "lost"},
		{"tunnel", accepts, "HTTP/1.1 99 x\r\n\r\n", "", "lost"},
		{"an extension of the target's", accepts, accepting("x-other"), text("a"),
			"extension_differs"},
		{"one of production's", accepting("x-other"), accepts, text("a"), "extension_differs"},
		{"the same", accepting("x-other"), accepting("x-other"), byClient(bitFin|0x20|opText, "a"),
			"<nil>"},
		{"a bit of none", accepts, accepts, byClient(bitFin|0x20|opText, "a"), "extension_differs"},
		{"no mask", accepts, accepts, says("a"), "lost"},
		{"opcode", accepts, accepts, byClient(bitFin|3, "a"), "lost"},
		{"continuation", accepts, accepts, byClient(bitFin|opContinuation, "a"), "lost"},
		{"message within another", accepts, accepts, byClient(opText, "a") + text("b"), "lost"},
		{"ping in parts", accepts, accepts, byClient(opPing, "a"), "lost"},
		{"long ping", accepts, accepts, byClient(bitFin|opPing, strings.Repeat("a", 126)), "lost"},
		{"length", accepts, accepts, "\x82\xff" + strings.Repeat("\xff", 8) + "\x00\x00\x00\x00",
			"lost"},
		{"a mask of the target's", accepts, accepts + text("a"), "", "lost"},
		{"opcode of the target's", accepts, accepts + byServer(bitFin|4, ""), "", "lost"},
	} {
		for _, late := range []bool{false, true} {
			for _, step := range []int{0, 1} {
				r := newRig(t, step)
				r.feed(asks)
				r.serve(c.production)
				steps := []func() error{func() error { return r.tryHear(c.target) },
					func() error { return r.tryFeed(c.next) }}
				if late {
					steps[0], steps[1] = steps[1], steps[0]
				}
				err := steps[0]()
				if err == nil {
					err = steps[1]()
				}
				if got := reasonOf(err); got != c.want {
					t.Errorf("%s (late: %v, step %d): %s, wanted %s", c.name, late, step, got,
						c.want)
				}
			}
		}
	}
}

func TestUpgradedBefore(t *testing.T) {
	r := newRig(t, 0)
	r.begin(true)
	if got := reasonOf(r.tryFeed(text("a"))); got != "upgrade_unknown" {
		t.Error(got)
	}
	r = newRig(t, 1)
	r.begin(true)
	if got := reasonOf(r.tryFeed(byClient(bitDeflate|opText, "a"))); got != "upgrade_unknown" {
		t.Error(got)
	}
	r = newRig(t, 0)
	r.begin(true)
	r.feed(asks)
	r.hear(accepts)
	r.wants(asks)
}

// Rules hold for the handshake as for any request.
func TestRules(t *testing.T) {
	eachStep(t, func(t *testing.T, step int) {
		rules := &semantics.Rules{Set: []semantics.Header{{Name: "Host", Value: "test"}}}
		r := &rig{t: t, c: NewClient(rules), step: step, left: map[ledger.Reason]int{}}
		r.begin(false)
		r.feed(asks)
		r.wants(strings.Replace(asks, "Host: a", "Host: test", 1))
		r.serve(accepts)
		r.hear(accepts)
		r.feed(text("a"))
		r.wantsFrames("1 a")
		r.ended()
		r.wantsLog("request 0 false", "answer 0 101")

		deny, err := semantics.ParsePattern("GET /chat")
		if err != nil {
			t.Fatal(err)
		}
		rules = &semantics.Rules{Deny: []semantics.Pattern{deny}}
		r = &rig{t: t, c: NewClient(rules), step: step, left: map[ledger.Reason]int{}}
		r.begin(false)
		r.feed(asks)
		r.serve(accepts)
		r.wants("")
		if got := reasonOf(r.tryFeed(text("a"))); got != "denied" {
			t.Error(got)
		}
		r.wantsLog("refused denied")
	})
}

// deflated compresses messages, each with the ones before it.
func deflated(t *testing.T, messages ...string) (all []string) {
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, 9)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range messages {
		b.Reset()
		if _, err := w.Write([]byte(m)); err != nil {
			t.Fatal(err)
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
		all = append(all, strings.TrimSuffix(b.String(), "\x00\x00\xff\xff"))
	}
	return all
}

// Messages are inflated for a target that cannot do it, and pass otherwise.
func TestDeflate(t *testing.T) {
	messages := []string{"hello hello hello", "hello again", strings.Repeat("long ", 20000), "",
		"hello, and long long long"}
	packed := deflated(t, messages...)
	const first = bitFin | bitDeflate | opText
	for _, c := range []struct {
		production, target string
		passes             bool
	}{
		{"permessage-deflate", "", false},
		{"permessage-deflate", "permessage-deflate", true},
		{"permessage-deflate", "permessage-deflate; server_max_window_bits=9", true},
		{"permessage-deflate", "permessage-deflate; client_max_window_bits=9", false},
		{"permessage-deflate; client_max_window_bits=9", "permessage-deflate", true},
		{"permessage-deflate", "permessage-deflate; client_no_context_takeover", false},
		{"-", "permessage-deflate", true},
		{"-", "permessage-deflate; client_max_window_bits=\"10\"", false},
	} {
		eachStep(t, func(t *testing.T, step int) {
			r := newRig(t, step)
			r.feed(asks)
			if c.production == "-" { // production's answer is not captured
				r.served = 200
			} else {
				r.serve(accepting(c.production))
			}
			r.feed(byClient(first, packed[0]))
			target := accepts
			if c.target != "" {
				target = accepting(c.target)
			}
			r.wants(asks)
			r.hear(target)
			r.feed(byClient(first, packed[1]) + byClient(bitDeflate|opText, packed[2][:50]) +
				byClient(bitFin|opPing, "p") + byClient(bitFin|opPong, "") +
				byClient(bitFin|opContinuation, packed[2][50:]) + byClient(first, packed[3]))
			r.feed(byClient(first, packed[4]))
			r.feed(text("not compressed"))
			want := []string{"1 " + messages[0], "1 " + messages[1], "9 p", "1 " + messages[2],
				"1 " + messages[3], "1 " + messages[4], "1 not compressed"}
			if c.passes {
				want = []string{"1 " + packed[0], "1 " + packed[1], "1 " + packed[2][:50], "9 p",
					"0 " + packed[2][50:], "1 " + packed[3], "1 " + packed[4], "1 not compressed"}
				r.sent = bytes.ReplaceAll(r.sent, nil, nil)
				for i := len(asks); i < len(r.sent); { // clear the bit, which the rig refuses
					var h headers
					var f frame
					n, _ := h.next(r.sent[i:], &f)
					if f.op == opText {
						r.sent[i] &^= bitDeflate
					}
					i += n + int(f.length)
				}
			}
			r.wantsFrames(want...)
			r.ended()
			if r.c.inflater.size() > 4096 {
				t.Errorf("%d bytes are kept", r.c.inflater.size())
			}
		})
	}
}

// A message that inflates to too much, or does not inflate, ends the copy.
func TestDeflateHostile(t *testing.T) {
	bomb := deflated(t, strings.Repeat("\x00", maxInflated+1))[0]
	for _, c := range []struct{ frames, want string }{
		{byClient(bitFin|bitDeflate|opText, bomb), "inflates_too_large"},
		{byClient(bitFin|bitDeflate|opText, "\xff\xff\xff"), "lost"},
		{byClient(bitFin|bitDeflate|opText, "\x02\x83\x00\x00"), "lost"}, // of what came before
		{byClient(bitDeflate|opText, "a") + byClient(bitDeflate|opContinuation, "a"), "lost"},
		{byClient(bitFin|bitDeflate|opPing, "a"), "lost"},
	} {
		r := upgraded(t, 0)
		if got := reasonOf(r.tryFeed(c.frames)); got != c.want {
			t.Errorf("%.20q: %s, wanted %s", c.frames, got, c.want)
		}
	}
	r := upgraded(t, 0)
	part := byClient(bitDeflate|opBinary, strings.Repeat("x", 60000))
	var err error
	for n := 0; err == nil && n < 2*maxInflated; n += len(part) {
		err = r.tryFeed(part)
		part = "\x00" + part[1:]
	}
	if reasonOf(err) != "inflates_too_large" || r.c.inflater.size() > maxInflated+len(flushed) {
		t.Errorf("%v; %d bytes are kept", err, r.c.inflater.size())
	}
}

// What waits is bounded.
func TestBounds(t *testing.T) {
	r := newRig(t, 0)
	r.feed(asks)
	r.serve(accepts)
	var err error
	for n := 0; err == nil && n < 2*maxHeld; n += 60000 {
		err = r.tryFeed(byClient(bitFin|opBinary, strings.Repeat("x", 60000)))
	}
	if reasonOf(err) != "over_session" {
		t.Errorf("a target that does not answer: %v", err)
	}
	r = upgraded(t, 0)
	r.serve(says("x"))
	err = nil
	for n := 0; err == nil && n < 2*maxQueue; n++ {
		err = r.tryFeed(text("x") + byClient(bitFin|opPong, ""))
	}
	if reasonOf(err) != "over_session" {
		t.Errorf("a target that does not go on: %v", err)
	}
	r = upgraded(t, 0)
	for range 2*maxEnds + 5 {
		r.serve("\x82\x01x")
	}
	if n := len(r.c.server.ends); n > maxEnds {
		t.Errorf("where %d messages of production end is kept", n)
	}
	if n, known := r.c.server.messages(r.served); n != 2*maxEnds+5 || !known {
		t.Errorf("%d messages of production, wanted %d", n, 2*maxEnds+5)
	}
	for n := range uint64(1000) { // the beginnings of packets
		r.c.Server(r.served+100+1000*n, []byte("\x82\x01x"))
	}
	if s := &r.c.server; !s.lost || s.ahead.Size() > 0 {
		t.Errorf("%d bytes of production's are kept", s.ahead.Size())
	}
}

// A message that passes allocates nothing.
func TestNoAllocations(t *testing.T) {
	r := upgraded(t, 0)
	var out proto.Out
	message, answer := []byte(text("a message")), []byte(says("an answer"))
	told := make([]proto.Told, 0, 8)
	n := testing.AllocsPerRun(1000, func() {
		out.Reset()
		if r.c.Feed(message, r.served, &out) != nil {
			t.Fatal("lost")
		}
		r.c.Go(r.now, &out)
		r.c.Server(r.served, answer)
		r.served += uint64(len(answer))
		for _, told := range r.follower.Feed(r.now, answer, told[:0], &r.scratch) {
			if r.c.Kept(told.Bytes, &out) != nil {
				t.Fatal("lost")
			}
		}
	})
	if n > 0 {
		t.Errorf("%v allocations a message", n)
	}
}
