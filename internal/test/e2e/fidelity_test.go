package e2e

import (
	"syscall"
	"testing"
	"time"

	"tcpcopy/internal/account/fidelity"
	"tcpcopy/internal/lab/netlab"
)

// faithful is what a part of the score is at least of a copy that nothing has disturbed in it.
const faithful = 80

// TestFidelity checks, on real copies, that each of these faults lowers the part of the fidelity
// score that it concerns, and no other one.
func TestFidelity(t *testing.T) {
	for _, tc := range []struct {
		name, part string
		who        fidelity.Who // empty: whoever
		args       []string
		lose       int  // of so many captured packets one is lost; 0: none
		still      bool // it stands still for half of the time
		quick      bool
	}{
		{name: "nothing"},
		{name: "wait none", part: "earliness", who: fidelity.Tool,
			args: []string{"--wait", "none"}, quick: true},
		{name: "1 % of the captured packets lost", part: "delivery", who: fidelity.Tool,
			lose: 100},
		{name: "a copier that stands still now and then", part: "timing", who: fidelity.Tool,
			still: true},
	} {
		if testing.Short() && !tc.quick {
			continue
		}
		t.Run(tc.name, func(t *testing.T) {
			s := newStand(t, setting{way: socket, net: netlab.Config{NoOffloads: true}})
			s.pair()
			var c *copier
			if tc.lose > 0 {
				lossy := geneveMirror
				lossy.late, lossy.lose = 0, tc.lose
				if err := lossy.start(t, s.net); err != nil {
					t.Fatal(err)
				}
				c = s.copyOn(s.net.Assistant, "-x", s.mapping(productionPort, targetPort),
					"--from", "geneve://:6081", fromMirror[0], fromMirror[1])
			} else {
				c = s.copyPair(tc.args...)
			}
			kept := s.keepOpen(productionPort, 20)
			think := time.NewTicker(10 * time.Millisecond)
			defer think.Stop()
			for n := range 250 {
				if tc.still && n%20 == 0 {
					c.signal([]syscall.Signal{syscall.SIGSTOP, syscall.SIGCONT}[n/20%2])
				}
				kept.say()
				<-think.C
			}
			c.signal(syscall.SIGCONT)
			kept.finish()
			r := c.end()
			for _, p := range r.Fidelity.Parts {
				t.Logf("%s: %v: %s", p.Name, value(p), p.Why)
				if low := value(p) < faithful; low != (p.Name == tc.part) {
					t.Errorf("%s is %v: %s", p.Name, value(p), p.Why)
				}
			}
			if tc.who != "" && r.Fidelity.Who != tc.who {
				t.Errorf("%s: %s; wanted %s", r.Fidelity.Who, r.Fidelity.Verdict, tc.who)
			}
		})
	}
}

// value is -1 of a part that has none.
func value(p fidelity.Part) float64 {
	if p.Value == nil {
		return -1
	}
	return *p.Value
}
