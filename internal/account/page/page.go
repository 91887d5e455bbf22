// Package page makes a report that people keep: one HTML file without scripts, which opens without
// a network and prints on A4. It shows an export.Report, and nothing that is not in it.
//
// Read page.go for what is shown, page.html for how, chart.go and flow.go for the pictures.
package page

import (
	"bytes"
	"cmp"
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"tcpcopy/internal/account/export"
	"tcpcopy/internal/account/verdict"
	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/core/session"
	"tcpcopy/internal/proto"
)

//go:embed page.html
var text string

var layout = template.Must(template.New("page").Funcs(template.FuncMap{
	"number": number, "size": size, "span": span, "date": date, "score": score, "percent": percent,
	"state": state, "judged": judged, "excluded": excluded, "evidence": evidence,
	"status": proto.StatusText,
}).Parse(text))

// document is what the template shows.
type document struct {
	*export.Report
	Flow    template.HTML
	Charts  []chartView
	Drops   []Drop
	Status  []statusRow
	Times   []timesRow
	Numbers []pair
}

type chartView struct {
	Title, Note string
	SVG         template.HTML
}

// Drop is a reason, with what was dropped for it.
type Drop struct {
	Reason, Meaning           string
	Sessions, Bytes, Requests uint64
	OnRequest                 bool
}

type statusRow struct {
	Class              string
	Production, Target uint64
}

type timesRow struct {
	What               string
	Production, Target *export.Times
}

type pair struct{ Name, Value string }

// Write writes the page of a report. It fails if the report contradicts itself.
func Write(w io.Writer, r *export.Report) error {
	if r.Course != nil {
		if err := r.Course.Check(); err != nil {
			return fmt.Errorf("page: %w", err)
		}
	}
	d := &document{Report: r, Flow: Flow(r), Drops: Drops(r), Status: statuses(r), Times: times(r)}
	if r.Course != nil && len(r.Course.At) > 1 {
		d.Charts = charts(r.Course)
	}
	d.Numbers = numbers(r)
	var b bytes.Buffer
	if err := layout.Execute(&b, d); err != nil {
		return fmt.Errorf("page: %w", err)
	}
	if _, err := w.Write(b.Bytes()); err != nil {
		return fmt.Errorf("page: %w", err)
	}
	return nil
}

// judged returns the class of a comparison's verdict, as state does for a score.
func judged(w verdict.Word) string {
	switch w {
	case verdict.Same:
		return "good"
	case verdict.CannotTell:
		return "fair"
	default:
		return "bad"
	}
}

// excluded explains a reason for which answers were not compared.
func excluded(name string) string {
	if e, ok := session.ExclusionNamed(name); ok {
		return e.Meaning()
	}
	return ""
}

// evidence shows the evidence for a difference, as a power of ten.
func evidence(power float64) string { return strconv.FormatFloat(power, 'f', 1, 64) }

// Drops lists the reasons that have dropped something, the most sessions first.
func Drops(r *export.Report) []Drop {
	at := map[string]*Drop{}
	add := func(counts map[string]uint64, to func(*Drop) *uint64) {
		for name, n := range counts {
			if at[name] == nil {
				at[name] = &Drop{Reason: name}
				if reason, ok := ledger.ReasonNamed(name); ok {
					at[name].Meaning, at[name].OnRequest = reason.Meaning(), reason.OnRequest()
				}
			}
			*to(at[name]) += n
		}
	}
	add(r.Sessions.Dropped, func(d *Drop) *uint64 { return &d.Sessions })
	add(r.Bytes.Dropped, func(d *Drop) *uint64 { return &d.Bytes })
	add(r.Protocol.Dropped, func(d *Drop) *uint64 { return &d.Requests })
	var all []Drop
	for _, d := range at {
		all = append(all, *d)
	}
	slices.SortFunc(all, func(a, b Drop) int {
		return cmp.Or(cmp.Compare(b.Sessions, a.Sessions), cmp.Compare(b.Bytes, a.Bytes),
			cmp.Compare(a.Reason, b.Reason))
	})
	return all
}

func statuses(r *export.Report) (all []statusRow) {
	both := maps.Clone(r.Protocol.Status)
	if both == nil {
		both = map[string]uint64{}
	}
	maps.Copy(both, r.Protocol.Production.Status)
	for _, class := range slices.Sorted(maps.Keys(both)) {
		all = append(
			all,
			statusRow{class, r.Protocol.Production.Status[class], r.Protocol.Status[class]},
		)
	}
	return all
}

func times(r *export.Report) (all []timesRow) {
	p, t := r.Protocol.Production.Times, r.Protocol.Times
	if p == nil && t == nil {
		return nil
	}
	first, whole := timesRow{What: "to the first byte"}, timesRow{What: "to the last byte"}
	if p != nil {
		first.Production, whole.Production = &p.First, &p.Whole
	}
	if t != nil {
		first.Target, whole.Target = &t.First, &t.Whole
	}
	return append(all, first, whole)
}

// numbers are those that need no table of their own.
func numbers(r *export.Report) []pair {
	all := []pair{
		{"packets captured", number(r.Packets.Captured)},
		{"lost in the kernel", number(r.Packets.KernelDrop)},
		{"turns that went", number(r.Gate.Turns)},
		{"connections copied", number(r.Connections)},
		{"copies that targets accepted", number(r.Copies)},
		{"bytes that the target answered", size(r.AnswerBytes)},
		{"behind, median", milliseconds(r.Behind.Median)},
		{"behind, 99 %", milliseconds(r.Behind.P99)},
		{"processor time", span(r.Resources.CPUSeconds)},
		{"most memory", size(r.Resources.MaxRSSBytes)},
	}
	if n := r.Packets.Shed + r.Packets.Lost; n > 0 {
		all = append(all, pair{"left out or lost by agents", number(n)})
	}
	if r.Protocol.Sent > 0 {
		all = append(all, pair{"requests sent", number(r.Protocol.Sent)},
			pair{"answers of the target", number(r.Protocol.Answered)},
			pair{"of these, errors", number(r.Protocol.Failed)},
			pair{"answers of production", number(r.Protocol.Production.Answered)},
			pair{"of these, errors", number(r.Protocol.Production.Failed)})
	}
	return all
}

// number shows n with a comma after each three digits.
func number(n uint64) string {
	digits := strconv.FormatUint(n, 10)
	var b strings.Builder
	for i, d := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 {
			b.WriteByte(',')
		}
		b.WriteRune(d)
	}
	return b.String()
}

func size(n uint64) string {
	const k = 1024
	switch {
	case n < k:
		return fmt.Sprintf("%d B", n)
	case n < k*k:
		return fmt.Sprintf("%.1f KB", float64(n)/k)
	case n < k*k*k:
		return fmt.Sprintf("%.1f MB", float64(n)/(k*k))
	}
	return fmt.Sprintf("%.1f GB", float64(n)/(k*k*k))
}

// span shows seconds as a duration.
func span(seconds float64) string {
	d := time.Duration(seconds * float64(time.Second))
	if d >= time.Minute {
		return d.Round(time.Second).String()
	}
	return d.Round(100 * time.Millisecond).String()
}

func milliseconds(ms float64) string {
	switch {
	case ms >= 10_000:
		return span(ms / 1e3)
	case ms >= 100:
		return fmt.Sprintf("%.0f ms", ms)
	}
	return fmt.Sprintf("%.3g ms", ms)
}

func date(t time.Time) string { return t.Format("2006-01-02 15:04:05 MST") }

// score shows a value of a score, rounded down.
func score(v *float64) string {
	if v == nil {
		return "–"
	}
	return strconv.FormatFloat(math.Floor(*v*10)/10, 'f', 1, 64)
}

func percent(v *float64) string {
	if v == nil {
		return "–"
	}
	return fmt.Sprintf("%.3f %%", *v)
}

// state is the class of a value: good, fair or bad.
func state(v *float64) string {
	switch {
	case v == nil:
		return "none"
	case *v >= 99:
		return "good"
	case *v >= 90:
		return "fair"
	}
	return "bad"
}
