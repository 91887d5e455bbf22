package verdict

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Learned is a rule that a run of equal servers suggests.
type Learned struct {
	Rule      Rule
	Unordered bool   // it is for the order of lists; else differences are left out
	Sessions  uint64 // in which the servers differed there
	Kinds     []Kind // what it silences
}

// Lesson is what runs of equal servers suggest.
type Lesson struct {
	Compared uint64
	Rules    []Learned
	// Faults are differences that no rule should silence: there was no answer, or another status
	// or end. Either the servers are not equal, or one of them failed.
	Faults []string
}

// Learn suggests rules by which runs against a server that is equal to production's would have been
// the same: one for each endpoint and path at which answers differed.
func Learn(runs ...*Result) (*Lesson, error) {
	l := &Lesson{}
	at := map[Rule]*Learned{}
	for _, r := range runs {
		if r == nil {
			return nil, errors.New("verdict: a report without a comparison: wanted one of a run " +
				"with --compare")
		}
		l.Compared += r.Compared
		for i := range r.Cells {
			l.add(&r.Cells[i], at)
		}
	}
	for _, x := range at {
		x.Unordered = len(x.Kinds) == 1 && x.Kinds[0] == Order
		l.Rules = append(l.Rules, *x)
	}
	slices.SortFunc(l.Rules, func(a, b Learned) int {
		return cmp.Or(cmp.Compare(b.Sessions, a.Sessions),
			strings.Compare(a.Rule.Endpoint, b.Rule.Endpoint),
			strings.Compare(a.Rule.Path, b.Rule.Path))
	})
	return l, nil
}

// add learns from a cell.
func (l *Lesson) add(c *Cell, at map[Rule]*Learned) {
	if c.Sessions == 0 { // what is expected needs no rule
		return
	}
	switch c.Kind {
	case NoAnswer, Status, End:
		l.Faults = append(l.Faults, fmt.Sprintf("%s: %s: %s%s in %d sessions", c.Endpoint, c.Path,
			c.Kind, c.example(), c.Sessions))
		return
	}
	rule := Rule{c.Endpoint, c.Path}
	x := at[rule]
	if x == nil {
		x = &Learned{Rule: rule}
		at[rule] = x
	}
	x.Sessions = max(x.Sessions, c.Sessions)
	if !slices.Contains(x.Kinds, c.Kind) {
		x.Kinds = append(x.Kinds, c.Kind)
		slices.Sort(x.Kinds)
	}
}

// Write writes the rules as part of a configuration file, with what each would silence.
func (l *Lesson) Write(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "# Learned from %d answers of servers that are said to be equal. Look at each "+
		"rule: it\n# silences every difference at its path, also one that a new version makes.\n",
		l.Compared)
	for _, fault := range l.Faults {
		fmt.Fprintf(&b, "# No rule for %s\n", strings.ReplaceAll(fault, "\n", " "))
	}
	for _, key := range []string{"ignore", "unordered"} {
		begun := false
		for i := range l.Rules {
			x := &l.Rules[i]
			if x.Unordered != (key == "unordered") {
				continue
			}
			if !begun {
				fmt.Fprintf(&b, "%s:\n", key)
				begun = true
			}
			var kinds []string
			for _, k := range x.Kinds {
				kinds = append(kinds, string(k))
			}
			// In single quotes only a single quote is special in YAML.
			fmt.Fprintf(&b, "  - '%s' # %s, in %d sessions\n",
				strings.ReplaceAll(x.Rule.String(), "'", "''"), strings.Join(kinds, ", "),
				x.Sessions)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}
