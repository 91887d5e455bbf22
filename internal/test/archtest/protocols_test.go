package archtest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"tcpcopy/internal/proto/known"
)

// nameless are the packages that treat all protocols alike.
var nameless = []string{
	"core/session", "core/shard", "core/ledger", "config", "account/export", "engine",
}

// TestProtocolsAreNotNamed checks that only its own package and one line of proto/known know a
// protocol.
func TestProtocolsAreNotNamed(t *testing.T) {
	var names []string
	for _, p := range known.All() {
		names = append(names, strings.TrimRight(p.Name, "0123456789"))
	}
	for _, p := range packages(t) {
		path := strings.TrimPrefix(p.ImportPath, module)
		for _, imp := range p.Imports {
			name, ok := strings.CutPrefix(imp, module+"proto/")
			if ok && known.Named(name) != nil && path != "proto/known" {
				t.Errorf("%s imports %s: only proto/known may", path, imp)
			}
		}
		if slices.Contains(nameless, path) {
			checkNameless(t, path, names)
		}
	}
}

// checkNameless reports each identifier and literal of a package's code that names a protocol.
func checkNameless(t *testing.T, path string, names []string) {
	files, err := filepath.Glob(filepath.Join(root, "internal", path, "*.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no code in %s: %v", path, err)
	}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			text := ""
			switch n := n.(type) {
			case *ast.Ident:
				text = n.Name
			case *ast.BasicLit:
				text = n.Value
			}
			for _, name := range names {
				if strings.Contains(strings.ToLower(text), name) {
					t.Errorf("%s names the protocol %s: %s", fset.Position(n.Pos()), name, text)
				}
			}
			return true
		})
	}
}
