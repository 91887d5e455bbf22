package session

import (
	"testing"
	"time"

	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/core/mono"
)

// TestMoment follows a session from its SYN to its end: what it waits for, and since when.
func TestMoment(t *testing.T) {
	r := newRig(t)
	expect := func(when string, phase string, w Wait, since mono.Time, lag time.Duration,
		waiting uint64) {
		t.Helper()
		m := r.s.Moment(r.now)
		if m.Phase != phase || m.Wait != w || m.Since != since || m.Lag != lag ||
			m.Waiting != waiting || m.Reason != ledger.None {
			t.Errorf("%s, at %v: %+v (waits for %s), want %s, %s since %v, lag %v, %d bytes", when,
				r.now, m, m.Wait, phase, w, since, lag, waiting)
		}
	}
	r.syn()
	opened := r.now
	r.wait(5 * ms)
	expect("SYN", "opening/whole", WaitConnect, opened, 0, 0)
	r.opened()
	expect("opened", "flowing/whole", WaitClient, opened, 0, 0)
	r.wait(sec)
	r.data("GET 1")
	sent := r.now
	r.wait(3 * ms)
	expect("sent", "flowing/whole", WaitSend, sent, 3*time.Millisecond, 5)
	if m := r.s.Moment(r.now); m.Held == 0 {
		t.Error("it holds bytes, and Held is 0")
	}
	r.takes()
	taken := r.now
	r.wait(2 * ms)
	expect("taken", "flowing/whole", WaitAnswer, taken, 0, 0)
	r.replies(1)
	if m := r.s.Moment(r.now); m.Wait != WaitClient {
		t.Errorf("an answer has begun, and it waits for %s", m.Wait)
	}
	r.answers(100) // by production
	r.data("GET 2")
	second := r.now
	r.wait(20 * ms)
	expect("a turn that waits", "flowing/whole", WaitAnswer, second, 20*time.Millisecond, 5)
	r.replies(99)
	r.wait(400 * ms)
	r.takes()
	r.replies(100)
	r.answers(100)
	r.wait(sec)
	r.targetResets(10)
	m := r.s.Moment(r.now)
	if m.Phase != "watching/lost" || m.Wait != WaitClient || m.Reason != ledger.TargetReset ||
		m.Waiting != 0 || m.Lag != 0 {
		t.Errorf("after the copy's end: %+v", m)
	}
}

// TestMomentOfAHole checks that missing bytes are what a session waits for.
func TestMomentOfAHole(t *testing.T) {
	r := fresh(t)
	r.data("GET 1")
	r.takes()
	r.next += 10 // not captured
	r.wait(ms)
	r.data("later")
	if m := r.s.Moment(r.now); m.Wait != WaitCapture || m.Since != r.now {
		t.Errorf("at %v: %+v", r.now, m)
	}
}

// TestMomentOfAnEnd checks what a closing session waits for.
func TestMomentOfAnEnd(t *testing.T) {
	r := fresh(t)
	r.data("GET 1")
	r.takes()
	r.replies(100)
	r.answers(100)
	r.wait(400 * ms)
	r.fin()
	if m := r.s.Moment(r.now); m.Phase != "closing/whole" || m.Wait != WaitClose {
		t.Errorf("at %v: %+v", r.now, m)
	}
}

func TestWaitsHaveNames(t *testing.T) {
	for w := range numWaits {
		if got, ok := WaitNamed(w.String()); got != w || !ok || w.String() == "" {
			t.Errorf("%d is named %q, which is %d", w, w, got)
		}
	}
	if _, ok := WaitNamed("nothing"); ok {
		t.Error("there is a wait named nothing")
	}
}
