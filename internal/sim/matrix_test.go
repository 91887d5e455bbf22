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

	"tcpcopy/internal/tcp"
)

var update = flag.Bool("update", false, "write the golden tables")

// TestMatrix sends over every kind of bad network: every byte arrives once and in order, in both
// directions, whatever happens. How long it took, in virtual time, and how much was sent again is compared
// with a table, so that a change in behaviour is seen; -update writes the table.
func TestMatrix(t *testing.T) {
	seeds := int64(20)
	if testing.Short() {
		seeds = 3
	}
	var table strings.Builder
	fmt.Fprintf(&table, "%6s %7s %3s %6s %12s %12s %8s\n", "loss%", "reorder", "dup", "rtt", "median", "worst", "resent")
	for _, loss := range []float64{0, 0.1, 1, 5, 20} {
		for _, reorder := range []bool{false, true} {
			for _, dup := range []bool{false, true} {
				for _, rtt := range []time.Duration{100 * time.Microsecond, 10 * time.Millisecond, 100 * time.Millisecond} {
					row := fmt.Sprintf("%6.1f %7v %3s %6v", loss, yes(reorder), yes(dup), rtt)
					var took []time.Duration
					resent := 0
					for seed := range seeds {
						tr := badNetwork(loss/100, reorder, dup, rtt, seed)
						out := tr.must(t)
						if out.err != nil {
							t.Errorf("at %s", row)
							continue
						}
						took = append(took, out.took)
						resent += out.retrans
					}
					if len(took) == 0 {
						continue
					}
					sort.Slice(took, func(i, j int) bool { return took[i] < took[j] })
					fmt.Fprintf(&table, "%s %12v %12v %8.2f\n", row,
						took[len(took)/2].Round(100*time.Microsecond), took[len(took)-1].Round(100*time.Microsecond),
						float64(resent)/float64(len(took)))
				}
			}
		}
	}
	if testing.Short() {
		return
	}
	golden(t, "matrix.txt", table.String())
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
