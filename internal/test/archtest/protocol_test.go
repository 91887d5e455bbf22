package archtest

import (
	"go/ast"
	"slices"
	"strings"
	"testing"

	"tcpcopy/internal/proto"
	"tcpcopy/internal/proto/known"
)

// nameless lists the directories that treat all protocols alike.
var nameless = []string{
	"internal/core/session", "internal/core/shard", "internal/core/ledger", "internal/config",
	"internal/account/export", "internal/engine",
}

// TestProtocolImports checks that only package known imports a protocol, one that shares its
// settings, and one that shares the same.
func TestProtocolImports(t *testing.T) {
	for _, p := range packages(t) {
		for _, imp := range p.Imports {
			name, ok := strings.CutPrefix(imp, module+"proto/")
			if !ok || known.Named(name) == nil || p.ImportPath == module+"proto/known" {
				continue
			}
			own := known.Named(strings.TrimPrefix(p.ImportPath, module+"proto/"))
			if of := known.Named(name); own == nil || own.Shares == proto.None ||
				own.Shares != of.Kind && own.Shares != of.Shares {
				t.Errorf("%s imports %s: only proto/known may", p.ImportPath, imp)
			}
		}
	}
}

// TestProtocolNames checks that no identifier or literal in nameless contains a protocol's name.
func TestProtocolNames(t *testing.T) {
	var names []string
	for _, p := range known.All() {
		names = append(names, strings.TrimRight(p.Name, "0123456789"))
	}
	for _, f := range goFiles(t) {
		if f.test || !slices.Contains(nameless, f.dir) {
			continue
		}
		ast.Inspect(f.syntax, func(n ast.Node) bool {
			text := ""
			switch n := n.(type) {
			case *ast.Ident:
				text = n.Name
			case *ast.BasicLit:
				text = n.Value
			}
			for _, name := range names {
				if strings.Contains(strings.ToLower(text), name) {
					t.Errorf("%s:%d: %s names a protocol", f.path, f.line(n.Pos()), text)
				}
			}
			return true
		})
	}
}
