package archtest

import (
	"errors"
	"go/ast"
	"go/token"
	"io/fs"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestPackageComments checks that every package has one doc comment, which begins with its name.
func TestPackageComments(t *testing.T) {
	for dir, files := range directories(goFiles(t)) {
		if dir == "scripts" { // each file is a program of its own
			continue
		}
		code := slices.DeleteFunc(slices.Clone(files), func(f *file) bool { return f.test })
		if len(code) == 0 { // tests only
			code = files
		}
		var with []string
		for _, f := range code {
			text := f.syntax.Doc.Text()
			if text == "" {
				continue
			}
			with = append(with, f.path)
			if want := packageComment(f); !strings.HasPrefix(text, want) {
				t.Errorf("%s: the package comment begins %.20q, want %q", f.path, text, want)
			}
		}
		switch {
		case len(with) == 0:
			t.Errorf("%s: no file has a package comment", dir)
		case len(with) > 1:
			t.Errorf("%s: %d files have a package comment, want one: %s",
				dir, len(with), strings.Join(with, ", "))
		}
	}
}

// packageComment returns how the package comment of a file must begin.
func packageComment(f *file) string {
	if name := f.syntax.Name.Name; name != "main" {
		return "Package " + name + " "
	}
	return "Command " + path.Base(f.dir) + " "
}

// readFirst matches what a group's doc.go says of the file to read first.
var readFirst = regexp.MustCompile(`\bRead (\S+) first\b`)

// TestGroupComments checks that every group has a doc.go that says what lives there, what it may
// import, what it must never do, and which file to read first.
func TestGroupComments(t *testing.T) {
	names := []string{"test"}
	for g := range groups {
		names = append(names, g)
	}
	slices.Sort(names)
	for _, g := range names {
		dir := "internal/" + g
		f := &file{path: dir + "/doc.go", dir: dir}
		var err error
		if f.text, err = os.ReadFile(path.Join(root, f.path)); err != nil {
			if !errors.Is(err, fs.ErrNotExist) {
				t.Fatal(err)
			}
			t.Errorf("%s does not exist: it must describe the group", f.path)
			continue
		}
		parse(t, f)
		text := strings.Join(strings.Fields(f.syntax.Doc.Text()), " ")
		if !strings.Contains(text, "import") {
			t.Errorf("%s does not say what the group may import", f.path)
		}
		if !strings.Contains(text, "never") && !strings.Contains(text, "must not") {
			t.Errorf("%s does not say what the group must never do", f.path)
		}
		if m := readFirst.FindStringSubmatch(text); m == nil {
			t.Errorf("%s does not say %q", f.path, "Read FILE first")
		} else if _, err := os.Stat(path.Join(root, dir, m[1])); err != nil {
			t.Errorf("%s says %q: %v", f.path, m[0], err)
		}
	}
}

// TestExportedComments checks that every exported type, function, constant and variable has a doc
// comment, and every exported method of an exported type. In a declaration in parentheses, the
// comment of the declaration is enough, or one behind the identifier. The comment of a type or
// function begins with its name.
func TestExportedComments(t *testing.T) {
	for _, f := range goFiles(t) {
		if f.test || f.dir == "scripts" {
			continue
		}
		for _, id := range undocumented(f.syntax) {
			t.Errorf("%s:%d: %s is exported, want a doc comment that begins with its name",
				f.path, f.line(id.Pos()), id.Name)
		}
	}
}

// undocumented returns the exported identifiers of a file whose doc comment is missing or, for a
// type or function, does not begin with the name.
func undocumented(f *ast.File) (all []*ast.Ident) {
	note := func(documented bool, names ...*ast.Ident) {
		for _, id := range names {
			if id.IsExported() && !documented {
				all = append(all, id)
			}
		}
	}
	for _, d := range f.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if d.Recv == nil || ast.IsExported(receiver(d.Recv.List[0].Type)) {
				note(beginsWith(d.Doc.Text(), d.Name.Name), d.Name)
			}
		case *ast.GenDecl:
			if d.Tok == token.IMPORT {
				continue
			}
			for _, s := range d.Specs {
				switch s := s.(type) {
				case *ast.TypeSpec:
					text := d.Doc.Text()
					documented := beginsWith(text, s.Name.Name)
					if d.Lparen.IsValid() {
						documented = text+s.Doc.Text()+s.Comment.Text() != ""
					}
					note(documented, s.Name)
				case *ast.ValueSpec:
					note(d.Doc.Text()+s.Doc.Text()+s.Comment.Text() != "", s.Names...)
				}
			}
		}
	}
	return all
}

// beginsWith reports whether a doc comment begins with the name, perhaps behind an article.
func beginsWith(text, name string) bool {
	for _, article := range []string{"", "A ", "An ", "The "} {
		if strings.HasPrefix(text, article+name+" ") {
			return true
		}
	}
	return false
}

// receiver returns the name of a method's receiver type.
func receiver(x ast.Expr) string {
	switch x := x.(type) {
	case *ast.StarExpr:
		return receiver(x.X)
	case *ast.IndexExpr:
		return receiver(x.X)
	case *ast.IndexListExpr:
		return receiver(x.X)
	case *ast.Ident:
		return x.Name
	}
	return ""
}
