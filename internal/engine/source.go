package engine

import (
	"errors"
	"fmt"
	"math"
	"time"

	"tcpcopy/internal/account/export"
	"tcpcopy/internal/config"
	"tcpcopy/internal/core/mapping"
	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/source"
	"tcpcopy/internal/source/afpacket"
	"tcpcopy/internal/source/agents"
	"tcpcopy/internal/source/filter"
	"tcpcopy/internal/source/mirror"
	"tcpcopy/internal/way/link/key"
)

// A packet of this host is copied at once while there is little to do. While more than captureMany
// come in a second, the reader pauses after each batch, so that it finds several at once.
const (
	captureMany  = 8000
	capturePause = 2 * time.Millisecond
)

// Half of the ring's memory is for slots. They are small, so that there are many: what very many
// connections send at once is small packets. Larger ones wait outside, in memory that the kernel
// takes only then: as many of 1,500 bytes as there are slots. maxQueue is as much as it can count.
//
// Where answers are captured whole, every other packet would wait outside, and a packet there costs
// a system call. So all of the ring is slots then, and they are larger.
const (
	captureSlot = 512
	answerSlot  = 4096
	maxQueue    = math.MaxInt32 / 2
)

// openSource opens the source of packets.
func (cp *copier) openSource() (source.Source, error) {
	c := cp.c
	switch c.From.Kind {
	case config.FromHost:
		prog, err := captureFilter(c, cp.maps)
		if err != nil {
			return nil, err
		}
		return opened(openHost(c, prog, cp.now))
	case config.FromFile:
		return cp.replay.source, nil
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
		}, inner, mirror.Carriers{Peers: c.From.Peers, All: c.Insecure}))
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
			Kind: kind, Listen: c.From.Listen, Networks: c.From.Networks, Peers: c.From.Peers,
			Filter: inner, Buffer: int(c.Ring), Now: cp.now, Log: cp.ctl.Log,
		}))
	case config.FromAgent:
		return cp.openAgents()
	}
	return nil, fmt.Errorf("no source of the kind %q", c.From.Kind)
}

// openHost captures on this host: through slots or, where the queue that they need cannot be had,
// through blocks, which hand packets over some milliseconds later.
func openHost(c *config.Copy, prog filter.Program, now func() mono.Time) (*afpacket.Source, error) {
	cfg := afpacket.Config{
		Interfaces: c.Interfaces, Filter: prog, Memory: int(c.Ring / 2), Now: now,
		Immediate: true, Slot: captureSlot, Pause: capturePause, PauseAbove: captureMany,
		Queue: int(min(2*c.Ring, maxQueue)), Whole: true,
	}
	if c.AnswersWhole() {
		cfg.Memory, cfg.Slot = int(c.Ring), answerSlot
	}
	src, err := afpacket.Open(cfg)
	if errors.Is(err, afpacket.ErrQueue) {
		src, err = afpacket.Open(afpacket.Config{
			Interfaces: c.Interfaces, Filter: prog, Memory: int(c.Ring), Now: now,
		})
	}
	return src, err
}

// openAgents listens for agents.
func (cp *copier) openAgents() (source.Source, error) {
	c := cp.c
	inner, err := innerFilter(c)
	if err != nil {
		return nil, err
	}
	cfg := agents.Config{Listen: c.From.Listen, Peers: c.From.Peers, Filter: inner,
		Software: "tcpcopy " + cp.ctl.Version, Now: cp.now, Log: cp.ctl.Log}
	if c.Key != nil {
		cfg.TLS = key.AgentServerTLS(*c.Key)
	}
	src, err := agents.Listen(cfg)
	if err != nil {
		return nil, err
	}
	cp.agents = src
	return src, nil
}

// fillAgents adds the state of the agents to a snapshot.
func (cp *copier) fillAgents(s *export.Snapshot) {
	if cp.agents == nil {
		return
	}
	for _, a := range cp.agents.Agents() {
		c := &a.Counts
		s.Agents = append(s.Agents, export.AgentState{
			Name: a.Name, Address: a.Address, Up: a.Up, Since: a.Since, Connects: a.Connects,
			Packets: a.Packets, KernelDrop: c.KernelDrop, ShedCPU: c.ShedCPU, ShedRate: c.ShedRate,
			ShedSessions: c.ShedSessions,
			OverMemory:   c.OverMemory, LinkDown: c.LinkDown, Lost: a.Lost, Error: a.LastError,
		})
	}
}

// opened returns s as a Source, or nil with the error.
func opened[S source.Source](s S, err error) (source.Source, error) {
	if err != nil {
		return nil, err
	}
	return s, nil
}

// captureFilter returns the filter by which the kernel selects the traffic of all mappings.
func captureFilter(c *config.Copy, maps []mapping.Mapping) (filter.Program, error) {
	mirrored := c.From.Kind == config.FromMirror
	spec := filter.CaptureSpec{ExcludeMark: c.Mark, Expr: c.Filter, AnyDirection: mirrored,
		Encapsulated: mirrored}
	if c.AnswersWhole() {
		spec.ResponseLen = filter.WholePacket
	}
	for _, m := range maps {
		spec.Ports = append(spec.Ports, m.Production.Port())
		spec.AnyDirection = spec.AnyDirection || m.Named()
	}
	return filter.Capture(spec)
}

// innerFilter returns the user's filter of packets that were mirrored inside others; nil if there
// is none.
func innerFilter(c *config.Copy) (filter.Program, error) {
	if c.Filter == nil {
		return nil, nil
	}
	return filter.CompileExpr(c.Filter, filter.Options{})
}
