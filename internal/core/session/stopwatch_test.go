package session

import (
	"testing"
	"time"

	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/proto"
)

func TestStopwatch(t *testing.T) {
	var w stopwatch
	stop := func(n uint64, want mono.Time, timed bool) {
		t.Helper()
		if went, ok := w.stop(n); went != want || ok != timed {
			t.Errorf("request %d went at %v (%v), wanted %v (%v)", n, went, ok, want, timed)
		}
	}
	stop(0, 0, false)
	w.start(0, 10)
	stop(0, 10, true)
	stop(0, 0, false)
	w.start(5, 20)
	w.start(6, 30)
	w.start(7, 40)
	stop(4, 0, false)
	stop(6, 30, true) // the answer to the one before was not told of
	stop(5, 0, false)
	stop(7, 40, true)
	for n := range uint64(2 * maxTimed) {
		w.start(100+n, mono.Time(n))
	}
	for n := range uint64(2 * maxTimed) {
		if n < maxTimed {
			stop(100+n, mono.Time(n), true)
		} else {
			stop(100+n, 0, false)
		}
	}
	w.start(100+2*maxTimed, 7)
	stop(100+2*maxTimed, 7, true)
}

// An answer is timed from the moment when its whole request was sent, or could be, to its first and
// its last byte: the target's as its stream reports it, production's as it is captured.
func TestAnswerTimes(t *testing.T) {
	r := newRig(t, watched(true, redisProtocol))
	r.syn()
	r.data(ping[:5])
	r.wait(10 * ms)
	r.data(ping[5:] + ping)
	r.wait(20 * ms)
	r.speaks(pong[:3])
	r.wait(5 * ms)
	r.speaks(pong[3:] + pong[:1])
	r.wait(ms)
	r.speaks(pong[1:])
	r.opened() // 26 ms after the requests
	r.takes()
	answer := func(began mono.Time) {
		r.replies(9)
		r.event(Event{Kind: AnswerEnd, First: began,
			Answer: proto.Answer{End: r.stream().received}})
	}
	r.wait(40 * ms)
	began := r.now
	r.wait(30 * ms)
	answer(began)
	answer(r.now)
	check := func(what string, got *ledger.Delays, mean, most mono.Time) {
		t.Helper()
		if got.Count != 2 || got.Mean() != time.Duration(mean) || got.Most != time.Duration(most) {
			t.Errorf("%s: %v, wanted %v at most, %v in the mean", what, got, most, mean)
		}
	}
	q := &r.count.Requests
	check("production, first byte", &q.Production.First, 45*ms/2, 25*ms)
	check("production, whole", &q.Production.Whole, 51*ms/2, 26*ms)
	check("target, first byte", &q.First, 55*ms, 70*ms)
	check("target, whole", &q.Whole, 70*ms, 70*ms)
}
