package e2e

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/core/shard"
	"tcpcopy/internal/lab/netlab"
)

// TestOnlyAndExcept checks that --only and --except select sessions by the client's address, and
// that the others are counted.
func TestOnlyAndExcept(t *testing.T) {
	t.Parallel()
	const conns, lines = 40, 3
	for _, test := range []struct {
		name string
		ways []string
		ipv6 bool
		args []string
		of   []int // the clients' addresses that are left, of 0 to 3
	}{
		{"only", ways, false, []string{"--only", "10.77.1.10,10.77.1.12/31"}, []int{0, 2, 3}},
		{"except", []string{socket}, false, []string{"--except", "10.77.1.12/31"}, []int{0, 1}},
		{"only and except", []string{raw}, false, []string{"--only", "10.77.1.0/24", "--except",
			"10.77.1.11"}, []int{0, 2, 3}},
		{"only of the other family", []string{socket}, false, []string{"--only", "fd77:1::/64"},
			nil},
		{"only, IPv6", ways, true, []string{"--only", "fd77:1::a,fd77:1::c/127"}, []int{0, 2, 3}},
		{"except, IPv6", []string{tunnel}, true, []string{"--except", "fd77:1::c/127"},
			[]int{0, 1}},
		{"only and except, IPv6", []string{socket}, true, []string{"--only", "fd77:1::/64",
			"--except", "fd77:1::b"}, []int{0, 2, 3}},
		{"except of the other family, IPv6", []string{raw}, true,
			[]string{"--except", "10.0.0.0/8"}, []int{0, 1, 2, 3}},
	} {
		for _, way := range test.ways {
			t.Run(test.name+"/"+way, func(t *testing.T) {
				s := newStand(t, setting{way: way, ipv6: test.ipv6})
				p := s.pair()
				c := s.copyPair(test.args...)
				s.talk(productionPort, "network", conns, lines)
				r := c.end()
				_, _, all := p.production.counts()
				expectLeftOut(t, r, ledger.Filtered, p.target, conns, all)
				if opened, _, _ := p.target.counts(); opened != conns/4*len(test.of) {
					t.Errorf("%d connections at the target, wanted those of %d of 4 clients",
						opened, len(test.of))
				}
				want := p.production.saidBy(func(peer netip.AddrPort) bool {
					return slices.ContainsFunc(test.of,
						func(i int) bool { return netlab.ClientAddr(i, test.ipv6) == peer.Addr() })
				})
				expectSame(t, "what connections of those clients said", p.target.said(), want)
			})
		}
	}
}

// TestMaxRate checks that the target never has more connections than --max-rate allows, with a
// burst of a tenth of a second, and that sessions beyond it are left out whole.
func TestMaxRate(t *testing.T) {
	const rate, conns = 40, 400
	for _, tc := range []struct {
		way    string
		copies int
	}{{socket, 1}, {raw, 1}, {tunnel, 2}} {
		if testing.Short() && tc.way != tunnel {
			continue
		}
		t.Run(fmt.Sprintf("%s, copies %d", tc.way, tc.copies), func(t *testing.T) {
			s := newStand(t, setting{way: tc.way})
			p := s.pair()
			c := s.copyPair("--max-rate", fmt.Sprint(rate),
				"-n", fmt.Sprint(tc.copies))
			begun := time.Now()
			s.paced("rate", conns, 200, 2, 0)
			took := time.Since(begun)
			r := c.end()
			_, _, all := p.production.counts()
			expectLeftOut(t, r, ledger.OverRate, p.target, conns*tc.copies, all*int64(tc.copies))
			for i, at := range p.target.accepts {
				if most := rate/10 + rate*at.Sub(begun).Seconds() + 0.001; float64(i+1) > most {
					t.Errorf("%d connections at the target after %v, wanted at most %.1f", i+1,
						at.Sub(begun), most)
				}
			}
			opened, _, _ := p.target.counts()
			t.Logf("%d connections in %v", opened, took)
			if float64(opened) < 0.8*rate*took.Seconds() {
				t.Errorf("%d connections at the target in %v, wanted about %d a second", opened,
					took, rate)
			}
			var want []string // each of them whole, and as often as there are copies
			said := p.target.said()
			for _, text := range p.production.said() {
				if _, ok := slices.BinarySearch(said, text); ok {
					for range tc.copies {
						want = append(want, text)
					}
				}
			}
			expectSame(t, "what connections said", said, want)
		})
	}
}

// TestMaxMbps checks that the target never receives more than --max-mbps allows, with a burst of a
// second and the rest of the last session.
func TestMaxMbps(t *testing.T) {
	const perSecond, size, conns = 125_000, 12_000, 150
	someWays(t, only(raw), func(t *testing.T, way string) {
		s := newStand(t, setting{way: way})
		p := s.pair()
		c := s.copyPair("--max-mbps", "1")
		begun := time.Now()
		text := noiseText(size)
		var longest int
		for i := range conns { // one at a time
			cl := dial(t, s.net.Client, netlab.ClientAddr(i%4, false),
				netip.AddrPortFrom(s.production, productionPort))
			line := fmt.Sprintf("connection %d %s", i, text)
			longest = len(line) + 1
			if err := cl.ask(line); err != nil {
				t.Fatal(err)
			}
			if err := cl.finish(); err != nil {
				t.Fatal(err)
			}
			wait(time.Until(begun.Add(time.Duration(i) * 15 * time.Millisecond)))
		}
		took := time.Since(begun)
		r := c.end()
		_, _, all := p.production.counts()
		expectLeftOut(t, r, ledger.OverBandwidth, p.target, conns, all)
		sum := 0
		for i, line := range p.target.lines {
			_, text, _ := strings.Cut(line, " ")
			sum += len(text) + 1
			at := p.target.times[i].Sub(begun)
			if most := perSecond*(1+at.Seconds()) + float64(longest); float64(sum) > most {
				t.Errorf("%d bytes at the target after %v, wanted at most %.0f", sum, at, most)
			}
		}
		t.Logf("%d bytes in %v", sum, took)
		if float64(sum) < 0.8*perSecond*(1+took.Seconds()) {
			t.Errorf("%d bytes at the target in %v, wanted about %d a second, and as many besides",
				sum, took, perSecond)
		}
		production := p.production.said()
		for _, said := range p.target.said() {
			if _, ok := slices.BinarySearch(production, said); !ok {
				t.Errorf("a session at the target is not one of production's: %.60q (%d bytes)",
					said, len(said))
			}
		}
	})
}

// TestStagger checks that each further copy opens, and sends each line, --stagger later than the
// copy before.
func TestStagger(t *testing.T) {
	const conns, lines, copies, stagger = 20, 4, 3, 100 * time.Millisecond
	eachWay(t, func(t *testing.T, way string) {
		s := newStand(t, setting{way: way})
		p := s.pair()
		c := s.copyPair("-n", fmt.Sprint(copies),
			"--stagger", stagger.String())
		var mu sync.Mutex
		dialled, asked := make(map[string]time.Time), make(map[string]time.Time)
		note := func(of map[string]time.Time, text string) {
			mu.Lock()
			of[text] = time.Now()
			mu.Unlock()
		}
		var all sync.WaitGroup
		for i := range conns {
			all.Go(func() {
				wait(time.Duration(i) * 7 * time.Millisecond)
				note(dialled, fmt.Sprintf("client %d line 0", i))
				cl, err := tryDial(s.net.Client, netlab.ClientAddr(i%4, false),
					netip.AddrPortFrom(s.production, productionPort))
				for n := 0; n < lines && err == nil; n++ {
					wait(30 * time.Millisecond)
					line := fmt.Sprintf("client %d line %d", i, n)
					note(asked, line)
					err = cl.ask(line)
				}
				if err == nil {
					err = cl.finish()
				}
				if err != nil {
					t.Errorf("client %d: %v", i, err)
				}
			})
		}
		all.Wait()
		eventually(t, "the target has all",
			func() bool { return p.target.lineCount() == copies*conns*lines })
		opened, _, bytes := p.production.counts()
		r := c.end()
		expectComplete(t, r, copies*opened, copies*bytes)
		var want []string
		for _, text := range p.production.said() {
			want = append(want, text, text, text)
		}
		expectSame(t, "what connections said", p.target.said(), want)

		said, began := make(map[string][]time.Time), make(map[string][]time.Time)
		for i, line := range p.target.lines {
			id, text, _ := strings.Cut(line, " ")
			said[text] = append(said[text], p.target.times[i])
			if _, first := dialled[text]; first {
				var n int
				fmt.Sscan(id, &n)
				began[text] = append(began[text], p.target.accepts[n-1])
			}
		}
		later(t, "begins", dialled, began, stagger, stoodStill(r))
		later(t, "says a line", asked, said, stagger, stoodStill(r))
	})
}

// later reports whether the copies of each happened no sooner than so much later than the one
// before, and mostly not much later than that, but for the time that the copier stood still.
func later(t *testing.T, what string, asked map[string]time.Time, happened map[string][]time.Time,
	by, still time.Duration) {
	t.Helper()
	var late []time.Duration
	for text, from := range asked {
		all := happened[text]
		slices.SortFunc(all, time.Time.Compare)
		for i, at := range all {
			d := at.Sub(from) - time.Duration(i)*by
			if d < 0 {
				t.Errorf("copy %d of %q %s %v after its client, wanted %v", i, text, what,
					at.Sub(from), time.Duration(i)*by)
			}
			late = append(late, d)
		}
	}
	slices.Sort(late)
	median := late[len(late)/2]
	t.Logf("a copy %s %v after its time (median; at most %v)", what, median, late[len(late)-1])
	if most := by/2 + still; median > most {
		t.Errorf("a copy %s %v after its time, wanted less than %v", what, median, most)
	}
}

// life is one connection of a load.
type life struct {
	from      netip.AddrPort
	dial, end time.Time
}

// rampLives opens rate connections a second, conns in all, each of which sends its number.
func (s *stand) rampLives(conns, rate int, begin time.Time) []life {
	lives := make([]life, conns)
	var all sync.WaitGroup
	for i := range conns {
		wait(time.Until(begin.Add(time.Duration(i) * time.Second / time.Duration(rate))))
		all.Go(func() {
			l := &lives[i]
			l.dial = time.Now()
			c, err := tryDial(s.net.Client, netlab.ClientAddr(i%4, false),
				netip.AddrPortFrom(s.production, productionPort))
			if err == nil {
				l.from = netip.MustParseAddrPort(c.LocalAddr().String())
				err = c.ask(fmt.Sprintf("ramp %d", i))
			}
			if err == nil {
				err = c.finish()
			}
			l.end = time.Now()
			if err != nil {
				s.t.Errorf("connection %d: %v", i, err)
			}
		})
	}
	all.Wait()
	return lives
}

// TestRamp checks that the share of the sessions that are copied grows to all of them, and that a
// session that belongs to the share at some time belongs to it from then on.
func TestRamp(t *testing.T) {
	const conns, rate, ramp, lag = 600, 200, 2 * time.Second, 500 * time.Millisecond
	for _, way := range []string{socket, tunnel} {
		if testing.Short() && way != socket {
			continue
		}
		t.Run(way, func(t *testing.T) {
			s := newStand(t, setting{way: way})
			p := s.pair()
			if way == tunnel {
				s.onTarget()
			}
			before := time.Now() // the copier begins after that,
			c := s.copyPair("--ramp", ramp.String())
			ready := time.Now() // and before this
			lives := s.rampLives(conns, rate, ready)
			r := c.end()
			said := p.target.said()
			production := netip.AddrPortFrom(s.production, productionPort)
			open, first := 0, 0
			for i, l := range lives {
				_, there := slices.BinarySearch(said, fmt.Sprintf("ramp %d|", i))
				if there && i < conns/3 {
					first++
				}
				// as early, and as late, as the copier may have begun, and come to its packets
				switch {
				case shard.Sampled(l.from, production, false,
					float64(l.dial.Sub(ready))/float64(ramp)):
					if !there {
						t.Errorf("connection %d is not at the target, %v after the start", i,
							l.dial.Sub(ready))
					}
				case !shard.Sampled(l.from, production, false,
					float64(l.end.Add(lag).Sub(before))/float64(ramp)):
					if there {
						t.Errorf("connection %d is at the target, %v after the start", i,
							l.end.Sub(before))
					}
				default:
					open++
				}
			}
			opened, n, bytes := p.target.counts()
			t.Logf("%d of %d at the target, %d of the first %d; %d may be or not", opened, conns,
				first, conns/3, open)
			if first < conns/3/8 || first > conns/3*7/8 || open > conns/3 {
				t.Errorf("%d of the first %d are at the target, wanted about half of them; of "+
					"%d it is open", first, conns/3, open)
			}
			if opened != n || len(slices.Compact(said)) != n {
				t.Errorf("%d connections and %d lines at the target, wanted each once", opened, n)
			}
			_, _, asked := p.production.counts()
			// One that joins the share between its opening and its line is found under way.
			found, foundBytes := r.Sessions.Dropped["no_syn"], r.Bytes.Dropped["no_syn"]
			if r.Sessions.Captured != conns+r.Adopted+found || found > uint64(open) ||
				r.Sessions.Delivered != uint64(opened) ||
				r.Sessions.Dropped["sampled_out"] != r.Sessions.Captured-uint64(opened)-found ||
				r.Bytes.Captured != uint64(asked) || r.Bytes.Delivered != uint64(bytes) ||
				r.Bytes.Dropped["sampled_out"] != uint64(asked-bytes)-foundBytes {
				t.Errorf("the account: %+v %+v, adopted %d; wanted %d sessions and %d bytes "+
					"delivered, and the others sampled out", r.Sessions, r.Bytes, r.Adopted,
					opened, bytes)
			}
		})
	}
}
