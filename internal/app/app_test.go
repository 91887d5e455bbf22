package app

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/testscript"

	"tcpcopy/internal/account/export"
	"tcpcopy/internal/config"
	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/doctor"
	"tcpcopy/internal/doctor/collect"
	"tcpcopy/internal/engine"
	"tcpcopy/internal/sys"
)

// TestMain runs the scripts' command lines with replaced functions that leave the network alone.
// Variables TEST_… in a script's environment control them.
func TestMain(m *testing.M) {
	run := func() {
		p := newProgram()
		p.wire()
		version = "1.2.3"
		p.host = config.Host{
			Interfaces: func() ([]string, error) { return []string{"lo", "eth0"}, nil },
			IPv6:       func() bool { return true },
			Local:      func(a netip.Addr) bool { return a.IsLoopback() },
		}
		p.has = func(c sys.Capability) bool { return os.Getenv("TEST_LACKS") != string(c) }
		p.scenarios = []config.Scenario{{Name: "keepalive", Help: "connections that stay"},
			{Name: "short", Help: "connections that go"}}
		p.copy, p.intercept, p.capture, p.lab = copyForTest, interceptForTest, captureForTest,
			p.labForTest
		p.quick = nil
		if os.Getenv("TEST_FAULT") != "" {
			p.quick = faultForTest
		}
		os.Exit(p.run(os.Args))
	}
	testscript.Main(m, map[string]func(){"tcpcopy": run, "intercept": run})
}

// faultForTest returns the facts of a host with a fault.
func faultForTest(s *collect.Subject) *doctor.Facts {
	return &doctor.Facts{
		Role: s.Role, Via: s.Via, Conntrack: &doctor.Conntrack{Count: 9, Max: 9}, Args: s.Args,
		Needs: []doctor.Need{{Capability: "CAP_NET_RAW"}},
	}
}

func snapshotForTest() *export.Snapshot {
	s := &export.Snapshot{Version: "1.2.3", Via: "socket", Mappings: []string{"80-10.0.0.2:8080"}}
	s.Start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	s.Now = s.Start.Add(10 * time.Second)
	s.Counters.Sessions = ledger.Flow{Captured: 2, Delivered: 1}
	s.Counters.Sessions.Drop(ledger.TLS, 1)
	return s
}

// copyForTest is ready at once, reports one line of statistics, and ends when it is told to stop.
func copyForTest(s *engine.Control, c *config.Copy,
	progress func(*export.Snapshot)) (*export.Snapshot, error) {
	if os.Getenv("TEST_FAIL") == "early" {
		return nil, fmt.Errorf("open ring: %w", os.ErrDeadlineExceeded)
	}
	if os.Getenv("TEST_FAIL") == "waiting" {
		return nil, fmt.Errorf("stopped while no intercept could be reached: %w", context.Canceled)
	}
	if path := os.Getenv("TEST_CONFIG"); path != "" {
		b, _ := json.Marshal(map[string]any{"via": c.Via, "mappings": c.MappingStrings(),
			"wait": c.Wait, "copies": c.Copies})
		os.WriteFile(path, b, 0o644)
	}
	s.Log.Warn("a word from the engine")
	progress(snapshotForTest())
	s.Ready("copying " + c.Mappings[0].String())
	s.Log.Info("a later word")
	touch(os.Getenv("TEST_READY"))
	if os.Getenv("TEST_FAIL") == "late" {
		return snapshotForTest(), fmt.Errorf("read ring: %w", os.ErrDeadlineExceeded)
	}
	<-s.Stop
	if os.Getenv("TEST_DRAIN") != "" {
		touch(os.Getenv("TEST_DRAIN"))
		<-s.Context.Done()
		return snapshotForTest(), s.Context.Err()
	}
	return snapshotForTest(), nil
}

func interceptForTest(s *engine.Control, c *config.Intercept, report *reporter,
	log *logbook) error {
	s.Ready(fmt.Sprintf("listening on %s", c.Listen))
	touch(os.Getenv("TEST_READY"))
	<-s.Context.Done()
	report.write(map[string]int{"copiers": 0})
	return s.Context.Err()
}

func captureForTest(s *engine.Control, c *config.Capture, report *reporter, log *logbook) error {
	s.Ready(fmt.Sprintf("capturing for %s", c.To))
	touch(os.Getenv("TEST_READY"))
	<-s.Stop
	return nil
}

func touch(path string) {
	if path != "" {
		os.WriteFile(path, nil, 0o644)
	}
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:           "testdata",
		UpdateScripts: os.Getenv("UPDATE_SCRIPTS") != "",
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"refused": refused, "await": await, "signal": sendSignal,
		},
		Setup: func(e *testscript.Env) error {
			e.Setenv("TCPCOPY_KEY", "")
			return nil
		},
	})
}

// refused runs a command: refused CODE PROGRAM ARGS… It must end with CODE, print nothing on stdout
// and one line, and perhaps a hint, on stderr.
func refused(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: refused CODE PROGRAM ARGS…")
	}
	err := ts.Exec(args[1], args[2:]...)
	got := "exit status 0"
	if err != nil {
		got = err.Error()
	}
	if want := "exit status " + args[0]; got != want {
		ts.Fatalf("%v: %s, want %s\n%s", args[1:], got, want, ts.ReadFile("stderr"))
	}
	if out := ts.ReadFile("stdout"); out != "" {
		ts.Fatalf("%v: on stdout: %s", args[1:], out)
	}
	if err := shape(ts.ReadFile("stderr")); err != nil {
		ts.Fatalf("%v: %v", args[1:], err)
	}
}

// await waits until a file exists.
func await(ts *testscript.TestScript, neg bool, args []string) {
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		_, err := os.Stat(ts.MkAbs(args[0]))
		if (err != nil) == neg {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			ts.Fatalf("waited in vain for %s", args[0])
		}
	}
}

func TestRoute(t *testing.T) {
	for _, tt := range []struct {
		name      string
		args, out []string
	}{
		{"nothing", []string{"tcpcopy"}, []string{}},
		{"a command", []string{"tcpcopy", "lab", "--ipv6"}, []string{"lab", "--ipv6"}},
		{"TCPCopy's way", []string{"/usr/bin/tcpcopy", "-x", "80-10.0.0.2:80"},
			[]string{"copy", "-x", "80-10.0.0.2:80"}},
		{"a long option", []string{"tcpcopy", "--map=80-10.0.0.2:80"},
			[]string{"copy", "--map=80-10.0.0.2:80"}},
		{"help", []string{"tcpcopy", "-h"}, []string{"-h"}},
		{"version", []string{"tcpcopy", "--version"}, []string{"--version"}},
		{"help on options", []string{"tcpcopy", "-h", "-x"}, []string{"copy", "-h", "-x"}},
		{"intercept", []string{"/opt/intercept", "-i", "eth0"},
			[]string{"intercept", "-i", "eth0"}},
		{"intercept alone", []string{"intercept"}, []string{"intercept"}},
		{"intercept's help", []string{"intercept", "-h"}, []string{"intercept", "-h"}},
		{"no name at all", nil, []string{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if d := cmp.Diff(tt.out, route(tt.args)); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestVersionIsSaid(t *testing.T) {
	if Version() == "" || filepath.Base(Version()) != Version() {
		t.Errorf("version %q", Version())
	}
}
