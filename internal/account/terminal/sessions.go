package terminal

import (
	"fmt"

	"tcpcopy/internal/account/export"
)

// SessionList is the view of the sessions of the moment.
type SessionList struct {
	Query  export.SessionQuery
	Typing bool             // the filter is being typed
	Wrong  string           // what is wrong with the filter; empty: nothing
	Found  *export.Sessions // nil: not yet, or no copier answers
	Asked  bool             // Found is an answer
}

// sessions shows the sessions, as many as there is room for.
func (p *pen) sessions(l *SessionList, room int) {
	cursor := ""
	if l.Typing {
		cursor = "█"
	}
	order := l.Query.Order
	if order == "" {
		order = export.Orders()[0]
	}
	p.title(fmt.Sprintf("sessions by %s", order) + faint.Render("  filter: ") +
		plain(l.Query.Filter) + cursor)
	switch f := l.Found; {
	case l.Wrong != "":
		p.line(bad.Render(plain(l.Wrong)))
	case f == nil && l.Asked:
		p.line(bad.Render("no copier answers with its sessions"))
	case f == nil:
		p.line(faint.Render("waiting for the sessions …"))
	default:
		p.found(f, room-len(p.lines))
	}
}

// found shows a table of sessions in so many lines. A narrow one has no targets.
func (p *pen) found(f *export.Sessions, room int) {
	p.line(faint.Render(counted(f)))
	row := func(client, target, phase, waits, since, lag, held string) string {
		if p.width < wideTable {
			return fmt.Sprintf("%-21s %-16s %-9s %8s %8s %9s", client, phase, waits, since, lag,
				held)
		}
		return fmt.Sprintf("%-21s %-21s %-16s %-9s %8s %8s %9s", client, target, phase, waits,
			since, lag, held)
	}
	p.line(faint.Render(row("client", "target", "phase", "waits for", "since", "lag", "held")))
	rows := f.First
	if len(rows) > room-2 {
		rows = rows[:max(0, room-3)]
	}
	for i := range rows {
		s := &rows[i]
		line := row(plain(s.Client), plain(s.Target), plain(s.Phase), plain(s.WaitsFor),
			seconds(s.Waited), seconds(s.Lag), number(uint64(max(0, s.Held))))
		if s.NoCopy != "" {
			line += "  " + plain(s.NoCopy)
		}
		if s.Node != "" {
			line += "  " + plain(s.Node)
		}
		p.line(line)
	}
	if more := len(f.First) - len(rows); more > 0 {
		p.line(faint.Render(fmt.Sprintf("… and %d more", more)))
	}
}

// wideTable is the width from which on a table of sessions has targets.
const wideTable = 104

// counted says how many sessions there are, and how many are shown.
func counted(f *export.Sessions) string {
	text := fmt.Sprintf("%s live, %s match", number(uint64(max(0, f.Live))),
		number(uint64(max(0, f.Matched))))
	if f.Looked < f.Live {
		text += fmt.Sprintf(" of the %s that were looked at", number(uint64(max(0, f.Looked))))
	}
	if f.Missing > 0 {
		text += fmt.Sprintf("; copiers that do not answer: %d", f.Missing)
	}
	return text
}

// seconds shows a time; "-" if there is none.
func seconds(s float64) string {
	switch {
	case s <= 0:
		return "-"
	case s < 0.1:
		return fmt.Sprintf("%.1f ms", 1e3*s)
	case s < 1:
		return fmt.Sprintf("%.0f ms", 1e3*s)
	case s < 100:
		return fmt.Sprintf("%.1f s", s)
	}
	return span(s)
}
