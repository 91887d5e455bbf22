package http2

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"tcpcopy/internal/proto"
)

// msg is a message of gRPC.
func msg(text string) []byte { return append([]byte{0, 0, 0, 0, byte(len(text))}, text...) }

// call writes the head of a call.
func (p *peer) call(stream uint32) {
	p.head(stream, false, ":method POST", ":scheme http", ":authority a", ":path /s/m",
		"content-type application/grpc", "te trailers")
}

// says writes messages of a stream, each in a frame of its own.
func (p *peer) says(stream uint32, texts ...string) {
	for _, text := range texts {
		must(p.WriteData(stream, false, msg(text)))
	}
}

// begins writes the head of an answer to a call.
func (p *peer) begins(stream uint32) {
	p.head(stream, false, ":status 200", "content-type application/grpc")
}

// ends writes the trailers of an answer.
func (p *peer) ends(stream uint32) { p.head(stream, true, "grpc-status 0") }

// data is the log's line for a message that the target has received.
func data(stream uint32, text string) string { return fmt.Sprintf("data %d %s", stream, msg(text)) }

const headOfCall = "POST /s/m application/grpc trailers"

// calling returns a rig with a call in both directions: the client has sent a message. Production's
// frames are read if seen is true.
func calling(t *testing.T, step int, read bool) *rig {
	r := newRig(t)
	r.step = step
	if read {
		must(r.production.WriteSettings())
		r.production.begins(1)
		r.serve()
	}
	r.client.call(1)
	r.client.says(1, "a")
	r.feed(r.served)
	r.wantsContent("headers 1 "+headOfCall, data(1, "a"))
	r.answers.begins(1)
	r.hear()
	r.wants("")
	return r
}

// wantsContent is wants where content may have gone in any frames.
func (r *rig) wantsContent(want ...string) {
	r.t.Helper()
	got := r.take()
	for id := uint32(1); id < 10; id += 2 {
		next := fmt.Sprintf("\ndata %d ", id)
		for at := 0; ; {
			i := strings.Index(got[at:], next)
			if i < 0 {
				break
			}
			line := got[strings.LastIndexByte(got[:at+i], '\n')+1 : at+i]
			if at += i + 1; strings.HasPrefix(line, next[1:]) {
				got = got[:at-1] + got[at-1+len(next):]
				at--
			}
		}
	}
	r.log.WriteString(got)
	r.wants(want...)
}

func eachStep(t *testing.T, f func(*testing.T, int)) {
	for _, step := range []int{0, 1, 7} {
		t.Run(fmt.Sprint(step), func(t *testing.T) { f(t, step) })
	}
}

// A message waits for as many of the target's as its client had seen, and for none of other
// streams. Other streams do not wait for it.
func TestCallInLockStep(t *testing.T) {
	eachStep(t, func(t *testing.T, step int) {
		r := calling(t, step, true)
		r.production.says(1, "re a")
		r.client.says(1, "b")
		r.feed(r.serve())
		r.wait(time.Hour)
		r.wants("")

		r.client.call(3)
		r.client.says(3, "x")
		r.client.get(5, "/other")
		r.feed(r.served)
		r.wantsContent("headers 3 "+headOfCall, data(3, "x"), "headers 5 GET /other end")
		r.answers.begins(3)
		r.answers.says(3, "re x") // the other call's
		r.answers.answer(5)
		r.hear()
		r.wants("answered 2: 200")

		part := msg("re a")
		must(r.answers.WriteData(1, false, part[:7]))
		r.hear()
		r.wants("")
		must(r.answers.WriteData(1, false, part[7:]))
		r.hear()
		r.wantsContent(data(1, "b"))

		r.production.says(1, "re b")
		must(r.client.WriteData(1, true, nil)) // no more messages
		r.feed(r.serve())
		r.wants("")
		if r.c.Settled(r.served) {
			t.Error("it is settled, and the target has not sent what its client saw")
		}
		r.answers.says(1, "re b")
		r.hear()
		r.wants("data 1  end")
		r.answers.ends(1)
		r.hear()
		r.wants("answered 0: 60000")
		r.settled()
	})
}

// What a client has seen of an answer, but not of a message, holds nothing back.
func TestCallSeesPartOfMessage(t *testing.T) {
	r := calling(t, 0, true)
	r.production.says(1, "re a")
	r.client.says(1, "b")
	r.feed(r.serve() - 1)
	r.wants(data(1, "b"))
	r.client.says(1, "c")
	r.feed(r.served)
	r.wants("")
	r.answers.says(1, "re a")
	r.hear()
	r.wants(data(1, "c"))
}

// Several messages may be in one frame, and a message in several, with padding.
func TestCallOfOtherFrames(t *testing.T) {
	eachStep(t, func(t *testing.T, step int) {
		r := calling(t, step, true)
		three := append(append(msg("1"), msg("")...), msg("3")...)
		must(r.production.WriteDataPadded(1, false, three[:8], make([]byte, 9)))
		must(r.production.WriteDataPadded(1, false, three[8:], nil))
		r.client.says(1, "b")
		r.feed(r.serve())
		r.wants("") // more than it had asked for: it pushes
		must(r.answers.WriteDataPadded(1, false, three[:14], make([]byte, 3)))
		r.hear()
		r.wants("")
		must(r.answers.WriteData(1, false, three[14:]))
		r.hear()
		r.wantsContent(data(1, "b"))
	})
}

// A server that pushes keeps no message back for more than a second.
func TestCallOfPushes(t *testing.T) {
	r := calling(t, 0, true)
	for i := range 5 {
		r.production.says(1, "1", "2", "3", "4")
		r.client.says(1, fmt.Sprint(i))
		r.feed(r.serve())
		r.wait(999 * time.Millisecond)
		r.wants("")
		r.wait(time.Millisecond)
		r.wants(data(1, fmt.Sprint(i)))
	}
	if !r.c.Settled(r.served) {
		t.Error("the end waits for pushes")
	}
	r.settled()
}

// A client that only listens is not one that waits, however much production pushes.
func TestCallOfAListener(t *testing.T) {
	r := calling(t, 0, true)
	for range 2 * maxEnds {
		r.production.says(1, "push")
		r.serve()
	}
	if n := len(r.c.server.ends); n > maxEnds || r.c.server.lost || r.c.Size() > 2<<20 {
		t.Errorf("%d ends are kept, in %d bytes; lost: %v", n, r.c.Size(), r.c.server.lost)
	}
	r.client.says(1, "b")
	r.feed(r.served)
	r.wait(time.Second)
	r.wants(data(1, "b"))
}

// An upload waits for nothing that is not a message of its own stream.
func TestUpload(t *testing.T) {
	eachStep(t, func(t *testing.T, step int) {
		r := calling(t, step, true)
		for i := range 5 {
			must(r.production.WriteWindowUpdate(1, 100))
			r.production.answer(99) // of another stream
			r.client.says(1, fmt.Sprint(i))
			r.feed(r.serve())
			r.wantsContent(data(1, fmt.Sprint(i)))
		}
		r.settled()
	})
}

// Without production's frames, a message waits for one since the last turn, but not for long: what
// its client has seen may be of another kind.
func TestCallWithoutProduction(t *testing.T) {
	r := calling(t, 0, false)
	r.served += 100
	r.client.says(1, "b", "c")
	r.feed(r.served)
	r.wait(900 * time.Millisecond)
	r.wants("")
	r.answers.says(1, "re a")
	r.hear()
	r.wants(data(1, "b") + string(msg("c")))
	for range 3 { // an upload
		r.served += 100
		r.client.says(1, "d")
		r.feed(r.served)
		r.wait(999 * time.Millisecond)
		r.wants("")
		r.wait(time.Millisecond)
		r.wants(data(1, "d"))
	}
	r.settled()
}

// A call that is cancelled is cancelled when what precedes has gone, or when the target has
// answered.
func TestCallCancelled(t *testing.T) {
	r := calling(t, 0, true)
	r.production.says(1, "re a")
	r.client.says(1, "b")
	must(r.client.WriteRSTStream(1, http2.ErrCodeCancel))
	r.feed(r.serve())
	r.wants("")
	r.answers.says(1, "re a")
	r.hear()
	r.wants("abandoned 0", data(1, "b"), "reset 1 8")
	r.settled()

	r = calling(t, 0, true)
	r.production.says(1, "re a")
	must(r.client.WriteRSTStream(1, http2.ErrCodeCancel))
	r.feed(r.serve())
	r.wants("")
	r.answers.ends(1) // nothing more comes that it could wait for
	r.hear()
	r.wants("answered 0: 60000", "reset 1 8")
	r.settled()
}

// The windows of a target that is behind do not let a cancellation overtake messages that
// production had answered, unless they stay shut.
func TestCallCancelledInWindows(t *testing.T) {
	for _, opens := range []bool{true, false} {
		r := newRig(t, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 4})
		must(r.production.WriteSettings())
		r.client.call(1)
		r.client.says(1, "aaa")
		r.feed(r.serve())
		r.production.begins(1)
		r.production.says(1, "1")
		r.client.says(1, "b")
		r.feed(r.serve())
		r.production.says(1, "2")
		must(r.client.WriteRSTStream(1, http2.ErrCodeCancel))
		r.feed(r.serve())
		r.wants("headers 1 "+headOfCall, "data 1 "+string(msg("aaa")[:4]))
		r.wait(resetWait - 1)
		r.wants("")
		if !opens {
			r.wait(1)
			r.wants("abandoned 0", "reset 1 8")
			r.settled()
			continue
		}
		must(r.answers.WriteWindowUpdate(1, 1000))
		r.answers.begins(1)
		r.answers.says(1, "1")
		r.hear()
		r.wants("data 1 "+string(msg("aaa")[4:]), data(1, "b"))
		r.answers.says(1, "2")
		r.hear()
		r.wants("abandoned 0", "reset 1 8")
		r.settled()
	}
}

// What waits for too long is forced, once; the rest of the call goes a second late at most.
func TestCallForced(t *testing.T) {
	r := calling(t, 0, true)
	r.production.says(1, "re a")
	r.client.says(1, "b")
	r.feed(r.serve())
	var out proto.Out
	if !r.c.Waits() || !r.c.Force(&out) || r.c.Force(&out) {
		t.Error("a message waits, and is not forced, or twice")
	}
	r.goes()
	r.wants(data(1, "b"))
	r.production.says(1, "re b")
	r.client.says(1, "c")
	r.feed(r.serve())
	r.wait(time.Second)
	r.wants(data(1, "c"))
	r.settled()
}

// Content that waits for windows and for messages goes in order.
func TestCallInWindows(t *testing.T) {
	r := newRig(t, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 4})
	must(r.production.WriteSettings())
	r.client.call(1)
	r.client.says(1, "aaa")
	r.feed(r.serve())
	r.production.begins(1)
	r.production.says(1, "1")
	r.client.says(1, "bb")
	r.feed(r.serve())
	r.production.says(1, "2")
	must(r.client.WriteData(1, true, msg("c")))
	r.feed(r.serve())
	r.wants("headers 1 "+headOfCall, "data 1 "+string(msg("aaa")[:4]))
	must(r.answers.WriteWindowUpdate(1, 1000))
	r.answers.begins(1)
	r.hear()
	r.wants("data 1 " + string(msg("aaa")[4:]))
	r.answers.says(1, "1")
	r.hear()
	r.wants(data(1, "bb"))
	r.answers.says(1, "2")
	r.hear()
	r.wants(data(1, "c") + " end")
	r.settled()
}

// A target that has ended a call, or closes, holds nothing of it back.
func TestCallEndedByTheTarget(t *testing.T) {
	for _, end := range []func(*rig){
		func(r *rig) { r.answers.ends(1) },
		func(r *rig) { must(r.answers.WriteRSTStream(1, http2.ErrCodeInternal)) },
		func(r *rig) { must(r.answers.WriteGoAway(0, http2.ErrCodeNo, nil)) },
	} {
		r := calling(t, 0, true)
		r.production.says(1, "re a")
		r.client.says(1, "b")
		r.feed(r.serve())
		r.wants("")
		end(r)
		r.hear()
		if got := r.take(); !strings.HasPrefix(got, "answered 0: ") {
			t.Errorf("got %s", got)
		}
		r.production.says(1, "re b")
		must(r.client.WriteData(1, true, nil))
		r.feed(r.serve())
		r.settled()
		if !r.c.Idle() && !r.c.Reopens() {
			t.Error("it is not idle")
		}
	}
}

// On a new connection, calls go in lock-step as before.
func TestCallReopened(t *testing.T) {
	r := newRig(t)
	r.client.get(1, "/a")
	must(r.production.WriteSettings())
	r.feed(r.serve())
	r.wants("headers 1 GET /a end")
	r.answers.answer(1)
	must(r.answers.WriteGoAway(1, http2.ErrCodeNo, nil))
	r.hear()
	r.client.call(3)
	r.client.says(3, "a")
	r.feed(r.served)
	r.wants("answered 0: 200")
	if !r.c.Reopens() {
		t.Fatal("it does not reopen")
	}
	r.fed, r.taken = r.fed-r.taken, 0
	r.begin(false)
	must(r.answers.WriteSettings())
	r.hear()
	r.take()
	r.production.begins(3)
	r.production.says(3, "re a")
	r.client.says(3, "b")
	r.feed(r.serve())
	r.wants("")
	r.answers.begins(1)
	r.answers.says(1, "re a")
	r.hear()
	r.wants(data(1, "b"))
	r.settled()
}
