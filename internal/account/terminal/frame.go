package terminal

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"charm.land/lipgloss/v2"
	"github.com/charmbracelet/x/ansi"

	"tcpcopy/internal/account/export"
	"tcpcopy/internal/account/fleet"
	"tcpcopy/internal/account/history"
	"tcpcopy/internal/core/ledger"
)

// The styles use the terminal's own 16 colors, which fit its background.
var (
	strong     = lipgloss.NewStyle().Bold(true)
	faint      = lipgloss.NewStyle().Faint(true)
	production = lipgloss.NewStyle().Foreground(lipgloss.Color("4"))
	target     = lipgloss.NewStyle().Foreground(lipgloss.Color("3"))
	good       = lipgloss.NewStyle().Foreground(lipgloss.Color("2"))
	bad        = lipgloss.NewStyle().Foreground(lipgloss.Color("1"))
)

// Screen is what a frame shows.
type Screen struct {
	State         *fleet.State
	Now           time.Time
	Messages      []string     // the last lines of the log; the newest last
	Keys          string       // what the keys do
	Sessions      *SessionList // nil: the overview is shown
	Width, Height int
}

// wide is the width from which on there are two columns. Of the log the last maxMessages lines are
// at the foot, and maxFindings findings are at the top.
const (
	wide        = 132
	maxMessages = 3
	maxFindings = 2
)

// Frame returns the screen as Height lines of at most Width columns.
func Frame(s *Screen) string {
	p := &pen{width: max(s.Width, 20)}
	p.head(s)
	if s.State.Total == nil {
		p.line("")
		p.line(faint.Render("waiting for the first state …"))
	} else if s.Sessions != nil {
		p.sessions(s.Sessions, max(s.Height, 4)-min(len(s.Messages), maxMessages)-1)
	} else if p.width >= wide {
		p.columns(s)
	} else {
		p.sides(s.State, p.width)
		p.account(s.State.Total, 4)
		p.peers(s)
	}
	return p.fit(s)
}

// pen collects lines, each cut to the width.
type pen struct {
	width int
	lines []string
}

func (p *pen) linef(format string, args ...any) { p.line(fmt.Sprintf(format, args...)) }

func (p *pen) line(text string) {
	p.lines = append(p.lines, ansi.Truncate(text, p.width, "…"))
}

func (p *pen) title(text string) {
	p.line("")
	p.line(strong.Render(text))
}

// fit makes the frame as high as the screen: the messages and the keys stand at its foot.
func (p *pen) fit(s *Screen) string {
	height := max(s.Height, 4)
	foot := &pen{width: p.width}
	for _, m := range s.Messages[max(0, len(s.Messages)-maxMessages):] {
		foot.line(faint.Render(plain(m)))
	}
	foot.line(faint.Render(s.Keys))
	room := height - len(foot.lines)
	if len(p.lines) > room {
		more := len(p.lines) - room + 1
		p.lines = p.lines[:room-1]
		p.line(faint.Render(fmt.Sprintf("… %d more lines: a higher window shows them", more)))
	}
	for len(p.lines) < room {
		p.lines = append(p.lines, "")
	}
	return strings.Join(append(p.lines, foot.lines...), "\n")
}

func (p *pen) head(s *Screen) {
	t := s.State.Total
	answering := 0
	for _, n := range s.State.Nodes {
		if n.Err == nil && n.Status != nil {
			answering++
		}
	}
	title := strong.Render("tcpcopy")
	if t == nil {
		p.linef("%s  %d of %d nodes answer", title, answering, len(s.State.Nodes))
		return
	}
	what := strings.Join(t.Mappings, ", ")
	title += "  " + plain(what) + faint.Render("  "+plain(t.Via)+"  up "+span(t.Seconds))
	if len(s.State.Nodes) > 1 {
		title += faint.Render(fmt.Sprintf("  %d of %d nodes answer", answering, len(s.State.Nodes)))
	} else if t.Sequence > 0 {
		title += faint.Render(fmt.Sprintf("  state %d", t.Sequence))
	}
	p.line(title)
	if f := t.Fidelity; f != nil && f.Value != nil {
		style := good
		if *f.Value < 99 {
			style = bad
		}
		p.linef(
			"fidelity %s  %s",
			style.Bold(true).Render(fmt.Sprintf("%.1f", *f.Value)),
			faint.Render(f.Verdict),
		)
	}
	for i, f := range t.Findings {
		if i == maxFindings && len(t.Findings) > maxFindings+1 {
			p.line(faint.Render(fmt.Sprintf("… and %d more findings", len(t.Findings)-i)))
			break
		}
		p.linef("%s  %s", bad.Render("finding"), plain(f.String()))
	}
	if r := t.Replay; r != nil {
		p.linef(
			"replay   pass %d, %s of recorded time, %s packets",
			r.Pass,
			span(r.Played),
			number(r.Packets),
		)
	}
}

// sides shows production beside the target.
func (p *pen) sides(s *fleet.State, width int) {
	all := history.Intervals(s.Points)
	var last history.Interval
	if len(all) > 0 {
		last = recent(s.Points)
	}
	room := max(0, width-40)
	p.title(
		fmt.Sprintf(
			"%-14s%12s%12s",
			"",
			production.Render("production"),
			target.Render("    target"),
		),
	)
	row := func(name, a, b string, values []float64) {
		p.linef("%-14s%12s%12s  %s", name, a, b, target.Render(spark(values, room)))
	}
	one := last.To
	if one == nil {
		one = &history.Point{}
	}
	turns := func(x *history.Point) uint64 { return x.Turns }
	row("requests/s", rate(&last, func(x *history.Point) uint64 { return x.ProductionAnswers }),
		rate(&last, turns), each(all, func(v *history.Interval) float64 { return v.Rate(turns) }))
	row("open", number(one.Open), number(one.TargetOpen),
		each(all, func(v *history.Interval) float64 { return float64(v.To.TargetOpen) }))
	row("median", duration(last.Production.Count, last.Production.Median),
		duration(last.Target.Count, last.Target.Median),
		each(all, func(v *history.Interval) float64 { return v.Target.Median.Seconds() }))
	row("99 %", duration(last.Production.Count, last.Production.P99),
		duration(last.Target.Count, last.Target.P99),
		each(all, func(v *history.Interval) float64 { return v.Target.P99.Seconds() }))
	row("errors/s", rate(&last, func(x *history.Point) uint64 { return x.ProductionFailed }),
		rate(&last, func(x *history.Point) uint64 { return x.TargetFailed }),
		each(all, func(v *history.Interval) float64 {
			return v.Rate(func(x *history.Point) uint64 { return x.TargetFailed })
		}))
	row("lag, 99 %", "", duration(last.Behind.Count, last.Behind.P99),
		each(all, func(v *history.Interval) float64 { return v.Behind.P99.Seconds() }))
	t := s.Total
	if len(t.Protocol.Status)+len(t.Protocol.Production.Status) > 0 {
		p.linef("%-14s%s", "status", statuses(t))
	}
}

// recent returns the interval of the last five seconds or so: one of a second jumps too much to
// read.
func recent(points []history.Point) history.Interval {
	last := len(points) - 1
	from := last - 1
	for from > 0 && points[last].At-points[from].At < 5 {
		from--
	}
	return history.Between(&points[from], &points[last])
}

func each(all []history.Interval, of func(*history.Interval) float64) []float64 {
	values := make([]float64, len(all))
	for i := range all {
		values[i] = of(&all[i])
	}
	return values
}

// statuses shows the classes of both sides.
func statuses(t *export.Report) string {
	both := maps.Clone(t.Protocol.Status)
	if both == nil {
		both = map[string]uint64{}
	}
	maps.Copy(both, t.Protocol.Production.Status)
	var words []string
	for _, class := range slices.Sorted(maps.Keys(both)) {
		words = append(words, fmt.Sprintf("%s %s|%s", class,
			production.Render(number(t.Protocol.Production.Status[class])),
			target.Render(number(t.Protocol.Status[class]))))
	}
	return strings.Join(words, "   ")
}

// account shows what became of what was captured, and the reasons, at most so many.
func (p *pen) account(t *export.Report, reasons int) {
	f := &t.Sessions
	dropped := uint64(0)
	for _, n := range f.Dropped {
		dropped += n
	}
	delivered := "-"
	if f.DeliveredPercent != nil {
		delivered = fmt.Sprintf("%.3f %%", *f.DeliveredPercent)
	}
	p.title("sessions  " + faint.Render(delivered+" delivered of what was wanted"))
	p.linef("captured %s = delivered %s + in flight %s + dropped %s", number(f.Captured),
		good.Render(number(f.Delivered)), number(f.InFlight), bad.Render(number(dropped)))
	if f.Captured > 0 {
		p.line(bar(f, dropped, min(p.width, 100)))
	}
	names := slices.SortedFunc(maps.Keys(f.Dropped), func(a, b string) int {
		return cmp.Or(cmp.Compare(f.Dropped[b], f.Dropped[a]), cmp.Compare(a, b))
	})
	for i, name := range names {
		if i == reasons && len(names) > reasons+1 {
			p.line(faint.Render(fmt.Sprintf("  … and %d more reasons", len(names)-i)))
			break
		}
		meaning := ""
		if r, ok := ledger.ReasonNamed(name); ok {
			meaning = r.Meaning()
		}
		p.linef(
			"  %s %10s  %s",
			bad.Render(fmt.Sprintf("%-19s", plain(name))),
			number(f.Dropped[name]),
			faint.Render(meaning),
		)
	}
	if n := t.Packets.KernelDrop; n > 0 {
		p.line(bad.Render(number(n) + " packets were lost in the kernel"))
	}
	if !t.Balanced {
		p.line(bad.Bold(true).Render("THE ACCOUNT DOES NOT BALANCE"))
	}
}

// bar shows the parts of what was captured.
func bar(f *export.FlowReport, dropped uint64, width int) string {
	part := func(n uint64) int {
		k := int(uint64(width) * n / f.Captured)
		if n > 0 && k == 0 {
			k = 1
		}
		return k
	}
	d, i := part(dropped), part(f.InFlight)
	g := max(0, width-d-i)
	if f.Delivered == 0 {
		g = 0
	}
	return good.Render(
		strings.Repeat("█", g),
	) + strings.Repeat(
		"▒",
		i,
	) + bad.Render(
		strings.Repeat("█", d),
	)
}

// peers shows targets, links, agents and nodes.
func (p *pen) peers(s *Screen) {
	t := s.State.Total
	if len(t.Targets) > 0 {
		p.title("targets")
		for i := range t.Targets {
			x := &t.Targets[i]
			p.linef(
				"  %-21s %s %6s open %9s accepted %6s failed",
				plain(x.Target),
				state(x.State == "in", x.State),
				number(x.Live),
				number(x.Opened),
				number(x.Failed),
			)
		}
	}
	if len(t.Links)+len(t.Agents) > 0 {
		p.title("links and agents")
		for i := range t.Links {
			x := &t.Links[i]
			p.linef(
				"  %-22s %s  %s",
				plain(x.Intercept),
				state(x.Up, word(x.Up, "up", "down")),
				faint.Render(plain(x.Error)),
			)
		}
		for i := range t.Agents {
			x := &t.Agents[i]
			p.linef(
				"  %-22s %s %10s packets",
				plain(x.Name),
				state(x.Up, word(x.Up, "connected", "gone")),
				number(x.Packets),
			)
		}
	}
	if len(s.State.Nodes) > 1 {
		p.title("nodes")
		for _, n := range s.State.Nodes {
			p.node(n)
		}
	} else if n := s.State.Nodes[0]; n.Err != nil {
		p.line(bad.Render("  " + plain(n.Err.Error())))
	}
}

func (p *pen) node(n *fleet.Node) {
	switch {
	case n.Status == nil && n.Err == nil:
		p.linef("  %-22s …", plain(n.Addr))
	case n.Status == nil:
		p.linef(
			"  %-22s %s  %s",
			plain(n.Addr),
			bad.Render("gone"),
			faint.Render(plain(n.Err.Error())),
		)
	default:
		p.linef(
			"  %-22s %s %-10s %10s sessions %8s live  %s",
			plain(n.Name()),
			state(n.Err == nil, word(n.Err == nil, "up", "gone")),
			plain(
				n.Status.Kind,
			),
			number(n.Status.Sessions),
			number(n.Status.Live),
			faint.Render(plain(n.Status.Via)),
		)
	}
}

// columns shows the numbers on the left and who is there on the right.
func (p *pen) columns(s *Screen) {
	half := p.width/2 - 2
	l, r := &pen{width: half}, &pen{width: p.width - half - 4}
	l.sides(s.State, half)
	l.account(s.State.Total, 12)
	r.peers(s)
	for i := range max(len(l.lines), len(r.lines)) {
		a, b := "", ""
		if i < len(l.lines) {
			a = l.lines[i]
		}
		if i < len(r.lines) {
			b = r.lines[i]
		}
		p.line(a + strings.Repeat(" ", max(0, half+4-lipgloss.Width(a))) + b)
	}
}
