package verdict

import (
	"encoding/xml"
	"fmt"
	"io"
	"slices"
	"strings"

	"tcpcopy/internal/proto"
)

// Line returns the state of a comparison in a few words.
func (r *Result) Line() string {
	return fmt.Sprintf("compared %d of %d answers, %d differed: %s", r.Compared, r.Due,
		r.First+r.Later, r.Verdict)
}

// shown is how many cells a table has.
const shown = 20

// Write writes a table for people.
func (r *Result) Write(w io.Writer) error {
	var b strings.Builder
	row := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "%-9s %s\n", name, fmt.Sprintf(format, args...))
	}
	row("answers", "%s: %s", r.Verdict, r.Why[0])
	for _, why := range r.Why[1:] {
		row("", "%s", why)
	}
	row("compared", "%d of %d answers due, %d of them without their content; %d open", r.Compared,
		r.Due, r.Partly, r.Open)
	for _, name := range sortedKeys(r.Excluded) {
		row("", "%d not compared: %s", r.Excluded[name], name)
	}
	if r.First > 0 {
		row("", "%d differed first in their session, %d after such a one", r.First, r.Later)
	}
	if slices.ContainsFunc(r.Statuses, func(s StatusResult) bool {
		return s.Production != s.Target
	}) {
		var all []string
		for _, s := range r.Statuses {
			to := proto.StatusText(s.Target)
			if s.Target == 0 {
				to = "none"
			}
			all = append(all, fmt.Sprintf("%s→%s %d", proto.StatusText(s.Production), to,
				s.Answers))
		}
		row("statuses", "%s", strings.Join(all, ", "))
	}
	r.Against.rows(row)
	r.writeCells(&b)
	for _, rule := range r.Rules {
		if rule.Silenced == 0 {
			row("rule", "%q silenced nothing", rule.Rule)
		} else {
			row("rule", "%q silenced %d differences", rule.Rule, rule.Silenced)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// rows writes how the old version has answered.
func (r *AgainstResult) rows(row func(name, format string, args ...any)) {
	if r == nil {
		return
	}
	if r.Only {
		row("against", "%s alone: production below is this old version",
			strings.Join(r.Targets, ", "))
	} else {
		row("against", "%s: %d of the answers compared with its own, too",
			strings.Join(r.Targets, ", "), r.Answered)
	}
	for _, why := range sortedKeys(r.Lacking) {
		row("", "%d compared without it: %s", r.Lacking[why], why)
	}
	for i := range r.Times {
		row("times", "%s", r.Times[i].line("the old version's"))
	}
	if len(r.Times) == 0 {
		row("times", "not judged: wanted %d seconds in which both versions answered and tcpcopy "+
			"ran", minBlocks)
	}
}

// writeCells writes the first cells. Without an old version no answer is like its.
func (r *Result) writeCells(b *strings.Builder) {
	alone, both := "production", func(*Cell) string { return "" }
	three := r.Against != nil && !r.Against.Only
	if three {
		alone, both = "old", func(c *Cell) string { return fmt.Sprintf(" %6d", c.Both) }
	}
	if len(r.Cells) > 0 {
		fmt.Fprintf(b, "%-8s %8s %7s %10s", "evidence", "sessions", "target", alone)
		if three {
			fmt.Fprintf(b, " %6s", "both")
		}
		fmt.Fprintf(b, " %5s %8s\n", "blind", "expected")
	}
	for i := range r.Cells {
		if i == shown {
			fmt.Fprintf(b, "… and %d more (--report has all)\n", len(r.Cells)-i)
			break
		}
		c := &r.Cells[i]
		proven := " "
		if c.Proven {
			proven = "!"
		}
		fmt.Fprintf(b, "%s10^%-4.1f %8d %7d %10d%s %5d %8d  %s: %s: %s%s\n", proven, c.Evidence,
			c.Sessions, c.Alone, c.Base, both(c), c.Blind, c.Expected, c.Endpoint, c.Path, c.Kind,
			c.example())
	}
}

// example describes what both had, if that is known.
func (c *Cell) example() string {
	switch {
	case c.Expected > 0 && c.Alone+c.Blind == 0:
		return " of a " + c.Known
	case c.From == "" || c.From == c.To:
		return ""
	}
	return fmt.Sprintf(" (%s → %s)", c.From, c.To)
}

// junit is a JUnit XML report, as CI systems read it.
type junit struct {
	XMLName  xml.Name `xml:"testsuites"`
	Tests    int      `xml:"tests,attr"`
	Failures int      `xml:"failures,attr"`
	Skipped  int      `xml:"skipped,attr"`
	Suite    junitSuite
}

type junitSuite struct {
	XMLName  xml.Name    `xml:"testsuite"`
	Name     string      `xml:"name,attr"`
	Tests    int         `xml:"tests,attr"`
	Failures int         `xml:"failures,attr"`
	Skipped  int         `xml:"skipped,attr"`
	Cases    []junitCase `xml:"testcase"`
}

type junitCase struct {
	Class   string        `xml:"classname,attr"`
	Name    string        `xml:"name,attr"`
	Failure *junitMessage `xml:"failure"`
	Skipped *junitMessage `xml:"skipped"`
}

type junitMessage struct {
	Message string `xml:"message,attr"`
	Text    string `xml:",chardata"`
}

// JUnit returns the result as JUnit XML: one case for each endpoint, and one for the verdict, which
// is skipped where it cannot be told.
func (r *Result) JUnit() ([]byte, error) {
	s := junitSuite{Name: "tcpcopy compare"}
	for _, e := range r.Endpoints {
		c := junitCase{Class: "endpoint", Name: e.Endpoint}
		var text []string
		for i := range r.Cells {
			cell := &r.Cells[i]
			if cell.Proven && cell.Endpoint == e.Endpoint && r.Verdict == Differs {
				text = append(text, fmt.Sprintf("%s: %s%s: %d answers, evidence 10^%.1f", cell.Path,
					cell.Kind, cell.example(), cell.Alone, cell.Evidence))
			}
		}
		if len(text) > 0 {
			c.Failure = &junitMessage{Message: text[0], Text: strings.Join(text, "\n")}
			s.Failures++
		}
		s.Cases = append(s.Cases, c)
	}
	whole := junitCase{Class: "compare", Name: "verdict"}
	switch m := (&junitMessage{Message: string(r.Verdict), Text: strings.Join(r.Why, "\n")}); {
	case r.Verdict == CannotTell:
		whole.Skipped = m
		s.Skipped++
	case r.Verdict != Same:
		whole.Failure = m
		s.Failures++
	}
	s.Cases = append(s.Cases, whole)
	s.Tests = len(s.Cases)
	out, err := xml.MarshalIndent(junit{Tests: s.Tests, Failures: s.Failures, Skipped: s.Skipped,
		Suite: s}, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("verdict: %w", err)
	}
	return append([]byte(xml.Header), append(out, '\n')...), nil
}
