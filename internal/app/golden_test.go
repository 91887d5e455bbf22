package app

import (
	"bytes"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tcpcopy/internal/config"
	"tcpcopy/internal/sys"
	"tcpcopy/internal/way/link/key"
)

var update = flag.Bool("update", false, "write the golden files")

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got); d != "" {
		t.Errorf("%s differs (-want +got); if it should, run go test -update\n%s", path, d)
	}
}

// inProcess runs a command line that ends before it opens anything.
func inProcess(args ...string) (code int, stdout, stderr string) {
	var out, err bytes.Buffer
	p := &program{out: &out, err: &err}
	p.wire()
	p.host = config.Host{
		Interfaces: func() ([]string, error) { return []string{"lo", "eth0"}, nil },
		IPv6:       func() bool { return true },
		Local:      func(a netip.Addr) bool { return a != netip.MustParseAddr("10.9.9.9") },
	}
	p.has = func(sys.Capability) bool { return true }
	p.quick = nil
	p.scenarios = []config.Scenario{{Name: "keepalive", Help: "connections that stay"},
		{Name: "short", Help: "connections that go"}}
	code = p.run(args)
	return code, out.String(), err.String()
}

func TestHelp(t *testing.T) {
	for name, args := range map[string][]string{
		"root":          {"tcpcopy", "--help"},
		"copy":          {"tcpcopy", "copy", "--help"},
		"replay":        {"tcpcopy", "replay", "--help"},
		"record":        {"tcpcopy", "record", "--help"},
		"intercept":     {"tcpcopy", "intercept", "-h"},
		"capture":       {"tcpcopy", "capture", "-h"},
		"lab":           {"tcpcopy", "lab", "--help"},
		"keygen":        {"tcpcopy", "help", "keygen"},
		"doctor":        {"tcpcopy", "doctor", "--help"},
		"doctor-target": {"tcpcopy", "doctor", "target", "--help"},
		"explain":       {"tcpcopy", "explain", "--help"},
	} {
		t.Run(name, func(t *testing.T) {
			code, out, stderr := inProcess(args...)
			if code != 0 || stderr != "" {
				t.Fatalf("exit code %d, on stderr: %s", code, stderr)
			}
			for line := range strings.Lines(out) {
				if n := len([]rune(strings.TrimSuffix(line, "\n"))); n > helpWidth+2 {
					t.Errorf("%d columns: %s", n, line)
				}
			}
			golden(t, "help-"+name+".golden", out)
		})
	}
	for _, same := range [][2][]string{
		{{"tcpcopy", "-h"}, {"tcpcopy", "--help"}},
		{{"tcpcopy", "help", "copy"}, {"tcpcopy", "copy", "-h"}},
		{{"intercept", "-h"}, {"tcpcopy", "intercept", "--help"}},
		{{"tcpcopy", "-x", "80-10.0.0.2:80", "-h"}, {"tcpcopy", "copy", "-h"}},
	} {
		_, a, _ := inProcess(same[0]...)
		_, b, _ := inProcess(same[1]...)
		if a != b {
			t.Errorf("%v and %v differ\n%s\n%s", same[0], same[1], a, b)
		}
	}
}

// TestRefusals runs each line of testdata/refusals.list, which must be refused as bad input.
// refusals.golden holds the messages.
func TestRefusals(t *testing.T) {
	t.Setenv(key.Env, "")
	lines, err := os.ReadFile("testdata/refusals.list")
	if err != nil {
		t.Fatal(err)
	}
	home, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "refusals.golden", func() string {
		t.Chdir(t.TempDir())
		defer t.Chdir(home)
		for name, content := range map[string]string{"capture": "", "badkey": "secret"} {
			if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		var b strings.Builder
		for line := range strings.Lines(string(lines)) {
			line = strings.TrimSpace(line)
			if line == "" || strings.HasPrefix(line, "#") {
				fmt.Fprintf(&b, "%s\n", line)
				continue
			}
			code, out, stderr := inProcess(words(line)...)
			if code != exitBadInput || out != "" {
				t.Errorf("%s: exit code %d, want %d; on stdout: %q", line, code, exitBadInput, out)
			}
			if err := shape(stderr); err != nil {
				t.Errorf("%s: %v", line, err)
			}
			fmt.Fprintf(&b, "$ %s\n%s", line, stderr)
		}
		return b.String()
	}())
}

// words splits a line at spaces outside of single quotes.
func words(line string) []string {
	var out []string
	for i, part := range strings.Split(line, "'") {
		if i%2 == 1 {
			out = append(out, part)
		} else {
			out = append(out, strings.Fields(part)...)
		}
	}
	return out
}
