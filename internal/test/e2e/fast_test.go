package e2e

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"tcpcopy/internal/lab/netlab"
)

// TestFastClient checks that a client that asks one line after the other, as fast as production
// answers, is copied by a connection that is not much slower. If each answer waited at the
// intercept for the end of a capture block, 2 ms, a thousand lines would take two seconds. One fast
// round of several is enough.
func TestFastClient(t *testing.T) {
	s := newStand(t, setting{way: raw})
	p := s.pair()
	c := s.copyPair()
	const rounds, lines, most = 5, 1000, 1500 * time.Millisecond
	client := dial(t, s.net.Client, netlab.ClientAddr(0, false), netip.AddrPortFrom(s.production,
		productionPort))
	best := time.Duration(0)
	for round := 0; round < rounds && (best == 0 || best > most); round++ {
		start := time.Now()
		for n := range lines {
			if err := client.ask(fmt.Sprintf("round %d line %d", round, n)); err != nil {
				t.Fatal(err)
			}
		}
		p.caughtUp(t)
		if took := time.Since(start); best == 0 || took < best {
			best = took
		}
	}
	if best > most {
		t.Errorf("the fastest of %d rounds of %d lines took %v to reach the target, wanted %v "+
			"at most", rounds, lines, best, most)
	}
	t.Logf("%d lines in %v", lines, best)
	if err := client.finish(); err != nil {
		t.Fatal(err)
	}
	c.end()
	p.expectSame(t)
}
