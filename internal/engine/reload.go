package engine

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/net/bpf"

	"tcpcopy/internal/config"
	"tcpcopy/internal/core/mapping"
	"tcpcopy/internal/core/shard"
)

// refilter is a capture source whose filter can be replaced while it captures.
type refilter interface {
	SetFilter(prog []bpf.RawInstruction) error
}

// reload takes the mappings of new settings, and what may differ between them. What can fail comes first, and
// then nothing has changed. Sessions that are there go on: a mapping or a target that is no more gets no
// new ones.
func (cp *copier) reload(fresh *config.Copy) error {
	next := *cp.c
	next.Mappings, next.Mapped, next.Own = fresh.Mappings, fresh.Mapped, fresh.Own
	maps := slices.Clone(cp.maps)
	at := make([]int, len(next.Mappings)) // where they are in maps
	for i, m := range next.Mappings {
		at[i] = slices.IndexFunc(maps, func(o mapping.Mapping) bool { return o.Production == m.Production })
		if at[i] < 0 {
			at[i] = len(maps)
			maps = append(maps, m)
		}
		maps[at[i]] = m
	}
	served, err := newServed(&next, maps)
	if err != nil {
		return err
	}
	if err := checkPorts(&next); err != nil {
		return err
	}
	targets := cp.c.Targets()
	var added []netip.AddrPort
	for _, t := range next.Targets() {
		if !slices.Contains(targets, t) {
			added = append(added, t)
		}
	}
	if cp.raw != nil {
		if err := cp.raw.accept(&next, added); err != nil {
			return err
		}
	} else if err := checkStandIns(&next, nil); err != nil {
		return err
	}
	if err := cp.widen(maps); err != nil {
		return err
	}

	// From here on nothing fails.
	cp.announce(append(targets, added...))
	for _, l := range cp.shards {
		l.call(func(sh *shard.Shard) {
			for i := range maps {
				sh.Configure(i, func(s *shard.Service) {
					k := slices.Index(at, i)
					if s.Closed = k < 0; s.Closed {
						return
					}
					if s.Session == nil {
						s.Since = cp.now()
					}
					settle(s, &next, k, len(cp.shards))
				})
			}
		})
	}
	cp.reader.fresh.Store(served)
	cp.maps, cp.c = maps, &next
	return nil
}

// widen has the kernel select what new mappings need too.
func (cp *copier) widen(maps []mapping.Mapping) error {
	if slices.EqualFunc(maps, cp.maps, func(a, b mapping.Mapping) bool { return a.Production == b.Production }) {
		return nil
	}
	if k := cp.c.From.Kind; k != config.FromHost && k != config.FromMirror {
		return nil // there the kernel selects nothing
	}
	prog, err := captureFilter(cp.c, maps)
	if err != nil {
		return err
	}
	src, ok := cp.source.(refilter)
	if !ok {
		return errors.New("this capture's ports cannot change while it runs: wanted a new start")
	}
	return src.SetFilter(prog)
}

// announce tells the intercepts of the targets. Those that are no more stay, for the sessions that they have.
func (cp *copier) announce(targets []netip.AddrPort) {
	switch {
	case cp.raw != nil:
		cp.raw.group.SetTargets(targets)
	case cp.tunnel != nil:
		cp.tunnel.group.SetTargets(targets)
	}
}

// accept makes targets ready that are new.
func (r *rawWay) accept(c *config.Copy, added []netip.AddrPort) error {
	if err := checkStandIns(c, r.cp.locals.All()); err != nil {
		return err
	}
	for _, t := range added {
		switch {
		case t.Addr().IsLoopback():
			return fmt.Errorf("target %s on this host cannot answer to the clients' addresses: wanted another host's", t)
		case r.device != nil && r.device.Direct[t.Addr()] == nil:
			return fmt.Errorf("target %s is new, and with -o takes a new start", t)
		}
		if err := r.measure(t.Addr()); err != nil {
			return err
		}
	}
	return nil
}
