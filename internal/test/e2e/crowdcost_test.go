package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"tcpcopy/internal/account/export"
	"tcpcopy/internal/lab/netlab"
)

// TestCrowdCost has the clients of few and of many connections ask at the same rate, and logs what
// a request takes of the CPU, and how late it is. The opening of the connections does not count.
func TestCrowdCost(t *testing.T) {
	const rate, seconds = 2000, 4
	someWays(t, only(), func(t *testing.T, way string) {
		for _, conns := range []int{50, 18_000} {
			t.Logf("%d connections: %.1f µs a request", conns,
				crowdCost(t, way, conns, rate, seconds))
		}
	})
}

// crowdCost returns how many microseconds of CPU copier and intercept take for a line on one of so
// many open connections. All lines must arrive.
func crowdCost(t *testing.T, way string, conns, rate, seconds int) float64 {
	t.Helper()
	s := newStand(t, setting{way: way, net: netlab.Config{Crowd: true}})
	crowds := s.crowds(1)
	crowds.lines, crowds.rate = rate*seconds, rate
	var working []*process
	if way != socket {
		working = append(working, s.assist())
	}
	c := s.copyPair()
	working = append(working, c.process)
	crowds.come(conns)
	eventually(t, "the target has all connections", func() bool {
		return talliesOf(crowds.target).lines == uint64(conns)
	})
	before := cpuSoFar(t, working)
	crowds.again()
	lines := uint64(conns + rate*seconds)
	eventually(t, "the target has all lines", func() bool {
		return talliesOf(crowds.target).lines == lines
	})
	took := cpuSoFar(t, working) - before
	at := talliesOf(crowds.target)
	t.Logf("%d connections: 99 %% of the lines came within %d ms (production: %d)", conns, at.late,
		talliesOf(crowds.production).late)
	said := talliesOf(crowds.clients)
	if at.said() != said.said() {
		t.Errorf("the target heard %+v, and the clients said %+v", at, said)
	}
	memory := export.PeakMemory(c.cmd.Process.Pid)
	crowds.goAway(said)
	expectComplete(t, c.end(), conns, int64(said.bytes))
	t.Logf("the copier took %d MB", memory>>20)
	return float64(took.Microseconds()) / float64(rate*seconds)
}

// cpuSoFar returns what running processes have taken.
func cpuSoFar(t *testing.T, processes []*process) (all time.Duration) {
	t.Helper()
	for _, p := range processes {
		of := fmt.Sprintf("/proc/%d/task/*/schedstat", p.cmd.Process.Pid)
		threads, err := filepath.Glob(of)
		if err != nil || len(threads) == 0 {
			t.Fatalf("%s: %v, %v", of, threads, err)
		}
		for _, thread := range threads {
			b, err := os.ReadFile(thread)
			var ns int64
			if err == nil {
				_, err = fmt.Sscan(string(b), &ns)
			}
			if err != nil {
				t.Fatalf("%s: %v", thread, err)
			}
			all += time.Duration(ns)
		}
	}
	return all
}
