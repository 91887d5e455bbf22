// Package ways lists the ways to the targets.
package ways

import (
	"fmt"

	"tcpcopy/internal/way"
	"tcpcopy/internal/way/intercepts"
	"tcpcopy/internal/way/link/wire"
	"tcpcopy/internal/way/raw"
	"tcpcopy/internal/way/socket"
	"tcpcopy/internal/way/tunnel"
)

// all has a constructor for each way.
var all = []func() way.Way{socket.NewWay, raw.NewWay, tunnel.NewWay}

// Names returns the names of the ways.
func Names() []string {
	var names []string
	for _, make := range all {
		names = append(names, make().Name())
	}
	return names
}

// New returns the way that the settings ask for.
func New(s *way.Settings) (way.Way, error) {
	if s.LearnWay {
		return &asking{Way: raw.NewWay()}, nil
	}
	for _, make := range all {
		if w := make(); w.Name() == s.Via {
			return w, nil
		}
	}
	return nil, fmt.Errorf("no way %q to the target: wanted one of %q", s.Via, Names())
}

// asking is the way that the intercept offers. It is known once it is open.
type asking struct{ way.Way }

// Open implements way.Way.
func (a *asking) Open(h *way.Host, s *way.Settings, targets []way.Target) error {
	offered, err := intercepts.Ask(h, s, way.Addrs(targets))
	if err != nil {
		return err
	}
	if offered == wire.WayTunnel {
		if len(s.RawOnly) > 0 {
			return fmt.Errorf("%s has no use in the tunnel, and the intercept runs on the target, "+
				"where it opens ordinary connections: leave it out", s.RawOnly[0])
		}
		a.Way = tunnel.NewWay()
	}
	return a.Way.Open(h, s, targets)
}
