package session

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"tcpcopy/internal/core/gate"
	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/proto"
	"tcpcopy/internal/proto/http2"
)

// The frames of the tests. A request is of GET / by http, an answer has the status 200.
const (
	h2Preface  = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
	h2Settings = "\x00\x00\x00\x04\x00\x00\x00\x00\x00"
	h2Ack      = "\x00\x00\x00\x04\x01\x00\x00\x00\x00"
	h2GoAway   = "\x00\x00\x08\x07\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00"
	// h2Begin is what a copy begins with: SETTINGS of three values, and WINDOW_UPDATE.
	h2Begin = h2Preface + "\x00\x00\x12\x04\x00\x00\x00\x00\x00" +
		"\x00\x01\x00\x00\x00\x00\x00\x02\x00\x00\x00\x00\x00\x04\x7f\xff\xff\xff" +
		"\x00\x00\x04\x08\x00\x00\x00\x00\x00\x7f\xff\x00\x00"
)

func h2Get(stream byte) string {
	return "\x00\x00\x03\x01\x05\x00\x00\x00" + string(stream) + "\x82\x86\x84"
}

func h2Answer(stream byte) string {
	return "\x00\x00\x01\x01\x05\x00\x00\x00" + string(stream) + "\x88"
}

func inStreams(svc *Service) {
	svc.Protocols = []proto.Protocol{*http2.Protocol}
	svc.Gate = gate.NewService(gate.Config{Limit: time.Second})
}

// inHTTP2 returns a copy whose target has sent its SETTINGS.
func inHTTP2(t *testing.T) *rig {
	r := fresh(t, inStreams)
	r.data(h2Preface + h2Settings)
	r.copied(h2Begin)
	r.tells(h2Settings)
	r.copied(h2Begin + h2Ack)
	r.takes()
	return r
}

// Turns are handed on at once; streams wait.
func TestStreamsWait(t *testing.T) {
	r := inHTTP2(t)
	r.answers(30)
	r.data(h2Get(1) + h2Get(3))
	r.answers(10)
	r.data(h2Get(5))
	r.copied(h2Begin + h2Ack + h2Get(1) + h2Get(3))
	if !r.s.Busy() || r.s.Content() {
		t.Error("a stream waits, and the session is not busy")
	}
	r.tells(h2Answer(3))
	r.copied(h2Begin + h2Ack + h2Get(1) + h2Get(3))
	r.tells(h2Answer(1))
	r.copied(h2Begin + h2Ack + h2Get(1) + h2Get(3) + h2Get(5))
	r.takes()
	sent := uint64(len(h2Preface+h2Settings) + 3*len(h2Get(1)))
	r.bytes(sent, ledger.None, sent)
	if r.s.Content() {
		t.Error("the last answer is missing, and the session is content")
	}
	r.tells(h2Answer(5))
	if !r.s.Content() {
		t.Error("everything was answered, and the session is not content")
	}
	want := ledger.Requests{Sent: 3, Rewritten: 3}
	want.Answered = 3
	want.Status[http2.Protocol.Class(&proto.Answer{Status: 200})] = 3
	r.requests(want)
	if n := r.count.Requests.Whole.Count; n != 3 {
		t.Errorf("%d answers were timed", n)
	}
}

// Where no turn is to wait, none does.
func TestStreamsFree(t *testing.T) {
	r := fresh(t, inStreams, func(svc *Service) {
		svc.Gate = gate.NewService(gate.Config{Mode: gate.None, Limit: time.Second})
	})
	r.data(h2Preface + h2Settings)
	r.tells(h2Settings)
	r.takes()
	r.data(h2Get(1))
	r.answers(10)
	r.data(h2Get(3))
	r.copied(h2Begin + h2Ack + h2Get(1) + h2Get(3))
}

// The client's end waits for what it had seen answered.
func TestStreamsEnd(t *testing.T) {
	r := inHTTP2(t)
	r.data(h2Get(1))
	r.answers(10)
	r.fin()
	r.takes()
	r.state(Flowing)
	r.tells(h2Answer(1))
	r.state(Closing)
	r.finishes()
	r.ended(false, ledger.None)
}

// A call that stays open on a connection that the target leaves holds up a later request for a
// while, and no longer. The session does not end.
func TestStreamsReopenWithOpenCall(t *testing.T) {
	r := fresh(t, inStreams, func(svc *Service) {
		svc.Gate = gate.NewService(gate.Config{Limit: 30 * time.Second})
	})
	r.data(h2Preface + h2Settings)
	r.tells(h2Settings)
	r.data(h2Get(1))
	r.takes()
	r.tells(h2GoAway)
	r.data(h2Get(3))
	r.wait(9 * sec)
	r.copies(1)
	r.wait(2 * sec)
	r.copies(2)
	r.opened()
	r.tells(h2Settings)
	r.copied(h2Begin + h2Ack + h2Get(1))
	r.takes()
	r.tells(h2Answer(1))
	r.fin()
	r.finishes()
	r.ended(false, ledger.None)
}

// After GOAWAY, or the target's end, the copy goes on over another connection.
func TestStreamsReopen(t *testing.T) {
	for _, shut := range []bool{false, true} {
		r := inHTTP2(t)
		r.data(h2Get(1))
		r.takes()
		if shut {
			r.tells(h2Answer(1))
			r.targetShuts()
		} else {
			r.tells(h2GoAway)
		}
		r.state(Flowing)
		r.copies(1)
		r.data(h2Get(3))
		if !shut {
			r.copies(1) // the answer is missing
			r.tells(h2Answer(1))
		}
		r.copies(2)
		r.state(Opening)
		if !r.streams[0].aborted {
			t.Error("the first connection stays open")
		}
		r.opened()
		r.tells(h2Settings)
		r.copied(h2Begin + h2Ack + h2Get(1))
		r.takes()
		r.tells(h2Answer(1))
		sent := uint64(len(h2Preface+h2Settings) + 2*len(h2Get(1)))
		r.bytes(sent, ledger.None, sent)
		r.data(h2Get(5))
		r.takes()
		r.answers(10)
		r.fin()
		r.state(Flowing) // the last answer is missing
		r.tells(h2Answer(3))
		r.finishes()
		r.ended(false, ledger.None)
	}
}

// h2Call is the head of a call of gRPC, and h2Message a message of it, the last one if it ends.
func h2Call(stream byte) string {
	return "\x00\x00\x15\x01\x04\x00\x00\x00" + string(stream) +
		"\x83\x86\x84\x5f\x10application/grpc"
}

func h2Message(stream byte, text string, end bool) string {
	flags := "\x00"
	if end {
		flags = "\x01"
	}
	return "\x00\x00" + string(byte(5+len(text))) + "\x00" + flags + "\x00\x00\x00" +
		string(stream) + "\x00\x00\x00\x00" + string(byte(len(text))) + text
}

// A message of a call waits for one of the target's. What goes then may leave the connection with
// nothing, so that another one is opened.
func TestStreamsOfCalls(t *testing.T) {
	for _, ends := range []bool{false, true} {
		r := inHTTP2(t)
		r.data(h2Call(1) + h2Message(1, "a", false))
		r.takes()
		hint := fmt.Sprintf("[0:1 behind %d]", len(h2Begin+h2Ack))
		if f := r.stream(); fmt.Sprint(f.hints) != hint ||
			!strings.HasSuffix(f.text, h2Message(1, "a", false)) {
			t.Errorf("the hints are %q, and %q went", f.hints, f.text)
		}
		r.answers(10)
		r.data(h2Message(1, "b", true) + h2Get(3))
		before := r.stream().text
		r.wait(900 * ms)
		r.copied(before)
		if !ends {
			r.tells(h2Message(1, "re a", false)[:9+5] + "a") // as it is handed back
			r.copied(before + h2Message(1, "b", true))
			r.tells(h2Answer(1))
			r.copied(before + h2Message(1, "b", true) + h2Get(3))
			continue
		}
		r.tells(h2GoAway)
		r.copies(1)
		r.tells(h2Answer(1))
		r.copies(2)
		if text := r.streams[0].text; text != before+h2Message(1, "b", true) {
			t.Errorf("the first copy was given %q", text)
		}
		r.opened()
		r.tells(h2Settings)
		r.copied(h2Begin + h2Ack + h2Get(1))
	}
}

// A turn whose client had seen what is not captured yet waits for it, unless nothing of the server
// is captured at all.
func TestStreamsAwaitProduction(t *testing.T) {
	for _, seen := range []string{"late", "lost", "never"} {
		r := fresh(t, inStreams, func(svc *Service) { svc.Production = true })
		says := func(text string) packet.Segment {
			return packet.Segment{Seq: r.irs.Add(1 + r.sent), Ack: r.isn.Add(1 + r.next),
				Flags: packet.ACK, Len: len(text), Payload: []byte(text)}
		}
		r.data(h2Preface + h2Settings + h2Get(1) + h2Get(3))
		r.tells(h2Settings)
		begun := h2Begin + h2Ack + h2Get(1) + h2Get(3)
		r.copied(begun)
		if seen != "never" {
			r.fromServer(says(h2Settings))
		}
		r.sent = len(h2Settings)
		answer := says(h2Answer(3))
		r.sent += len(h2Answer(3))
		r.seen = r.sent
		r.data(h2Get(5))
		r.copied(begun)
		if wait := r.s.talk.seen == 0; wait != (seen != "never") {
			t.Errorf("%s: it waits: %v", seen, wait)
		}
		if seen == "late" { // the packet behind it comes first
			next := says(h2Settings)
			r.fromServer(next)
			r.copied(begun)
			r.fromServer(answer)
			begun += h2Get(5) // else it waits for the first stream, too
		} else {
			r.wait(300 * ms)
		}
		r.tells(h2Answer(3))
		r.copied(begun)
	}
}

// Production's frames are followed while the copy waits to begin, however much it sends: a stream
// does not wait for one that its client had not seen end.
func TestStreamsFollowProductionBeforeTheCopy(t *testing.T) {
	for _, certain := range []bool{false, true} {
		r := newRig(t, inStreams, func(svc *Service) {
			svc.Production, svc.Certain, svc.MaxBytes = true, certain, 4<<20
		})
		r.waits = true
		r.syn()
		says := func(text string) {
			r.fromServer(packet.Segment{Seq: r.irs.Add(1 + r.sent), Ack: r.isn.Add(1 + r.next),
				Flags: packet.ACK, Len: len(text), Payload: []byte(text)})
			r.sent += len(text)
			r.seen = r.sent
		}
		if certain {
			says(h2Settings) // as a greeting
		}
		r.data(h2Preface[:10])
		r.data(h2Preface[10:] + h2Settings + h2Get(1) + h2Get(3))
		part := "\x00\x40\x00\x00\x00\x00\x00\x00\x03" + strings.Repeat("x", 0x4000)
		for range 64 {
			says(part)
		}
		says(h2Answer(3))
		r.data(h2Get(5))
		r.waits = false
		r.ack()
		r.opened()
		r.tells(h2Settings)
		begun := h2Begin + h2Ack + h2Get(1) + h2Get(3)
		r.copied(begun)
		r.tells(h2Answer(3))
		r.copied(begun + h2Get(5))
	}
}

// Where answers are read elsewhere, the last ones may come after the target's end.
func TestStreamsAnsweredAfterTheEnd(t *testing.T) {
	for _, missing := range []bool{false, true} {
		r := inHTTP2(t)
		r.data(h2Get(1))
		r.takes()
		r.replies(len(h2Answer(1)))
		r.targetShuts()
		r.data(h2Get(3))
		r.copies(1)
		want := ledger.Answers{Answered: 1}
		if missing {
			r.wait(1100 * ms)
			want.Failed = 1
		} else {
			r.event(Event{Kind: AnswerBytes, Bytes: []byte(h2Answer(1))})
		}
		r.copies(2)
		if got := r.count.Requests.Answers; got.Answered != 1 || got.Failed != want.Failed {
			t.Errorf("%d answers, %d failed, wanted %+v", got.Answered, got.Failed, want)
		}
	}
}

// What waits for too long goes if the target has answered anything, and else ends the copy.
func TestStreamsTimeOut(t *testing.T) {
	r := inHTTP2(t)
	r.data(h2Get(1))
	r.answers(10)
	r.data(h2Get(3))
	r.takes()
	r.wait(1100 * ms)
	r.copied(h2Begin + h2Ack + h2Get(1) + h2Get(3))
	if r.count.GateForced != 1 {
		t.Errorf("%d were forced", r.count.GateForced)
	}

	r = fresh(t, inStreams)
	r.data(h2Preface + h2Settings + h2Get(1))
	r.takes()
	r.wait(1100 * ms) // no SETTINGS
	r.state(Watching)
	r.sessions(1, ledger.GateTimeout, 1)
}

// What is no HTTP/2 ends the copy, and so does a target that does not speak it.
func TestStreamsLost(t *testing.T) {
	r := inHTTP2(t)
	r.data(strings.Repeat("\xff", 20))
	r.state(Watching)
	r.sessions(1, ledger.ProtoLost, 1)

	r = fresh(t, inStreams)
	r.data(h2Preface + h2Settings)
	r.replies(10)
	r.event(Event{Kind: AnswersLost})
	r.opened()
	r.event(Event{Kind: AnswersLost})
	r.state(Watching)
	r.sessions(1, ledger.ProtoLost, 1)
}

// If the target's first bytes have passed before the protocol was recognised, the copy begins anew
// on another connection, which is read from its first byte on. Nothing was asked on the first one.
func TestStreamsReadAnew(t *testing.T) {
	r := fresh(t, inStreams)
	r.data(h2Preface + h2Settings + h2Get(1))
	r.copied(h2Begin)
	r.replies(10)
	r.event(Event{Kind: AnswersLost})
	r.copies(2)
	r.state(Opening)
	if !r.streams[0].aborted {
		t.Error("the first connection stays open")
	}
	r.opened()
	r.copied(h2Begin)
	r.tells(h2Settings)
	r.copied(h2Begin + h2Ack + h2Get(1))
	r.takes()
	r.tells(h2Answer(1))
	r.fin()
	r.finishes()
	r.ended(false, ledger.None)
}

// What was asked is not asked again.
func TestStreamsLostWhenAsked(t *testing.T) {
	r := inHTTP2(t)
	r.data(h2Get(1))
	r.takes()
	r.event(Event{Kind: AnswersLost})
	r.state(Watching)
	r.sessions(1, ledger.ProtoLost, 1)
}

// A target that asks without reading does not make the session grow.
func TestStreamsBound(t *testing.T) {
	r := fresh(t, inStreams, func(svc *Service) { svc.MaxBytes = 16 << 10 })
	r.data(h2Preface + h2Settings)
	for range 10000 {
		r.tells(strings.Repeat(h2Settings, 100))
		if r.s.State() == Refused {
			r.sessions(1, ledger.OverSession, 1)
			return
		}
	}
	t.Error("the session is not refused")
}
