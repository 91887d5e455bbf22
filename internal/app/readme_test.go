package app

import (
	"bytes"
	"context"
	"encoding/json"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"filippo.io/age"

	"tcpcopy/internal/account/export"
	"tcpcopy/internal/account/verdict"
	"tcpcopy/internal/config"
	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/doctor"
	"tcpcopy/internal/doctor/collect"
	"tcpcopy/internal/engine"
	"tcpcopy/internal/sys"
	"tcpcopy/internal/way/link/key"
)

// documents returns what users read, README.md and docs/*.md, by path from the repository's root.
func documents(t *testing.T) map[string]string {
	t.Helper()
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil || len(pages) == 0 {
		t.Fatalf("no page in docs: %v", err)
	}
	all := map[string]string{}
	for _, path := range append(pages, "../../README.md") {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		all[strings.TrimPrefix(path, "../../")] = string(b)
	}
	return all
}

// dry returns a program that reads command lines and starts nothing.
func dry() (p *program, stderr *bytes.Buffer) {
	stderr = new(bytes.Buffer)
	p = &program{out: new(bytes.Buffer), err: stderr}
	p.wire()
	p.host = config.Host{
		Interfaces: func() ([]string, error) { return []string{"lo", "eth0"}, nil },
		IPv6:       func() bool { return true },
		Local:      func(a netip.Addr) bool { return a != netip.MustParseAddr("10.9.9.9") },
	}
	p.has = func(sys.Capability) bool { return true }
	p.quick = nil
	p.copy = func(*engine.Control, *config.Copy, func(*export.Snapshot)) (*export.Snapshot, error) {
		return nil, nil
	}
	p.intercept = func(*engine.Control, *config.Intercept, *reporter, *logbook) error { return nil }
	p.capture = func(*engine.Control, *config.Capture, *reporter, *logbook) error { return nil }
	p.record = func(
		*engine.Control, *config.Record, func(*engine.Recorded),
	) (*engine.Recorded, error) {
		return nil, nil
	}
	p.lab = func(context.Context, *config.Lab) int { return exitOK }
	p.facts = func(context.Context, *collect.Subject) *doctor.Facts { return new(doctor.Facts) }
	p.witness = func(context.Context, *collect.Witness) error { return nil }
	return p, stderr
}

var (
	indented = regexp.MustCompile(`(?m)^    (.+)$`)
	quoted   = regexp.MustCompile("`([^`]+)`")
	variable = regexp.MustCompile(`\bTCPCOPY_[A-Z_]+`)
	// ours matches a command of this program inside a line of shell: up to a comment, a
	// redirection, or the next command.
	ours = regexp.MustCompile(
		`^(?:.*; |.*\| |go run \./cmd/|\(.*; )?(tcpcopy|intercept) ` +
			`((?:'[^']*'|[^'#>&|;)])*)`)
)

// commands returns the command lines of this program that are found in a document.
func commands(document string, where *regexp.Regexp) (all [][]string) {
	alone := []string{"lab", "keygen", "status", "top", "dashboard"} // without arguments
	for _, found := range where.FindAllStringSubmatch(document, -1) {
		if m := ours.FindStringSubmatch(found[1]); m != nil {
			line := words(m[1] + " " + m[2])
			if len(line) > 2 || len(line) == 2 && slices.Contains(alone, line[1]) {
				all = append(all, line) // else the name of a command
			}
		}
	}
	return all
}

// workplace changes to a directory that has the files that the documents' commands name.
func workplace(t *testing.T) {
	t.Helper()
	t.Setenv(key.Env, "")
	t.Chdir(t.TempDir())
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir("keys", 0o700); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{
		"key": key.Generate(), "login": "user:password", "peak.pcapng": "a recording",
		"tcpcopy.yaml": config.Example(), "token": "0123456789abcdef", "both.pem": certificate(t),
		"run.json": "{}", "old.json": compared(t), "new.json": compared(t),
		"peak.pcapng.zst.age": "another", "identity": identity.String(),
		"recipient": identity.Recipient().String(), "keys/web": key.Generate(),
		"rules.yaml": "ignore: [body.host]",
	} {
		if err := os.WriteFile(name, []byte(content+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// compared returns a report of a run in which the target answered as production did.
func compared(t *testing.T) string {
	t.Helper()
	r := export.Report{Compare: &verdict.Result{Verdict: verdict.Same, Due: 100, Compared: 100,
		Times: &verdict.TimesReport{BlockSeconds: 1}}}
	for range 30 {
		r.Compare.Times.Blocks = append(r.Compare.Times.Blocks,
			verdict.BlockTime{Counts: [][2]uint32{{900, 100}}})
	}
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestDocumentedCommands(t *testing.T) {
	documents := documents(t)
	workplace(t)
	tried := map[string]int{}
	for _, path := range slices.Sorted(maps.Keys(documents)) {
		blocks := commands(documents[path], indented)
		for n, line := range append(blocks, commands(documents[path], quoted)...) {
			if line[1] == "COMMAND" {
				continue
			}
			tried[line[0]+" "+line[1]]++
			for i, word := range line {
				if i > 0 && line[i-1] == "--netns" { // some container's process: this one is there
					line[i] = "/proc/self/ns/net"
				}
				// These would look at this machine.
				if word == "--dry-run" || word == "--cleanup" || word == "--live" ||
					word == "--dashboard" || i == 1 &&
					(word == "status" || word == "top" || word == "dashboard") {
					line = append(line, "--help")
				}
			}
			p, stderr := dry()
			if code := p.run(line); code != exitOK || n < len(blocks) && stderr.Len() > 0 {
				t.Errorf("%s: %s: exit code %d\n%s", path, strings.Join(line, " "), code, stderr)
			}
		}
	}
	for _, must := range []string{
		"tcpcopy copy", "tcpcopy record", "tcpcopy replay", "tcpcopy intercept", "tcpcopy capture",
		"tcpcopy keygen", "tcpcopy lab", "tcpcopy status", "tcpcopy config", "tcpcopy -x",
		"tcpcopy -i", "intercept -i",
	} {
		if tried[must] == 0 {
			t.Errorf("no %s … among %v", must, tried)
		}
	}
}

// A line of shell that names the program, in a block, is one that TestDocumentedCommands finds.
func TestDocumentedCommandsAreFound(t *testing.T) {
	for path, text := range documents(t) {
		for _, m := range indented.FindAllStringSubmatch(text, -1) {
			line := m[1]
			names := strings.HasPrefix(line, "tcpcopy ") || strings.HasPrefix(line, "intercept ") ||
				strings.Contains(line, "| tcpcopy ") || strings.Contains(line, "; tcpcopy ")
			if names && ours.FindString(line) == "" {
				t.Errorf("%s: not understood: %s", path, line)
			}
		}
		if strings.Contains(text, "```") {
			t.Errorf("%s has a fenced block, which is not checked: indent it by four spaces", path)
		}
	}
}

// Every configuration file in the documents is one that the program takes.
func TestDocumentedConfigurations(t *testing.T) {
	documents := documents(t)
	workplace(t)
	n := 0
	for path, text := range documents {
		for rest := text; ; n++ {
			_, block, found := strings.Cut(rest, "\n    mappings:\n")
			if !found {
				break
			}
			block, rest, _ = strings.Cut(block, "\n\n")
			yaml := strings.ReplaceAll("    mappings:\n"+block+"\n", "\n    ", "\n")[4:]
			if err := os.WriteFile("example.yaml", []byte(yaml), 0o600); err != nil {
				t.Fatal(err)
			}
			p, stderr := dry()
			code := p.run([]string{"tcpcopy", "config", "check", "example.yaml"})
			if code != exitOK {
				t.Errorf("%s: exit code %d\n%s%s", path, code, yaml, stderr)
			}
		}
	}
	if n == 0 {
		t.Error("no configuration file is shown")
	}
}

// Every option that a document names is one of a command's, and every environment variable is in
// help.
func TestDocumentedOptions(t *testing.T) {
	p, _ := dry()
	root := p.root()
	var variables []string
	for _, c := range root.Commands() {
		variables = append(variables, variable.FindAllString(c.Flags().FlagUsages(), -1)...)
	}
	known := func(option string) bool {
		option, _, _ = strings.Cut(option, "=")
		has := func(c *cobra.Command) bool { return hasOption(c, option) }
		return slices.ContainsFunc(root.Commands(), func(c *cobra.Command) bool {
			return has(c) || slices.ContainsFunc(c.Commands(), has)
		})
	}
	n := 0
	for path, text := range documents(t) {
		for _, m := range quoted.FindAllStringSubmatch(text, -1) {
			if name := variable.FindString(m[1]); name != "" && !slices.Contains(variables, name) {
				t.Errorf("%s: no command's help has %s", path, name)
			}
			if !strings.HasPrefix(m[1], "-") {
				continue
			}
			for _, w := range strings.Fields(m[1]) {
				if strings.HasPrefix(w, "-") {
					n++
					if !known(w) {
						t.Errorf("%s: %s is an option of no command", path, w)
					}
				}
			}
		}
	}
	if n < 60 {
		t.Errorf("found %d options only", n)
	}
}

func hasOption(c *cobra.Command, option string) bool {
	if name, long := strings.CutPrefix(option, "--"); long {
		return c.Flags().Lookup(name) != nil
	}
	return len(option) == 2 && c.Flags().ShorthandLookup(option[1:]) != nil
}

// section returns the text of a document below a heading, up to the next one of the same level.
func section(t *testing.T, document, heading string) string {
	t.Helper()
	_, rest, ok := strings.Cut(document, "\n"+heading+"\n")
	if !ok {
		t.Fatalf("no heading %q", heading)
	}
	level, _, _ := strings.Cut(heading, " ")
	text, _, _ := strings.Cut(rest, "\n"+level+" ")
	return text
}

// An item of the list of reasons begins with their names. The list has every reason once, and no
// other.
func TestDocumentedReasons(t *testing.T) {
	list := section(t, documents(t)["docs/account.md"], "## Reasons")
	listed := map[string]int{}
	// The names before the first colon, and those that begin a sentence within an item.
	names := regexp.MustCompile("(?m)^- ((?:`[a-z_]+`(?:, )?)+):|\\. (`[a-z_]+`):")
	for _, item := range names.FindAllStringSubmatch(list, -1) {
		for _, m := range quoted.FindAllStringSubmatch(item[1]+item[2], -1) {
			listed[m[1]]++
			if _, ok := ledger.ReasonNamed(m[1]); !ok {
				t.Errorf("%s is no reason", m[1])
			}
		}
	}
	for _, r := range ledger.Reasons() {
		if listed[r.String()] != 1 {
			t.Errorf("%s is in the list %d times, want once", r, listed[r.String()])
		}
	}
}

// The table of the report's keys has every key at its top, and no other.
func TestDocumentedReport(t *testing.T) {
	text, err := json.Marshal(export.NewReport(&export.Snapshot{
		Replay: &export.Replay{}, Agents: []export.AgentState{{}}, Compare: &verdict.Result{},
		Baseline: new(ledger.Counters),
	}))
	if err != nil {
		t.Fatal(err)
	}
	var report map[string]json.RawMessage
	if err := json.Unmarshal(text, &report); err != nil {
		t.Fatal(err)
	}
	listed := map[string]bool{}
	table := section(t, documents(t)["docs/account.md"], "## The JSON report")
	for line := range strings.Lines(table) {
		first, _, _ := strings.Cut(strings.TrimPrefix(line, "|"), "|")
		for _, m := range quoted.FindAllStringSubmatch(first, -1) {
			if strings.HasPrefix(line, "|") {
				listed[m[1]] = true
			}
		}
	}
	want, got := slices.Sorted(maps.Keys(report)), slices.Sorted(maps.Keys(listed))
	if !slices.Equal(want, got) {
		t.Errorf("the table lists %v\nwanted %v", got, want)
	}
}

var (
	link    = regexp.MustCompile(`\]\(([^)]+)\)`)
	heading = regexp.MustCompile(`(?m)^#+ (.+)$`)
)

// anchor returns the anchor that GitHub gives a heading.
func anchor(heading string) string {
	kept := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '-', r == '_':
			return r
		case r == ' ':
			return '-'
		}
		return -1
	}, strings.ToLower(heading))
	return kept
}

// Every link inside the repository leads to a file and, where it names one, to a heading. Every
// page of docs is linked from README.md.
func TestDocumentedLinks(t *testing.T) {
	documents := documents(t)
	for _, more := range []string{"ARCHITECTURE.md", "CHANGELOG.md"} {
		b, err := os.ReadFile("../../" + more)
		if err != nil {
			t.Fatal(err)
		}
		documents[more] = string(b)
	}
	linked := map[string]bool{}
	for path, text := range documents {
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			file, name, _ := strings.Cut(m[1], "#")
			to := path
			if file != "" {
				to = filepath.Join(filepath.Dir(path), file)
			}
			if path == "README.md" {
				linked[to] = true
			}
			if _, err := os.Stat("../../" + to); err != nil {
				t.Errorf("%s: %s leads nowhere: %v", path, m[1], err)
				continue
			}
			found := name == ""
			for _, h := range heading.FindAllStringSubmatch(documents[to], -1) {
				found = found || anchor(h[1]) == name
			}
			if !found {
				t.Errorf("%s: %s has no heading %q", path, to, name)
			}
		}
	}
	for path := range documents {
		if path != "README.md" && !linked[path] {
			t.Errorf("README.md has no link to %s", path)
		}
	}
}
