// Package intercepts is what the raw way and the tunnel share: a copier's links to its intercepts,
// as its settings want them, and the addresses that copies may come from.
//
// It makes no link by itself (package link does) and handles no message. Start with Config.
package intercepts

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"tcpcopy/internal/way"
	"tcpcopy/internal/way/address"
	"tcpcopy/internal/way/link"
	"tcpcopy/internal/way/link/key"
	"tcpcopy/internal/way/link/wire"
)

// Config returns what every link of a copier is configured with, without callbacks. They all name
// the same run: an intercept keeps a copier's slot for it when it is gone, so that Ask would take
// one from the links that come next, and now and then the one that they choose.
func Config(h *way.Host, s *way.Settings, targets []netip.AddrPort) link.Config {
	cfg := link.Config{Conns: s.Connections, Software: h.Software, Now: h.Now, Log: h.Log,
		Targets: targets, Instance: h.Run}
	if s.Key != nil {
		cfg.TLS = key.ClientTLS(*s.Key)
	}
	if s.Clients != nil {
		cfg.Clients = s.Clients.Prefixes()
	}
	if h.Digesting != nil {
		d := h.Digesting()
		cfg.Digests, cfg.Seed, cfg.Wanted = true, d.Seed, d.Wanted
	}
	return cfg
}

// Names returns the intercepts' addresses, as links name them.
func Names(s *way.Settings) []string {
	var all []string
	for _, a := range s.Intercepts {
		all = append(all, a.String())
	}
	return all
}

// Connect starts the links, and waits until the intercepts have welcomed the copier, unless the
// user goes on without them. It is an error if one of them does not offer the way.
func Connect(h *way.Host, s *way.Settings, g *link.Group, w wire.Way) error {
	g.Start()
	if s.Lonely {
		return nil
	}
	if err := stopped(g.WaitReady(h.Context)); err != nil {
		return err
	}
	for _, l := range g.Links() {
		st := l.State()
		switch {
		case !st.Up || st.Way == w:
		case w == wire.WayTunnel:
			return fmt.Errorf("intercept %s does not run on the target: "+
				"wanted one started with --on-target, or --via raw", st.Intercept)
		default:
			return fmt.Errorf("intercept %s runs on the target, where the kernel opens the "+
				"connections: "+
				"wanted --via tunnel, or an intercept on another host", st.Intercept)
		}
	}
	return nil
}

// stopped explains an error of a wait that ended because the copier was told to stop.
func stopped(err error) error {
	if errors.Is(err, context.Canceled) {
		return fmt.Errorf("stopped before an intercept could be reached: %w", err)
	}
	return err
}

// askEvery is the time between attempts to reach an intercept whose way has to be known.
const askEvery = time.Second

// Ask returns the way that the first intercept offers which can be reached. It waits for one,
// unless the user goes on without: then it returns WayRaw.
func Ask(h *way.Host, s *way.Settings, targets []netip.AddrPort) (wire.Way, error) {
	said := ""
	for {
		for _, a := range Names(s) {
			w, fatal, err := link.Ask(h.Context, a, Config(h, s, targets))
			if err == nil {
				return w, nil
			}
			if fatal {
				return 0, err
			}
			if h.Context.Err() == nil && err.Error() != said { // once, not at each attempt
				said = err.Error()
				h.Log.Warn("waiting for an intercept; is tcpcopy intercept running there, "+
					"and may this host connect to it?", "error", err)
			}
		}
		if s.Lonely {
			return wire.WayRaw, nil
		}
		select {
		case <-h.Context.Done():
			return 0, stopped(h.Context.Err())
		case <-time.After(askEvery):
		}
	}
}

// Account returns the state of the links.
func Account(g *link.Group) (all []way.Link) {
	for _, l := range g.Links() {
		st, n := l.State(), l.Stats()
		to := way.Link{
			Intercept: st.Intercept, Up: st.Up, Since: st.Since, Reconnects: st.Reconnects,
			ClaimsRefused: n.ClaimsRefused, QueueDropped: n.QueueDropped,
			Forbidden: uint64(len(st.Forbidden)),
		}
		if st.Err != nil {
			to.Error = st.Err.Error()
		}
		all = append(all, to)
	}
	return all
}

// Rules returns which addresses copies come from.
func Rules(s *way.Settings) address.Rules {
	return address.Rules{Clients: s.Clients, LocalhostAs: s.LocalhostAs, PortShift: s.PortShift}
}

// CheckAddresses reports an error if an address that replaces the clients' is a target's, or one
// of local: the kernel of that host would receive the answers, and reset the copies. An intercept
// checks the addresses of its own host.
func CheckAddresses(s *way.Settings, targets []way.Target, local []netip.Addr) error {
	for _, t := range targets {
		if err := checkAddress(s, t.Addr.Addr(), "the target's own"); err != nil {
			return err
		}
	}
	for _, a := range local {
		if err := checkAddress(s, a, "an address of this host"); err != nil {
			return err
		}
	}
	return nil
}

func checkAddress(s *way.Settings, a netip.Addr, what string) error {
	flag := ""
	switch {
	case s.Clients != nil && s.Clients.Contains(a):
		flag = "-c"
	case s.LocalhostAs.IsValid() && s.LocalhostAs == a:
		flag = "-H"
	default:
		return nil
	}
	return &way.Problem{
		Flag: flag, Value: a.String(),
		What: fmt.Sprintf("is %s, which would reset the copies: wanted addresses that no host has",
			what),
	}
}
