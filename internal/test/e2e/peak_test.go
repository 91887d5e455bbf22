package e2e

import (
	"fmt"
	"testing"
	"time"
)

// TestCopiesPeak checks that under a steady load of three copies the target never has more than one
// and a half times the connections that three times production's are.
func TestCopiesPeak(t *testing.T) {
	const copies, rate, life = 3, 500, 100 * time.Millisecond
	conns := 2000
	if testing.Short() {
		conns = 1000
	}
	eachWay(t, func(t *testing.T, way string) {
		s := newStand(t, setting{way: way})
		p := s.pair()
		c := s.copyPair("-n", fmt.Sprint(copies))
		// At first nothing is known of how long answers are, and copies close late.
		s.paced("first", conns/10, rate, 1, life)
		eventually(t, "the target has all",
			func() bool { return p.target.lineCount() == copies*(conns/10) })
		watched := p.watchOpen()
		s.paced("short", conns-conns/10, rate, 1, life)
		o := watched()
		eventually(t, "the target has all",
			func() bool { return p.target.lineCount() == copies*conns })
		opened, _, bytes := p.production.counts()
		expectComplete(t, c.end(), copies*opened, copies*bytes)
		var want []string
		for _, text := range p.production.said() {
			want = append(want, text, text, text)
		}
		expectSame(t, "what connections said", p.target.said(), want)
		o.judge(t, 1.2*copies)
	})
}

// TestCopiesPeakAtFullSpeed has clients open short connections as fast as two processors can serve
// them: the copier falls behind, and must not open at once what production has opened in turn.
func TestCopiesPeakAtFullSpeed(t *testing.T) {
	conns := 5000
	if testing.Short() {
		conns = 2000
	}
	eachWay(t, func(t *testing.T, way string) {
		s := newStand(t, setting{way: way})
		p := s.pair()
		c := s.copyPair()
		s.short(productionPort, "first", conns/10, 0)
		eventually(t, "the target has all",
			func() bool { return p.target.lineCount() == conns/10 })
		watched := p.watchOpen()
		s.short(productionPort, "short", conns, 0)
		eventually(t, "the target has all",
			func() bool { return p.target.lineCount() == conns+conns/10 })
		o := watched()
		opened, _, bytes := p.production.counts()
		expectComplete(t, c.end(), opened, bytes)
		o.judge(t, 2)
	})
}

// judge checks that the target had at most so many times as many connections open as production.
// While the target's process has no processor, it closes none: what production opens in the longest
// such time may be open beside.
func (o open) judge(t *testing.T, most float64) {
	t.Helper()
	t.Logf("at the same time at most %d at production and %d at the target: %.2f times as many; "+
		"on average %.2f; no processor for at most %v", o.mostProduction, o.mostTarget,
		float64(o.mostTarget)/float64(o.mostProduction),
		float64(o.sumTarget)/float64(o.sumProduction), o.away)
	most = most*float64(o.mostProduction) + o.rate*o.away.Seconds()
	if float64(o.mostTarget) > most {
		t.Errorf("at the same time at most %d at production and %d at the target, wanted at "+
			"most %.0f there", o.mostProduction, o.mostTarget, most)
	}
}

// open is how many connections are open at once, at production and at the target.
type open struct {
	mostProduction, mostTarget, sumProduction, sumTarget int

	rate float64       // connections that production opens in a second
	away time.Duration // for how long this process, which has both servers, had no processor
}

const (
	lookEvery = 500 * time.Microsecond
	leastAway = 25 * time.Millisecond // there are shorter ones on a quiet machine
)

// watchOpen looks again and again; the function it returns ends that.
func (p pair) watchOpen() (end func() open) {
	count := func(s *lineServer) int {
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.open)
	}
	stop, done := make(chan struct{}), make(chan struct{})
	var o open
	begun := time.Now()
	before, _, _ := p.production.counts()
	go func() {
		defer close(done)
		for last := begun; ; {
			production, target := count(p.production), count(p.target)
			o.mostProduction = max(o.mostProduction, production)
			o.mostTarget = max(o.mostTarget, target)
			o.sumProduction += production
			o.sumTarget += target
			now := time.Now()
			if away := now.Sub(last) - lookEvery; away > leastAway {
				o.away = max(o.away, away)
			}
			last = now
			select {
			case <-stop:
				return
			case <-time.After(lookEvery):
			}
		}
	}()
	return func() open {
		close(stop)
		<-done
		opened, _, _ := p.production.counts()
		o.rate = float64(opened-before) / time.Since(begun).Seconds()
		return o
	}
}
