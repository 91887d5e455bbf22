package page

import (
	"fmt"
	"html/template"
	"math"
	"strconv"
	"strings"
	"time"

	"tcpcopy/internal/account/export"
)

// The size of a chart, in units of its view box.
const (
	width, height = 720.0, 220.0
	left, right   = 56.0, 20.0
	top, bottom   = 8.0, 24.0
)

// series is one line of a chart.
type series struct {
	name   string
	class  string // of the style
	values export.Column
}

func charts(c *export.Course) []chartView {
	views := []chartView{
		line(
			"Requests a second",
			"turns that went to the target; answers where the protocol is known",
			"/s",
			c.At,
			series{
				"turns",
				"target",
				c.Turns,
			},
			series{"production's answers", "production", c.ProductionAnswers},
			series{"target's answers", "other", c.TargetAnswers},
		),
		line(
			"Connections open at the same time",
			"",
			"",
			c.At,
			series{
				"production",
				"production",
				c.ProductionOpen,
			},
			series{"target", "target", c.TargetOpen},
		),
		line(
			"Answer times",
			"to the last byte",
			" ms",
			c.At,
			series{"production, median", "production", c.ProductionMedian},
			series{"production, 99 %", "production dashed", c.ProductionP99},
			series{
				"target, median",
				"target",
				c.TargetMedian,
			},
			series{"target, 99 %", "target dashed", c.TargetP99},
		),
		line(
			"Lag",
			"how long after their capture, or their time, 99 % of the requests had gone",
			" ms",
			c.At,
			series{"99 %", "target", c.BehindP99},
		),
		line("Sessions a second", "", "/s", c.At,
			series{"captured", "production", c.Sessions}, series{"dropped", "bad", c.Dropped}),
	}
	kept := views[:0]
	for _, v := range views {
		if v.SVG != "" {
			kept = append(kept, v)
		}
	}
	return kept
}

// line draws series over time. Those that have no value, or only 0 where others have more, are left
// out; a chart without any is empty.
func line(title, note, unit string, at export.Column, all ...series) chartView {
	var shown []series
	most := 0.0
	for _, s := range all {
		peak, some := peak(s.values)
		if some && (peak > 0 || s.class == "bad") {
			shown = append(shown, s)
		}
		most = max(most, peak)
	}
	v := chartView{Title: title, Note: note}
	if len(shown) == 0 || most == 0 {
		return v
	}
	step := niceStep(most / 4)
	ceiling := math.Ceil(most/step) * step
	end := at[len(at)-1]
	x := func(t float64) float64 { return left + (width-left-right)*t/end }
	y := func(f float64) float64 { return height - bottom - (height-top-bottom)*f/ceiling }
	var b strings.Builder
	var names []string
	for _, s := range shown {
		peak, _ := peak(s.values)
		names = append(names, fmt.Sprintf("%s up to %s%s", s.name, short(peak), unit))
	}
	fmt.Fprintf(&b, `<svg viewBox="0 0 %g %g" role="img" aria-label="%s">`, width, height,
		template.HTMLEscapeString(title+": "+strings.Join(names, "; ")))
	for f := 0.0; f <= ceiling*1.001; f += step {
		fmt.Fprintf(
			&b,
			`<line class="grid" x1="%g" x2="%g" y1="%.1f" y2="%.1f"/>`,
			left,
			width-right,
			y(f),
			y(f),
		)
		fmt.Fprintf(
			&b,
			`<text class="tick end" x="%g" y="%.1f">%s%s</text>`,
			left-6,
			y(f)+3.5,
			short(f),
			unit,
		)
	}
	for _, t := range timeTicks(end) {
		fmt.Fprintf(
			&b,
			`<text class="tick middle" x="%.1f" y="%g">%s</text>`,
			x(t),
			height-6,
			clock(t),
		)
	}
	for _, s := range shown {
		fmt.Fprintf(&b, `<path class="line %s" d="%s"/>`, s.class, path(at, s.values, x, y))
	}
	b.WriteString("</svg>")
	b.WriteString(`<p class="legend">`)
	for _, s := range shown {
		fmt.Fprintf(
			&b,
			`<span><i class="key %s"></i>%s</span> `,
			s.class,
			template.HTMLEscapeString(s.name),
		)
	}
	b.WriteString("</p>")
	v.SVG = template.HTML(b.String())
	return v
}

// peak returns the highest value of a column; false if it has none.
func peak(c export.Column) (most float64, some bool) {
	for _, f := range c {
		if !math.IsNaN(f) {
			most, some = max(most, f), true
		}
	}
	return most, some
}

// path is the line of a column, with a gap where it has no value.
func path(at, values export.Column, x, y func(float64) float64) string {
	var b strings.Builder
	pen := byte('M')
	for i, f := range values {
		if math.IsNaN(f) {
			pen = 'M'
			continue
		}
		b.WriteByte(pen)
		b.WriteString(strconv.FormatFloat(x(at[i]), 'f', 1, 64))
		b.WriteByte(' ')
		b.WriteString(strconv.FormatFloat(y(f), 'f', 1, 64))
		if pen == 'M' { // a value alone is a dot
			b.WriteString("h.1")
		}
		pen = 'L'
	}
	return b.String()
}

// niceStep returns 1, 2 or 5 times a power of ten that is at least f.
func niceStep(f float64) float64 {
	power := math.Pow(10, math.Floor(math.Log10(f)))
	for _, n := range []float64{1, 2, 5} {
		if n*power >= f {
			return n * power
		}
	}
	return 10 * power
}

// clock shows a time of an axis.
func clock(seconds float64) string {
	text := time.Duration(seconds * float64(time.Second)).String()
	if strings.Contains(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.Contains(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// timeTicks returns the times, in seconds, that an axis up to end names.
func timeTicks(end float64) (ticks []float64) {
	step := niceStep(end / 6)
	for _, n := range []float64{60, 120, 300, 600, 1800, 3600, 7200, 14400, 43200, 86400} {
		if end/6 > 20 && n >= end/6 {
			step = n
			break
		}
	}
	for t := 0.0; t <= end; t += step {
		ticks = append(ticks, t)
	}
	return ticks
}

// short shows a number in three digits.
func short(f float64) string {
	switch {
	case f >= 1e9:
		return strconv.FormatFloat(f/1e9, 'g', 3, 64) + "G"
	case f >= 1e6:
		return strconv.FormatFloat(f/1e6, 'g', 3, 64) + "M"
	case f >= 1e4:
		return strconv.FormatFloat(f/1e3, 'g', 3, 64) + "k"
	case f >= 100:
		return strconv.FormatFloat(math.Round(f), 'f', 0, 64)
	}
	return strconv.FormatFloat(f, 'g', 3, 64)
}
