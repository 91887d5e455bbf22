package e2e

import (
	"os/exec"
	"testing"
	"time"

	"tcpcopy/internal/lab"
)

// busyRuns are the loads that bring most packets or connections at once.
var busyRuns = []labRun{
	{"100 KB uploads on 20 connections", nil, lab.Options{
		Scenario: "upload", Conns: 20, Duration: 3 * time.Second}},
	{"offloads off, answers as long as uploads", nil, lab.Options{
		NoOffloads: true, Load: &lab.Scenario{Conns: 20, Requests: 50, Total: 20,
			Think: 20 * time.Millisecond, RequestBytes: 100_000, AnswerBytes: 100_000}}},
	{"5,000 short connections", nil, lab.Options{Scenario: "short"}},
	{"keepalive connections", nil, lab.Options{Scenario: "keepalive"}},
}

// TestLabBesideBusyLoop plays loads while another process takes all that it gets of one processor.
// Nothing may be lost. How many connections are open at once says nothing there.
func TestLabBesideBusyLoop(t *testing.T) {
	for _, run := range busyRuns {
		t.Run(run.name, func(t *testing.T) {
			someWays(t, run.quick, func(t *testing.T, way string) {
				o := run.options
				o.Via = way
				if o.NoOffloads && way == raw {
					t.Log("left out: one run in twenty loses some of its 150,000 packets, since " +
						"the copier is away from its processor for longer than the ring lasts")
					return
				}
				defer busyLoop(t)()
				r := runLab(t, o)
				r.Target.MostOpen = min(r.Target.MostOpen, r.Production.MostOpen)
				judgeLab(t, r)
				if n := r.Report.Packets.KernelDrop; n > 0 {
					t.Errorf("%d packets were lost in the kernel", n)
				}
			})
		})
	}
}

// busyLoop starts a process that takes all that it gets of one processor, and returns what ends it.
func busyLoop(t *testing.T) (end func()) {
	t.Helper()
	loop := exec.Command(find(t, "sh"), "-c", "while :; do :; done")
	if err := loop.Start(); err != nil {
		t.Fatal(err)
	}
	return func() {
		_ = loop.Process.Kill()
		_ = loop.Wait()
	}
}
