package config

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/spf13/pflag"

	"tcpcopy/internal/core/mapping"
)

// A configuration file is YAML: options by their long names, and mappings, a list. An entry of the
// list is what -x takes, or options that hold for one mapping, with map among them. Nothing is
// ignored: an unknown key or a wrong value is an error with its line and column.

// maxFile bounds a configuration file, in bytes.
const maxFile = 4 << 20

// setting is one key of the file, or one option of the command line, with its values.
type setting struct {
	key   string
	texts []string // the values as they would be typed
	at    string   // FILE:LINE:COLUMN
	each  []string // of a list, the same of each value
}

// fileMapping is one entry of mappings.
type fileMapping struct {
	mapping mapping.Mapping
	own     []setting
}

// file is the content of a configuration file.
type file struct {
	settings []setting
	mappings []fileMapping
}

// readFile reads the file path. known reports whether the file may have a key, and mapped whether
// an entry of mappings may.
func readFile(path string, known, mapped func(key string) bool) (*file, error) {
	info, err := os.Stat(path)
	if err == nil && info.Size() > maxFile {
		return nil, &Problem{Flag: "--config", Value: path, What: fmt.Sprintf("has %d bytes: "+
			"wanted at most %d", info.Size(), maxFile)}
	}
	var text []byte
	if err == nil {
		text, err = os.ReadFile(path)
	}
	if err != nil {
		var pe *os.PathError
		if errors.As(err, &pe) {
			err = pe.Err
		}
		return nil, &Problem{Flag: "--config", Value: path, What: "cannot be read: " + err.Error()}
	}
	return parseFile(path, text, known, mapped)
}

func parseFile(path string, text []byte, known, mapped func(key string) bool) (*file, error) {
	tree, err := parser.ParseBytes(text, 0)
	if err != nil {
		return nil, syntax(path, err)
	}
	r := &fileReader{path: path, known: known, mapped: mapped}
	for i, doc := range tree.Docs {
		if doc.Body == nil {
			continue
		}
		if i > 0 {
			return nil, r.problem(doc.Body, "a second document: wanted one")
		}
		if err := r.top(doc.Body); err != nil {
			return nil, err
		}
	}
	return &r.file, nil
}

// syntax returns the parser's error in one line, with its place.
func syntax(path string, err error) error {
	var at yaml.Error
	if errors.As(err, &at) {
		p := at.GetToken().Position
		return &Problem{Flag: fmt.Sprintf("%s:%d:%d", path, p.Line, p.Column),
			What: "is not YAML: " + at.GetMessage()}
	}
	return &Problem{Flag: path, What: "is not YAML: " + strings.Join(strings.Fields(err.Error()),
		" ")}
}

type fileReader struct {
	path          string
	known, mapped func(string) bool
	file          file
}

func (r *fileReader) at(n ast.Node) string {
	p := n.GetToken().Position
	return fmt.Sprintf("%s:%d:%d", r.path, p.Line, p.Column)
}

func (r *fileReader) problem(n ast.Node, format string, args ...any) *Problem {
	return &Problem{Flag: r.at(n), What: fmt.Sprintf(format, args...)}
}

// pairs returns the keys and values of a YAML mapping; what describes it in an error.
func (r *fileReader) pairs(n ast.Node, what string) ([]*ast.MappingValueNode, error) {
	switch n := n.(type) {
	case *ast.MappingNode:
		return n.Values, nil
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{n}, nil
	}
	return nil, r.problem(n, "wanted %s", what)
}

func (r *fileReader) top(n ast.Node) error {
	pairs, err := r.pairs(n, `options, such as "stats: 10s"`)
	if err != nil {
		return err
	}
	seen := make(map[string]bool)
	for _, p := range pairs {
		key, err := r.key(p, seen)
		switch {
		case err != nil:
			return err
		case key == "mappings":
			if err := r.list(p.Value); err != nil {
				return err
			}
		case key == "map":
			return r.problem(p.Key, "map: wanted mappings, a list")
		case !r.known(key):
			return r.unknown(p.Key, key, "option")
		default:
			s, err := r.setting(p, key)
			if err != nil {
				return err
			}
			r.file.settings = append(r.file.settings, s)
		}
	}
	return nil
}

// key returns a pair's key, which must not be in seen.
func (r *fileReader) key(p *ast.MappingValueNode, seen map[string]bool) (string, error) {
	s, ok := p.Key.(*ast.StringNode)
	if !ok {
		return "", r.problem(p.Key, "wanted a key, such as stats")
	}
	if seen[s.Value] {
		return "", r.problem(p.Key, "%s is given twice: wanted it once", s.Value)
	}
	seen[s.Value] = true
	return s.Value, nil
}

func (r *fileReader) unknown(n ast.Node, key, what string) error {
	p := r.problem(n, "unknown key %q: wanted an %s", key, what)
	p.Hint = "tcpcopy config example shows all keys"
	return p
}

func (r *fileReader) list(n ast.Node) error {
	seq, ok := n.(*ast.SequenceNode)
	if !ok {
		return r.problem(n, `mappings: wanted a list, such as "- 80-10.0.0.2:8080"`)
	}
	for _, item := range seq.Values {
		m, err := r.mapping(item)
		if err != nil {
			return err
		}
		r.file.mappings = append(r.file.mappings, m)
	}
	return nil
}

// mapping reads one entry of mappings.
func (r *fileReader) mapping(n ast.Node) (m fileMapping, err error) {
	if text, err := r.text(n); err == nil {
		m.mapping, err = r.one(n, text)
		return m, err
	}
	pairs, err := r.pairs(n, `a mapping, such as 80-10.0.0.2:8080, or "map:" and its options`)
	if err != nil {
		return m, err
	}
	seen := make(map[string]bool)
	for _, p := range pairs {
		key, err := r.key(p, seen)
		if err != nil {
			return m, err
		}
		if key != "map" && !r.mapped(key) {
			if r.known(key) {
				return m, r.problem(p.Key, "%s holds for all mappings: wanted it outside the "+
					"list", key)
			}
			return m, r.unknown(p.Key, key, "option of a mapping")
		}
		if key == "map" {
			text, err := r.text(p.Value)
			if err != nil {
				return m, err
			}
			if m.mapping, err = r.one(p.Value, text); err != nil {
				return m, err
			}
			continue
		}
		s, err := r.setting(p, key)
		if err != nil {
			return m, err
		}
		m.own = append(m.own, s)
	}
	if !seen["map"] {
		return m, r.problem(n, "has no map: wanted one, such as map: 80-10.0.0.2:8080")
	}
	return m, nil
}

func (r *fileReader) one(n ast.Node, text string) (mapping.Mapping, error) {
	ms, err := mapping.Parse(text)
	if err != nil {
		return mapping.Mapping{}, r.problem(n, "map: %s", quoting(err).What)
	}
	if len(ms) != 1 {
		return mapping.Mapping{}, r.problem(n, "map: %q has several mappings: wanted each as an "+
			"entry of its own", text)
	}
	return ms[0], nil
}

// setting returns the setting of a key to a value, or to the values of a list.
func (r *fileReader) setting(p *ast.MappingValueNode, key string) (setting, error) {
	values, list := []ast.Node{p.Value}, false
	if seq, ok := p.Value.(*ast.SequenceNode); ok {
		values, list = seq.Values, true
	}
	s := setting{key: key, at: r.at(p.Key)}
	for _, v := range values {
		text, err := r.text(v)
		if err != nil {
			return s, err
		}
		if s.texts = append(s.texts, text); list {
			s.each = append(s.each, r.at(v))
		}
	}
	return s, nil
}

// text returns a plain value as it would be typed.
func (r *fileReader) text(n ast.Node) (string, error) {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, nil
	case *ast.LiteralNode:
		return strings.TrimSpace(n.Value.Value), nil
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode:
		return n.GetToken().Value, nil
	}
	return "", r.problem(n, "wanted a plain value, or a list of them")
}

// isOurs reports whether a flag belongs to this package, unlike --help.
func isOurs(f *pflag.Flag) bool {
	_, ok := f.Value.(*value)
	return ok
}

// apply sets the options to the values in the file, except those that the command line gives.
func (o *CopyOptions) apply(path string) error {
	mappedFlags := mappedFlags()
	known := func(key string) bool {
		f := o.fs.Lookup(key)
		return f != nil && isOurs(f) && key != "config" && key != "map" && Refused(f) == ""
	}
	f, err := readFile(path, known,
		func(key string) bool { return mappedFlags.Lookup(key) != nil })
	if err != nil {
		return err
	}
	scratch := pflag.NewFlagSet("", pflag.ContinueOnError)
	NewCopyOptions(scratch, o.host)
	typedFirst := make(map[string]bool)
	o.fs.Visit(func(f *pflag.Flag) {
		v, ours := f.Value.(*value)
		if !ours {
			return
		}
		typedFirst[f.Name] = true
		o.typed = append(o.typed, setting{key: f.Name, texts: v.all})
	})
	for _, s := range f.settings {
		fs := o.fs
		if typedFirst[s.key] {
			fs = scratch // the value is not used, but must be valid
		}
		if err := s.set(fs); err != nil {
			return err
		}
		if fs == o.fs {
			o.places[typed(fs.Lookup(s.key))] = s
		}
	}
	if o.noWait {
		o.c.Wait, typedFirst["wait"] = WaitNone, true
	}
	if typedFirst["map"] || len(f.mappings) == 0 {
		return nil
	}
	for i, m := range f.mappings {
		o.c.Mappings = append(o.c.Mappings, m.mapping)
		m.own = slices.DeleteFunc(m.own, func(s setting) bool { return typedFirst[s.key] })
		if len(m.own) == 0 {
			continue
		}
		if o.c.Own == nil {
			o.c.Own = make(map[int]Mapped)
		}
		own := o.c.Mapped
		own.Protocols = own.Protocols.Clone()
		fs := pflag.NewFlagSet("", pflag.ContinueOnError)
		register(fs, mappedOptions(&own))
		for _, s := range m.own { // a mapping's list replaces that of all mappings
			if clear := fs.Lookup(s.key).Value.(*value).o.clear; clear != nil {
				clear()
			}
		}
		for _, s := range m.own {
			if err := s.set(fs); err != nil {
				return err
			}
		}
		o.c.Own[i] = own
	}
	if _, err := mapping.NewTable(o.c.Mappings); err != nil {
		return &Problem{Flag: path, What: "mappings: " + err.Error()}
	}
	return nil
}

// set sets an option to each value of a list if it takes several values, and else to one value, in
// which the list has commas.
func (s setting) set(fs *pflag.FlagSet) error {
	texts, each := s.texts, s.each
	if fs.Lookup(s.key).Value.(*value).o.clear == nil {
		texts, each = []string{strings.Join(texts, ",")}, nil
	}
	for i, text := range texts {
		if err := fs.Set(s.key, text); err != nil {
			p := FlagProblem(err, "tcpcopy copy --help")
			at := s.at
			if i < len(each) {
				at = each[i]
			}
			p.Flag = at + ": " + s.key
			return p
		}
	}
	return nil
}
