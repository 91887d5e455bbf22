package gate

import (
	"testing"

	"tcpcopy/internal/core/mono"
)

// ends checks how, and after how long, the client's end passes. The client had seen that much when
// it sent the end.
func (s *story) ends(seen, sent uint64, after mono.Time, want Answer) {
	s.Helper()
	n := s.note(seen, sent)
	end := s.now + after
	for s.now < end {
		got, wake := s.g.CheckEnd(s.now, n, s.ready)
		if got != Wait || wake <= s.now || wake > end {
			s.Fatalf("at %v: %d until %v, wanted it to wait until %v", s.now, got, wake, end)
		}
		if early, _ := s.g.CheckEnd(wake-1, n, s.ready); early != Wait {
			s.Fatalf("at %v: %d, though it was to wait until %v", wake-1, early, wake)
		}
		s.now = wake
	}
	got, _ := s.g.CheckEnd(s.now, n, s.ready)
	if got != want {
		s.Fatalf("at %v: %d, wanted %d", s.now, got, want)
	}
	s.g.ReleaseEnd(s.now, n, got)
}

func TestEnd(t *testing.T) {
	t.Run("sent before any answer", func(t *testing.T) { tell(t, auto()).ends(0, 0, 0, Free) })
	t.Run("production's very length", func(t *testing.T) {
		s := tell(t, auto())
		s.recv(100)
		s.ends(100, 100, 0, Predicted)
	})
	t.Run("another length, of which nothing is known", func(t *testing.T) {
		s := tell(t, auto())
		s.recv(70)
		s.ends(100, 100, 20*ms, Silence)
	})
	t.Run("no answer", func(t *testing.T) {
		s := tell(t, auto())
		n := s.note(100, 100)
		if got, wake := s.g.CheckEnd(s.now, n, 0); got != Wait || wake != 30*sec {
			t.Errorf("%d until %v, wanted it to wait for the limit", got, wake)
		}
	})
	t.Run("a hole", func(t *testing.T) {
		s := tell(t, auto())
		s.g.Received(s.now, 100, true)
		if got, _ := s.g.CheckEnd(sec, s.note(100, 100), 0); got != Wait {
			t.Errorf("%d, wanted %d", got, Wait)
		}
	})
	t.Run("more is expected", func(t *testing.T) {
		s := tell(t, auto())
		var seen uint64
		for _, how := range []Answer{Silence, Silence, Predicted} {
			s.exchange(&seen, 100, 577, how)
		}
		s.recv(500)
		s.ends(seen+100, seen+100, sec, Silence)
	})
	t.Run("long silences were seen inside answers", func(t *testing.T) {
		svc := auto()
		svc.answered(50e6)
		s := tell(t, svc)
		s.recv(70)
		s.ends(100, 100, 200*ms, Silence)
	})
	t.Run("mode bytes", func(t *testing.T) {
		s := tell(t, NewService(Config{Mode: Bytes}))
		s.recv(70)
		if got, _ := s.g.CheckEnd(5*sec, s.note(100, 100), 0); got != Wait {
			t.Errorf("%d, wanted %d", got, Wait)
		}
	})
}

// The length of the target's last answer is learned when it closes.
func TestCloseTeaches(t *testing.T) {
	svc := auto()
	for range 2 {
		s := tell(t, svc)
		s.recv(300)
		s.ends(100, 100, 20*ms, Silence)
		s.recv(277) // it was not all
		s.g.Shut()
		s.g.Shut()
	}
	if b, ok := svc.predict.size(100); !ok || b != 577 {
		t.Errorf("for 100 bytes %d are expected (%v), wanted 577", b, ok)
	}
	// Nothing is learned from an answer that production had not finished.
	other := auto()
	s := tell(t, other)
	s.recv(300)
	s.ends(100, 500, 20*ms, Silence)
	s.g.Shut()
	if m := other.predict.slot(100); m.hits != 0 {
		t.Error("half an answer of production's was taken for a whole one")
	}
}

func TestWhole(t *testing.T) {
	s := tell(t, auto())
	var seen uint64
	for _, how := range []Answer{Silence, Predicted} {
		s.exchange(&seen, 100, 100, how)
	}
	if s.g.Whole(seen) {
		t.Error("nothing was answered yet")
	}
	s.recv(99)
	if s.g.Whole(seen + 100) {
		t.Error("99 of 100")
	}
	s.recv(1)
	if !s.g.Whole(seen + 100) {
		t.Error("100 of 100")
	}
	s.g.Received(s.now, s.g.Answered(), true)
	if s.g.Whole(seen + 100) {
		t.Error("more has come behind a hole")
	}
}

// A target that reads a whole turn at once may answer more than production had by then. If the
// service answers as production does, no turn waits for bytes that have come already.
func TestAnswersAhead(t *testing.T) {
	s := tell(t, auto())
	var seen uint64
	s.exchange(&seen, 100, 100, Silence)
	for range 10 {
		s.exchange(&seen, 100, 100, Predicted)
	}
	s.recv(200) // of which production has sent 100 so far
	seen += 100
	s.pass(2 * sec)
	s.opens(seen, seen, Silence)
	s.waits(seen+100, seen+100, sec, Silence)
}

func TestLine(t *testing.T) {
	var l line
	if _, ok := l.at(5); ok {
		t.Error("a line without points")
	}
	l.learn(10, 100)
	l.learn(10, 120) // another answer to the same question
	l.learn(20, 220)
	if b, ok := l.at(30); !ok || b != 320 {
		t.Errorf("at 30: %d (%v), wanted 320", b, ok)
	}
	l.learn(40, 420)
	if l.hits != 1 || l.misses != 0 {
		t.Errorf("a point on the line: %d hits, %d misses", l.hits, l.misses)
	}
	l.learn(20, 220) // proves nothing
	if l.hits != 1 {
		t.Errorf("one of its own points: %d hits", l.hits)
	}
	l.learn(50, 1)
	if l.hits != 0 || l.misses != 1 {
		t.Errorf("a point beside it: %d hits, %d misses", l.hits, l.misses)
	}
	for _, far := range []uint64{1 << 40, 1<<63 + 5, ^uint64(0)} {
		if b, ok := l.at(far); ok {
			t.Errorf("at %d: %d, which no multiplication bears out", far, b)
		}
	}
	down := line{a1: 100, b1: 100, a2: 200, b2: 50, points: 2}
	if b, ok := down.at(300); ok {
		t.Errorf("an answer of %d bytes", int64(b))
	}
	if _, ok := down.at(101); ok {
		t.Error("half a byte")
	}
}

// Trust is regained slowly.
func TestStreak(t *testing.T) {
	var s streak
	for range 9 {
		s.miss()
	}
	if s.misses != maxMisses || s.trusted(1) {
		t.Errorf("after 9 misses: %+v", s)
	}
	n := 0
	for ; !s.trusted(1) && n < 1000; n++ {
		s.hit()
	}
	if n != 128 {
		t.Errorf("trusted after %d hits, wanted 128", n)
	}
	for range 1 << 16 {
		s.hit()
	}
	if s.misses != 0 || s.hits != 1<<15 {
		t.Errorf("long after: %+v", s)
	}
}
