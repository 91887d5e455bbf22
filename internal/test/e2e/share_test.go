package e2e

import (
	"fmt"
	"math"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"tcpcopy/internal/account/export"
	"tcpcopy/internal/lab/netlab"
)

// TestTargetAway stops one of three targets and starts it again. No session of the others may be
// moved or lost, and its share must move.
func TestTargetAway(t *testing.T) {
	t.Parallel()
	s := newStand(t, setting{way: socket, net: netlab.Config{Clients: 60, Targets: 3}})
	s.serve(s.net.Production, productionPort)
	targets := s.on(s.net.Targets, targetPort)
	c := s.copy("-x", s.toAll(), "--stats", "50ms")
	k := s.keepOpen(productionPort, 60)
	k.say()
	eventually(t, "all have their lines", func() bool { return lines(targets) == 60 })
	before := []int{targets[0].lineCount(), targets[1].lineCount(), targets[2].lineCount()}
	for i, n := range before {
		if n < 8 {
			t.Errorf("target %d has %d of 60 sessions", i, n)
		}
	}

	targets[1].close()
	eventually(t, "it is out", func() bool {
		k.say() // its sessions find that out
		r := c.progress()
		return r != nil && targetOf(t, r, s.targetAt(1)).State == "out"
	})
	eventually(t, "its sessions have moved", func() bool {
		k.say() // one of them may be the trial
		o0, _, _ := targets[0].counts()
		o2, _, _ := targets[2].counts()
		return o0+o2 >= 60
	})
	back := s.serve(s.net.Targets[1], targetPort)
	eventually(t, "it is back", func() bool {
		s.short(productionPort, "new", 20, 0)
		r := c.progress()
		return back.lineCount() > 0 && targetOf(t, r, s.targetAt(1)).State == "in"
	})
	k.say()
	// The sessions that the other two had from the start have all lines, on one connection.
	for _, i := range []int{0, 2} {
		whole := func() (n int) {
			for _, said := range targets[i].said() {
				if strings.HasPrefix(said, "keeper") && strings.Count(said, "|") == k.n {
					n++
				}
			}
			return n
		}
		if !within(patience, func() bool { return whole() == before[i] }) {
			t.Errorf("target %d: %d sessions are whole, wanted the %d that it had from the start",
				i, whole(), before[i])
		}
	}
	k.finish()
	r := c.end()
	if to := targetOf(t, r, s.targetAt(1)); to.TakenOut == 0 || to.Failed < 3 {
		t.Errorf("the account of the target that was away: %+v", to)
	}
	for _, i := range []int{0, 2} {
		if to := targetOf(t, r, s.targetAt(i)); to.TakenOut != 0 || to.Failed != 0 {
			t.Errorf("the account of another: %+v", to)
		}
	}
}

// frozen is a server that a test can stop: meanwhile it reads and answers nothing.
type frozen struct {
	mu   sync.Mutex // held while it is stopped
	seen sync.Map   // when a line came first
}

func freeze(t testing.TB, host *netlab.Namespace, port int) *frozen {
	f := new(frozen)
	accept(t, host, onPort(port), func(c net.Conn) {
		b := make([]byte, 256)
		for {
			n, err := c.Read(b)
			if err != nil {
				return
			}
			f.mu.Lock() // waits while it is stopped
			f.seen.LoadOrStore(strings.TrimSpace(string(b[:n])), time.Now())
			f.mu.Unlock()
			if _, err := c.Write(b[:n]); err != nil {
				return
			}
		}
	})
	return f
}

// TestAllSideBySide checks that with --balance all a target receives its requests in time while
// another one is stopped.
func TestAllSideBySide(t *testing.T) {
	s := newStand(t, setting{way: socket, net: netlab.Config{Targets: 2}})
	s.serve(s.net.Production, productionPort)
	running, stopped := freeze(t, s.net.Targets[0], targetPort), freeze(t, s.net.Targets[1],
		targetPort)
	c := s.copy("-x", s.toAll(), "--balance", "all")
	k := s.keepOpen(productionPort, 8)
	asked := make(map[string]time.Time)
	phase := func(d time.Duration) (lags []time.Duration) {
		from := k.n
		for end := time.Now().Add(d); time.Now().Before(end); wait(10 * time.Millisecond) {
			for i := range k.open {
				asked[fmt.Sprintf("keeper %d line %d", i, k.n)] = time.Now()
			}
			k.say()
		}
		last := func() bool {
			_, ok := running.seen.Load(fmt.Sprintf("keeper 7 line %d", k.n-1))
			return ok
		}
		eventually(t, "the running one has all", last)
		for n := from; n < k.n; n++ {
			for i := range k.open {
				line := fmt.Sprintf("keeper %d line %d", i, n)
				at, ok := running.seen.Load(line)
				if !ok {
					t.Fatalf("the running one lacks %q", line)
				}
				lags = append(lags, at.(time.Time).Sub(asked[line]))
			}
		}
		slices.Sort(lags)
		return lags
	}
	phase(500 * time.Millisecond) // what is learned at first
	before := phase(time.Second)
	stopped.mu.Lock()
	stop := 10 * time.Second
	if testing.Short() {
		stop = 3 * time.Second
	}
	during := phase(stop)
	stopped.mu.Unlock()
	median := func(l []time.Duration) time.Duration { return l[len(l)/2] }
	t.Logf("lag before: median %v, 99 %% %v; while the other is stopped: median %v, 99 %% %v",
		median(before), before[len(before)*99/100], median(during), during[len(during)*99/100])
	if median(during) > 2*median(before)+2*time.Millisecond {
		t.Errorf("the lag was %v, and is %v while the other target is stopped", median(before),
			median(during))
	}
	eventually(t, "the one that was stopped has all, too", func() bool {
		for n := range k.n {
			for i := range k.open {
				if _, ok := stopped.seen.Load(fmt.Sprintf("keeper %d line %d", i, n)); !ok {
					return false
				}
			}
		}
		return true
	})
	k.finish()
	r := c.end()
	expectComplete(t, r, 16, 2*int64(k.bytes()))
}

// TestCopiesOfEach checks that each request arrives as often as -n says, on separate connections.
func TestCopiesOfEach(t *testing.T) {
	short := 2000
	if testing.Short() {
		short = 500
	}
	for _, tc := range []struct {
		way          string
		copies       string
		times        float64
		conns, lines int // lines 0: short connections
	}{
		{raw, "3", 3, 20, 250},
		{tunnel, "3", 3, short, 0},
		{socket, "2.5", 2.5, 200, 0},
		{raw, "50", 50, 100, 2},
		{tunnel, "50", 50, 20, 2},
	} {
		t.Run(fmt.Sprintf("%s -n %s of %d", tc.way, tc.copies, tc.conns), func(t *testing.T) {
			s := newStand(t, setting{way: tc.way})
			p := s.pair()
			c := s.copyPair("-n", tc.copies)
			k, learn := &keptOpen{s: s}, tc.conns/10
			if tc.lines == 0 {
				// At first nothing is known of how long answers are, and copies close late.
				s.short(productionPort, "first", learn, 100*time.Millisecond)
			}
			watched := p.watchOpen()
			if tc.lines == 0 {
				s.short(productionPort, "short", tc.conns-learn, 100*time.Millisecond)
			} else {
				k = s.keepOpen(productionPort, tc.conns) // all at the same time
				for range tc.lines {
					k.say()
				}
			}
			want := int(tc.times * float64(p.production.lineCount()))
			slack := 0
			if tc.times != math.Trunc(tc.times) {
				slack = want / 10 // which of them get one more is chosen by a hash
			}
			eventually(t, "the target has all lines",
				func() bool { return p.target.lineCount() >= want-slack })
			k.finish()
			r := c.end()
			o := watched()
			if n := p.target.lineCount(); n < want-slack || n > want+slack {
				t.Errorf("%d lines at the target, wanted %d ± %d", n, want, slack)
			}
			if short, long := int(tc.times), int(math.Ceil(tc.times)); !timesOver(p.target.said(),
				p.production.said(), short, long) {
				t.Errorf("not all that was said at production was said %d to %d times at the "+
					"target", short, long)
			}
			_, _, bytes := p.target.counts()
			if r.Bytes.Captured != uint64(bytes) || r.Bytes.Delivered != uint64(bytes) {
				t.Errorf("the account of bytes: %+v, wanted %d captured and delivered", r.Bytes,
					bytes)
			}
			if r.Connections != uint64(tc.conns) ||
				math.Abs(float64(r.Copies)/float64(r.Connections)-tc.times) > tc.times/10 {
				t.Errorf("%d copies of %d connections are reported", r.Copies, r.Connections)
			}
			if r.Sessions.Delivered != r.Sessions.Captured || r.Sessions.Delivered != r.Copies {
				t.Errorf("the account of sessions: %+v, of %d copies", r.Sessions, r.Copies)
			}
			ratio := float64(o.sumTarget) / float64(o.sumProduction)
			t.Logf("at the same time at most %d at production and %d at the target, and on "+
				"average %.2f times as many", o.mostProduction, o.mostTarget, ratio)
			if tc.lines == 0 && ratio > 1.5*tc.times {
				t.Errorf("at the same time there are on average %.2f times as many connections "+
					"at the target, wanted at most 1.5 × %v", ratio, tc.times)
			}
			if tc.way != socket && tc.lines > 0 {
				ownAddresses(t, p)
			}
		})
	}
}

// ownAddresses checks that copies which are open at the same time come from different addresses and
// ports, one of them the client's own.
func ownAddresses(t *testing.T, p pair) {
	t.Helper()
	peers := p.target.clients()
	if len(slices.Compact(slices.Clone(peers))) != len(peers) {
		t.Error("two copies came from one address and port at the same time")
	}
	for _, own := range p.production.clients() {
		if _, ok := slices.BinarySearch(peers, own); !ok {
			t.Errorf("no copy came from %s, the client's own", own)
		}
	}
}

// TestReload changes the mappings by SIGHUP. No session may be lost, and no counter may fall.
func TestReload(t *testing.T) {
	t.Parallel()
	for _, way := range ways {
		t.Run(way, func(t *testing.T) {
			s := newStand(t, setting{way: way})
			first := s.serve(s.net.Production, productionPort)
			second := serveAt(t, s.net.Production, fmt.Sprintf(":%d", productionPort+1))
			targets := s.several(3)
			file := s.file("tcpcopy.yaml")
			write := func(text string) {
				if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			write(fmt.Sprintf("mappings:\n  - %s\n", s.mapping(productionPort, 8080)))
			c := s.copy("--config", file, "--metrics", metricsAt)
			k := s.keepOpen(productionPort, 10)
			k.say()
			was := s.scrape()

			write("mappings:\n  - 80\n")
			c.signal(syscall.SIGHUP)
			c.awaitOutput("not reloaded: ")
			k.say()
			write(fmt.Sprintf("mappings:\n  - %s\n  - map: %s\n    copies: 2\n",
				s.mapping(productionPort, 8081), s.mapping(productionPort+1, 8082)))
			stop, said := make(chan struct{}), make(chan struct{})
			go func() { // the load goes on meanwhile
				defer close(said)
				for {
					select {
					case <-stop:
						return
					default:
						k.say()
					}
				}
			}()
			c.signal(syscall.SIGHUP)
			c.awaitOutput(`msg="reloaded: `) // and not only that it was not, before
			close(stop)
			<-said
			is := s.scrape()
			removed := netip.AddrPortFrom(s.target, 8080).String()
			expectNoFall(t, was, is, removed)
			s.short(productionPort, "after", 50, 0)
			s.short(productionPort+1, "added", 50, 0)
			k.say()
			if !within(patience/6, func() bool {
				return targets[0].lineCount() == 10*k.n && targets[1].lineCount() == 50 &&
					targets[2].lineCount() == 100
			}) {
				t.Errorf("the targets have %d, %d and %d lines, wanted %d, 50 and 100",
					targets[0].lineCount(), targets[1].lineCount(), targets[2].lineCount(), 10*k.n)
			}
			expectSame(t, "what connections said",
				sorted(append(targets[0].said(), targets[1].said()...)), first.said())
			if !timesOver(targets[2].said(), second.said(), 2, 2) {
				t.Error("not all that was said at the mapping that was added was said twice at " +
					"its target")
			}
			k.finish()
			expectNoFall(t, is, s.scrape(), removed)
			expectComplete(t, c.end(), 10+50+100, int64(k.bytes())+bytesOfShort("after",
				50)+2*bytesOfShort("added", 50))
		})
	}
}

// TestTwoCopiersOfOneClient has two copiers see the same clients, as with asymmetric mirrors. Each
// connection must be copied by one of them and refused to the other, which counts it. The socket
// way copies each twice.
func TestTwoCopiersOfOneClient(t *testing.T) {
	t.Parallel()
	eachWay(t, func(t *testing.T, way string) {
		t.Parallel()
		s := newStand(t, setting{way: way})
		p := s.pair()
		one := s.copyPair()
		other := s.copyPair()
		k := s.keepOpen(productionPort, 10)
		for range 20 { // three seconds: who is refused asks again after one
			k.say()
			wait(150 * time.Millisecond)
		}
		times := 1
		if way == socket {
			times = 2
		}
		eventually(t, "the target has all lines",
			func() bool { return p.target.lineCount() >= times*10*k.n })
		k.finish()
		a, b := one.end(), other.end()
		want := slices.Repeat(p.production.said(), times)
		expectSame(t, "what connections said", p.target.said(), sorted(want))
		bytes := k.bytes()
		if way == socket {
			expectComplete(t, a, 10, int64(bytes))
			expectComplete(t, b, 10, int64(bytes))
			return
		}
		expectShared(t, []*export.Report{a, b}, 10, uint64(bytes))
	})
}

// TestTwoCopiersOfShortConnections checks that a connection that one copier has copied is refused
// to the other even if it has ended by then.
func TestTwoCopiersOfShortConnections(t *testing.T) {
	t.Parallel()
	for _, way := range []string{raw, tunnel} {
		t.Run(way, func(t *testing.T) {
			s := newStand(t, setting{way: way})
			p := s.pair()
			one := s.copyPair()
			other := s.copyPair()
			const n = 400
			s.short(productionPort, "short", n/2, 0)
			s.short(productionPort, "longer", n/2, 50*time.Millisecond)
			p.caughtUp(t)
			a, b := one.end(), other.end()
			p.expectSame(t)
			expectShared(t, []*export.Report{a, b}, n,
				uint64(bytesOfShort("short", n/2)+bytesOfShort("longer", n/2)))
		})
	}
}

// TestFirstCopierDies kills one of two copiers that see the same clients. The other must take over
// the connections at their next requests, and must repeat nothing.
func TestFirstCopierDies(t *testing.T) {
	t.Parallel()
	for _, way := range []string{raw, tunnel} {
		t.Run(way, func(t *testing.T) {
			s := newStand(t, setting{way: way})
			p := s.pair()
			one := s.copyPair("--stats", "50ms")
			other := s.copyPair("--stats", "50ms")
			k := s.keepOpen(productionPort, 10)
			sayAll := func() {
				t.Helper()
				k.say()
				eventually(t, "the target has all lines",
					func() bool { return p.target.lineCount() >= p.production.lineCount() })
			}
			for range 3 {
				sayAll()
			}
			eventually(t, "each line is refused to one of the two", func() bool {
				a, b := one.progress(), other.progress()
				const taken = "tuple_taken"
				return a != nil && b != nil &&
					a.Bytes.Dropped[taken]+b.Bytes.Dropped[taken] == uint64(k.bytes())
			})
			one.kill()
			// Who is refused asks again after a second.
			wait(2500 * time.Millisecond)
			for range 3 {
				sayAll()
			}
			s.short(productionPort, "after", 40, 0)
			p.caughtUp(t)
			k.finish()
			r := other.end()
			expectSame(t, "all lines", everyLine(p.target), everyLine(p.production))
			lost := r.Bytes.Captured - r.Bytes.Delivered - r.Bytes.Dropped["tuple_taken"]
			said := uint64(k.bytes()) + uint64(bytesOfShort("after", 40))
			if lost != 0 || r.Bytes.Captured != said {
				t.Errorf("the account of the one that is left: %+v", r.Bytes)
			}
		})
	}
}
