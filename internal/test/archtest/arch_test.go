// Package archtest holds the project's structure to its word: who may import whom, and what the pure
// packages may not touch. It has no code of its own.
package archtest

import (
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "tcpcopy/internal/"

// groups says which other groups the packages of a group may import. Within a group, layers decide.
var groups = map[string][]string{
	"core":    {"proto"},
	"proto":   {"core"},
	"sys":     {},
	"source":  {"core", "proto", "sys", "way"},
	"way":     {"core", "proto", "sys", "source"},
	"account": {"core", "proto"},
	"lab":     {"core", "account", "sys"},
	"config":  {"core", "proto", "sys", "source", "way", "account"},
	"engine":  {"core", "proto", "sys", "source", "way", "account", "config"},
	"app":     {"core", "proto", "sys", "source", "way", "account", "config", "engine", "lab"},
}

// layers lists every package outside of test, lowest layer first. An import leads strictly down.
var layers = [][]string{
	{"core", "account"}, // documentation only
	{"core/mono", "core/seqnum"},
	{"core/packet", "core/chunk", "core/ledger"},
	{"source/capfile", "source/schedule", "way/raw/tcp", "core/reasm", "core/mapping", "source/filter", "proto"},
	{"way/link/wire", "core/balance", "proto/segments", "proto/http1", "proto/redis", "proto/mysql"},
	{"core/gate", "way/raw/route", "proto/known"},
	{"core/session"},
	{"core/shard"},
	{"way/address"},
	{"way/raw/stream"},
	{"way/link/key", "sys"},
	{"source", "account/export", "way"},
	{
		"source/afpacket", "source/locals", "source/file", "source/recording", "way/socket",
		"way/raw/send", "way/link", "way/raw/intercept", "lab/netlab", "way/tunnel/localroute",
		"account/status",
	},
	{"way/intercepts", "source/mirror", "source/agents", "source/agent"},
	{"way/tunnel", "way/raw"},
	{"way/tunnel/ontarget", "way/ways"},
	{"config"},
	{"engine", "lab"},
	{"app"},
}

// pure is how many of the layers are pure: no I/O, no clock, no goroutine, no channel, no chance.
const pure = 10

// isSupport reports whether a package is imported by tests only.
func isSupport(path string) bool { return strings.HasPrefix(path, module+"test") }

func groupOf(path string) string {
	g, _, _ := strings.Cut(strings.TrimPrefix(path, module), "/")
	return g
}

type pkg struct {
	ImportPath string
	Dir        string
	GoFiles    []string
	Imports    []string
}

func packages(t *testing.T) []pkg {
	t.Helper()
	out, err := exec.Command("go", "list", "-json=ImportPath,Dir,GoFiles,Imports", module+"...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []pkg
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

func layerOf(path string) int {
	for i, l := range layers {
		for _, p := range l {
			if module+p == path {
				return i
			}
		}
	}
	return -1
}

func TestImportsLeadDown(t *testing.T) {
	for _, p := range packages(t) {
		name := strings.TrimPrefix(p.ImportPath, module)
		if isSupport(p.ImportPath) {
			continue
		}
		own := layerOf(p.ImportPath)
		if own < 0 {
			t.Errorf("%s is in no layer: give it a place in this test and in ARCHITECTURE.md", name)
			continue
		}
		for _, imp := range p.Imports {
			if !strings.HasPrefix(imp, module) {
				continue
			}
			switch l := layerOf(imp); {
			case groupOf(imp) != groupOf(p.ImportPath) && !slices.Contains(groups[groupOf(p.ImportPath)], groupOf(imp)):
				t.Errorf("%s imports %s: group %s may not import group %s", name, imp, groupOf(p.ImportPath), groupOf(imp))
			case isSupport(imp):
				t.Errorf("%s imports %s, which is for tests", name, imp)
			case l >= own:
				t.Errorf("%s (layer %d) imports %s (layer %d)", name, own, imp, l)
			}
		}
	}
}

// forbidden in pure packages. net/netip is values only.
var forbidden = []string{
	"os", "net", "syscall", "sync", "context", "log", "math/rand", "crypto/rand", "time/tzdata", "unsafe",
	"golang.org/x/sys", "runtime",
}

// clocks are the functions of package time that ask for the time or wait.
var clocks = map[string]bool{
	"Now": true, "Since": true, "Until": true, "Sleep": true, "After": true, "Tick": true,
	"NewTimer": true, "NewTicker": true, "AfterFunc": true,
}

func TestPurePackages(t *testing.T) {
	for _, p := range packages(t) {
		if l := layerOf(p.ImportPath); l < 0 || l >= pure {
			continue
		}
		for _, imp := range p.Imports {
			for _, f := range forbidden {
				if imp == f || strings.HasPrefix(imp, f+"/") && imp != "net/netip" {
					t.Errorf("%s is pure and imports %q", p.ImportPath, imp)
				}
			}
		}
		for _, file := range p.GoFiles {
			checkPure(t, filepath.Join(p.Dir, file))
		}
	}
}

func checkPure(t *testing.T, path string) {
	t.Helper()
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, path, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(f, func(n ast.Node) bool {
		bad := ""
		switch n := n.(type) {
		case *ast.GoStmt:
			bad = "starts a goroutine"
		case *ast.ChanType:
			bad = "has a channel"
		case *ast.SelectStmt:
			bad = "selects"
		case *ast.SelectorExpr:
			if x, ok := n.X.(*ast.Ident); ok && x.Name == "time" && clocks[n.Sel.Name] {
				bad = "asks the clock: time." + n.Sel.Name
			}
		}
		if bad != "" {
			t.Errorf("%s %s", fset.Position(n.Pos()), bad)
		}
		return true
	})
}

// TestSystemCalls: one package makes system calls and looks behind pointers.
func TestSystemCalls(t *testing.T) {
	for _, p := range packages(t) {
		for _, imp := range p.Imports {
			if (imp == "unsafe" || imp == "golang.org/x/sys/unix") && p.ImportPath != module+"sys" {
				t.Errorf("%s imports %s: only internal/sys may", p.ImportPath, strconv.Quote(imp))
			}
		}
	}
}
