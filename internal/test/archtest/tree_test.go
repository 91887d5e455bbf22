package archtest

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"testing"
)

// root is the root of the source tree, from the directory in which the tests run.
const root = "../../.."

// file is a file of the tree.
type file struct {
	path   string // from the root of the tree
	dir    string
	text   []byte
	test   bool      // a file that only go test compiles
	syntax *ast.File // nil if it is no Go file
	fset   *token.FileSet
}

// line returns the line number of a position.
func (f *file) line(p token.Pos) int { return f.fset.Position(p).Line }

// tree returns the files of the tree whose names end in one of the suffixes, in the order of their
// paths. It leaves out directories named testdata, bin and out, and hidden ones.
func tree(t *testing.T, suffixes ...string) []*file {
	t.Helper()
	var all []*file
	fsys := os.DirFS(root)
	err := fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		base := path.Base(name)
		switch {
		case err != nil:
			return err
		case d.IsDir():
			hidden := base != "." && base[0] == '.'
			if hidden || slices.Contains([]string{"testdata", "bin", "out"}, base) {
				return fs.SkipDir
			}
			return nil
		case !slices.Contains(suffixes, path.Ext(base)):
			return nil
		}
		text, err := fs.ReadFile(fsys, name)
		f := &file{path: name, dir: path.Dir(name), text: text}
		f.test = strings.HasSuffix(base, "_test.go")
		all = append(all, f)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// parsed is what goFiles returns, from its first call on.
var parsed []*file

// goFiles returns the Go files of the tree, parsed.
func goFiles(t *testing.T) []*file {
	t.Helper()
	if parsed == nil {
		parsed = tree(t, ".go")
		for _, f := range parsed {
			parse(t, f)
		}
	}
	return parsed
}

func parse(t *testing.T, f *file) {
	t.Helper()
	f.fset = token.NewFileSet()
	var err error
	f.syntax, err = parser.ParseFile(f.fset, f.path, f.text, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
}

// directories groups files by their directory.
func directories(files []*file) map[string][]*file {
	m := map[string][]*file{}
	for _, f := range files {
		m[f.dir] = append(m[f.dir], f)
	}
	return m
}

// lines returns the lines of a text, without their ends.
func lines(text []byte) []string {
	return strings.Split(string(bytes.TrimSuffix(text, []byte("\n"))), "\n")
}
