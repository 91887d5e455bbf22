package doctor

import (
	_ "embed" // for preface
	"fmt"
	"io"
	"strings"
)

// Explain writes the long text of a check.
func Explain(w io.Writer, c *Check) {
	fmt.Fprintf(w, "%s: %s\n", c.Code, c.Title)
	fmt.Fprintf(w, "%s, %s\n", c.Area, hostWords(c.Roles))
	for _, part := range c.parts() {
		fmt.Fprintf(w, "\n%s\n", part.title)
		wrap(w, "  ", part.text)
	}
}

// preface begins the document that Pages writes.
//
//go:embed preface.md
var preface string

// Pages writes the document about the doctor in Markdown: docs/doctor.md.
func Pages(w io.Writer) {
	io.WriteString(w, preface)
	area := Area("")
	for _, c := range Checks() {
		if c.Area != area {
			area = c.Area
			name := string(area)
			fmt.Fprintf(w, "\n## %s\n", strings.ToUpper(name[:1])+name[1:])
		}
		fmt.Fprintf(w, "\n### %s: %s\n\n", c.Code, c.Title)
		wrap(w, "", "Seen "+hostWords(c.Roles)+".")
		for _, part := range c.parts() {
			fmt.Fprintln(w)
			wrap(w, "", "*"+part.title+"* "+part.text)
		}
	}
}

type part struct{ title, text string }

func (c *Check) parts() []part {
	all := []part{
		{"How the doctor knows.", c.How}, {"Why it matters.", c.Why}, {"What mends it.", c.Mend},
	}
	if len(c.After) > 0 {
		all = append(all, part{"What comes first.",
			"It is not reported beside " + strings.Join(c.After, ", ") + ", which can cause it."})
	}
	return all
}

func hostWords(roles []Role) string {
	var names []string
	for _, r := range roles {
		names = append(names, string(r))
	}
	return "on the " + strings.Join(names, ", ")
}

const textWidth = 92 // columns

// wrap writes a text in lines.
func wrap(w io.Writer, indent, text string) {
	line := indent
	for _, word := range strings.Fields(text) {
		if line != indent && len(line)+1+len(word) > textWidth {
			fmt.Fprintln(w, line)
			line = indent
		}
		if line != indent {
			line += " "
		}
		line += word
	}
	fmt.Fprintln(w, line)
}
