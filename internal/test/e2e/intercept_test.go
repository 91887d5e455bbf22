package e2e

import (
	"fmt"
	"net/netip"
	"strings"
	"syscall"
	"testing"

	"tcpcopy/internal/account/export"
	"tcpcopy/internal/lab/netlab"
)

// TestTwoCopiersOneIntercept checks that each copier receives the answers of its own connections
// only, though both copy the same clients to the same target.
func TestTwoCopiersOneIntercept(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name          string
		first, second []string
	}{
		{"ports shifted", nil, []string{"-f", "7"}},
		{"other addresses", []string{"-c", "10.77.1.100"}, []string{"-c", "10.77.1.101"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newStand(t, setting{way: raw})
			p := s.pair()
			mapping := s.mapping(productionPort, targetPort)
			first := s.copy(append([]string{"-x", mapping}, test.first...)...)
			second := s.copy(append([]string{"-x", mapping}, test.second...)...)
			s.talk(productionPort, "two", 40, 20)
			eventually(t, "the target has all lines twice",
				func() bool { return p.target.lineCount() >= 2*40*20 })
			opened, _, bytes := p.production.counts()
			expectComplete(t, first.end(), opened, bytes)
			expectComplete(t, second.end(), opened, bytes)
			want := append(p.production.said(), p.production.said()...)
			expectSame(t, "what connections said, twice", p.target.said(), sorted(want))
		})
	}
}

// TestTwoServices has two copiers, each with a server of its own, use one intercept.
func TestTwoServices(t *testing.T) {
	t.Parallel()
	s := newStand(t, setting{way: raw})
	p := s.pair()
	q := pair{serveAt(t, s.net.Production, ":81"), serveAt(t, s.net.Target, ":8081")}
	first := s.copyPair()
	second := s.copy("-x", s.mapping(81, 8081))
	s.talk(productionPort, "first", 20, 20)
	s.talk(81, "second", 20, 20)
	p.caughtUp(t)
	q.caughtUp(t)
	for _, of := range []struct {
		p pair
		c *copier
	}{{p, first}, {q, second}} {
		whole(t, of.p, of.c.end())
	}
}

// TestOneCopierTwoIntercepts checks that answers may come by either of two intercepts, or by both.
func TestOneCopierTwoIntercepts(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name          string
		first, second string // what each intercept looks for
	}{
		{"each sees all", "tcp and src portrange 8080-8081", "tcp and src portrange 8080-8081"},
		{"each sees a service", "tcp and src port 8080", "tcp and src port 8081"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newStand(t, setting{way: raw})
			p := s.pair()
			q := pair{serveAt(t, s.net.Production, ":81"), serveAt(t, s.net.Target, ":8081")}
			s.intercept(interceptPort, "-F", test.first)
			s.intercept(interceptPort+1, "-F", test.second)
			c := s.copy("-x", s.mapping(productionPort, targetPort)+","+s.mapping(81, 8081))
			s.talk(productionPort, "first", 20, 20)
			s.talk(81, "second", 20, 20)
			p.caughtUp(t)
			q.caughtUp(t)
			r := c.end()
			p.expectSame(t)
			q.expectSame(t)
			opened, _, bytes := p.production.counts()
			opened2, _, bytes2 := q.production.counts()
			expectComplete(t, r, opened+opened2, bytes+bytes2)
		})
	}
}

// TestAnswersSpread spreads the target's answers over the intercepts on two assistants. One
// intercept is stopped while connections are open and started again: connections of the other go
// on, and nothing is lost.
func TestAnswersSpread(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name        string
		by          netlab.Spread
		ipv6        bool
		least, most int // of 20 connections, whose answers the first intercept sees
	}{
		{"by client address", netlab.ByAddress, false, 10, 10},
		{"by flow", netlab.ByFlow, false, 1, 19},
		{"by flow, IPv6", netlab.ByFlow, true, 1, 19},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newStand(t, setting{way: raw, ipv6: test.ipv6,
				net: netlab.Config{Spread: test.by}})
			p := s.pair()
			const filter = "tcp and src port 8080"
			s.intercept(interceptPort, "-F", filter)
			at := netip.AddrPortFrom(netlab.SecondAddr4, interceptPort)
			second := s.interceptOn(s.net.Second, at.Port(), "-F", filter)
			s.intercepts = append(s.intercepts, at)
			c := s.copyPair("--stats", "50ms")
			link := func() (second export.LinkReport) {
				if r := c.progress(); r != nil && len(r.Links) == 2 {
					second = r.Links[1]
				}
				return second
			}
			k := s.keepOpen(productionPort, 20)
			k.say()
			s.talk(productionPort, "before", 20, 5)
			p.caughtUp(t)

			second.stop(syscall.SIGTERM)
			eventually(t, "its link is down", func() bool {
				l := link()
				return l.Intercept != "" &&
					!l.Up
			})
			k.say() // these requests still go, and half of their answers are not heard
			k.say() // so half of these wait
			goesOn := func() (n int) {
				for _, said := range p.target.said() {
					if strings.HasPrefix(said, "keeper") && strings.Count(said, "|") == k.n {
						n++
					}
				}
				return n
			}
			eventually(t, "those of the other go on", func() bool { return goesOn() >= test.least })
			if n := goesOn(); n > test.most {
				t.Errorf("%d of 20 connections go on, wanted at most %d: the answers are not "+
					"spread", n, test.most)
			}
			s.talk(productionPort, "meanwhile", 8, 1)
			s.interceptOn(s.net.Second, at.Port(), "-F", filter)
			eventually(t, "its link is up", func() bool {
				l := link()
				return l.Up &&
					l.Reconnects == 1
			})
			k.say()
			s.talk(productionPort, "after", 20, 5)
			p.caughtUp(t)
			k.finish()
			whole(t, p, c.end())
		})
	}
}

// TestInterceptOfTheOtherFamily copies sessions over IPv6 with an intercept that is reached over
// IPv4.
func TestInterceptOfTheOtherFamily(t *testing.T) {
	t.Parallel()
	for _, ipv6 := range []bool{false, true} {
		t.Run(fmt.Sprintf("sessions over IPv6 %v", ipv6), func(t *testing.T) {
			s := newStand(t, setting{way: raw, ipv6: ipv6})
			p := s.pair()
			s.assistant = netlab.AssistantAddr6
			if ipv6 {
				s.assistant = netlab.AssistantAddr4
			}
			c := s.copyPair()
			s.talk(productionPort, "family", 20, 20)
			p.caughtUp(t)
			whole(t, p, c.end())
		})
	}
}

// TestInterceptGoesAndComes restarts an intercept. Connections opened meanwhile must be lost and
// counted; the copier must go on.
func TestInterceptGoesAndComes(t *testing.T) {
	t.Parallel()
	s := newStand(t, setting{way: raw})
	p := s.pair()
	filter := []string{"-F", "tcp and src port 8080"}
	i := s.intercept(interceptPort, filter...)
	c := s.copyPair("--stats", "50ms", "--gate-limit",
		"1s", "--connect-timeout", "1s")
	s.talk(productionPort, "before", 10, 10)
	p.caughtUp(t)
	// What the intercept has not reported when it is killed counts as lost, though it has arrived.
	eventually(t, "the account shows the first connections delivered", func() bool {
		r := c.progress()
		return r != nil && r.Sessions.Delivered == 10
	})
	i.kill()
	s.talk(productionPort, "meanwhile", 10, 10)
	eventually(t, "the account shows the link down", func() bool {
		r := c.progress()
		return r != nil && len(r.Links) == 1 && !r.Links[0].Up
	})
	s.intercept(interceptPort, filter...)
	eventually(t, "the account shows the link up", func() bool {
		r := c.progress()
		return r != nil && r.Links[0].Up && r.Links[0].Reconnects == 1
	})
	s.talk(productionPort, "after", 10, 10)
	after := func() (n int) {
		for _, text := range p.target.said() {
			if strings.HasPrefix(text, "after") && strings.Count(text, "|") == 10 {
				n++
			}
		}
		return n
	}
	eventually(t, "later connections arrive", func() bool { return after() == 10 })
	r := c.end()
	if r.Sessions.Delivered < 20 {
		t.Errorf("sessions %+v, wanted those before and after delivered", r.Sessions)
	}
	t.Logf("sessions %+v", r.Sessions)
}

// TestWrongKey checks that a copier with another key receives nothing.
func TestWrongKey(t *testing.T) {
	t.Parallel()
	s := newStand(t, setting{way: raw})
	target := s.serve(s.net.Target, targetPort)
	s.serve(s.net.Production, productionPort)
	i := s.intercept(interceptPort, "-F", "tcp and src port 8080")
	other, err := s.net.Production.Command(t.Context(), binary, "keygen").Output()
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, s.file("other"), other)
	at := netip.AddrPortFrom(s.assistant, interceptPort).String()
	p := start(t, s.net.Production, "copy", binary, "copy", "-x", s.mapping(productionPort,
		targetPort), "-s", at, "--key", s.file("other"), "--stats", "50ms")
	// It may wait for an intercept that knows it; it must say why, and send nothing.
	eventually(t, "the copier says that the keys differ", func() bool {
		return strings.Contains(p.output(), "key") || strings.Contains(p.output(), "certificate")
	})
	s.talk(productionPort, "key", 3, 3)
	if !p.hasEnded() {
		p.stop(syscall.SIGTERM)
	}
	if opened, _, _ := target.counts(); opened > 0 {
		t.Errorf("%d connections reached the target", opened)
	}
	if strings.Contains(i.output(), "copier connected") {
		t.Error("the intercept let it in")
	}
}
