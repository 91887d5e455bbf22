package page

import (
	"cmp"
	"fmt"
	"html/template"
	"maps"
	"slices"
	"strings"

	"tcpcopy/internal/account/export"
	"tcpcopy/internal/core/ledger"
)

// branch is a part of what was captured.
type branch struct {
	name, class string
	n           uint64
}

// maxBranches bounds the reasons that a flow shows one by one; the rest is shown as one.
const maxBranches = 8

// branches returns what became of f's captured: the parts sum to the whole.
func branches(f *export.FlowReport) []branch {
	all := []branch{{"delivered", "good", f.Delivered}, {"in flight", "other", f.InFlight}}
	var dropped []branch
	for _, name := range slices.Sorted(maps.Keys(f.Dropped)) {
		class := "bad"
		if r, ok := ledger.ReasonNamed(name); ok && r.OnRequest() {
			class = "asked"
		}
		dropped = append(dropped, branch{name, class, f.Dropped[name]})
	}
	slices.SortStableFunc(dropped, func(a, b branch) int { return cmp.Compare(b.n, a.n) })
	if len(dropped) > maxBranches {
		rest := branch{
			name:  fmt.Sprintf("%d other reasons", len(dropped)-maxBranches+1),
			class: "bad",
		}
		for _, b := range dropped[maxBranches-1:] {
			rest.n += b.n
		}
		dropped = append(dropped[:maxBranches-1], rest)
	}
	all = append(all, dropped...)
	return slices.DeleteFunc(all, func(b branch) bool { return b.n == 0 })
}

// Flow draws what became of the captured sessions: a band for each part, as wide as the part is
// large.
func Flow(r *export.Report) template.HTML {
	f := &r.Sessions
	parts := branches(f)
	if f.Captured == 0 || len(parts) == 0 {
		return ""
	}
	const (
		w, from, to = 720.0, 150.0, 470.0
		whole       = 140.0 // the height of all that was captured
		row         = 22.0  // of a line of text
		least       = 1.5   // what is there is seen
	)
	h := 8.0
	words := make([]string, len(parts))
	for i, p := range parts {
		words[i] = number(p.n) + " " + p.name
		h += max(row, whole*float64(p.n)/float64(f.Captured)) + 4
	}
	h = max(h, whole+16)
	var b strings.Builder
	fmt.Fprintf(
		&b,
		`<svg viewBox="0 0 %g %.0f" role="img" aria-label="%s">`,
		w,
		h,
		template.HTMLEscapeString(
			"Of "+number(f.Captured)+" sessions captured: "+strings.Join(words, ", ")),
	)
	fmt.Fprintf(
		&b,
		`<rect class="fill production" x="%g" y="8" width="10" height="%g"/>`,
		from-10,
		whole,
	)
	fmt.Fprintf(&b, `<text class="name end" x="%g" y="%g">captured</text>`, from-18, 8+whole/2-2)
	fmt.Fprintf(
		&b,
		`<text class="count end" x="%g" y="%g">%s</text>`,
		from-18,
		8+whole/2+14,
		number(f.Captured),
	)
	y, end := 8.0, 8.0 // where the next band begins, on the left and on the right
	for _, p := range parts {
		share := float64(p.n) / float64(f.Captured)
		thick := max(whole*share, least)
		slot := max(row, thick)
		at := end + (slot-thick)/2
		drawBand(&b, p.class, [2]float64{from, y}, [2]float64{to, at}, thick)
		fmt.Fprintf(&b, `<text class="name" x="%g" y="%.1f">%s `, to+8, end+slot/2+4,
			template.HTMLEscapeString(p.name))
		fmt.Fprintf(&b, `<tspan class="count">%s · %s</tspan></text>`, number(p.n), part(share))
		y += whole * share
		end += slot + 4
	}
	b.WriteString("</svg>")
	return template.HTML(b.String())
}

// drawBand draws a band from the upper end of its left edge to that of its right edge.
func drawBand(b *strings.Builder, class string, from, to [2]float64, thick float64) {
	middle := (from[0] + to[0]) / 2
	fmt.Fprintf(b, `<path class="band %s" d="M%g %.2fC%g %.2f %g %.2f %g %.2f`, class,
		from[0], from[1], middle, from[1], middle, to[1], to[0], to[1])
	fmt.Fprintf(b, `V%.2fC%g %.2f %g %.2f %g %.2fZ"/>`,
		to[1]+thick, middle, to[1]+thick, middle, from[1]+thick, from[0], from[1]+thick)
}

// part shows a share in percent; never 100 or 0 for what is not.
func part(share float64) string {
	switch {
	case share < 0.0001:
		return "< 0.01 %"
	case share < 1 && share > 0.9999:
		return "> 99.99 %"
	}
	return fmt.Sprintf("%.4g %%", 100*share)
}
