package archtest

import (
	"go/ast"
	"strings"
	"testing"
	"unicode/utf8"
)

// The limits of size. A tab counts as tabWidth columns.
const (
	maxColumns  = 100
	tabWidth    = 4
	maxFile     = 600 // lines
	maxTestFile = 900 // lines
	maxFunction = 80  // lines, from func to the closing brace
)

// TestLineLength checks that no line of a Go or Markdown file is longer than maxColumns.
func TestLineLength(t *testing.T) {
	for _, f := range tree(t, ".go", ".md") {
		for i, s := range lines(f.text) {
			if n := columns(s); n > maxColumns {
				t.Errorf("%s:%d: %d columns, want at most %d", f.path, i+1, n, maxColumns)
			}
		}
	}
}

// columns returns the width of a line.
func columns(s string) int {
	return utf8.RuneCountInString(s) + (tabWidth-1)*strings.Count(s, "\t")
}

// TestFileLength checks that no file of code has more than maxFile lines, and no file of tests more
// than maxTestFile.
func TestFileLength(t *testing.T) {
	for _, f := range tree(t, ".go") {
		most := maxFile
		if f.test {
			most = maxTestFile
		}
		if n := len(lines(f.text)); n > most {
			t.Errorf("%s: %d lines, want at most %d", f.path, n, most)
		}
	}
}

// TestFunctionLength checks that no function has more than maxFunction lines. In a test, tables do
// not count.
func TestFunctionLength(t *testing.T) {
	for _, f := range goFiles(t) {
		for _, d := range f.syntax.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			if n := functionLines(f, fn); n > maxFunction {
				t.Errorf("%s:%d: function %s has %d lines, want at most %d",
					f.path, f.line(fn.Pos()), fn.Name.Name, n, maxFunction)
			}
		}
	}
}

// functionLines returns the number of lines from func to the closing brace. In a test it leaves out
// the lines between the braces of a composite literal that holds no function: they are data.
func functionLines(f *file, fn *ast.FuncDecl) int {
	n := f.line(fn.End()) - f.line(fn.Type.Pos()) + 1
	if !f.test {
		return n
	}
	ast.Inspect(fn, func(x ast.Node) bool {
		table, ok := x.(*ast.CompositeLit)
		if !ok || holdsFunction(table) {
			return true
		}
		n -= max(0, f.line(table.Rbrace)-f.line(table.Lbrace)-1)
		return false
	})
	return n
}

// holdsFunction reports whether a function literal is part of x.
func holdsFunction(x ast.Node) bool {
	found := false
	ast.Inspect(x, func(x ast.Node) bool {
		_, ok := x.(*ast.FuncLit)
		found = found || ok
		return !found
	})
	return found
}
