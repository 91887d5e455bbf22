package e2e

import (
	"bytes"
	"errors"
	"slices"
	"testing"
	"time"

	"tcpcopy/internal/lab"
	"tcpcopy/internal/lab/netlab"
)

// labRuns is what a copy must come through without a request missing, doubled, out of order,
// damaged or early, with the ledger of one mind with both servers.
var labRuns = []struct {
	name    string
	short   bool // with -short too
	options lab.Options
}{
	{"50 keepalive connections, 5 ms think time", true, lab.Options{Scenario: "keepalive"}},
	{"5,000 short connections", false, lab.Options{Scenario: "short"}},
	{"target three times slower", false, lab.Options{Scenario: "keepalive", Answers: lab.Slower}},
	{"answers five times larger", true, lab.Options{Scenario: "keepalive", Answers: lab.Bigger}},
	{"answers five times smaller", false, lab.Options{Scenario: "keepalive", Answers: lab.Smaller}},
	{"pipelined four at a time", true, lab.Options{Scenario: "pipelined"}},
	{"100 KB uploads", true, lab.Options{Scenario: "upload"}},
	{"500 KB answers", false, lab.Options{Scenario: "download"}},
	{"server that greets", true, lab.Options{Scenario: "greeting"}},
	{"dribbled requests", false, lab.Options{Scenario: "dribble"}},
	{"clients that reset", true, lab.Options{Scenario: "reset"}},
	{"100 connections as fast as they go", false, lab.Options{Scenario: fastest,
		Duration: 2 * time.Second}},
	{"answers in slices", false, lab.Options{Scenario: "slices"}},
	{"offloads off, uploads", false, lab.Options{Scenario: "upload", NoOffloads: true}},
	{"offloads off, pipelined", false, lab.Options{Scenario: "pipelined", NoOffloads: true}},
	{"connections begun before the copier", true, lab.Options{Scenario: "late",
		Duration: 5 * time.Second}},
	{"IPv6, keepalive", true, lab.Options{Scenario: "keepalive", IPv6: true}},
	{"IPv6, uploads", false, lab.Options{Scenario: "upload", IPv6: true}},
	{"IPv6, clients that reset", false, lab.Options{Scenario: "reset", IPv6: true}},
	{"IPv6, begun before the copier", false, lab.Options{Scenario: "late", IPv6: true,
		Duration: 5 * time.Second}},
	{"1 % of the target's packets lost", false, lab.Options{Scenario: "keepalive", Loss: 1}},
	{"1 % of the clients' packets lost", false, lab.Options{Scenario: "keepalive", ClientLoss: 1}},
}

// fastest is the load that takes all of the machine: the copy goes on after it for a while, so that
// an average over the run says nothing. What counts is the most at the same time, which the lab
// judges.
const fastest = "fast"

// labDuration is how long a run's load goes on, where it does not say otherwise.
const labDuration = 900 * time.Millisecond

func TestLab(t *testing.T) {
	for _, run := range labRuns {
		if testing.Short() && !run.short {
			continue
		}
		t.Run(run.name, func(t *testing.T) {
			eachWay(t, func(t *testing.T, way string) {
				o := run.options
				o.Via = way
				if o.Duration == 0 && o.Scenario != "short" {
					o.Duration = labDuration
				}
				o.CopyArgs = slices.Concat(roomyRing, o.CopyArgs)
				playLab(t, o)
			})
		})
	}
}

// roomyRing makes a capture ring that lasts for a second without a processor: on a machine that
// runs other tests too, the smaller one of a production host would lose packets, and nothing would
// be learned.
var roomyRing = []string{"-B", "64"}

// playLab runs the lab and fails the test for everything that is not as it should be.
func playLab(t *testing.T, o lab.Options) *lab.Result {
	t.Helper()
	o.Binary = binary
	r, err := lab.Run(t.Context(), o)
	if denied := (*netlab.PermissionError)(nil); errors.As(err, &denied) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	r.Print(&b)
	if o.Answers != lab.Slower && o.Scenario != fastest && o.Replay == nil {
		crowd(t, r)
	}
	if len(r.Problems()) > 0 {
		t.Errorf("%s", b.String())
	}
	return r
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

// idleMemory bounds what the copier takes for 8,000 connections.
const idleMemory = 64 << 20

func TestLabIdleConnections(t *testing.T) {
	if testing.Short() {
		t.Skip("8,000 connections: left out with -short")
	}
	eachWay(t, func(t *testing.T, way string) {
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
