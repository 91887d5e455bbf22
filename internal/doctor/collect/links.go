package collect

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"sync"

	"tcpcopy/internal/doctor"
	"tcpcopy/internal/way/link"
	"tcpcopy/internal/way/link/wire"
)

// software is how the doctor introduces itself.
const software = "tcpcopy doctor"

// mostHeard bounds the answers that wait to be read.
const mostHeard = 256

// heard is an answer to a Look from an intercept, or from a witness behind it.
type heard struct {
	from int // of the collector's links
	seen wire.Seen
}

// link connects to the intercepts, each as a copier with the same targets. The links stay until
// unlink.
func (c *collector) link() {
	f := c.facts
	f.Links = make([]doctor.LinkFacts, len(c.Intercepts))
	c.links = make([]*link.Link, len(c.Intercepts))
	c.heard = make(chan heard, mostHeard)
	var all sync.WaitGroup
	for i, addr := range c.Intercepts {
		all.Go(func() { f.Links[i] = c.linkTo(i, addr) })
	}
	all.Wait()
	for i := range f.Links {
		if c.LearnWay && f.Links[i].Way != "" {
			c.Via = f.Links[i].Way
			break
		}
	}
}

// unlink says good-bye to the intercepts.
func (c *collector) unlink() {
	for _, l := range c.links {
		l.Close()
	}
}

func (c *collector) linkTo(i int, addr netip.AddrPort) doctor.LinkFacts {
	l := doctor.LinkFacts{Addr: addr, HasKey: c.TLS != nil}
	ctx, cancel := context.WithTimeout(c.ctx, connectTimeout)
	defer cancel()
	cfg := link.Config{
		TLS: c.TLS, Software: software, Log: slog.New(slog.DiscardHandler),
		OnSeen: func(s *wire.Seen) {
			seen := *s
			seen.Findings = slices.Clone(s.Findings)
			select {
			case c.heard <- heard{i, seen}:
			default: // more than was asked for
			}
		},
	}
	for _, t := range c.facts.Targets {
		cfg.Targets = append(cfg.Targets, t.Addr)
	}
	conn := link.Dial(addr.String(), link.NewSlot(), cfg)
	c.links[i] = conn
	err := conn.WaitReady(ctx)
	s := conn.State()
	if s.Up {
		l.Outcome, l.Forbidden, l.Way = doctor.Connected, s.Forbidden, s.Way.String()
		l.Software, l.Probes = s.Software, s.Probes
		return l
	}
	if err == nil {
		err = s.Err
	}
	if err != nil {
		l.Err = err.Error()
	}
	l.Outcome = outcome(err)
	var refused *link.Refused
	switch {
	case errors.Is(err, link.ErrWrongKey), errors.Is(err, link.ErrNeedsKey), errors.Is(err,
		link.ErrNoKey):
		l.Outcome, l.Key = doctor.Failed, err.Error()
	case errors.As(err, &refused):
		l.Outcome = doctor.Failed
		l.Version = refused.Code == wire.CodeVersion
		if refused.Code == wire.CodeNeedsKey || refused.Code == wire.CodeNoKey {
			l.Key = err.Error()
		}
	}
	return l
}
