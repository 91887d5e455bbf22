package e2e

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"tcpcopy/internal/lab"
	"tcpcopy/internal/lab/netlab"
)

// labRun is one load of the lab.
type labRun struct {
	name    string
	quick   []string // the ways that a run with -short takes; the others run without
	options lab.Options
}

// labRuns are loads that a copy must carry without a request missing, doubled, out of order,
// damaged or early, and with an account that agrees with both servers.
var labRuns = []labRun{
	{"50 keepalive connections, 5 ms think time", ways, lab.Options{Scenario: "keepalive"}},
	{"5,000 short connections", nil, lab.Options{Scenario: "short"}},
	{"target three times slower", nil,
		lab.Options{Scenario: "keepalive", Answers: lab.Slower}},
	{"answers five times larger", nil,
		lab.Options{Scenario: "keepalive", Answers: lab.Bigger}},
	{"answers five times smaller", nil, lab.Options{Scenario: "keepalive", Answers: lab.Smaller}},
	{"pipelined four at a time", only(socket), lab.Options{Scenario: "pipelined"}},
	{"100 KB uploads", only(tunnel), lab.Options{Scenario: "upload"}},
	{"100 KB uploads on 20 connections, for longer", nil,
		lab.Options{Scenario: "upload", Conns: 20, Duration: 3 * time.Second}},
	{"500 KB answers", only(raw), lab.Options{Scenario: "download"}},
	{"server that greets", only(raw), lab.Options{Scenario: "greeting"}},
	{"dribbled requests", nil, lab.Options{Scenario: "dribble"}},
	{"clients that reset", only(socket), lab.Options{Scenario: "reset"}},
	{"100 connections as fast as they go", nil,
		lab.Options{Scenario: fastest, Duration: 2 * time.Second}},
	{"answers in slices", nil, lab.Options{Scenario: "slices"}},
	{"offloads off, uploads", nil, lab.Options{Scenario: "upload", NoOffloads: true}},
	{"offloads off, pipelined", nil, lab.Options{Scenario: "pipelined", NoOffloads: true}},
	{"connections begun before the copier", only(raw),
		lab.Options{Scenario: "late", Duration: 6 * time.Second}},
	{"IPv6, keepalive", only(tunnel), lab.Options{Scenario: "keepalive", IPv6: true}},
	{"IPv6, uploads", nil, lab.Options{Scenario: "upload", IPv6: true}},
	{"IPv6, clients that reset", nil, lab.Options{Scenario: "reset", IPv6: true}},
	{"IPv6, begun before the copier", nil,
		lab.Options{Scenario: "late", IPv6: true, Duration: 6 * time.Second}},
	{"1 % of the target's packets lost", only(raw), lab.Options{Scenario: "keepalive", Loss: 1}},
	{"1 % of the clients' packets lost", nil,
		lab.Options{Scenario: "keepalive", ClientLoss: 1}},
}

// fastest is the load that takes all of the machine: the copy goes on after it for a while, so that
// an average over the run says nothing. What counts is the most at the same time, which the lab
// judges.
const fastest = "fast"

// labDuration is how long a run's load lasts by default.
const labDuration = 900 * time.Millisecond

func TestLab(t *testing.T) {
	for _, run := range labRuns {
		if testing.Short() && run.quick == nil {
			continue
		}
		t.Run(run.name, func(t *testing.T) {
			someWays(t, run.quick, func(t *testing.T, way string) {
				o := run.options
				o.Via = way
				if o.Duration == 0 && o.Scenario != "short" {
					o.Duration = labDuration
				}
				playLab(t, o)
			})
		})
	}
}

// playLab runs the lab and fails the test for everything that is not as it should be.
func playLab(t *testing.T, o lab.Options) *lab.Result {
	t.Helper()
	r := runLab(t, o)
	if o.Answers != lab.Slower && o.Scenario != fastest && o.Replay == nil {
		crowd(t, r)
	}
	judgeLab(t, r)
	return r
}

// runLab runs the lab.
func runLab(t *testing.T, o lab.Options) *lab.Result {
	t.Helper()
	o.Binary = binary
	r, err := lab.Run(t.Context(), o)
	if denied := (*netlab.PermissionError)(nil); errors.As(err, &denied) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// judgeLab fails the test for the problems of a result.
func judgeLab(t *testing.T, r *lab.Result) {
	t.Helper()
	if len(r.Problems()) > 0 {
		var b bytes.Buffer
		r.Print(&b)
		t.Errorf("%s", b.String())
	}
}

// crowd compares how many connections were open at the same time. One moment without a processor
// makes a crowd at the target for that moment, so on a machine that does other things too the most
// is no measure, and the average over the run is.
func crowd(t *testing.T, r *lab.Result) {
	t.Helper()
	var production, target int64
	for _, s := range r.Samples {
		production += s.Production
		target += s.Target
	}
	n := int64(max(len(r.Samples), 1))
	// Of connections shorter than the time between two samples the average is itself a sample.
	const slack = 4
	if 2*target > 3*production+2*slack*n {
		t.Errorf("%.1f connections at the target on average, more than 1.5 times production's %.1f",
			float64(target)/float64(n), float64(production)/float64(n))
	}
	if r.Target.MostOpen*2 > r.Production.MostOpen*3 {
		t.Logf("%d connections at the same time at the target at most, %d at production",
			r.Target.MostOpen, r.Production.MostOpen)
	}
	r.Target.MostOpen = min(r.Target.MostOpen, r.Production.MostOpen) // judged here
}

// idleMemory bounds the copier's memory for 8,000 connections, in bytes.
const idleMemory = 64 << 20

func TestLabIdleConnections(t *testing.T) {
	someWays(t, only(), func(t *testing.T, way string) {
		r := playLab(t, lab.Options{Via: way, Scenario: "idle", Duration: 6 * time.Second})
		if r.Production.MostOpen < 8000 {
			t.Errorf("%d connections at the same time at production, wanted 8,000",
				r.Production.MostOpen)
		}
		if r.Copier.MaxRSS > idleMemory {
			t.Errorf("the copier took %d MB, wanted %d at most", r.Copier.MaxRSS>>20,
				idleMemory>>20)
		}
	})
}
