package engine

import (
	"errors"
	"net/netip"
	"slices"

	"golang.org/x/net/bpf"

	"tcpcopy/internal/config"
	"tcpcopy/internal/core/mapping"
	"tcpcopy/internal/core/shard"
)

// refilter is a source whose filter can be replaced while it captures.
type refilter interface {
	SetFilter(prog []bpf.RawInstruction) error
}

// reload applies the mappings of new settings, and what may differ between mappings. Everything
// that can fail comes first, and nothing has changed when it does. Sessions go on; a mapping or a
// target that was removed gets no new ones.
func (cp *copier) reload(fresh *config.Copy) error {
	next := *cp.c
	next.Mappings, next.Mapped, next.Own = fresh.Mappings, fresh.Mapped, fresh.Own
	maps := slices.Clone(cp.maps)
	at := make([]int, len(next.Mappings)) // their indexes in maps
	for i, m := range next.Mappings {
		at[i] = slices.IndexFunc(maps, func(o mapping.Mapping) bool {
			return o.Production == m.Production
		})
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
	targets := cp.c.Targets()
	var added []netip.AddrPort
	for _, t := range next.Targets() {
		if !slices.Contains(targets, t) {
			added = append(added, t)
		}
	}
	if err := cp.way.Check(wayTargets(&next), added); err != nil {
		return err
	}
	if err := cp.widen(maps); err != nil {
		return err
	}

	// From here on nothing fails.
	cp.way.SetTargets(append(targets, added...))
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
					configure(s, &next, k, len(cp.shards))
				})
			}
		})
	}
	cp.reader.fresh.Store(served)
	cp.maps, cp.c = maps, &next
	return nil
}

// widen has the kernel select the packets of new mappings as well.
func (cp *copier) widen(maps []mapping.Mapping) error {
	if slices.EqualFunc(maps, cp.maps, func(a, b mapping.Mapping) bool {
		return a.Production == b.Production
	}) {
		return nil
	}
	if k := cp.c.From.Kind; k != config.FromHost && k != config.FromMirror {
		return nil // the kernel does not select by port
	}
	prog, err := captureFilter(cp.c, maps)
	if err != nil {
		return err
	}
	src, ok := cp.source.(refilter)
	if !ok {
		return errors.New("the ports of this capture cannot change while it runs: wanted a restart")
	}
	return src.SetFilter(prog)
}
