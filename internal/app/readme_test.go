package app

import (
	"bytes"
	"context"
	"net/netip"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"tcpcopy/internal/account/export"
	"tcpcopy/internal/config"
	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/engine"
	"tcpcopy/internal/sys"
	"tcpcopy/internal/way/link/key"
)

func readme(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// dry is a program that reads command lines and starts nothing.
func dry() (p *program, stderr *bytes.Buffer) {
	stderr = new(bytes.Buffer)
	p = &program{out: new(bytes.Buffer), err: stderr}
	p.wire()
	p.host = config.Host{
		Interfaces: func() ([]string, error) { return []string{"lo", "eth0"}, nil }, IPv6: func() bool { return true },
		Local: func(a netip.Addr) bool { return a != netip.MustParseAddr("10.9.9.9") },
	}
	p.has = func(sys.Capability) bool { return true }
	p.copy = func(*engine.Control, *config.Copy, func(*export.Snapshot)) (*export.Snapshot, error) { return nil, nil }
	p.intercept = func(*engine.Control, *config.Intercept, *reporter, *logbook) error { return nil }
	p.capture = func(*engine.Control, *config.Capture, *reporter, *logbook) error { return nil }
	p.record = func(*engine.Control, *config.Record, func(*engine.Recorded)) (*engine.Recorded, error) {
		return nil, nil
	}
	p.lab = func(context.Context, *config.Lab) int { return exitOK }
	return p, stderr
}

var (
	indented = regexp.MustCompile(`(?m)^    (.+)$`)
	quoted   = regexp.MustCompile("`([^`]+)`")
	// A command of ours inside a line of shell: up to a comment, a redirection, or the next command.
	ours = regexp.MustCompile(`^(?:.*; |go run \./cmd/)?(tcpcopy|intercept) ([^#>&|;)]*)`)
)

// commands are the command lines of ours that are found in a document.
func commands(document string, where *regexp.Regexp) (all [][]string) {
	for _, found := range where.FindAllStringSubmatch(document, -1) {
		if m := ours.FindStringSubmatch(found[1]); m != nil {
			if line := words(m[1] + " " + m[2]); len(line) > 2 || line[1] == "lab" || line[1] == "keygen" {
				all = append(all, line) // else the name of a command
			}
		}
	}
	return all
}

func TestREADMECommands(t *testing.T) {
	text := readme(t)
	t.Setenv(key.Env, "")
	t.Chdir(t.TempDir())
	for name, content := range map[string]string{"key": key.Generate(), "login": "user:password", "peak.pcapng": "a recording"} {
		if err := os.WriteFile(name, []byte(content+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile("tcpcopy.yaml", []byte(config.Example()), 0o600); err != nil {
		t.Fatal(err)
	}
	tried := map[string]int{}
	blocks := commands(text, indented)
	for n, line := range append(blocks, commands(text, quoted)...) {
		tried[line[0]+" "+line[1]]++
		for i, word := range line {
			if i > 0 && line[i-1] == "--netns" { // some container's process: this one is there
				line[i] = "/proc/self/ns/net"
			}
			if word == "--dry-run" || word == "--cleanup" || i == 1 && word == "status" { // they would look at this machine
				line = append(line, "--help")
			}
		}
		p, stderr := dry()
		if code := p.run(line); code != exitOK || n < len(blocks) && stderr.Len() > 0 {
			t.Errorf("%s: exit code %d\n%s", strings.Join(line, " "), code, stderr)
		}
	}
	for _, must := range []string{"tcpcopy copy", "tcpcopy record", "tcpcopy replay", "tcpcopy intercept", "tcpcopy capture", "tcpcopy keygen", "tcpcopy lab", "tcpcopy -x", "intercept -i"} {
		if tried[must] == 0 {
			t.Errorf("no %s … among %v", must, tried)
		}
	}
}

// Every option that the README names must be one of a command's.
func TestREADMEOptions(t *testing.T) {
	p, _ := dry()
	root := p.root()
	known := func(option string) bool {
		for _, c := range root.Commands() {
			if hasOption(c, option) {
				return true
			}
		}
		return false
	}
	n := 0
	for _, m := range quoted.FindAllStringSubmatch(readme(t), -1) {
		if !strings.HasPrefix(m[1], "-") {
			continue
		}
		for _, w := range strings.Fields(m[1]) {
			if strings.HasPrefix(w, "-") {
				n++
				if !known(w) {
					t.Errorf("%s is an option of no command", w)
				}
			}
		}
	}
	if n < 20 {
		t.Errorf("found %d options only", n)
	}
}

func hasOption(c *cobra.Command, option string) bool {
	if name, long := strings.CutPrefix(option, "--"); long {
		return c.Flags().Lookup(name) != nil
	}
	return len(option) == 2 && c.Flags().ShorthandLookup(option[1:]) != nil
}

// The table of reasons has every reason, and no other.
func TestREADMEReasons(t *testing.T) {
	_, rest, ok := strings.Cut(readme(t), "| reason |")
	if !ok {
		t.Fatal("no table of reasons")
	}
	table, _, _ := strings.Cut(rest, "\n\n")
	told := map[string]int{}
	for line := range strings.Lines(table) {
		first, _, _ := strings.Cut(strings.TrimPrefix(line, "|"), "|")
		for _, m := range quoted.FindAllStringSubmatch(first, -1) {
			told[m[1]]++
			if _, ok := ledger.ReasonNamed(m[1]); !ok && strings.HasPrefix(line, "|") {
				t.Errorf("%s is no reason", m[1])
			}
		}
	}
	for _, r := range ledger.Reasons() {
		if told[r.String()] != 1 {
			t.Errorf("%s is in the table %d times, want once", r, told[r.String()])
		}
	}
}
