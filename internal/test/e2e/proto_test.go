package e2e

import (
	"testing"
	"time"

	"tcpcopy/internal/lab"
)

// protoRuns are loads in a protocol that the copier recognises, on a target whose answers are not
// production's.
var protoRuns = []labRun{
	{"HTTP, larger answers", only(socket),
		lab.Options{Proto: "http1", Scenario: "keepalive", Answers: lab.Bigger}},
	{"Redis, smaller answers, pipelined", only(raw),
		lab.Options{Proto: "redis", Scenario: "pipelined", Answers: lab.Smaller}},
	{"HTTP, short connections", only(tunnel), lab.Options{Proto: "http1", Scenario: "short"}},
	{"HTTP, larger answers, begun before the copier", nil, lab.Options{Proto: "http1",
		Scenario: "late", Answers: lab.Bigger, Duration: 5 * time.Second}},
}

// TestLabProtocol checks that in a known protocol each turn waits for the end of the answers before
// it, of any length, and that each answer is in the account.
func TestLabProtocol(t *testing.T) {
	for _, run := range protoRuns {
		if testing.Short() && run.quick == nil {
			continue
		}
		t.Run(run.name, func(t *testing.T) {
			someWays(t, run.quick, func(t *testing.T, way string) {
				o := run.options
				o.Via = way
				if o.Duration == 0 {
					o.Duration = labDuration
				}
				r := playLab(t, o)
				if r.Report == nil {
					t.Fatalf("no report: %v", r.ReportError)
				}
				g, p := r.Report.Gate, r.Report.Protocol
				if guessed := g.Predicted + g.Quiet + g.Forced; g.Known == 0 || guessed > 0 {
					t.Errorf("%d turns waited for what is known, %d for a guess", g.Known, guessed)
				}
				if p.Lost > 0 {
					t.Errorf("%d copies could not be followed", p.Lost)
				}
				if p.Sent < uint64(r.Target.Requests) || p.Answered != p.Sent {
					t.Errorf("%d requests and %d answers in the account, %d requests at the target",
						p.Sent, p.Answered, r.Target.Requests)
				}
				if p.Status["2xx"] != p.Answered && o.Proto == "http1" {
					t.Errorf("%d of %d answers are 2xx", p.Status["2xx"], p.Answered)
				}
			})
		})
	}
}
