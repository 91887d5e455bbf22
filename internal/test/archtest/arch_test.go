package archtest

import (
	"encoding/json"
	"errors"
	"go/ast"
	"io"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "tcpcopy/internal/"

// groups lists the other groups that the packages of a group may import. A group is a directory
// under internal. Within a group, layers decide.
var groups = map[string][]string{
	"core":    {"proto"},
	"proto":   {"core"},
	"sys":     {},
	"source":  {"core", "proto", "sys", "way"},
	"way":     {"core", "proto", "sys", "source"},
	"account": {"core", "proto"},
	"doctor":  {"core", "sys", "source", "way", "account"},
	"lab":     {"core", "account", "sys"},
	"config":  {"core", "proto", "sys", "source", "way", "account"},
	"engine":  {"core", "proto", "sys", "source", "way", "account", "config"},
	"app": {
		"core", "proto", "sys", "source", "way", "account", "config", "engine", "lab", "doctor",
	},
}

// pureLayers and hostLayers list every package outside of test, lowest layer first. A package
// imports packages of lower layers only.
//
// The packages of pureLayers do no I/O, read no clock, start no goroutine, and use no channel and
// no randomness.
var pureLayers = [][]string{
	{"core", "account"}, // documentation only
	{"core/mono", "core/seqnum", "doctor"},
	{"core/packet", "core/chunk", "core/ledger"},
	{
		"source/capfile", "source/schedule", "way/raw/tcp", "core/reasm", "core/mapping",
		"source/filter", "proto", "proto/hpack", "account/fidelity",
	},
	{"proto/content", "proto/bytestream"},
	{
		"way/link/wire", "core/balance", "source/scrub", "proto/segments", "proto/semantics",
		"proto/redis",
		"proto/mysql",
	},
	{"proto/http1"},
	{"proto/websocket"},
	{"proto/http2"},
	{"core/gate", "way/raw/route", "proto/known", "doctor/exam"},
	{"core/session"},
	{"core/shard", "account/verdict"},
	{"way/address"},
	{"way/raw/stream"},
}

// hostLayers lie above pureLayers.
var hostLayers = [][]string{
	{"way/link/key", "sys"},
	{"source", "account/export", "account/web", "way"},
	{
		"source/afpacket", "source/locals", "source/file", "source/recording", "way/socket",
		"way/raw/send", "way/link", "lab/netlab", "way/tunnel/localroute",
		"account/status", "account/metrics", "account/history", "account/page",
	},
	{"account/fleet"},
	{"account/terminal", "account/dashboard"},
	{"way/raw/intercept", "way/intercepts", "source/mirror", "source/agents", "source/agent"},
	{"way/tunnel", "way/raw"},
	{"way/tunnel/ontarget", "way/ways"},
	{"config", "doctor/collect"},
	{"engine", "lab"},
	{"app"},
}

// TestImports checks that a package imports only packages of lower layers, and only of groups
// that its own group may import.
func TestImports(t *testing.T) {
	for _, p := range packages(t) {
		if isForTests(p.ImportPath) {
			continue
		}
		name, group := strings.TrimPrefix(p.ImportPath, module), groupOf(p.ImportPath)
		own := layerOf(p.ImportPath)
		if own < 0 {
			t.Errorf("%s is in no layer: add it to pureLayers or hostLayers", name)
			continue
		}
		for _, imp := range p.Imports {
			if !strings.HasPrefix(imp, module) {
				continue
			}
			other := groupOf(imp)
			switch l := layerOf(imp); {
			case isForTests(imp):
				t.Errorf("%s imports %s, which only tests may import", name, imp)
			case other != group && !slices.Contains(groups[group], other):
				t.Errorf("%s imports %s: group %s may not import group %s", name, imp, group, other)
			case l >= own:
				t.Errorf("%s (layer %d) imports %s (layer %d): want a lower one", name, own, imp, l)
			}
		}
	}
}

// TestLayersExist checks that the layers list no package twice, and none that does not exist.
func TestLayersExist(t *testing.T) {
	seen := map[string]bool{}
	for _, p := range packages(t) {
		seen[strings.TrimPrefix(p.ImportPath, module)] = false
	}
	for _, layer := range slices.Concat(pureLayers, hostLayers) {
		for _, p := range layer {
			if listed, exists := seen[p]; !exists {
				t.Errorf("the layers list %s, which does not exist", p)
			} else if listed {
				t.Errorf("the layers list %s twice", p)
			}
			seen[p] = true
		}
	}
}

// forbidden lists the imports that a pure package may not have, with all below them. It leaves out
// net/netip, which has values only.
var forbidden = []string{
	"os", "net", "syscall", "sync", "context", "log", "math/rand", "crypto/rand", "time/tzdata",
	"unsafe", "golang.org/x/sys", "runtime",
}

// clocks lists the functions of package time that read the clock or wait.
var clocks = []string{
	"Now", "Since", "Until", "Sleep", "After", "Tick", "NewTimer", "NewTicker", "AfterFunc",
}

// TestPurity checks that the packages of pureLayers do no I/O, read no clock, start no goroutine,
// and use no channel and no randomness.
func TestPurity(t *testing.T) {
	pure := map[string]bool{}
	for _, p := range packages(t) {
		l := layerOf(p.ImportPath)
		if l < 0 || l >= len(pureLayers) {
			continue
		}
		pure["internal/"+strings.TrimPrefix(p.ImportPath, module)] = true
		for _, imp := range p.Imports {
			for _, f := range forbidden {
				if imp == f || strings.HasPrefix(imp, f+"/") && imp != "net/netip" {
					t.Errorf("%s imports %q: it is in pureLayers", p.ImportPath, imp)
				}
			}
		}
	}
	for _, f := range goFiles(t) {
		if pure[f.dir] && !f.test {
			checkPure(t, f)
		}
	}
}

func checkPure(t *testing.T, f *file) {
	t.Helper()
	ast.Inspect(f.syntax, func(n ast.Node) bool {
		bad := ""
		switch n := n.(type) {
		case *ast.GoStmt:
			bad = "starts a goroutine"
		case *ast.ChanType:
			bad = "uses a channel"
		case *ast.SelectStmt:
			bad = "selects"
		case *ast.SelectorExpr:
			x, ok := n.X.(*ast.Ident)
			if ok && x.Name == "time" && slices.Contains(clocks, n.Sel.Name) {
				bad = "calls time." + n.Sel.Name
			}
		}
		if bad != "" {
			t.Errorf("%s:%d: %s: the package is in pureLayers", f.path, f.line(n.Pos()), bad)
		}
		return true
	})
}

// TestSystemCalls checks that package sys alone imports x/sys/unix and unsafe.
func TestSystemCalls(t *testing.T) {
	for _, p := range packages(t) {
		for _, imp := range p.Imports {
			low := imp == "unsafe" || imp == "golang.org/x/sys/unix"
			if low && p.ImportPath != module+"sys" {
				t.Errorf("%s imports %s: only internal/sys may", p.ImportPath, strconv.Quote(imp))
			}
		}
	}
}

// pkg is a package as go list describes it.
type pkg struct {
	ImportPath string
	Imports    []string // of the code, without the tests
}

// packages returns the packages under internal.
func packages(t *testing.T) []pkg {
	t.Helper()
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports", module+"...").Output()
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

// layerOf returns the number of the layer that lists the package, or -1.
func layerOf(path string) int {
	return slices.IndexFunc(slices.Concat(pureLayers, hostLayers), func(layer []string) bool {
		return slices.Contains(layer, strings.TrimPrefix(path, module))
	})
}

// groupOf returns the group of a package.
func groupOf(path string) string {
	g, _, _ := strings.Cut(strings.TrimPrefix(path, module), "/")
	return g
}

// isForTests reports whether only tests import the package.
func isForTests(path string) bool { return groupOf(path) == "test" }
