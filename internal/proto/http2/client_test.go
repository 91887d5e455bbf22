package http2

import (
	"fmt"
	"strings"
	"testing"

	"golang.org/x/net/http2"

	"tcpcopy/internal/proto"
	"tcpcopy/internal/proto/semantics"
)

func TestBeginsAsAClient(t *testing.T) {
	r := bareRig(t)
	r.begin(false)
	r.wants("settings false", fmt.Sprintf("window 0 %d", maxWindow-defaultWindow))
	r.client.out.WriteString(preface)
	must(r.client.WriteSettings())
	r.client.get(1, "/a")
	r.feed(0)
	r.wants("") // not before the target's SETTINGS
	must(r.answers.WriteSettings())
	must(r.answers.WriteSettingsAck())
	r.hear()
	r.wants("settings true", "headers 1 GET /a end")
	r.answers.answer(1)
	must(r.answers.WritePing(false, [8]byte([]byte("12345678"))))
	r.hear()
	r.wants("answered 0: 200", "ping true 12345678")
	r.settled()
	if !r.c.Idle() {
		t.Error("everything was answered, and it is not idle")
	}
}

// With production's frames, a stream waits for those that its client had seen end, and for no
// other.
func TestStreamsWaitForWhatTheirClientSaw(t *testing.T) {
	for _, step := range []int{0, 1, 7} {
		r := newRig(t)
		r.step = step
		r.client.get(1, "/poll")
		r.client.get(3, "/a")
		r.client.get(5, "/b")
		r.feed(0)
		r.wants("headers 1 GET /poll end", "headers 3 GET /a end", "headers 5 GET /b end")

		must(r.production.WriteSettings())
		r.production.answer(3)
		r.client.get(7, "/after-a")
		r.feed(r.serve())
		r.production.answer(5)
		r.client.get(9, "/after-a-and-b")
		r.feed(r.serve())
		r.wants("")

		r.answers.answer(5)
		r.hear()
		r.wants("answered 2: 200") // 9 waits for 3, too
		r.answers.head(3, false, ":status 200")
		r.hear()
		r.wants("")
		must(r.answers.WriteData(3, true, []byte("hello")))
		b := r.answers.take()
		must(r.tryHear(b[:len(b)-1]))
		r.wants("") // the last byte is missing
		must(r.tryHear(b[len(b)-1:]))
		r.wants("answered 1: 200", "headers 7 GET /after-a end", "headers 9 GET /after-a-and-b end")
		r.settled()
	}
}

// A client that has seen a part of an answer has not seen its end.
func TestPartOfAnAnswer(t *testing.T) {
	r := newRig(t)
	must(r.production.WriteSettings())
	r.client.get(1, "/a")
	r.feed(r.serve())
	r.production.answer(1)
	r.client.get(3, "/b")
	r.feed(r.serve() - 1)
	r.wants("headers 1 GET /a end", "headers 3 GET /b end")
	r.client.get(5, "/c")
	r.feed(r.served)
	r.wants("")
	r.answers.answer(1)
	r.hear()
	r.wants("answered 0: 200", "headers 5 GET /c end")
}

// Without production's frames, a stream waits for all that were opened before its client saw more.
func TestWithoutProduction(t *testing.T) {
	r := newRig(t)
	r.client.get(1, "/a")
	r.client.get(3, "/b")
	r.feed(100)
	r.client.get(5, "/c")
	r.feed(150)
	r.client.get(7, "/d")
	r.feed(150)
	r.wants("headers 1 GET /a end", "headers 3 GET /b end")
	r.answers.answer(3)
	r.hear()
	r.wants("answered 1: 200")
	r.answers.answer(1)
	r.hear()
	r.wants("answered 0: 200", "headers 5 GET /c end", "headers 7 GET /d end")
	r.settled()
	if r.c.Settled(150) {
		return
	}
	r.answers.answer(5)
	r.answers.answer(7)
	r.hear()
	if !r.c.Settled(200) {
		t.Error("everything was answered, and it is not settled")
	}
}

func TestProductionOutOfOrder(t *testing.T) {
	for _, gap := range []bool{false, true} {
		r := newRig(t)
		must(r.production.WriteSettings())
		r.client.get(1, "/poll")
		r.client.get(3, "/a")
		r.feed(r.serve())
		r.take()
		r.production.answer(3)
		b := r.production.take()
		r.c.Server(r.served+10, b[10:])
		if !gap {
			r.c.Server(r.served, b[:4])
			r.c.Server(r.served+2, b[2:12])
		}
		r.client.get(5, "/b")
		r.feed(r.served + uint64(len(b)))
		r.answers.answer(3)
		r.hear()
		if want := "answered 1: 200\n"; gap {
			r.wants(strings.TrimSpace(want)) // it waits for the poll, too
		} else {
			r.wants(want + "headers 5 GET /b end")
		}
	}
}

func TestFlowControl(t *testing.T) {
	r := newRig(t, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 4})
	r.client.post(1, "/a")
	must(r.client.WriteData(1, false, []byte("01234")))
	must(r.client.WriteDataPadded(1, false, []byte("56"), make([]byte, 9)))
	must(r.client.WriteData(1, true, []byte("789")))
	r.client.get(3, "/b")
	r.feed(0)
	r.wants("headers 1 POST /a", "data 1 0123", "headers 3 GET /b end")
	must(r.answers.WriteWindowUpdate(1, 1))
	r.hear()
	r.wants("data 1 4")
	must(r.answers.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1}))
	r.hear()
	r.wants("settings true")
	must(r.answers.WriteWindowUpdate(1, 5)) // 4+1-5+5-(4-1)=2
	r.hear()
	r.wants("data 1 56")
	must(r.answers.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 100}))
	r.hear()
	r.wants("settings true", "data 1 789 end")
	r.settled()
}

// The connection's window holds back all streams, and frames are no longer than the target takes.
func TestConnectionWindow(t *testing.T) {
	r := newRig(t, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 20})
	r.client.post(1, "/a")
	for range 10 {
		must(r.client.WriteData(1, false, make([]byte, 10000)))
	}
	r.client.post(3, "/b")
	must(r.client.WriteData(3, true, []byte("x")))
	must(r.client.WriteData(1, true, nil))
	r.feed(0)
	got := r.take()
	if n := strings.Count(got, "\x00"); n != defaultWindow {
		t.Errorf("%d bytes went, wanted %d", n, defaultWindow)
	}
	for line := range strings.Lines(got) {
		if len(line) > maxFrame+len("data 1  end\n") {
			t.Errorf("a frame of %d bytes", len(line))
		}
	}
	if r.taken < 60000 || r.taken > 70000 {
		t.Errorf("steps took %d bytes: wanted those that went", r.taken)
	}
	must(r.answers.WriteWindowUpdate(0, 1<<20))
	r.hear()
	if got := r.take(); strings.Count(got, "\x00") != 100000-defaultWindow ||
		!strings.HasSuffix(got, "data 1  end\ndata 3 x end\n") &&
			!strings.HasSuffix(got, "end\ndata 3 x end\n") {
		t.Errorf("%d bytes followed: %.40q", strings.Count(got, "\x00"), got[max(0, len(got)-40):])
	}
	r.settled()
}

func TestLimitOfStreams(t *testing.T) {
	r := newRig(t, http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 2})
	for i := range uint32(4) {
		r.client.get(2*i+1, "/a")
	}
	r.feed(0)
	r.wants("headers 1 GET /a end", "headers 3 GET /a end")
	r.answers.answer(3)
	r.hear()
	r.wants("answered 1: 200", "headers 5 GET /a end")
	must(r.answers.WriteRSTStream(1, http2.ErrCodeInternal))
	r.hear()
	r.wants("answered 0: 0 failed", "headers 7 GET /a end")
	r.settled()
}

func TestTrailersAndContinuation(t *testing.T) {
	for _, step := range []int{0, 1} {
		r := newRig(t)
		r.step = step
		block := r.client.fields(":method POST", ":scheme http", ":authority a", ":path /a",
			"x "+strings.Repeat("y", 50000))
		must(r.client.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block[:10],
			PadLength: 20, Priority: http2.PriorityParam{StreamDep: 3, Weight: 7}}))
		must(r.client.WriteContinuation(1, false, block[10:9000]))
		must(r.client.WriteContinuation(1, false, nil))
		must(r.client.WriteContinuation(1, true, block[9000:]))
		must(r.client.WriteData(1, false, []byte("abc")))
		r.client.head(1, true, "checksum 5")
		must(r.client.WritePriority(1, http2.PriorityParam{StreamDep: 3}))
		must(r.client.WritePing(false, [8]byte{}))
		r.feed(0)
		if got := r.take(); !strings.HasPrefix(got, "headers 1 POST /a yyy") ||
			!strings.HasSuffix(strings.ReplaceAll(got, "data 1 a\ndata 1 b\ndata 1 c",
				"data 1 abc"), "yyy\ndata 1 abc\nheaders 1 5 end\n") {
			t.Errorf("got %.60q … %q", got, got[max(0, len(got)-80):])
		}
		r.settled()
	}
}

func TestCancelled(t *testing.T) {
	r := newRig(t, http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 1})
	r.client.get(1, "/a")
	r.client.get(3, "/b")
	must(r.client.WriteRSTStream(3, http2.ErrCodeCancel))
	must(r.client.WriteRSTStream(1, http2.ErrCodeCancel))
	r.feed(0)
	r.wants("abandoned 0", "abandoned 1", "headers 1 GET /a end", "reset 1 8",
		"headers 3 GET /b end", "reset 3 8")
	r.answers.answer(1) // on its way when the reset came
	r.hear()
	r.wants("")
	r.settled()
	if !r.c.Idle() {
		t.Error("not idle")
	}
}

// Of a request that is cancelled, what the target's window holds back does not go.
func TestCancelledContent(t *testing.T) {
	r := newRig(t, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 2})
	r.client.post(1, "/a")
	must(r.client.WriteData(1, false, []byte("abcd")))
	r.client.head(1, true, "checksum 5")
	must(r.client.WriteRSTStream(1, http2.ErrCodeCancel))
	r.feed(0)
	r.wants("abandoned 0", "headers 1 POST /a", "data 1 ab", "reset 1 8")
	r.settled()
}

// What the target does not want of a request is not sent, and the rest goes on.
func TestResetByTheTarget(t *testing.T) {
	r := newRig(t)
	r.client.post(1, "/a")
	must(r.client.WriteData(1, false, []byte("abc")))
	r.feed(0)
	r.wants("headers 1 POST /a", "data 1 abc")
	r.answers.head(1, true, ":status 413")
	must(r.answers.WriteRSTStream(1, http2.ErrCodeNo))
	r.hear()
	must(r.client.WriteData(1, true, []byte("def")))
	r.client.get(3, "/b")
	r.feed(0)
	r.wants("answered 0: 413 failed", "headers 3 GET /b end")
	r.settled()
}

func TestGoAway(t *testing.T) {
	r := newRig(t)
	r.client.get(1, "/a")
	r.client.get(3, "/b")
	r.client.post(9, "/upload")
	r.feed(0)
	must(r.answers.WriteGoAway(1, http2.ErrCodeNo, nil))
	r.hear()
	r.wants("headers 1 GET /a end", "headers 3 GET /b end", "headers 5 POST /upload",
		"answered 2: 0 failed")
	r.client.get(11, "/c")
	r.client.post(13, "/d")
	r.feed(0)
	if r.wants(""); r.c.Reopens() {
		t.Error("it reopens before the target has answered")
	}
	r.answers.answer(1)
	r.hear()
	r.wants("answered 0: 200")
	if !r.c.Reopens() {
		t.Fatal("it does not reopen")
	}
	before := r.taken
	r.begin(false)
	// A session counts from the first byte that no step took.
	r.fed, r.taken = r.fed-before, 0
	must(r.client.WriteData(9, true, []byte("y"))) // of the upload that is lost
	must(r.client.WriteData(13, true, []byte("x")))
	r.feed(0)
	must(r.answers.WriteSettings())
	r.hear()
	r.wants("settings false", fmt.Sprintf("window 0 %d", maxWindow-defaultWindow),
		"settings true", "headers 1 GET /b end", "headers 3 GET /c end", "headers 5 POST /d",
		"data 5 x end")
	r.settled()
	r.answers.answer(1)
	r.hear()
	r.wants("answered 1: 200")
}

// TestEndAfterAnswer checks that the client's end of a stream arrives that the target has ended
// before, so that no stream stays open there.
func TestEndAfterAnswer(t *testing.T) {
	r := newRig(t)
	r.client.post(1, "/a")
	r.feed(0)
	r.answers.answer(1)
	r.hear()
	must(r.client.WriteData(1, true, nil))
	r.feed(0)
	r.wants("headers 1 POST /a", "answered 0: 200", "data 1  end")
	if r.settled(); r.c.open != 0 {
		t.Errorf("%d streams are open", r.c.open)
	}
}

// TestGoAwayWithOpenCall checks that a call which stays open after GOAWAY holds up a later request
// for a bounded time, and that its client may go on with it.
func TestGoAwayWithOpenCall(t *testing.T) {
	r := newRig(t)
	r.client.post(1, "/open")
	r.feed(0)
	must(r.answers.WriteGoAway(1, http2.ErrCodeNo, nil))
	r.answers.head(1, false, ":status 200")
	r.hear()
	r.wants("headers 1 POST /open")
	r.wait(10 * drainWait) // nothing waits for its end
	must(r.client.WriteData(1, false, []byte("more")))
	r.client.get(3, "/b")
	r.feed(0)
	r.wait(drainWait - 1)
	if r.wants("data 1 more"); r.c.Reopens() {
		t.Error("it reopens at once")
	}
	r.wait(1)
	r.wants("answered 0: 0 failed")
	if !r.c.Reopens() {
		t.Fatal("it does not reopen")
	}
	before := r.taken
	r.begin(false)
	r.fed, r.taken = r.fed-before, 0 // as in TestGoAway
	must(r.client.WriteData(1, true, []byte("rest")))
	r.feed(0)
	must(r.answers.WriteSettings())
	r.hear()
	r.wants("settings false", fmt.Sprintf("window 0 %d", maxWindow-defaultWindow),
		"settings true", "headers 1 GET /b end")
	r.answers.answer(1)
	r.hear()
	r.wants("answered 1: 200")
	r.settled()
}

// A request that the target refuses is sent again, but not for ever.
func TestRefused(t *testing.T) {
	r := newRig(t)
	r.client.get(1, "/a")
	r.feed(0)
	for i := range uint32(maxTries) {
		r.wants(fmt.Sprintf("headers %d GET /a end", 2*i+1))
		must(r.answers.WriteRSTStream(2*i+1, http2.ErrCodeRefusedStream))
		r.hear()
	}
	r.wants("answered 0: 0 failed")
	r.settled()
}

func TestShut(t *testing.T) {
	r := newRig(t)
	r.client.get(1, "/a")
	r.feed(0)
	var out proto.Out
	r.c.Shut(&out)
	r.carryOut(&out)
	r.wants("headers 1 GET /a end", "answered 0: 0 failed")
	if r.c.Reopens() || !r.c.Idle() {
		t.Error("it reopens for nothing")
	}
	r.client.get(3, "/b")
	r.feed(0)
	if !r.c.Reopens() {
		t.Error("it does not reopen")
	}
}

func TestForce(t *testing.T) {
	r := newRig(t)
	r.client.get(1, "/a")
	r.feed(10)
	r.client.get(3, "/b")
	r.feed(20)
	r.wants("headers 1 GET /a end")
	var out proto.Out
	if !r.c.Force(&out) {
		t.Error("there is something to force")
	}
	r.carryOut(&out)
	r.wants("headers 3 GET /b end")
	r.settled()
	if r.c.Force(&out) {
		t.Error("nothing is to be forced")
	}
	r.answers.answer(3)
	r.answers.answer(1)
	r.hear()
	r.wants("answered 1: 200", "answered 0: 200")
}

func TestGRPC(t *testing.T) {
	r := newRig(t)
	for i, c := range []struct {
		answer, trailers []string
		want             string
	}{
		{[]string{":status 200"}, []string{"grpc-status 0", "grpc-message "}, "60000"},
		{[]string{":status 200"}, []string{"grpc-status 14"}, "60014 failed"},
		{[]string{":status 200"}, []string{"grpc-status 99"}, "60017 failed"},
		{[]string{":status 200", "grpc-status 5"}, nil, "60005 failed"},
		{[]string{":status 503"}, nil, "503 failed"},
	} {
		id := uint32(2*i + 1)
		r.client.head(id, true, ":method POST", ":scheme http", ":authority a", ":path /s/m",
			"content-type application/grpc+proto")
		r.feed(0)
		r.take()
		r.answers.head(id, c.trailers == nil, c.answer...)
		if c.trailers != nil {
			must(r.answers.WriteData(id, false, []byte("message")))
			r.answers.head(id, true, c.trailers...)
		}
		r.hear()
		r.wants(fmt.Sprintf("answered %d: %s", i, c.want))
	}
	if class(&proto.Answer{Status: 60005}).String() != "grpc 5" ||
		class(&proto.Answer{Status: 60017}).String() != "grpc ?" ||
		class(&proto.Answer{Status: 404}).String() != "4xx" {
		t.Error("classes are wrong")
	}
}

func TestInterim(t *testing.T) {
	r := newRig(t)
	r.client.get(1, "/a")
	r.feed(0)
	r.answers.head(1, false, ":status 103", "link x")
	r.answers.head(1, true, ":status 204")
	r.hear()
	r.wants("headers 1 GET /a end", "answered 0: 103 interim", "answered 0: 204")
}

// Found under way: what refers to entries from before is left out, and the rest goes.
func TestFoundUnderWay(t *testing.T) {
	r := bareRig(t)
	r.client.get(1, "/a") // adds :authority and :path to the table
	r.client.take()
	r.begin(true)
	must(r.answers.WriteSettings())
	r.hear()
	r.take()
	must(r.client.WriteData(1, true, []byte("x"))) // of a stream from before
	r.client.get(3, "/a")
	r.client.get(5, "/b") // :authority is from before
	r.client.head(7, true, ":method GET", ":scheme http", ":path /b", "x new")
	r.client.head(9, true, ":method GET", ":scheme http", ":path /b", "x new")
	r.feed(0)
	r.wants("refused hpack_unknown", "refused hpack_unknown", "headers 1 GET /b new end",
		"headers 3 GET /b new end")
	if r.left == 0 {
		t.Error("no byte was left out")
	}
	r.settled()
}

func TestRules(t *testing.T) {
	rules := new(semantics.Rules)
	for _, o := range rules.Options() {
		for _, s := range map[string][]string{"http-deny": {"POST /orders"},
			"http-set": {"X-Copy: yes", "X-Old: new"}, "http-host": {"test:8080"}}[o.Name] {
			must(o.Set(s))
		}
	}
	r := bareRig(t)
	r.c = NewClient(&Settings{Rules: rules})
	r.begin(false)
	r.client.out.WriteString(preface)
	r.client.head(1, true, ":method GET", ":scheme http", ":path /orders", ":authority b",
		"x-old a", "x-old b")
	r.client.post(3, "/orders?x=1")
	must(r.client.WriteData(3, true, []byte("abc")))
	r.client.get(5, "/b")
	must(r.answers.WriteSettings())
	r.hear()
	r.take()
	r.feed(0)
	r.wants("refused denied", "headers 1 GET /orders test:8080 new yes end",
		"headers 3 GET test:8080 /b yes new end")
	if r.left == 0 {
		t.Error("no byte was left out")
	}
	r.settled()
}
