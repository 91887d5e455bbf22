package e2e

import (
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// steady is clients that ask line after line, a thousand lines a second in all, and can be paused.
type steady struct {
	*chatter
	s *stand
	p pair

	mu     sync.Mutex
	paused bool
	lines  int // that clients have asked, or are about to
}

// steady starts 20 clients, and waits until the target has lines of theirs.
func (s *stand) steady(p pair) *steady {
	s.t.Helper()
	st := &steady{s: s, p: p}
	begun := time.Now()
	may := func() bool {
		st.mu.Lock()
		defer st.mu.Unlock()
		if st.paused || st.lines >= int(time.Since(begun)/time.Millisecond) {
			return false
		}
		st.lines++
		return true
	}
	st.chatter = s.chatWhile(20, may)
	eventually(s.t, "lines reach the target", func() bool { return p.target.lineCount() > 200 })
	return st
}

// between calls f while the clients pause and the target has all their lines, so that nothing is
// on its way.
func (st *steady) between(f func()) {
	st.s.t.Helper()
	pause := func(is bool) (lines int) {
		st.mu.Lock()
		defer st.mu.Unlock()
		st.paused = is
		return st.lines
	}
	lines := pause(true)
	eventually(st.s.t, "the target has all lines", func() bool {
		return st.p.production.lineCount() == lines && st.p.target.lineCount() == lines
	})
	f()
	pause(false)
}

// goOn waits until production has n lines more.
func (st *steady) goOn(n int) {
	st.s.t.Helper()
	n += st.p.production.lineCount()
	eventually(st.s.t, "production has lines", func() bool {
		return st.p.production.lineCount() >= n
	})
}

// goOnFrom waits until production has n lines that it has received at the time at or later.
func (st *steady) goOnFrom(at time.Time, n int) {
	st.s.t.Helper()
	eventually(st.s.t, "production has lines", func() bool {
		return len(st.p.production.linesFrom(at)) >= n
	})
}

// linesFrom returns the lines that a server has received at the time at or later.
func (s *lineServer) linesFrom(at time.Time) (all []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	first, _ := slices.BinarySearchFunc(s.times, at, time.Time.Compare)
	for _, l := range s.lines[first:] {
		_, text, _ := strings.Cut(l, " ")
		all = append(all, text)
	}
	return all
}

// missing returns the lines of a list that are missing at the servers.
func missing(want []string, at ...*lineServer) (lost []string) {
	var got []string
	for _, s := range at {
		got = append(got, everyLine(s)...)
	}
	got = sorted(got)
	for _, l := range want {
		if _, ok := slices.BinarySearch(got, l); !ok {
			lost = append(lost, l)
		}
	}
	return lost
}

// loses closes the target, and waits until the copier knows that its 20 copies are lost. Of what it
// hands on before, it cannot tell what the target has.
func (c *copier) loses(p pair) {
	c.t.Helper()
	p.target.close()
	eventually(c.t, "the copies are lost", func() bool {
		r := c.progress()
		return r != nil && r.Sessions.Dropped["target_reset"] == 20
	})
}

// TestTargetHeld has the target away for a second; on a machine that does other things too it may
// be many. With --hold-target it gets everything: what was asked on connections that were open
// before, and connections that were opened meanwhile, each connection's lines in order.
func TestTargetHeld(t *testing.T) {
	t.Parallel()
	eachWay(t, func(t *testing.T, way string) {
		s := newStand(t, setting{way: way})
		p := s.pair()
		c := s.copyPair("--hold-target", patience.String(), "--stats", "50ms")
		st := s.steady(p)
		st.between(func() { c.loses(p) })
		s.short(productionPort, "meanwhile", 200, 0)
		st.goOn(1000)
		again := s.serve(s.net.Target, targetPort)
		st.goOn(500)
		st.end()
		total := p.production.lineCount()
		all := func() bool { return p.target.lineCount()+again.lineCount() >= total }
		if !within(patience, all) {
			t.Errorf("the targets have %d and %d lines, wanted %d together", p.target.lineCount(),
				again.lineCount(), total)
		}
		r := c.end()
		expectSame(t, "lines", sorted(append(everyLine(p.target), everyLine(again)...)),
			everyLine(p.production))
		said := p.production.said()
		for _, text := range again.said() {
			ends := func(s string) bool { return strings.HasSuffix(s, text) }
			if !slices.ContainsFunc(said, ends) {
				t.Errorf("a connection at the target said %.200q, which is no end of production's",
					text)
			}
		}
		_, _, bytes := p.production.counts()
		if r.Bytes.Delivered != uint64(bytes) || len(r.Bytes.Dropped) > 0 {
			t.Errorf("the account of bytes: %+v, wanted %d delivered", r.Bytes, bytes)
		}
	})
}

// TestTargetNotHeld has the target away for longer than requests are held: what is older is dropped
// and counted, and the rest is delivered.
func TestTargetNotHeld(t *testing.T) {
	someWays(t, only(raw), func(t *testing.T, way string) {
		s := newStand(t, setting{way: way})
		p := s.pair()
		c := s.copyPair("--hold-target", "300ms", "--stats", "50ms")
		st := s.steady(p)
		st.between(func() { c.loses(p) })
		st.goOn(1000)
		again := s.serve(s.net.Target, targetPort)
		st.goOn(500)
		st.end()
		r := c.end()
		lost := missing(everyLine(p.production), p.target, again)
		var bytes uint64
		for _, l := range lost {
			bytes += uint64(len(l) + 1)
		}
		if len(lost) < 200 || len(lost) > 900 {
			t.Errorf("%d lines of a second were lost, wanted those older than 300 ms", len(lost))
		}
		if n := r.Bytes.Dropped["target_refused"]; n != bytes || len(r.Bytes.Dropped) != 1 {
			t.Errorf("the account of bytes: %+v, wanted %d dropped as target_refused", r.Bytes,
				bytes)
		}
	})
}

// TestTargetComesBack has the target away for a second. What production gets from 100 ms after it
// listens again is delivered.
func TestTargetComesBack(t *testing.T) {
	someWays(t, only(tunnel), func(t *testing.T, way string) {
		s := newStand(t, setting{way: way})
		p := s.pair()
		c := s.copyPair()
		st := s.steady(p)
		p.target.close()
		st.goOn(1000)
		again := s.serve(s.net.Target, targetPort)
		from := time.Now().Add(100 * time.Millisecond)
		st.goOnFrom(from, 500)
		st.end()
		c.end()
		if lost := missing(p.production.linesFrom(from), again); len(lost) > 0 {
			t.Errorf("%d lines were lost more than 100 ms after the target was back, such as %q",
				len(lost), lost[0])
		}
	})
}

// TestInterceptComesBack restarts the intercept. What production gets from a second later on is
// delivered; with --hold-target everything is.
func TestInterceptComesBack(t *testing.T) {
	for _, way := range []string{raw, tunnel} {
		for _, hold := range []string{"0", "5s"} {
			if testing.Short() && (way == raw) != (hold == "0") {
				continue
			}
			t.Run(way+", hold "+hold, func(t *testing.T) {
				s := newStand(t, setting{way: way})
				p := s.pair()
				start := func() *process {
					s.intercepts = nil
					return s.assist()
				}
				i := start()
				c := s.copyPair("--hold-target", hold, "--stats", "50ms")
				st := s.steady(p)
				st.between(func() {
					i.stop(syscall.SIGTERM)
					eventually(t, "the link is down", func() bool {
						r := c.progress()
						return r != nil && len(r.Links) == 1 && !r.Links[0].Up
					})
				})
				st.goOn(300)
				start()
				from, goOn := time.Time{}, time.Now() // with hold, all lines are judged
				if hold == "0" {
					from = goOn.Add(time.Second)
					goOn = from
				}
				st.goOnFrom(goOn, 500)
				st.end()
				c.end()
				if lost := missing(p.production.linesFrom(from), p.target); len(lost) > 0 {
					t.Errorf("%d lines were lost, such as %q", len(lost), lost[0])
				}
			})
		}
	}
}
