package session

import (
	"testing"

	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/proto"
	"tcpcopy/internal/proto/http2"
)

// h2Missing is an answer with the status 404, and h2Reset resets a stream.
func h2Missing(stream byte) string {
	return "\x00\x00\x01\x01\x05\x00\x00\x00" + string(stream) + "\x8d"
}

func h2Reset(stream byte) string {
	return "\x00\x00\x04\x03\x00\x00\x00\x00" + string(stream) + "\x00\x00\x00\x08"
}

// digests has the target end an answer on a stream, with its digest.
func (r *rig) digests(stream byte, status uint16) {
	r.Helper()
	r.event(Event{Kind: AnswerEnd, Answer: proto.Answer{Mark: true, Stream: uint64(stream),
		Status: status, Digest: &proto.Digest{Status: status}}})
	answer := h2Answer(stream)
	if status == 404 {
		answer = h2Missing(stream)
	}
	r.tells(answer)
}

// streamExchanges are scripts of a connection that has begun.
var streamExchanges = []exchanges{
	{"in any order", func(r *rig) {
		r.data(h2Get(1) + h2Get(3) + h2Get(5))
		r.takes()
		r.digests(5, 404)
		r.speaks(h2Answer(3))
		r.speaks(h2Missing(1) + h2Answer(5))
		r.digests(1, 404)
		r.digests(3, 200)
	}, []string{"GET /: 200, 404", "GET /: 404, 404", "GET /: 200, 200"}},
	{"the target resets one", func(r *rig) {
		r.data(h2Get(1) + h2Get(3))
		r.takes()
		r.speaks(h2Answer(1) + h2Answer(3))
		r.tells(h2Reset(1))
		r.digests(3, 200)
	}, []string{"GET /: 200, no answer: target_reset", "GET /: 200, 200"}},
	{"production resets one", func(r *rig) {
		r.data(h2Get(1) + h2Get(3))
		r.takes()
		r.speaks(h2Reset(1) + h2Answer(3))
		r.digests(1, 200)
		r.digests(3, 200)
	}, []string{"in_flight", "GET /: 200, 200"}},
	{"the client cancels one", func(r *rig) {
		r.data(h2Get(1) + h2Get(3))
		r.takes()
		r.speaks(h2Answer(3))
		r.data(h2Reset(1))
		r.digests(3, 200)
	}, []string{"in_flight", "GET /: 200, 200"}},
	{"the target closes", func(r *rig) {
		r.data(h2Get(1) + h2Get(3))
		r.takes()
		r.speaks(h2Answer(1) + h2Answer(3))
		r.digests(3, 200)
		r.targetShuts()
	}, []string{"GET /: 200, 200", "GET /: 200, no answer: target_closed"}},
	{"over another connection", func(r *rig) {
		r.data(h2Get(1))
		r.takes()
		r.speaks(h2Answer(1))
		r.sees()
		r.data(h2Get(3))
		r.tells(h2GoAway)
		r.speaks(h2Answer(3))
		r.digests(1, 404)
		r.copies(2)
		r.opened()
		r.tells(h2Settings)
		r.takes()
		r.digests(1, 200)
	}, []string{"GET /: 200, 404", "GET /: 200, 200"}},
	{"the copy's reader is lost", func(r *rig) {
		r.data(h2Get(1) + h2Get(3))
		r.takes()
		r.speaks(h2Answer(1) + h2Answer(3))
		r.event(Event{Kind: AnswersLost})
	}, []string{"proto_lost", "proto_lost"}},
	{"no digest", func(r *rig) {
		r.data(h2Get(1))
		r.takes()
		r.speaks(h2Answer(1))
		r.tells(h2Answer(1))
	}, []string{"proto_lost"}},
	{"production has not answered", func(r *rig) {
		r.data(h2Get(1))
		r.takes()
		r.digests(1, 200)
	}, []string{"in_flight"}},
	{"production is not read any more", func(r *rig) {
		r.data(h2Get(1))
		r.takes()
		r.speaks("\x00\x00\x01\x01\x05\x00\x00\x00\x00\x88") // of no stream
		r.data(h2Get(3))
		r.takes()
		r.digests(1, 200)
		r.digests(3, 200)
	}, []string{"capture_gap", "production_unread"}},
}

// Answers of streams are paired by their streams, in whatever order they end.
func TestAnswersOfStreamsArePaired(t *testing.T) {
	for _, c := range streamExchanges {
		t.Run(c.name, func(t *testing.T) {
			r, end := comparing(t, *http2.Protocol)
			r.opened()
			r.data(h2Preface + h2Settings)
			r.speaks(h2Settings)
			r.tells(h2Settings)
			r.takes()
			c.script(r)
			end(c.want...)
		})
	}
}

// Production's answers are counted as they end, whatever the order.
func TestProductionOfStreamsIsCounted(t *testing.T) {
	r := fresh(t, watched(true, *http2.Protocol))
	r.data(h2Preface + h2Settings + h2Get(1) + h2Get(3))
	r.speaks(h2Settings + h2Missing(3))
	r.speaks(h2Answer(1))
	var want ledger.Answers
	want.Answered, want.Failed = 2, 1
	for _, status := range []uint16{200, 404} {
		want.Status[http2.Protocol.Class(&proto.Answer{Status: status})] = 1
	}
	r.production(want, 0)
	if n := r.count.Requests.Production.Whole.Count; n != 2 {
		t.Errorf("%d answers were timed", n)
	}
}

// A server that speaks first is read, though its protocol is recognised later.
func TestProductionThatSpeaksFirstIsRead(t *testing.T) {
	r := fresh(t, watched(false, *http2.Protocol))
	r.speaks(h2Settings)
	r.speaks(h2Ack)
	r.data(h2Preface[:10])
	r.data(h2Preface[10:] + h2Settings + h2Get(1))
	r.speaks(h2Answer(1))
	var want ledger.Answers
	want.Answered = 1
	want.Status[http2.Protocol.Class(&proto.Answer{Status: 200})] = 1
	r.production(want, 0)
}
