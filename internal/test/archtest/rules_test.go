package archtest

import (
	"go/ast"
	"reflect"
	"strings"
	"testing"
)

// source parses a file of tests or of code.
func source(t *testing.T, text string, test bool) *file {
	t.Helper()
	f := &file{path: "x.go", text: []byte("package x\n\n" + text), test: test}
	parse(t, f)
	return f
}

func TestUndocumented(t *testing.T) {
	for text, want := range map[string][]string{
		"func F() {}":                             {"F"},
		"// F does.\nfunc F() {}":                 nil,
		"// Does.\nfunc F() {}":                   {"F"},
		"func f() {}":                             nil,
		"//go:noinline\nfunc F() {}":              {"F"},
		"type T int":                              {"T"},
		"// A T is.\ntype T int":                  nil,
		"type T int // a number":                  {"T"},
		"type (\n\tT int // a number\n\tU int\n)": {"U"},
		"type t int\nfunc (t) M() {}":             nil,
		"// T is.\ntype T[P any] struct{}\nfunc (*T[P]) M() {}": {"M"},
		"const (\n\tA = 1\n\tb = 2\n)":                          {"A"},
		"// These are.\nconst (\n\tA = 1\n\tB = 2\n)":           nil,
		"var A, B = 1, 2":                                       {"A", "B"},
		"var A = 1 // one":                                      nil,
	} {
		var got []string
		for _, id := range undocumented(source(t, text, false).syntax) {
			got = append(got, id.Name)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %v is undocumented, want %v", text, got, want)
		}
	}
}

func TestFunctionLines(t *testing.T) {
	const table = "func f() {\n\t_ = []int{\n\t\t1,\n\t\t2,\n\t}\n}"
	const nested = "func f() {\n\t_ = []func(){\n\t\tfunc() {\n\t\t},\n\t}\n}"
	for _, c := range []struct {
		text string
		test bool
		want int
	}{
		{"// f does\n// nothing.\nfunc f() {\n}", false, 2},
		{table, false, 6},
		{table, true, 4},
		{nested, true, 6},
	} {
		f := source(t, c.text, c.test)
		if got := functionLines(f, f.syntax.Decls[0].(*ast.FuncDecl)); got != c.want {
			t.Errorf("%q: %d lines, want %d", c.text, got, c.want)
		}
	}
}

func TestColumns(t *testing.T) {
	if got := columns("\t\t" + strings.Repeat("é", 90) + "\t"); got != 102 {
		t.Errorf("%d columns, want 102", got)
	}
}
