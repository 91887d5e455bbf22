package lab

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"tcpcopy/internal/account/export"
)

// So many times production's connections may be open at the same time at the target, and connsSpare
// more: of a few connections one that closes late is a large part. The copier permits as many.
const (
	connsFactor = 1.5
	connsSpare  = 4
)

// Result is the result of a run of the lab.
type Result struct {
	Options  Options
	Scenario Scenario
	Commands []string // what was run, as one would type it, with the host

	Interrupted    bool // before the load had ended
	Sent, Answered int64
	ClientsFailed  int64 // client connections that production served wrongly
	ClientError    error // the first of them

	Production, Target Side
	Comparison         Comparison
	Samples            []Sample

	Copier, Intercept, Agent             Process
	CopierDied, InterceptDied, AgentDied bool // ended before they were told to

	Report      *export.Report // the copier's account; nil where there is none
	ReportError error
}

// Problems returns a sentence for each problem. There is none if the copy was perfect.
func (r *Result) Problems() []string {
	var p problems
	p.when(r.Interrupted, "the lab was interrupted")
	p.when(r.ClientsFailed > 0,
		"%d client connections were not served by production as they should be; the first: %v",
		r.ClientsFailed, r.ClientError)
	p.when(r.Production.Requests != r.Sent && !r.Interrupted && r.ClientsFailed == 0,
		"production received %d requests of %d sent", r.Production.Requests, r.Sent)
	p.side("production", &r.Production)
	if r.Options.Via == NoCopy {
		p.when(r.Production.Requests == 0, "production received no request")
		return p
	}
	c := &r.Comparison
	p.when(c.Compared == 0, "there was no request to compare")
	p.when(c.Missing > 0, "%d of %d requests are missing at the target (%.3f %% delivered)",
		c.Missing, c.Compared, c.delivered())
	p.when(c.Unexpected > 0, "the target received %d requests that production did not",
		c.Unexpected)
	p.side("the target", &r.Target)
	r.connections(&p)
	r.processes(&p)
	r.ledger(&p)
	return p
}

// problems collects sentences.
type problems []string

func (p *problems) when(so bool, format string, args ...any) {
	if so {
		*p = append(*p, fmt.Sprintf(format, args...))
	}
}

func (p *problems) side(name string, s *Side) {
	p.when(s.Duplicated > 0, "%s received %d requests again", name, s.Duplicated)
	p.when(s.Reordered > 0, "%s received %d requests out of order", name, s.Reordered)
	p.when(s.Corrupted > 0, "%s received %d corrupted requests", name, s.Corrupted)
	p.when(s.Early > 0, "%s received %d requests too early", name, s.Early)
}

func (r *Result) connections(p *problems) {
	begun := r.Scenario.CopierAfter > 0
	switch {
	// what is opened again, and what is not, depends on what was done
	case r.Options.Disturb != nil:
	case begun:
		p.when(r.Target.Opened > r.Production.Opened,
			"%d connections at the target for %d at production", r.Target.Opened,
			r.Production.Opened)
	case r.Target.Opened != r.Production.Opened:
		p.when(true, "%d connections at the target for %d at production", r.Target.Opened,
			r.Production.Opened)
	}
	p.when(r.Options.Answers != Slower && r.Options.Replay == nil &&
		float64(r.Target.MostOpen) > connsFactor*float64(r.Production.MostOpen)+connsSpare,
		"%d connections at the same time at the target (after %.1f s), more than %.1f times "+
			"production's %d, and %d",
		r.Target.MostOpen, r.Target.MostAfter.Seconds(), connsFactor, r.Production.MostOpen,
		connsSpare)
	p.when(r.Target.LeftOpen > r.Production.LeftOpen && !r.Interrupted,
		"%d connections stayed open at the target, %d at production", r.Target.LeftOpen,
		r.Production.LeftOpen)
}

func (r *Result) processes(p *problems) {
	for _, c := range []struct {
		process *Process
		died    bool
	}{{&r.Copier, r.CopierDied}, {&r.Intercept, r.InterceptDied}, {&r.Agent, r.AgentDied}} {
		last := ""
		if n := len(c.process.Stderr); n > 0 {
			last = ": " + strings.TrimSpace(c.process.Stderr[n-1])
		}
		switch {
		case c.died:
			p.when(true, "%s ended before it was told to, with exit code %d%s", c.process.Name,
				c.process.ExitCode, last)
		case c.process.ExitCode < 0:
			p.when(true, "%s had to be killed%s", c.process.Name, last)
		default:
			p.when(c.process.ExitCode != 0, "%s ended with exit code %d%s", c.process.Name,
				c.process.ExitCode, last)
		}
	}
}

// ledger compares the copier's account with what both servers counted.
func (r *Result) ledger(p *problems) {
	if r.ReportError != nil {
		p.when(true, "no account from the copier: %v", r.ReportError)
		return
	}
	if r.Report == nil {
		return
	}
	a := r.Report
	differ := func(what string, ledger uint64, server string, count int64) {
		p.when(ledger != uint64(count), "the ledger says %d %s, %s counted %d", ledger, what,
			server, count)
	}
	p.when(!a.Balanced, "the ledger does not balance")
	p.when(!a.Final, "the ledger is not the final one")
	p.when(a.Sessions.InFlight > 0 || a.Bytes.InFlight > 0,
		"the ledger ends with %d sessions and %d bytes in flight", a.Sessions.InFlight,
		a.Bytes.InFlight)
	if r.Scenario.CopierAfter == 0 && r.Options.Disturb == nil {
		differ("sessions captured", a.Sessions.Captured, "production", r.Production.Opened)
		differ("bytes captured", a.Bytes.Captured, "production", r.Production.Bytes)
	}
	if r.Options.Disturb != nil {
		return // and a copier that was killed has no account
	}
	differ("bytes delivered", a.Bytes.Delivered, "the target", r.Target.Bytes)
	if len(a.Sessions.Dropped) == 0 {
		differ("sessions delivered", a.Sessions.Delivered, "the target", r.Target.Opened)
	}
	lost := drops(a)
	p.when(lost != "" && r.Scenario.CopierAfter == 0, "the ledger has losses: %s", lost)
}

// drops returns the ledger's losses in words, or an empty string if there are none.
func drops(a *export.Report) string {
	var words []string
	for _, reason := range slices.Sorted(maps.Keys(a.Sessions.Dropped)) {
		words = append(words, fmt.Sprintf("%d sessions %s", a.Sessions.Dropped[reason], reason))
	}
	for _, reason := range slices.Sorted(maps.Keys(a.Bytes.Dropped)) {
		words = append(words, fmt.Sprintf("%d bytes %s", a.Bytes.Dropped[reason], reason))
	}
	return strings.Join(words, ", ")
}

// delivered returns the percentage of requests that arrived. It is 100 only if none is missing.
func (c *Comparison) delivered() float64 {
	if c.Compared == 0 {
		return 0
	}
	d := 100 * float64(c.Compared-c.Missing) / float64(c.Compared)
	if c.Missing > 0 {
		d = min(d, 99.999)
	}
	return d
}

// LagAt returns the lag that the given percentage of requests did not exceed, from arrival at
// production to arrival at the target.
func (r *Result) LagAt(percent float64) time.Duration {
	if r.Comparison.Lag == nil {
		return 0
	}
	return time.Duration(r.Comparison.Lag.ValueAtQuantile(percent)) * time.Microsecond
}

// StartsWithin returns by how much the given percentage of connections deviated at most from the
// median of the times between their beginning at production and at the target: for a replay, how
// well it kept its schedule.
func (r *Result) StartsWithin(percent float64) time.Duration {
	lags := slices.Sorted(slices.Values(r.Comparison.Starts))
	if len(lags) == 0 {
		return 0
	}
	off := make([]time.Duration, len(lags))
	for i, lag := range lags {
		off[i] = (lag - lags[len(lags)/2]).Abs()
	}
	slices.Sort(off)
	return off[min(int(percent/100*float64(len(off))), len(off)-1)]
}

// CPUPerRequest returns the CPU time of a process for each request that production received.
func (r *Result) CPUPerRequest(p *Process) time.Duration {
	if r.Production.Requests == 0 {
		return 0
	}
	return p.CPU / time.Duration(r.Production.Requests)
}
