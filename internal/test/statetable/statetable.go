// Package statetable reads the table of a state machine from the doc comment of its type, so that a
// test can drive every cell of it: the documentation is the test's data.
//
// A table is a preformatted block of the comment. Its columns are separated by two spaces or more.
// The first line is the header; a line whose first column is blank belongs to the event above:
//
//	event   in                   next         action
//	open    closed               syn-sent     send SYN
//	        others               same         -
//
// The first column may list several events, separated by commas, that do the same. The column "in"
// lists states, separated by single spaces. A state that ends in "*" stands for all states with
// that prefix; "others" stands for the states that the event's other lines do not name. The next
// state "same" is the state itself; "never" says that the event cannot happen there.
package statetable

import (
	"go/ast"
	"go/parser"
	"go/token"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Never is the next state of an event that cannot happen in a state.
const Never = "never"

// Cell is what an event does in a state.
type Cell struct{ Event, State, Next, Action string }

var columns = regexp.MustCompile(`\s{2,}`)

// Read returns the cells of the table in the doc comment of the type in the Go file, in the table's
// order. states are the names of all states. Read fails the test if a name is unknown, or unless
// the table has exactly one cell for each event and state.
func Read(t testing.TB, file, typeName string, states []string) []Cell {
	t.Helper()
	var cells, group []Cell // group: of the events of the line
	events := ""
	end := func() {
		complete(t, group, events, states)
		for event := range strings.SplitSeq(events, ", ") {
			if slices.ContainsFunc(cells, func(c Cell) bool { return c.Event == event }) {
				t.Fatalf("event %q is listed twice", event)
			}
			for _, c := range group {
				cells = append(cells, Cell{event, c.State, c.Next, c.Action})
			}
		}
		group = nil
	}
	for _, line := range lines(t, file, typeName) {
		fields := columns.Split(line, -1)
		if fields[0] != "" {
			end()
			events = fields[0]
		}
		if len(fields) != 4 {
			t.Fatalf("table line %q has %d columns, want 4", line, len(fields))
		}
		for _, s := range expand(t, group, fields[1], states) {
			next := fields[2]
			if next == "same" {
				next = s
			}
			if next != Never && !slices.Contains(states, next) {
				t.Fatalf("table line %q: no state %q", line, next)
			}
			group = append(group, Cell{events, s, next, fields[3]})
		}
	}
	end()
	return cells
}

// lines returns the lines of the table, without the header and the comment's indentation.
func lines(t testing.TB, file, typeName string) []string {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	doc := ""
	for _, d := range f.Decls {
		if g, ok := d.(*ast.GenDecl); ok && g.Tok == token.TYPE {
			if s := g.Specs[0].(*ast.TypeSpec); s.Name.Name == typeName {
				doc = g.Doc.Text()
			}
		}
	}
	var table []string
	for line := range strings.Lines(doc) {
		body, indented := strings.CutPrefix(strings.TrimRight(line, " \n"), "\t")
		switch {
		case indented && (table != nil || strings.HasPrefix(body, "event ")):
			table = append(table, body)
		case table != nil && body != "":
			return table[1:]
		}
	}
	if table == nil {
		t.Fatalf("%s: the doc comment of %s has no table", file, typeName)
	}
	return table[1:]
}

// expand returns the states that a line lists. group are the cells of the lines above it.
func expand(t testing.TB, group []Cell, list string, states []string) []string {
	t.Helper()
	var all []string
	for word := range strings.FieldsSeq(list) {
		prefix, wild := strings.CutSuffix(word, "*")
		n := len(all)
		for _, s := range states {
			listed := slices.Contains(all, s) || has(group, s)
			switch {
			case word == "others" && listed:
			case word == "others", wild && strings.HasPrefix(s, prefix), s == word:
				if listed {
					t.Fatalf("%q: the cell of %q is listed twice", list, s)
				}
				all = append(all, s)
			}
		}
		if len(all) == n {
			t.Fatalf("%q: %q stands for no state", list, word)
		}
	}
	return all
}

func has(group []Cell, state string) bool {
	return slices.ContainsFunc(group, func(c Cell) bool { return c.State == state })
}

// complete fails the test if an event has no cell in some state.
func complete(t testing.TB, group []Cell, events string, states []string) {
	t.Helper()
	for _, s := range states {
		if events != "" && !has(group, s) {
			t.Errorf("event %q has no cell in state %q", events, s)
		}
	}
}
