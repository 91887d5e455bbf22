// Package agents is a source.Source of the packets that agents send. It listens, admits agents that
// hold the key, and yields the packets that they captured on production hosts.
//
// Each agent's connection is served by a goroutine, which waits while the reader of the source is
// slow. Then the connection fills, and the agent drops packets and counts them. The other end is
// package agent.
package agents

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/source"
	"tcpcopy/internal/source/filter"
	"tcpcopy/internal/way/link"
	"tcpcopy/internal/way/link/wire"
)

const (
	maxAgents = 256 // that are remembered; connected ones are never forgotten
	// waiting is how many batches of all agents may wait for the reader.
	waiting = 8
	// maxQueue bounds what may wait to be written to an agent, in bytes: pongs, in the main.
	maxQueue = 64 << 10
)

// Config says where to listen, and what to admit.
type Config struct {
	Listen   netip.AddrPort // an address that is not valid: all of this host's
	Peers    []netip.Prefix // the networks that agents connect from; none: all
	TLS      *tls.Config    // key.AgentServerTLS; nil: no key
	Filter   filter.Program // over packets from their IP headers on; empty: everything
	Software string
	Now      func() mono.Time // the clock of Frame.Time; nil: one that starts with Listen
	Log      *slog.Logger     // nil: slog.Default()
	// DeadAfter is how long an agent may send nothing; 0: 6 s.
	DeadAfter time.Duration
}

// Source is a source.Source of agents' packets.
type Source struct {
	cfg     Config
	server  *link.Server
	batches chan *batch
	free    chan *batch
	done    chan struct{} // closed by Close
	close   sync.Once
	held    *batch // the reader's, until its next call

	mu        sync.Mutex
	agents    map[wire.Instance]*agent
	serial    int
	gone      forgotten
	delivered uint64
}

// batch is a message's packets, and the memory that they refer to.
type batch struct {
	frames []source.Frame
	raw    []byte
}

var _ source.Source = (*Source)(nil)

// Listen starts to listen, in the network namespace of the calling thread.
func Listen(cfg Config) (*Source, error) {
	if cfg.Now == nil {
		start := time.Now()
		cfg.Now = func() mono.Time { return mono.Time(time.Since(start)) }
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	if cfg.DeadAfter <= 0 {
		cfg.DeadAfter = 6 * time.Second
	}
	address := fmt.Sprintf(":%d", cfg.Listen.Port())
	if cfg.Listen.Addr().IsValid() {
		address = cfg.Listen.String()
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("capture: listen for agents on %s: %w", address, errors.Unwrap(err))
	}
	s := &Source{cfg: cfg, batches: make(chan *batch, waiting), free: make(chan *batch, waiting+1),
		done: make(chan struct{}), agents: make(map[wire.Instance]*agent)}
	s.server = link.NewServer(link.ServerConfig{
		Options: link.Options{TLS: cfg.TLS, Queue: maxQueue, DeadAfter: cfg.DeadAfter,
			Now: cfg.Now},
		Listeners: []net.Listener{l}, Hello: wire.TypeAgentHello, Admit: s.admit, Log: cfg.Log,
		Peers: cfg.Peers, Prefix: "agents", Self: "copier", Peer: "agent",
		Software: cfg.Software,
	})
	s.server.Start()
	return s, nil
}

// Addr returns where agents can connect.
func (s *Source) Addr() netip.AddrPort { return s.server.Addrs()[0] }

// batch returns an empty batch.
func (s *Source) batch() *batch {
	select {
	case b := <-s.free:
		return b
	default:
		return new(batch)
	}
}

// keepRaw is the most memory that a batch keeps, in bytes.
const keepRaw = 256 << 10

// release takes a batch back.
func (s *Source) release(b *batch) {
	if cap(b.raw) > keepRaw {
		b.raw = nil
	}
	b.frames = b.frames[:0]
	select {
	case s.free <- b:
	default:
	}
}

// Next implements source.Source.
func (s *Source) Next(wait time.Duration) ([]source.Frame, error) {
	if s.held != nil {
		s.release(s.held)
		s.held = nil
	}
	select {
	case b := <-s.batches:
		return s.hold(b), nil
	default:
	}
	var timeout <-chan time.Time
	if wait >= 0 {
		if wait == 0 {
			select {
			case <-s.done:
				return nil, source.ErrClosed
			default:
				return nil, nil
			}
		}
		t := time.NewTimer(wait)
		defer t.Stop()
		timeout = t.C
	}
	select {
	case b := <-s.batches:
		return s.hold(b), nil
	case <-timeout:
		return nil, nil
	case <-s.done:
		return nil, source.ErrClosed
	}
}

// hold makes a batch the reader's.
func (s *Source) hold(b *batch) []source.Frame {
	s.held = b
	s.mu.Lock()
	s.delivered += uint64(len(b.frames))
	s.mu.Unlock()
	return b.frames
}

// Stats implements source.Source.
func (s *Source) Stats() source.Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := source.Stats{Delivered: s.delivered}
	count := func(received, lost uint64, c *wire.AgentCounts) {
		st.Offered += received + lost + c.KernelDrop + c.Shed() + c.Unsent()
		st.Dropped += c.KernelDrop
		st.Shed += c.Shed()
		st.Lost += lost + c.Unsent()
	}
	count(s.gone.packets, s.gone.lost, &s.gone.counts)
	for _, a := range s.agents {
		c := a.counts.Since(&a.base)
		count(a.packets, a.lost, &c)
	}
	return st
}

// State is the state of an agent.
type State struct {
	Name      string
	Address   string // where it connects from
	Software  string
	Up        bool
	Since     time.Time // when Up last changed
	Connects  uint64
	Packets   uint64           // received
	Lost      uint64           // packets that it sent and that did not arrive
	Counts    wire.AgentCounts // its own, since it first connected to this copier
	LastError string           // why its connection was last lost; empty if it never was
}

// Agents returns the agents that have connected, in the order of their first connections.
func (s *Source) Agents() []State {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]*agent, 0, len(s.agents))
	for _, a := range s.agents {
		all = append(all, a)
	}
	slices.SortFunc(all, func(a, b *agent) int { return cmp.Compare(a.serial, b.serial) })
	states := make([]State, len(all))
	for i, a := range all {
		states[i] = State{
			Name: a.name, Address: a.address, Software: a.software,
			Up: a.end != nil, Since: a.since, Connects: a.connects,
			Packets: a.packets, Lost: a.lost, Counts: a.counts.Since(&a.base),
			LastError: a.failure,
		}
	}
	return states
}

// Close implements source.Source. It sends a Bye to the agents.
func (s *Source) Close() error {
	s.close.Do(func() {
		close(s.done)
		s.server.Close()
	})
	return nil
}
