package tunnel

import (
	"bytes"
	"reflect"
	"testing"
	"time"

	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/session"
	"tcpcopy/internal/proto"
	"tcpcopy/internal/proto/http1"
	"tcpcopy/internal/way/link/wire"
)

func listening(id session.ID) *session.OpenSpec {
	s := spec(id)
	s.Listen = true
	return s
}

func TestAnswersAreAskedFor(t *testing.T) {
	h := NewHub[*fakeConn](1, clock)
	c := &fakeConn{room: 1 << 30}
	h.Connected(c, End{Host: target.Addr(), ReadsAnswers: true}, true)
	o := h.Output(0)
	s := o.Open(0, listening(1)).(session.AnswerReader)
	s.ReadAnswers(http1.Kind)
	s.Expect(0, 1)
	s.(session.Stream).Release(0, 100)
	o.Flush()
	const id = 1 << shardBits
	want := []wire.Op{
		{Kind: wire.OpListen, ID: id, Client: client, Target: target},
		{Kind: wire.OpRead, ID: id, Proto: http1.Kind},
		{Kind: wire.OpExpect, ID: id, Hint: 1},
		{Kind: wire.OpData, ID: id, Data: make([]byte, 100)},
	}
	if !reflect.DeepEqual(c.ops, want) {
		t.Errorf("operations %+v, want %+v", c.ops, want)
	}
}

func TestAnswersComeBack(t *testing.T) {
	now := mono.Time(10 * time.Second)
	h := NewHub[*fakeConn](1, func() mono.Time { return now })
	c := &fakeConn{room: 1 << 30}
	h.Connected(c, End{Host: target.Addr(), ReadsAnswers: true}, true)
	o := h.Output(0)
	o.Open(now, listening(1))
	const id = 1 << shardBits
	answer := proto.Answer{End: 300, Size: 300, Status: 200}
	body := events(
		wire.StreamEvent{Kind: wire.EventBytes, ID: id, Data: []byte("one ")},
		wire.StreamEvent{Kind: wire.EventBytes, ID: id, Data: bytes.Repeat([]byte("x"), 1000)},
		wire.StreamEvent{Kind: wire.EventAnswer, ID: id, Answer: answer, Age: time.Second},
		wire.StreamEvent{Kind: wire.EventLost, ID: id})
	if err := h.Events(c, body); err != nil {
		t.Fatal(err)
	}
	clear(body) // the link has its buffer back
	got := o.Step(now, <-o.Events())
	want := []session.Event{
		{ID: 1, Kind: session.AnswerBytes, Bytes: []byte("one "), First: now, At: now},
		{ID: 1, Kind: session.AnswerBytes, Bytes: bytes.Repeat([]byte("x"), 1000), First: now,
			At: now},
		{ID: 1, Kind: session.AnswerEnd, Answer: answer, First: now.Add(-time.Second), At: now},
		{ID: 1, Kind: session.AnswersLost, First: now, At: now},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("events %+v, want %+v", got, want)
	}
}

// An intercept of an earlier version is not asked, and the copy goes on by guessing.
func TestAnswersNobodyReads(t *testing.T) {
	h := NewHub[*fakeConn](1, clock)
	c := &fakeConn{room: 1 << 30}
	h.Connected(c, End{Host: target.Addr()}, true)
	o := h.Output(0)
	s := o.Open(0, listening(1)).(session.AnswerReader)
	s.ReadAnswers(http1.Kind)
	s.Expect(0, 1)
	o.Flush()
	if len(c.ops) != 1 || c.ops[0].Kind != wire.OpOpen {
		t.Errorf("operations %+v, want an open alone", c.ops)
	}
	if got := o.Step(0, nil); len(got) != 1 || got[0].Kind != session.AnswersLost ||
		got[0].ID != 1 {
		t.Errorf("events %+v, want that the answers are lost", got)
	}
	quiet := o.Open(0, listening(2)).(session.AnswerReader)
	quiet.ReadAnswers(proto.None)
	if o.Pending() {
		t.Error("answers that nobody wants are lost")
	}
}
