package sim

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"
	"time"

	"tcpcopy/internal/way/raw/tcp"
)

var update = flag.Bool("update", false, "write the golden tables")

// matrix is a table of transfers over bad networks.
type matrix struct {
	golden         string
	losses         []float64 // percent
	reorders, dups []bool
	rtts           []time.Duration
	seeds          int64
	upload, answer int
	control        uint8
	rate, queue    int // of a bottleneck, as in Path
	table          strings.Builder
}

// TestMatrix sends over every kind of bad network: every byte arrives once and in order, in both
// directions, whatever happens. How long it took, in virtual time, and how much was sent again is
// compared with a table, so that a change in behaviour is seen; -update writes the table.
func TestMatrix(t *testing.T) {
	either := []bool{false, true}
	rtts := []time.Duration{100 * time.Microsecond, 10 * time.Millisecond, 100 * time.Millisecond}
	for _, m := range []*matrix{
		{golden: "matrix.txt", losses: []float64{0, 0.1, 1, 5, 20}, reorders: either, dups: either,
			rtts: rtts, seeds: 20, upload: 60_000,
			answer: 20_000},
		{golden: "matrix-bbr.txt", losses: []float64{0, 0.1, 1, 5, 20}, reorders: either,
			dups: []bool{false}, rtts: rtts, seeds: 10,
			upload: 300_000, answer: 1000, control: tcp.BBR},
		{golden: "matrix-bbr-bottleneck.txt", losses: []float64{0, 0.1, 1, 5},
			reorders: []bool{false}, dups: []bool{false}, rtts: rtts, seeds: 5,
			upload: 2_000_000, answer: 1000, control: tcp.BBR, rate: 1_250_000, queue: 40_000},
	} {
		t.Run(strings.TrimSuffix(m.golden, ".txt"), m.run)
	}
}

func (m *matrix) run(t *testing.T) {
	if testing.Short() {
		m.seeds = 3
	}
	fmt.Fprintf(&m.table, "%6s %7s %3s %6s %12s %12s %8s\n", "loss%", "reorder", "dup", "rtt",
		"median", "worst", "resent")
	for _, loss := range m.losses {
		for _, reorder := range m.reorders {
			for _, dup := range m.dups {
				for _, rtt := range m.rtts {
					m.row(t, loss, reorder, dup, rtt)
				}
			}
		}
	}
	if !testing.Short() {
		golden(t, m.golden, m.table.String())
	}
}

func (m *matrix) row(t *testing.T, loss float64, reorder, dup bool, rtt time.Duration) {
	row := fmt.Sprintf("%6.1f %7v %3s %6v", loss, yes(reorder), yes(dup), rtt)
	var took []time.Duration
	resent := 0
	for seed := range m.seeds {
		tr := badNetwork(loss/100, reorder, dup, rtt, seed)
		tr.upload, tr.answer, tr.cfg.CongestionControl = m.upload, m.answer, m.control
		tr.up.Rate, tr.up.Queue = m.rate, m.queue
		out := tr.must(t)
		if out.err != nil {
			t.Errorf("at %s", row)
			continue
		}
		took = append(took, out.took)
		resent += out.retrans
	}
	if len(took) == 0 {
		return
	}
	sort.Slice(took, func(i, j int) bool { return took[i] < took[j] })
	fmt.Fprintf(&m.table, "%s %12v %12v %8.2f\n", row,
		took[len(took)/2].Round(100*time.Microsecond),
		took[len(took)-1].Round(100*time.Microsecond),
		float64(resent)/float64(len(took)))
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// badNetwork is one transfer of the matrix.
func badNetwork(loss float64, reorder, dup bool, rtt time.Duration, seed int64) *transfer {
	p := Path{Delay: rtt / 2, Jitter: rtt / 10, Loss: loss}
	if reorder {
		p.Reorder, p.Late = 0.05, rtt/3
	}
	if dup {
		p.Duplicate = 0.05
	}
	return &transfer{
		seed: seed, upload: 60_000, segment: 3000, answer: 20_000, up: p, down: p,
		cfg: tcp.Config{Syn: fullSyn(), SynRetries: 12},
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v (go test -update writes it)", err)
	}
	if got == string(want) {
		return
	}
	w := strings.Split(string(want), "\n")
	for i, line := range strings.Split(got, "\n") {
		if i >= len(w) || line != w[i] {
			old := ""
			if i < len(w) {
				old = w[i]
			}
			t.Errorf("%s line %d:\nwant %s\ngot  %s", name, i+1, old, line)
		}
	}
	t.Log("go test -update writes the new table")
}
