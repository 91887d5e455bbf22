package collect

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"sync"

	"tcpcopy/internal/doctor"
	"tcpcopy/internal/way/link"
	"tcpcopy/internal/way/link/wire"
)

// links connects to the intercepts, each as a copier with the same targets, and says good-bye.
func (c *collector) links() {
	f := c.facts
	f.Links = make([]doctor.LinkFacts, len(c.Intercepts))
	var all sync.WaitGroup
	for i, addr := range c.Intercepts {
		all.Go(func() { f.Links[i] = c.link(addr) })
	}
	all.Wait()
	for i := range f.Links {
		if c.LearnWay && f.Links[i].Way != "" {
			c.Via = f.Links[i].Way
			break
		}
	}
}

func (c *collector) link(addr netip.AddrPort) doctor.LinkFacts {
	l := doctor.LinkFacts{Addr: addr, HasKey: c.TLS != nil}
	ctx, cancel := context.WithTimeout(c.ctx, connectTimeout)
	defer cancel()
	cfg := link.Config{TLS: c.TLS, Software: "tcpcopy doctor", Log: slog.New(slog.DiscardHandler)}
	for _, t := range c.facts.Targets {
		cfg.Targets = append(cfg.Targets, t.Addr)
	}
	conn := link.Dial(addr.String(), link.NewSlot(), cfg)
	defer conn.Close()
	err := conn.WaitReady(ctx)
	s := conn.State()
	if s.Up {
		l.Outcome, l.Forbidden, l.Way = doctor.Connected, s.Forbidden, s.Way.String()
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
