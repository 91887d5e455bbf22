package tunnel

import (
	"net/netip"
	"slices"
	"sync"

	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/session"
	"tcpcopy/internal/core/shard"
	"tcpcopy/internal/way"
	"tcpcopy/internal/way/address"
	"tcpcopy/internal/way/intercepts"
	"tcpcopy/internal/way/link"
	"tcpcopy/internal/way/link/wire"
)

// Way is the tunnel: way.Way with a Hub, whose Outputs are the shards' ends, over a group of links.
type Way struct {
	host     *way.Host
	settings *way.Settings
	hub      *Hub[*link.Conn] // from the first Attach on
	group    *link.Group
	linked   bool // the group was started

	mu        sync.Mutex
	forbidden []netip.AddrPort // those that were logged last
}

// NewWay returns the tunnel.
func NewWay() way.Way { return &Way{} }

// Name implements way.Way.
func (w *Way) Name() string { return "tunnel" }

// Open implements way.Way.
func (w *Way) Open(h *way.Host, s *way.Settings, targets []way.Target) error {
	w.host, w.settings = h, s
	if err := w.Check(targets, nil); err != nil {
		return err
	}
	cfg := intercepts.Config(h, s, way.Addrs(targets))
	cfg.ConnectTimeout = s.ConnectTimeout
	cfg.OnState = func(link.State) { w.checkTargets() }
	cfg.OnStreams = func(c *link.Conn, up bool) {
		w.hub.Connected(c, End{Host: c.Host(), ReadsAnswers: c.ReadsAnswers(),
			TakesLate: c.TakesLate()}, up)
	}
	cfg.OnEvents = func(c *link.Conn, body []byte) error { return w.hub.Events(c, body) }
	cfg.OnRoom = func(c *link.Conn) { w.hub.Room(c) }
	w.group = link.NewGroup(intercepts.Names(s), cfg)
	return nil
}

// Attach implements way.Way.
func (w *Way) Attach(index, count int) (way.End, error) {
	if w.hub == nil {
		w.hub = NewHub[*link.Conn](count, w.host.Now)
	}
	out := w.hub.Output(index)
	out.sources = address.Chooser{
		Rules: intercepts.Rules(w.settings), Index: index, Count: count,
		OtherFamily: ledger.BadClientAddress,
	}
	return end{out}, nil
}

// Connect implements way.Way.
func (w *Way) Connect() error {
	w.linked = true
	return intercepts.Connect(w.host, w.settings, w.group, wire.WayTunnel)
}

// Check implements way.Way.
func (w *Way) Check(all []way.Target, _ []netip.AddrPort) error {
	return intercepts.CheckAddresses(w.settings, all, nil)
}

// SetTargets implements way.Way.
func (w *Way) SetTargets(all []netip.AddrPort) { w.group.SetTargets(all) }

// Account implements way.Way.
func (w *Way) Account() way.Account { return way.Account{Links: intercepts.Account(w.group)} }

// Close implements way.Way.
func (w *Way) Close() {
	if w.hub != nil {
		w.hub.Close()
	}
	if w.linked {
		w.group.Close()
	}
}

// checkTargets logs the targets that no intercept connects to, when they have changed.
func (w *Way) checkTargets() {
	var states []link.State
	for _, l := range w.group.Links() {
		states = append(states, l.State())
	}
	list := forbidden(states)
	w.mu.Lock()
	changed := len(list) > 0 && !slices.Equal(list, w.forbidden)
	w.forbidden = list
	w.mu.Unlock()
	if changed {
		w.host.Log.Warn("the intercept lets copiers connect to its own host only, and there to "+
			"the ports "+
			"of --allow: sessions for other targets are dropped as target_forbidden", "targets",
			list)
	}
}

// forbidden returns the targets to which no intercept that is up connects.
func forbidden(states []link.State) (list []netip.AddrPort) {
	first := true
	for i := range states {
		switch s := &states[i]; {
		case !s.Up:
		case first:
			list, first = slices.Clone(s.Forbidden), false
		default:
			list = slices.DeleteFunc(list,
				func(a netip.AddrPort) bool { return !slices.Contains(s.Forbidden, a) })
		}
	}
	return list
}

// end is an Output as a shard's end of the way.
type end struct{ out *Output[*link.Conn] }

// Open implements shard.Streams.
func (e end) Open(now mono.Time, spec *session.OpenSpec, _ shard.Copy) session.Stream {
	return e.out.Open(now, spec)
}

// Deliver implements shard.Streams. It delivers one batch of the Hub's.
func (e end) Deliver(now mono.Time, _ bool) []session.Event {
	var b *Batch[*link.Conn]
	select {
	case b = <-e.out.Events():
	default:
	}
	return e.out.Step(now, b)
}

// Count implements shard.Streams.
func (e end) Count(*ledger.Counters) {}

// Wake implements way.End.
func (e end) Wake() <-chan struct{} { return e.out.filled }

// Flush implements way.End.
func (e end) Flush(mono.Time) { e.out.Flush() }

// Pending implements shard.Streams.
func (e end) Pending() bool { return e.out.Pending() || len(e.out.batches) > 0 }

// Detach implements way.End.
func (e end) Detach() {}
