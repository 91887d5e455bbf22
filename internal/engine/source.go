package engine

import (
	"fmt"

	"tcpcopy/internal/capture"
	"tcpcopy/internal/capture/afpacket"
	"tcpcopy/internal/capture/mirror"
	"tcpcopy/internal/config"
	"tcpcopy/internal/filter"
	"tcpcopy/internal/mapping"
)

// openSource opens where the packets come from.
func (cp *copier) openSource() (capture.Source, error) {
	c := cp.c
	switch c.From.Kind {
	case config.FromHost:
		prog, err := captureFilter(c, cp.maps)
		if err != nil {
			return nil, err
		}
		return opened(afpacket.Open(afpacket.Config{
			Interfaces: c.Interfaces, Filter: prog, Memory: int(c.Ring), Now: cp.now,
		}))
	case config.FromMirror:
		prog, err := captureFilter(c, cp.maps)
		if err != nil {
			return nil, err
		}
		inner, err := innerFilter(c)
		if err != nil {
			return nil, err
		}
		return opened(mirror.OpenPort(afpacket.Config{
			Interfaces: c.Interfaces, Filter: prog, Memory: int(c.Ring), Now: cp.now,
		}, inner))
	case config.FromVXLAN, config.FromGENEVE:
		inner, err := innerFilter(c)
		if err != nil {
			return nil, err
		}
		kind := mirror.VXLAN
		if c.From.Kind == config.FromGENEVE {
			kind = mirror.GENEVE
		}
		return opened(mirror.Listen(mirror.Config{
			Kind: kind, Listen: c.From.Listen, Networks: c.From.Networks, Filter: inner, Buffer: int(c.Ring), Now: cp.now,
		}))
	}
	return nil, fmt.Errorf("no source of the kind %q", c.From.Kind)
}

// opened is s, or nothing where it could not be opened.
func opened[S capture.Source](s S, err error) (capture.Source, error) {
	if err != nil {
		return nil, err
	}
	return s, nil
}

// captureFilter is what the kernel selects for us: the traffic of all the mappings.
func captureFilter(c *config.Copy, maps []mapping.Mapping) (filter.Program, error) {
	mirrored := c.From.Kind == config.FromMirror
	spec := filter.CaptureSpec{ExcludeMark: c.Mark, Expr: c.Filter, AnyDirection: mirrored, Encapsulated: mirrored}
	for _, m := range maps {
		spec.Ports = append(spec.Ports, m.Online.Port())
		spec.AnyDirection = spec.AnyDirection || m.Named()
	}
	return filter.Capture(spec)
}

// innerFilter is what the user selects of packets that come within others.
func innerFilter(c *config.Copy) (filter.Program, error) {
	if c.Filter == nil {
		return nil, nil
	}
	return filter.CompileExpr(c.Filter, filter.Options{})
}
