package app

import (
	"context"
	"io"

	"tcpcopy/internal/account/export"
	"tcpcopy/internal/config"
	"tcpcopy/internal/doctor/collect"
	"tcpcopy/internal/engine"
	"tcpcopy/internal/lab"
	"tcpcopy/internal/lab/netlab"
	"tcpcopy/internal/sys"
)

// The functions that the commands call. Tests replace them, so that they need no network.
type (
	// copyFunc copies until it is told to stop, and calls progress every c.Stats. It returns the
	// last state, or nil if the copy did not begin.
	copyFunc func(s *engine.Control, c *config.Copy,
		progress func(*export.Snapshot)) (*export.Snapshot, error)
	// interceptFunc serves copiers until the context is done.
	interceptFunc func(s *engine.Control, c *config.Intercept, report *reporter, log *logbook) error
	// recordFunc records until it is told to stop, and calls progress every c.Stats. It returns the
	// last state, or nil if the recording did not begin.
	recordFunc func(s *engine.Control, c *config.Record,
		progress func(*engine.Recorded)) (*engine.Recorded, error)
	// captureFunc runs an agent until it is told to stop.
	captureFunc func(s *engine.Control, c *config.Capture, report *reporter, log *logbook) error
	// confineFunc confines this process; nil: it is not confined.
	confineFunc func(*sys.Confinement) error
	// labFunc runs a demonstration, prints its table and its errors, and returns the exit code.
	labFunc func(ctx context.Context, c *config.Lab) int
)

// wire sets the functions that the commands call.
func (p *program) wire() {
	p.has = has
	p.copy = engine.Run
	p.intercept = func(
		s *engine.Control, c *config.Intercept, report *reporter, log *logbook,
	) error {
		return runIntercept(s, c, p.examiner(c), report, log)
	}
	p.capture = runCapture
	p.record = engine.Record
	for _, l := range lab.Scenarios() {
		p.scenarios = append(p.scenarios, config.Scenario{Name: l.Name, Help: l.Help})
	}
	p.lab = p.runLab
	p.facts = collect.Collect
	p.quick = collect.Quick
	p.witness = runWitness
}

// has reports whether this thread has the capability.
func has(c sys.Capability) bool {
	if c == sys.CapNetAdmin {
		return sys.HasNetAdmin()
	}
	return sys.HasNetRaw()
}

// runLab runs a demonstration.
func (p *program) runLab(ctx context.Context, c *config.Lab) int {
	extra := c.Extra
	if c.HTML != "" {
		extra = append([]string{"--html", c.HTML}, extra...)
	}
	run := func(more []string, out, progress io.Writer) int {
		return lab.Main(ctx, lab.Options{
			Via: string(c.Via), Scenario: c.Scenario,
			Conns: c.Conns, Rate: c.Rate, Duration: c.Duration, Requests: c.Requests,
			Answers: c.Answers, Proto: c.Proto,
			Loss: c.Loss, ClientLoss: c.ClientLoss, IPv6: c.IPv6, NoOffloads: c.NoOffloads,
			MTU:  c.MTU,
			Path: netlab.Path{Delay: c.Delay}, CopyArgs: append(more, extra...),
			Keep: c.Keep, Break: c.Break,
		}, out, progress)
	}
	c.Live = c.Live && p.canShow()
	if c.Live || c.Web.Dashboard != "" {
		return p.runShownLab(c, run)
	}
	return run(nil, p.out, p.err)
}
