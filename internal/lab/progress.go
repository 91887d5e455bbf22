package lab

import (
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/term"
)

// progress shows the progress of a run: one line that is overwritten on a terminal, and a line each
// second elsewhere.
type progress struct {
	w        io.Writer // nil: nowhere
	run      *run
	terminal bool
	every    time.Duration
	last     time.Duration // when a line was shown last
	requests int64         // that production had then
	shown    bool          // a line stands that can be written over
}

func newProgress(w io.Writer, r *run) *progress {
	p := &progress{w: w, run: r, every: time.Second}
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		p.terminal, p.every = true, 250*time.Millisecond
	}
	return p
}

// show shows the state of the run if the last line is old enough.
func (p *progress) show() {
	now := p.run.clock.now()
	if p.w == nil || now-p.last < p.every {
		return
	}
	production, target := &p.run.production.record, &p.run.target.record
	requests := production.requests.Load()
	rate := float64(requests-p.requests) / (now - p.last).Seconds()
	p.last, p.requests = now, requests
	line := fmt.Sprintf("%6.1f s   production %s requests (%s a second) on %s connections   "+
		"target %s on %s",
		now.Seconds(), count(requests), count(int64(rate)), count(production.open.Load()),
		count(target.requests.Load()), count(target.open.Load()))
	if early := target.early.Load(); early > 0 {
		line += fmt.Sprintf("   %s early", count(early))
	}
	if !p.terminal {
		fmt.Fprintln(p.w, line)
		return
	}
	fmt.Fprintf(p.w, "\r\x1b[K%s", line)
	p.shown = true
}

// say writes a line that stays above the progress line.
func (p *progress) say(format string, args ...any) {
	if p.w == nil {
		return
	}
	p.done()
	fmt.Fprintf(p.w, format+"\n", args...)
}

// done ends a line that could be overwritten.
func (p *progress) done() {
	if p.shown {
		fmt.Fprint(p.w, "\r\x1b[K")
		p.shown = false
	}
}
