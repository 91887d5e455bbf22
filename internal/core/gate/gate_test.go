package gate

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/reasm"
)

const (
	ms  = mono.Time(time.Millisecond)
	sec = mono.Time(time.Second)
)

// story is one copy's gate, in virtual time.
type story struct {
	*testing.T
	g     Gate
	svc   *Service
	now   mono.Time
	ready mono.Time
}

func tell(t *testing.T, svc *Service) *story {
	s := &story{T: t, svc: svc}
	s.g.Init(svc, 0, 0)
	return s
}

func auto() *Service { return NewService(Config{}) }

func (s *story) note(seen, sent uint64) reasm.Note {
	return reasm.Note{Seen: seen, Sent: sent, At: s.now}
}

func (s *story) pass(d mono.Time) { s.now += d }

// recv has the target answer n bytes more.
func (s *story) recv(n uint64) { s.g.Received(s.now, s.g.Answered()+n, false) }

// opens checks that a turn is released at once, and why.
func (s *story) opens(seen, sent uint64, want Answer) {
	s.Helper()
	n := s.note(seen, sent)
	got, wake := s.g.Check(s.now, n, s.ready)
	if got != want {
		s.Fatalf("at %v: the turn of a client that had seen %d of %d: %d until %v, wanted %d",
			s.now, seen, sent, got, wake, want)
	}
	s.g.Release(s.now, n, got)
}

// waits checks how long a turn is held if nothing else happens, and why it is released then.
func (s *story) waits(seen, sent uint64, d mono.Time, want Answer) {
	s.Helper()
	n := s.note(seen, sent)
	end := s.now + d
	for s.now < end {
		got, wake := s.g.Check(s.now, n, s.ready)
		if got != Wait {
			s.Fatalf("at %v: the turn of a client that had seen %d of %d: %d, "+
				"wanted it to wait until %v", s.now, seen, sent, got, end)
		}
		if wake <= s.now || wake > end {
			s.Fatalf("at %v: wakes at %v, wanted by %v", s.now, wake, end)
		}
		if wake-1 > s.now {
			if got, _ := s.g.Check(wake-1, n, s.ready); got != Wait {
				s.Fatalf("at %v: %d, 1 ns before it was to wake", wake-1, got)
			}
		}
		s.now = wake
	}
	got, _ := s.g.Check(s.now, n, s.ready)
	if got != want {
		s.Fatalf("at %v: %d, wanted %d", s.now, got, want)
	}
	if got != TimedOut {
		s.g.Release(s.now, n, got)
	}
}

// exchange has a turn answered by a bytes in production and by b at the target.
func (s *story) exchange(seen *uint64, a, b uint64, how Answer) {
	s.Helper()
	*seen += a
	s.pass(5 * ms)
	s.recv(b)
	n := s.note(*seen, *seen)
	got, wake := s.g.Check(s.now, n, s.ready)
	for got == Wait {
		s.now = wake
		got, wake = s.g.Check(s.now, n, s.ready)
	}
	if got != how {
		s.Fatalf("at %v: answer of %d for %d ended by %d, wanted %d", s.now, b, a, got, how)
	}
	s.g.Release(s.now, n, got)
}

func TestCause(t *testing.T) {
	t.Run("nothing seen, nothing waited for", func(t *testing.T) {
		s := tell(t, auto())
		s.opens(0, 0, Free)
		s.opens(0, 50, Free)
	})
	t.Run("seen no more than before", func(t *testing.T) {
		s := tell(t, auto())
		s.recv(90)
		s.waits(100, 100, 400*ms, Silence)
		s.opens(100, 100, Free)
		s.opens(60, 100, Free)
	})
	t.Run("an adopted copy has seen nothing of its own", func(t *testing.T) {
		s := tell(t, auto())
		s.g.Init(s.svc, 5000, 0)
		s.opens(5000, 5000, Free)
		s.recv(70)
		s.waits(5100, 5100, 400*ms, Silence)
	})
	t.Run("mode none", func(t *testing.T) {
		s := tell(t, NewService(Config{Mode: None}))
		s.opens(100, 100, Free)
		s.opens(200, 200, Free)
	})
	t.Run("the target closed", func(t *testing.T) {
		s := tell(t, auto())
		s.g.Shut()
		s.opens(100, 100, Finished)
	})
}

func TestLimits(t *testing.T) {
	svc := func(m Mode) *Service { return NewService(Config{Mode: m, Limit: 10 * time.Second}) }
	t.Run("no answer begun", func(t *testing.T) {
		tell(t, svc(Auto)).waits(100, 100, 10*sec,
			TimedOut)
	})
	t.Run("counts from the last turn", func(t *testing.T) {
		s := tell(t, svc(Auto))
		s.recv(70)
		s.waits(50, 50, 400*ms, Silence)
		s.pass(3 * sec)
		s.g.released = s.now // the turn went late
		s.waits(100, 100, 10*sec, TimedOut)
	})
	t.Run("counts from when the target had the turn", func(t *testing.T) {
		s := tell(t, svc(Auto))
		s.ready = 7 * sec
		s.waits(100, 100, 17*sec, TimedOut)
	})
	t.Run("counts from the capture", func(t *testing.T) {
		s := tell(t, svc(Auto))
		s.pass(60 * sec)
		s.waits(100, 100, 10*sec, TimedOut)
	})
	t.Run("an answer without end", func(t *testing.T) {
		s := tell(t, svc(Auto))
		n := s.note(100, 100)
		for s.now < 10*sec {
			if got, _ := s.g.Check(s.now, n, 0); got != Wait {
				t.Fatalf("at %v: %d, wanted %d", s.now, got, Wait)
			}
			s.recv(3)
			s.pass(100 * ms)
		}
		if got, _ := s.g.Check(s.now, n, 0); got != Forced {
			t.Errorf("at the limit: %d, wanted %d", got, Forced)
		}
	})
	t.Run("an answer with a hole", func(t *testing.T) {
		s := tell(t, svc(Auto))
		s.g.Received(0, 50, true)
		s.waits(100, 100, 10*sec, Forced)
	})
	t.Run("only a hole", func(t *testing.T) {
		s := tell(t, svc(Auto))
		s.g.Received(0, 0, true)
		s.waits(100, 100, 10*sec, TimedOut)
	})
	t.Run("mode bytes, too few", func(t *testing.T) {
		s := tell(t, svc(Bytes))
		s.recv(99)
		s.waits(100, 100, 10*sec, Forced)
	})
	t.Run("mode bytes, none", func(t *testing.T) {
		tell(t, svc(Bytes)).waits(100, 100, 10*sec,
			TimedOut)
	})
}

func TestSilence(t *testing.T) {
	t.Run("from the last byte", func(t *testing.T) {
		s := tell(t, auto())
		s.recv(10)
		s.pass(300 * ms)
		s.recv(10)
		s.waits(100, 100, 400*ms, Silence)
	})
	t.Run("not from before the turn was handed over", func(t *testing.T) {
		s := tell(t, auto())
		s.recv(10) // 100 Continue, while the request's body is on its way
		s.pass(900 * ms)
		s.ready = s.now
		s.waits(100, 100, 400*ms, Silence)
	})
	t.Run("a hole is no end", func(t *testing.T) {
		s := tell(t, auto())
		s.g.Received(0, 50, true)
		s.pass(2 * sec)
		if got, _ := s.g.Check(s.now, s.note(100, 100), 0); got != Wait {
			t.Errorf("%d, wanted %d", got, Wait)
		}
		s.g.Received(s.now, 90, false)
		s.waits(100, 100, 400*ms, Silence)
	})
	t.Run("production's very length", func(t *testing.T) {
		s := tell(t, auto())
		s.recv(100)
		s.waits(100, 100, mono.Time(equalQuiet), Silence)
		s.recv(70)
		s.waits(200, 200, sec, Silence) // less than equal lengths promise
		if !s.g.doubt {
			t.Error("what is missing may still come, and the gate does not doubt")
		}
		s.recv(30 + 50)
		s.waits(250, 250, 400*ms, Silence) // which of the bytes are the answer is not known
	})
	t.Run("a longer retransmission time-out", func(t *testing.T) {
		s := tell(t, NewService(Config{RTO: time.Second}))
		s.recv(10)
		s.waits(100, 100, 2*sec, Silence)
	})
	t.Run("mode quiet takes no prediction", func(t *testing.T) {
		s := tell(t, NewService(Config{Mode: Quiet}))
		var seen uint64
		for range 20 {
			s.exchange(&seen, 100, 100, Silence)
		}
	})
}

func TestQuietShortens(t *testing.T) {
	svc := auto()
	if svc.Quiet() != 400*time.Millisecond {
		t.Errorf("at first %v, wanted 400ms", svc.Quiet())
	}
	last := svc.Quiet()
	for range 8 {
		svc.answered(time.Millisecond)
		if svc.Quiet() >= last {
			t.Errorf("%v after %v: it does not shorten", svc.Quiet(), last)
		}
		last = svc.Quiet()
	}
	if last != 200*time.Millisecond {
		t.Errorf("after 8 answers %v, wanted 200ms", last)
	}
	for range 1000 {
		svc.answered(time.Millisecond)
	}
	if svc.Quiet() != minQuiet {
		t.Errorf("after 1000 answers %v, wanted %v", svc.Quiet(), minQuiet)
	}
	svc.answered(30 * time.Millisecond) // a silence inside an answer
	if svc.Quiet() != 120*time.Millisecond {
		t.Errorf("after a gap of 30ms %v, wanted 120ms", svc.Quiet())
	}
	for range 1000 {
		svc.answered(0)
	}
	if svc.Quiet() != minQuiet {
		t.Errorf("long after it %v, wanted %v", svc.Quiet(), minQuiet)
	}
	svc.answered(time.Hour)
	if svc.Quiet() != maxQuiet {
		t.Errorf("after a gap of an hour %v, wanted %v", svc.Quiet(), maxQuiet)
	}
}

// The gate measures the longest gap inside an answer, without the wait for its first byte.
func TestGapsAreMeasuredInsideAnswers(t *testing.T) {
	s := tell(t, auto())
	s.pass(3 * sec)
	s.recv(10)
	s.pass(40 * ms)
	s.recv(10)
	s.pass(60 * ms)
	s.recv(10)
	s.waits(30, 30, mono.Time(equalQuiet), Silence)
	s.pass(5 * sec)
	s.recv(30)
	s.opens(60, 60, Predicted)
	if s.svc.longest != 60*time.Millisecond-60*time.Millisecond/64 {
		t.Errorf("the longest gap is %v, wanted 60ms, faded once", s.svc.longest)
	}
}

func TestPredictions(t *testing.T) {
	t.Run("equal lengths", func(t *testing.T) {
		s := tell(t, auto())
		var seen uint64
		s.exchange(&seen, 100, 100, Silence)
		s.exchange(&seen, 70, 70, Predicted)
		s.exchange(&seen, 3000, 3000, Predicted)
	})
	t.Run("not before the last byte", func(t *testing.T) {
		s := tell(t, auto())
		var seen uint64
		s.exchange(&seen, 100, 100, Silence)
		s.recv(49)
		// It opens by silence only after the full caution, since more is expected.
		n := s.note(seen+50, seen+50)
		if got, _ := s.g.Check(s.now+sec-1, n, 0); got != Wait {
			t.Errorf("%d, wanted it to wait for 1s", got)
		}
		s.recv(1)
		s.opens(seen+50, seen+50, Predicted)
	})
	t.Run("the same length again", func(t *testing.T) {
		s := tell(t, auto())
		var seen uint64
		s.exchange(&seen, 100, 577, Silence)
		s.exchange(&seen, 100, 577, Silence)
		s.exchange(&seen, 100, 577, Predicted)
		s.exchange(&seen, 200, 600, Silence)
		s.exchange(&seen, 100, 577, Predicted)
	})
	t.Run("a straight line", func(t *testing.T) {
		s := tell(t, auto())
		var seen uint64
		for i, a := range []uint64{100, 110, 120, 130, 140, 155, 1160} {
			how := Silence
			if i >= 5 { // two points, and three more on the line
				how = Predicted
			}
			s.exchange(&seen, a, 5*a+7, how)
		}
	})
	t.Run("a shorter answer", func(t *testing.T) {
		s := tell(t, auto())
		var seen uint64
		for i, a := range []uint64{100, 200, 300, 400, 500, 600} {
			how := Silence
			if i >= 5 {
				how = Predicted
			}
			s.exchange(&seen, a, a/5, how)
		}
	})
}

// Lengths that are rounded lie near a line. An answer of about the length to expect is whole after
// a short silence, also on a connection's first turn.
func TestRoundedLengths(t *testing.T) {
	svc := auto()
	rounded := func(a uint64) uint64 { return (3*a + 50) / 7 } // within 1 of the line
	s := tell(t, svc)
	var seen uint64
	for i := range uint64(8) {
		a := 100 + i*i*37%101
		s.exchange(&seen, a, rounded(a), Silence)
	}
	for _, test := range []struct {
		name string
		have uint64
		wait mono.Time
	}{
		{"as long as expected", rounded(333), 5 * ms},
		{"a byte more", rounded(333) + 1, 5 * ms},
		{"shorter", rounded(333) - 10, 200 * ms},
		{"longer", rounded(333) + 10, 200 * ms},
	} {
		t.Run(test.name, func(t *testing.T) {
			copied := *svc
			other := tell(t, &copied)
			other.recv(test.have)
			other.waits(333, 333, test.wait, Silence)
		})
	}
}

// What other connections teach counts for a turn that waits already.
func TestLearnsWhileItWaits(t *testing.T) {
	svc := auto()
	waits := tell(t, svc)
	waits.pass(300 * ms)
	waits.recv(577)
	n := waits.note(100, 100)
	got, wake := waits.g.Check(waits.now, n, 0)
	for range 2 { // until 405 ms
		var seen uint64
		tell(t, svc).exchange(&seen, 100, 577, Silence)
	}
	for got == Wait {
		waits.now = wake
		got, wake = waits.g.Check(wake, n, 0)
	}
	if got != Predicted || waits.now > 550*ms {
		t.Errorf("it goes at %v (%d), and would have gone at 700ms", waits.now, got)
	}
}

func TestPredictionsThatFail(t *testing.T) {
	t.Run("no relation", func(t *testing.T) {
		s := tell(t, auto())
		var seen uint64
		for i := range uint64(60) {
			s.exchange(&seen, 100+i, 200+i*i%17*31+i%5, Silence)
		}
	})
	t.Run("the same question, other answers", func(t *testing.T) {
		s := tell(t, auto())
		var seen uint64
		for i := range uint64(40) {
			s.exchange(&seen, 100, 300+i%3, Silence)
		}
	})
	t.Run("contradicted", func(t *testing.T) {
		s := tell(t, auto())
		var seen uint64
		for range 4 {
			s.exchange(&seen, 100, 100, Wait+map[bool]Answer{true: Silence,
				false: Predicted}[seen == 0])
		}
		s.exchange(&seen, 100, 150, Silence) // it went on
		s.exchange(&seen, 100, 100, Silence) // not believed at once
		s.exchange(&seen, 100, 100, Silence)
	})
	t.Run("believed again in the end", func(t *testing.T) {
		s := tell(t, auto())
		var seen uint64
		s.exchange(&seen, 100, 100, Silence)
		s.exchange(&seen, 100, 150, Silence)
		for i := 0; ; i++ {
			seen += 100
			s.recv(100)
			got, wake := s.g.Check(s.now, s.note(seen, seen), 0)
			if got == Wait {
				s.now, got = wake, Silence
			}
			s.g.Release(s.now, s.note(seen, seen), got)
			if got == Predicted {
				break
			}
			if i > 64 {
				t.Fatal("65 answers as predicted, and the prediction does not count")
			}
		}
	})
	t.Run("mode bytes", func(t *testing.T) {
		s := tell(t, NewService(Config{Mode: Bytes}))
		s.recv(99)
		if got, _ := s.g.Check(5*sec, s.note(100, 100), 0); got != Wait {
			t.Errorf("99 of 100: %d, wanted %d", got, Wait)
		}
		s.recv(1)
		s.opens(100, 100, Predicted)
		s.recv(60)
		s.opens(150, 150, Predicted) // more than enough
	})
}

// known returns a story in which equal lengths are trusted, and how much its client has seen.
func known(t *testing.T) (*story, uint64) {
	s := tell(t, auto())
	var seen uint64
	s.exchange(&seen, 100, 100, Silence)
	s.exchange(&seen, 100, 100, Predicted)
	return s, seen
}

func TestUnsettledTurns(t *testing.T) {
	t.Run("sent in the middle of an answer", func(t *testing.T) {
		s, seen := known(t)
		s.recv(59)
		if got, _ := s.g.Check(s.now, s.note(seen+60, seen+500), 0); got != Wait {
			t.Errorf("59 of 60: %d, wanted %d", got, Wait)
		}
		s.recv(1)
		s.opens(seen+60, seen+500, Predicted)
		// The next one was sent when both answers had come: as many in all.
		s.recv(500)
		if got, _ := s.g.Check(s.now, s.note(seen+600, seen+600), 0); got != Wait {
			t.Errorf("560 of 600: %d, wanted %d", got, Wait)
		}
		s.recv(40)
		s.opens(seen+600, seen+600, Predicted)
	})
	t.Run("more than what was seen is enough", func(t *testing.T) {
		s, seen := known(t)
		s.recv(300)
		s.opens(seen+60, seen+500, Predicted)
	})
	t.Run("nothing is learned of it", func(t *testing.T) {
		s, seen := known(t)
		hits, points := s.svc.predict.equal.hits, s.svc.predict.line
		s.recv(60)
		s.opens(seen+60, seen+100, Predicted)
		s.recv(40)
		s.opens(seen+100, seen+100, Predicted)
		if s.svc.predict.equal.hits != hits || s.svc.predict.line != points {
			t.Error("half answers were taken for whole ones")
		}
		s.recv(100)
		s.opens(seen+200, seen+200, Predicted)
		if s.svc.predict.equal.hits != hits+1 {
			t.Error("a whole answer after them was not learned")
		}
	})
	t.Run("silence between two answers is no end of the second", func(t *testing.T) {
		s := tell(t, auto())
		s.recv(70)
		s.waits(50, 100, 400*ms, Silence) // sent in the middle of the first
		s.pass(10 * ms)
		// The target is still working on the second: its answer has not begun.
		n := s.note(300, 300)
		for s.now < 5*sec {
			if got, _ := s.g.Check(s.now, n, s.ready); got != Wait {
				t.Fatalf("at %v: %d, wanted %d", s.now, got, Wait)
			}
			s.pass(100 * ms)
		}
		s.recv(80)
		s.waits(300, 300, 400*ms, Silence)
	})
	t.Run("all had come before", func(t *testing.T) {
		s := tell(t, auto())
		s.recv(120)
		s.waits(50, 100, 400*ms, Silence)
		s.waits(100, 100, 2*sec, Silence) // as far as it will come
	})
	t.Run("more than all had come before", func(t *testing.T) {
		s := tell(t, auto())
		s.recv(700)
		s.waits(50, 100, 400*ms, Silence)
		s.pass(1900 * ms) // a slow answer to that turn
		if got, _ := s.g.Check(s.now, s.note(150, 150), 0); got != Wait {
			t.Errorf("%d, wanted %d", got, Wait)
		}
		s.recv(300)
		s.waits(150, 150, 400*ms, Silence)
	})
	t.Run("a turn that waits for nothing moves nothing", func(t *testing.T) {
		s, seen := known(t)
		s.recv(30)
		s.opens(seen, seen, Free) // half-closed, say
		s.recv(70)
		s.opens(seen+100, seen+100, Predicted)
	})
}

// The target has answered more than a turn waited for, since the client sent without waiting. The
// next answers do not come again.
func TestTargetAhead(t *testing.T) {
	svc := auto()
	svc.predict.count(true, 8)
	t.Run("of a service like production", func(t *testing.T) {
		s := tell(t, svc)
		s.recv(300)
		s.waits(100, 100, mono.Time(svc.Quiet()), Silence)
		s.waits(200, 200, sec, Silence)
		s.waits(300, 300, sec, Silence)
		s.waits(400, 400, 30*sec, TimedOut)
	})
	t.Run("and level again, of a service of which nothing is known", func(t *testing.T) {
		svc := auto()
		for range 8 { // of two answers the target gives half of the second with the first
			s := tell(t, svc)
			s.recv(150)
			s.pass(2 * sec)
			s.opens(100, 100, Silence)
			s.recv(50)
			s.pass(2 * sec)
			s.opens(200, 200, Silence)
		}
		s := tell(t, svc)
		s.recv(200)
		s.pass(2 * sec)
		s.opens(100, 100, Silence)
		s.waits(200, 200, sec, Silence)
	})
	t.Run("of a service that answers more", func(t *testing.T) {
		bigger := auto()
		s := tell(t, bigger)
		s.recv(500)
		s.waits(100, 100, 400*ms, Silence)
		s.waits(200, 200, 30*sec, TimedOut)
	})
}

func TestGreeting(t *testing.T) {
	svc := NewService(Config{Limit: 10 * time.Second})
	for _, c := range []struct {
		name   string
		learn  func()
		want   time.Duration
		silent time.Duration
	}{
		{"unknown", func() {}, 400 * time.Millisecond, 400 * time.Millisecond},
		{"it does not", func() { svc.Greeted(false) }, 0, 0},
		{"it does", func() { svc.Greeted(true) }, 10 * time.Second, 400 * time.Millisecond},
		{"a word to a silent client is no greeting", func() { svc.Greeted(false) }, 0, 0},
	} {
		c.learn()
		if wait, quiet := svc.Greeting(); wait != c.want || quiet != c.silent {
			t.Errorf("%s: waits for %v and %v, wanted %v and %v", c.name, wait, quiet, c.want,
				c.silent)
		}
	}
}

func TestRebase(t *testing.T) {
	s := tell(t, auto())
	s.g.Init(s.svc, 1000, 0)
	s.recv(33)
	s.pass(500 * ms)
	s.g.Rebase(s.now)
	s.recv(50)
	s.waits(1050, 1050, mono.Time(equalQuiet), Silence)
	s.recv(60)
	s.opens(1110, 1110, Predicted) // 50 for 50 was learned, without the greeting
}

// A turn that waits has a time at which to ask again, and it does not wait forever.
func TestCheckProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		svc := NewService(Config{Mode: Mode(rapid.IntRange(0, 3).Draw(t, "mode")),
			Limit: 5 * time.Second})
		var g Gate
		var now mono.Time
		var total, seen, sent uint64
		g.Init(svc, 0, 0)
		for range rapid.IntRange(1, 60).Draw(t, "turns") {
			for range rapid.IntRange(0, 3).Draw(t, "answers") {
				now += mono.Time(rapid.IntRange(0, 600).Draw(t, "after")) * ms
				total += uint64(rapid.IntRange(0, 3).Draw(t, "bytes")) * 50
				g.Received(now, total, rapid.IntRange(0, 9).Draw(t, "hole") == 0)
			}
			seen += uint64(rapid.IntRange(0, 3).Draw(t, "seen")) * 50
			sent = max(sent, seen+uint64(rapid.IntRange(0, 1).Draw(t, "sent"))*30)
			n := reasm.Note{Seen: seen, Sent: sent, At: now}
			why, wake := g.Check(now, n, 0)
			for i := 0; why == Wait; i++ {
				if again, w := g.Check(now, n, 0); again != why || w != wake {
					t.Fatalf("asked twice at %v: %d until %v, then %d until %v", now, why, wake,
						again, w)
				}
				if wake <= now || wake > n.At.Add(svc.cfg.Limit) &&
					wake > g.released.Add(svc.cfg.Limit) {
					t.Fatalf("at %v: to be asked again at %v", now, wake)
				}
				if early, _ := g.Check(wake-1, n, 0); early != Wait {
					t.Fatalf("at %v: %d, though it was to wait until %v", wake-1, early, wake)
				}
				if i > 12 { // each time after half of what is left
					t.Fatal("asked for ever")
				}
				now = wake
				why, wake = g.Check(now, n, 0)
			}
			if why == TimedOut {
				return
			}
			g.Release(now, n, why)
		}
	})
}

func BenchmarkTurn(b *testing.B) {
	var g Gate
	g.Init(auto(), 0, 0)
	var now mono.Time
	var total uint64
	b.ReportAllocs()
	for b.Loop() {
		now += ms
		total += 100
		g.Received(now, total, false)
		n := reasm.Note{Seen: total, Sent: total, At: now}
		why, _ := g.Check(now, n, now)
		if why == Wait {
			why = Silence
		}
		g.Release(now, n, why)
	}
}
