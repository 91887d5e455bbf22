package doctor

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
)

// The colours of the marks (ECMA-48).
const (
	red, yellow, green, plain = "\x1b[31m", "\x1b[33m", "\x1b[32m", "\x1b[0m"
)

// Print writes the report for people. All adds what is fine, and the consequences of findings.
func (r *Report) Print(w io.Writer, colour, all bool) {
	mark := func(sign, code string) string {
		if !colour {
			return sign
		}
		return code + sign + plain
	}
	for _, area := range areas {
		var b strings.Builder
		if all {
			for _, x := range of(r.Fine, area) {
				fmt.Fprintf(&b, "  %s %s\n", mark("√", green), x.passed())
			}
		}
		for _, x := range of(r.Findings, area) {
			fmt.Fprintf(&b, "  %s %s %s, on the %s\n", mark("×", red), x.Code, x.Title, x.Hop)
			x.details(&b)
		}
		for _, x := range of(r.Unknown, area) {
			fmt.Fprintf(&b, "  %s %s not known: %s%s\n", mark("‼", yellow), x.Code, x.Title,
				x.thing())
			wrap(&b, "      ", x.Seen)
		}
		if all {
			for _, x := range of(r.Muted, area) {
				fmt.Fprintf(&b, "  - %s %s%s: a consequence of the above\n", x.Code, x.Title,
					x.thing())
			}
		}
		if b.Len() > 0 {
			fmt.Fprintf(w, "%s\n%s", area, b.String())
		}
	}
	fmt.Fprintf(w, "%s\n", r.conclusion())
}

// details writes what was seen, and what mends it.
func (x *Finding) details(w io.Writer) {
	wrap(w, "      ", x.Seen)
	wrap(w, "      ", x.Why)
	for _, f := range x.Fix {
		fmt.Fprintf(w, "      fix (on the %s): %s\n", x.On, f)
	}
	fmt.Fprintf(w, "      more: tcpcopy explain %s\n", x.Code)
}

// passed returns a fine finding as one line: what was examined, and what was seen.
func (x *Finding) passed() string {
	return fmt.Sprintf("%s not so: %s%s (%s)", x.Code, x.Title, x.thing(), x.Seen)
}

// thing returns what a finding is about, in brackets.
func (x *Finding) thing() string {
	if x.About == "" {
		return ""
	}
	return " [" + x.About + "]"
}

func (r *Report) conclusion() string {
	s := fmt.Sprintf("%d causes found, %d not known, %d fine", len(r.Findings), len(r.Unknown),
		len(r.Fine))
	if len(r.Findings) == 1 {
		s = strings.Replace(s, "causes", "cause", 1)
	}
	return s
}

func of(all []Finding, area Area) (some []Finding) {
	for _, x := range all {
		if x.Area == area {
			some = append(some, x)
		}
	}
	return some
}

// WriteJSON writes the report for machines. docs/doctor.schema.json describes it.
func (r *Report) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r)
}
