package app

import (
	"context"

	"tcpcopy/internal/account/export"
	"tcpcopy/internal/config"
	"tcpcopy/internal/engine"
	"tcpcopy/internal/lab"
	"tcpcopy/internal/lab/netlab"
	"tcpcopy/internal/sys"
)

// What the commands are wired to, so that the command line can be tested without a network.
type (
	// copyFunc copies until it is told to stop, calls progress every c.Stats, and returns the last state;
	// nil if it came to nothing.
	copyFunc func(s *engine.Control, c *config.Copy, progress func(*export.Snapshot)) (*export.Snapshot, error)
	// interceptFunc serves copiers until the context is done.
	interceptFunc func(s *engine.Control, c *config.Intercept, report *reporter, log *logbook) error
	// recordFunc records until it is told to stop, calls progress every c.Stats, and returns what it came to;
	// nil if it came to nothing.
	recordFunc func(s *engine.Control, c *config.Record, progress func(*engine.Recorded)) (*engine.Recorded, error)
	// captureFunc is an agent, until it is told to stop.
	captureFunc func(s *engine.Control, c *config.Capture, report *reporter, log *logbook) error
	// labFunc runs a demonstration, prints its table and what went wrong, and returns the exit code.
	labFunc func(ctx context.Context, c *config.Lab) int
)

func (p *program) wire() {
	p.has = has
	p.copy = engine.Run
	p.intercept = runIntercept
	p.capture = runCapture
	p.record = engine.Record
	for _, l := range lab.Scenarios() {
		p.scenarios = append(p.scenarios, config.Scenario{Name: l.Name, Help: l.Help})
	}
	p.lab = p.runLab
}

func has(c sys.Capability) bool {
	if c == sys.CapNetAdmin {
		return sys.HasNetAdmin()
	}
	return sys.HasNetRaw()
}

func (p *program) runLab(ctx context.Context, c *config.Lab) int {
	extra := c.Extra
	if c.HTML != "" {
		extra = append([]string{"--html", c.HTML}, extra...)
	}
	return lab.Main(ctx, lab.Options{
		Via: string(c.Via), Scenario: c.Scenario,
		Conns: c.Conns, Rate: c.Rate, Duration: c.Duration, Requests: c.Requests, Answers: c.Answers, Proto: c.Proto,
		Loss: c.Loss, ClientLoss: c.ClientLoss, IPv6: c.IPv6, NoOffloads: c.NoOffloads, MTU: c.MTU,
		Path: netlab.Path{Delay: c.Delay}, CopyArgs: extra, Keep: c.Keep,
	}, p.out, p.err)
}
