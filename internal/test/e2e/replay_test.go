package e2e

import (
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"tcpcopy/internal/lab"
	"tcpcopy/internal/lab/netlab"
)

// tcpdump records what our own recorder does, for a file of another tool.
func tcpdump(t *testing.T, args ...string) *lab.Replay {
	t.Helper()
	// Its ring has slots of the snapshot length: with the default length it holds some 40 ms of
	// these loads, and tcpdump may not run for longer.
	return &lab.Replay{
		Recorder: append([]string{find(t, "tcpdump"), "-n", "-U", "-w", lab.RecordedFile,
			"--immediate-mode", "-s", "4096", "-B", "65536", "tcp port 80"}, args...),
		Ready: "tcpdump: listening",
	}
}

// handled is a recording of tcpdump that went through Wireshark's tools: cut into pieces of another
// format, some of them merged again and compressed.
func handled(t *testing.T) *lab.Replay {
	t.Helper()
	editcap, mergecap := find(t, "editcap"), find(t, "mergecap")
	r := tcpdump(t, "-i", "eth0")
	r.Prepare = func(file string) ([]string, error) {
		base := filepath.Join(filepath.Dir(file), "piece.pcap")
		if out, err := exec.Command(editcap, "-F", "nsecpcap", "-c", "1500", file,
			base).CombinedOutput(); err != nil {
			return nil, fmt.Errorf("editcap: %w: %s", err, out)
		}
		pieces, err := filepath.Glob(filepath.Join(filepath.Dir(file), "piece_*"))
		if err != nil || len(pieces) < 3 {
			return nil, fmt.Errorf("pieces: %q, %w", pieces, err)
		}
		merged := filepath.Join(filepath.Dir(file), "merged.pcapng")
		if out, err := exec.Command(mergecap, "-w", merged, pieces[2],
			pieces[0]).CombinedOutput(); err != nil {
			return nil, fmt.Errorf("mergecap: %w: %s", err, out)
		}
		if out, err := exec.Command("gzip", merged).CombinedOutput(); err != nil {
			return nil, fmt.Errorf("gzip: %w: %s", err, out)
		}
		return append(pieces[3:], merged+".gz", pieces[1]), nil
	}
	return r
}

// startsWithin is how near to their time connections begin at the target, at the 99th percentile.
// The machine that runs the tests does other things too: what a quiet one does is a twentieth of
// it.
const startsWithin = 100 * time.Millisecond

// TestReplay copies a recorded load as a live one: nothing may be missing, doubled, out of order,
// damaged or early.
func TestReplay(t *testing.T) {
	recorded := &lab.Replay{}
	for _, test := range []struct {
		name   string
		ways   []string
		quick  []string // of the ways, those of a run with -short
		load   string
		speed  string
		take   time.Duration
		replay *lab.Replay
		ipv6   bool
	}{
		{name: "as recorded", ways: ways, quick: only(raw), load: "keepalive", speed: "1",
			take: time.Second, replay: recorded},
		{name: "3.7 times as fast", ways: only(socket, raw), load: "keepalive", speed: "3.7",
			take: 2 * time.Second, replay: recorded},
		{name: "as fast as can be", ways: ways, quick: only(tunnel), load: "keepalive",
			speed: "max", take: time.Second, replay: recorded},
		{name: "short connections, as fast as can be", ways: only(socket), load: "short",
			speed: "max", replay: recorded},
		{name: "uploads, as fast as can be", ways: only(socket), load: "upload",
			speed: "max", take: time.Second, replay: recorded},
		{name: "tcpdump on an interface", ways: only(raw), load: "pipelined",
			speed: "1", take: time.Second, replay: tcpdump(t, "-i", "eth0")},
		{name: "tcpdump on any interface, IPv6", ways: only(socket), quick: ways, load: "reset",
			speed: "1", take: time.Second, replay: tcpdump(t, "-i", "any"), ipv6: true},
		{name: "cut and merged by others", ways: only(socket), quick: ways, load: "keepalive",
			speed: "1", take: time.Second, replay: handled(t)},
	} {
		if testing.Short() && test.quick == nil {
			continue
		}
		t.Run(test.name, func(t *testing.T) {
			for _, way := range test.ways {
				if testing.Short() && !slices.Contains(test.quick, way) {
					continue
				}
				t.Run(way, func(t *testing.T) {
					r := playLab(t, lab.Options{
						Via: way, Scenario: test.load, Duration: test.take, Replay: test.replay,
						IPv6:     test.ipv6,
						CopyArgs: []string{"--speed", test.speed},
					})
					if r.Report == nil || r.Report.Replay == nil {
						t.Fatal("no account of a replay")
					}
					t.Logf("starts within %v; %+v %+v", r.StartsWithin(99), r.Report.Replay.Late,
						r.Report.Behind)
					most := startsWithin + stoodStill(r.Report) + labStoodStill(r)
					if test.speed == "1" && r.StartsWithin(99) > most {
						t.Errorf("99 %% of the connections begin within %v of their time, "+
							"wanted %v", r.StartsWithin(99), most)
					}
				})
			}
		})
	}
}

// TestReplayLoop checks that each pass of a loop opens new connections, from the same clients'
// addresses and ports.
func TestReplayLoop(t *testing.T) {
	t.Parallel()
	for _, way := range []string{raw, tunnel} {
		t.Run(way, func(t *testing.T) {
			const passes = 3
			r, err := lab.Run(t.Context(), lab.Options{
				Via: way, Binary: binary, Replay: &lab.Replay{}, CopyArgs: []string{"--speed", "4",
					"--loop", fmt.Sprint(passes)},
				Load: &lab.Scenario{
					Name: "loop", Conns: 10, Requests: 5, Think: 5 * time.Millisecond,
					Duration:     400 * time.Millisecond,
					RequestBytes: 200, AnswerBytes: 500,
				},
			})
			if denied := (*netlab.PermissionError)(nil); errors.As(err, &denied) {
				t.Skip(err)
			}
			if err != nil {
				t.Fatal(err)
			}
			got := []int64{r.Target.Requests, r.Target.Opened, r.Target.Duplicated, r.Target.Early,
				r.Target.Corrupted, r.Comparison.Missing, int64(r.Copier.ExitCode)}
			want := []int64{passes * r.Production.Requests, passes * r.Production.Opened,
				(passes - 1) * r.Production.Requests, 0, 0, 0, 0}
			if !slices.Equal(got, want) || r.Production.Requests == 0 || r.Report == nil ||
				len(r.Report.Sessions.Dropped) > 0 {
				t.Errorf("requests, connections, repeated, early, damaged, missing, exit code: "+
					"%v, wanted %v\n%+v\n%q", got, want, r.Report, r.Copier.Stderr)
			}
		})
	}
}
