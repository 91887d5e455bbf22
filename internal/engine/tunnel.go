package engine

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"tcpcopy/internal/account/export"
	"tcpcopy/internal/config"
	"tcpcopy/internal/way/link"
	"tcpcopy/internal/way/link/key"
	"tcpcopy/internal/way/link/wire"
	"tcpcopy/internal/way/tunnel"
)

// tunnelled is what a shard's loop needs of the tunnel.
type tunnelled = *tunnel.Output[*link.Conn]

type tunnelBatch = tunnel.Batch[*link.Conn]

// tunnelWay is the links to intercepts on targets, and the shards' streams over them.
type tunnelWay struct {
	cp    *copier
	hub   *tunnel.Hub[*link.Conn]
	group *link.Group

	mu        sync.Mutex
	forbidden []netip.AddrPort // that the user was told of
}

func openTunnel(cp *copier, shards int) *tunnelWay {
	return &tunnelWay{cp: cp, hub: tunnel.NewHub[*link.Conn](shards, cp.now)}
}

// linkConfig is what raw and tunnel tell their intercepts alike.
func (cp *copier) linkConfig() link.Config {
	c := cp.c
	cfg := link.Config{Conns: c.Connections, Software: "tcpcopy " + cp.ctl.Version, Now: cp.now, Log: cp.ctl.Log}
	if c.Key != nil {
		cfg.TLS = key.ClientTLS(*c.Key)
	}
	cfg.Targets = c.Targets()
	return cfg
}

func (cp *copier) intercepts() []string {
	var at []string
	for _, a := range cp.c.Intercepts {
		at = append(at, a.String())
	}
	return at
}

// connect begins the links, and waits for them unless the user would rather not.
func (t *tunnelWay) connect() error {
	cfg := t.cp.linkConfig()
	if t.cp.c.Clients != nil {
		cfg.Clients = t.cp.c.Clients.Prefixes()
	}
	cfg.OnStreams = func(c *link.Conn, up bool) {
		t.hub.Connected(c, tunnel.End{Host: c.Host(), ReadsAnswers: c.ReadsAnswers()}, up)
	}
	cfg.ConnectTimeout = t.cp.c.ConnectTimeout
	cfg.OnState = func(link.State) { t.checkTargets() }
	cfg.OnEvents = t.hub.Events
	cfg.OnRoom = t.hub.Room
	t.group = link.NewGroup(t.cp.intercepts(), cfg)
	t.group.Start()
	if t.cp.c.Lonely {
		return nil
	}
	err := t.cp.untilStopped(t.group.WaitReady)
	if err != nil {
		return err
	}
	return offers(t.group, wire.WayTunnel)
}

// checkTargets says which targets no intercept connects to, when that is news.
func (t *tunnelWay) checkTargets() {
	var states []link.State
	for _, l := range t.group.Links() {
		states = append(states, l.State())
	}
	list := forbidden(states)
	t.mu.Lock()
	news := len(list) > 0 && !slices.Equal(list, t.forbidden)
	t.forbidden = list
	t.mu.Unlock()
	if news {
		t.cp.ctl.Log.Warn("the intercept lets copiers connect to its own host only, and there to the ports of --allow: sessions for other targets are dropped as target_forbidden", "targets", list)
	}
}

// forbidden are the targets that every intercept which is up connects nobody to.
func forbidden(states []link.State) (list []netip.AddrPort) {
	first := true
	for i := range states {
		switch s := &states[i]; {
		case !s.Up:
		case first:
			list, first = slices.Clone(s.Forbidden), false
		default:
			list = slices.DeleteFunc(list, func(a netip.AddrPort) bool { return !slices.Contains(s.Forbidden, a) })
		}
	}
	return list
}

// offers says whether the intercepts that are up offer a way.
func offers(g *link.Group, way wire.Way) error {
	for _, l := range g.Links() {
		s := l.State()
		switch {
		case !s.Up || s.Way == way:
		case way == wire.WayTunnel:
			return fmt.Errorf("intercept %s does not stand on the target: wanted one started with --on-target, or --via raw", s.Intercept)
		default:
			return fmt.Errorf("intercept %s stands on the target, where connections are the kernel's: wanted --via tunnel, or one on another host", s.Intercept)
		}
	}
	return nil
}

// untilStopped runs f with a context that ends when the copier is told to stop.
func (cp *copier) untilStopped(f func(context.Context) error) error {
	ctx, cancel := context.WithCancel(cp.ctl.Context)
	defer cancel()
	done := make(chan struct{})
	defer close(done)
	go func() {
		select {
		case <-cp.ctl.Stop:
			cancel()
		case <-done:
		}
	}()
	err := f(ctx)
	if errors.Is(err, context.Canceled) {
		return fmt.Errorf("stopped while no intercept could be reached: %w", err)
	}
	return err
}

// askEvery is the time between attempts to reach an intercept whose way must be known.
const askEvery = time.Second

// learnWay asks the first intercept that can be reached which way it offers.
func (cp *copier) learnWay() error {
	if !cp.c.LearnWay {
		return nil
	}
	c := *cp.c
	cp.c = &c
	way := wire.WayRaw
	said := ""
	err := cp.untilStopped(func(ctx context.Context) error {
		for {
			for _, a := range cp.intercepts() {
				w, fatal, err := link.Ask(ctx, a, cp.linkConfig())
				if err == nil {
					way = w
					return nil
				}
				if fatal {
					return err
				}
				if ctx.Err() == nil && err.Error() != said { // once, not at each attempt
					said = err.Error()
					cp.ctl.Log.Warn("waiting for an intercept; is tcpcopy intercept running there, and may this host connect to it?", "error", err)
				}
			}
			if c.Lonely {
				return nil
			}
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(askEvery):
			}
		}
	})
	if err != nil {
		return err
	}
	if way == wire.WayTunnel {
		if len(c.RawOnly) > 0 {
			return fmt.Errorf("%s does not go with the tunnel, and the intercept stands on the target, where it opens ordinary connections: leave it out", c.RawOnly[0])
		}
		c.Via = config.ViaTunnel
	}
	return nil
}

func (t *tunnelWay) fill(s *export.Snapshot) {
	if t.group != nil {
		fillLinks(s, t.group)
	}
}

// fillLinks adds the state of the links.
func fillLinks(s *export.Snapshot, g *link.Group) {
	for _, l := range g.Links() {
		st := l.State()
		ls := export.LinkState{Intercept: st.Intercept, Up: st.Up, Since: st.Since, Reconnects: st.Reconnects}
		n := l.Stats()
		ls.ClaimsRefused, ls.QueueDropped, ls.Forbidden = n.ClaimsRefused, n.QueueDropped, uint64(len(st.Forbidden))
		if st.Err != nil {
			ls.Error = st.Err.Error()
		}
		s.Links = append(s.Links, ls)
	}
}

func (t *tunnelWay) close() {
	t.hub.Close()
	if t.group != nil {
		t.group.Close()
	}
}
