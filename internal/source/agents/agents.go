// Package agents is a source.Source over what agents send: it listens, lets in who holds the key, and hands
// on the packets that the agents on production hosts have captured.
//
// Each agent's connection has a goroutine that reads it, and that waits where the reader of the source is
// slow: then the agent's connection fills, and the agent drops and counts. Package agent is the other end.
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
	"tcpcopy/internal/way/link/wire"
)

const (
	maxAgents    = 256 // that are remembered; connected ones are never forgotten
	maxStrangers = 64  // connections that have not introduced themselves
	// waiting is how many batches may wait for the reader, of all agents together.
	waiting = 8

	handshakeTimeout = 5 * time.Second
	writeTimeout     = 5 * time.Second
)

// Config says where to listen, and whom to let in.
type Config struct {
	Listen   netip.AddrPort // an address that is not valid: all of this host's
	TLS      *tls.Config    // key.AgentServerTLS; nil: no key
	Filter   filter.Program // over packets from their IP headers on; empty: everything
	Software string
	Now      func() mono.Time // the clock of Frame.Time, the engine's; nil: one that starts with Listen
	Log      *slog.Logger     // nil: slog.Default()
	// DeadAfter is how long an agent may say nothing; 0: 6 s.
	DeadAfter time.Duration
}

// Source is a source.Source over agents' connections.
type Source struct {
	cfg      Config
	listener net.Listener
	batches  chan *batch
	free     chan *batch
	done     chan struct{} // closed by Close
	wg       sync.WaitGroup
	held     *batch // the reader's, until its next call

	mu        sync.Mutex
	closed    bool
	agents    map[wire.Instance]*agent
	serial    int
	strangers []net.Conn
	gone      forgotten
	delivered uint64
}

// batch is packets on their way to the reader, and the bytes that they lie in.
type batch struct {
	frames []source.Frame
	raw    []byte
}

var _ source.Source = (*Source)(nil)

// Listen begins to listen, in the network namespace of the calling thread.
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
	s := &Source{
		cfg: cfg, listener: l, batches: make(chan *batch, waiting), free: make(chan *batch, waiting+1),
		done: make(chan struct{}), agents: make(map[wire.Instance]*agent),
	}
	s.wg.Go(s.accept)
	return s, nil
}

// Addr is where agents can connect.
func (s *Source) Addr() netip.AddrPort {
	a := s.listener.Addr().(*net.TCPAddr).AddrPort()
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

func (s *Source) accept() {
	for {
		conn, err := s.listener.Accept()
		if err != nil {
			select {
			case <-s.done:
				return
			case <-time.After(50 * time.Millisecond): // out of descriptors, perhaps
				continue
			}
		}
		s.mu.Lock()
		if s.closed {
			s.mu.Unlock()
			conn.Close()
			return
		}
		// The oldest stranger goes, not the newest: who means it is done in a moment.
		if len(s.strangers) >= maxStrangers {
			s.strangers[0].Close()
			s.strangers = slices.Delete(s.strangers, 0, 1)
		}
		s.strangers = append(s.strangers, conn)
		s.mu.Unlock()
		s.wg.Go(func() { s.serve(conn) })
	}
}

// known takes a connection from among the strangers.
func (s *Source) known(conn net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := slices.Index(s.strangers, conn); i >= 0 {
		s.strangers = slices.Delete(s.strangers, i, i+1)
	}
}

// batch returns an empty batch.
func (s *Source) batch() *batch {
	select {
	case b := <-s.free:
		return b
	default:
		return new(batch)
	}
}

// keepRaw is the largest room that a batch keeps.
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
		return s.take(b), nil
	default:
	}
	var late <-chan time.Time
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
		late = t.C
	}
	select {
	case b := <-s.batches:
		return s.take(b), nil
	case <-late:
		return nil, nil
	case <-s.done:
		return nil, source.ErrClosed
	}
}

func (s *Source) take(b *batch) []source.Frame {
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

// State is how an agent stands.
type State struct {
	Name      string
	Address   string // where it connects from
	Software  string
	Up        bool
	Since     time.Time // when Up last changed
	Connects  uint64
	Packets   uint64           // received
	Lost      uint64           // packets that it sent and that did not arrive
	Counts    wire.AgentCounts // its own, since this copier knows it
	LastError string           // why it was lost last; empty if it never was
}

// Agents lists the agents that have connected, the first one first.
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
			Name: a.name, Address: a.address, Software: a.software, Up: a.conn != nil, Since: a.since, Connects: a.connects,
			Packets: a.packets, Lost: a.lost, Counts: a.counts.Since(&a.base), LastError: a.failure,
		}
	}
	return states
}

// Close implements source.Source: agents are told good-bye.
func (s *Source) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	close(s.done)
	err := s.listener.Close()
	for _, c := range s.strangers {
		c.Close()
	}
	for _, a := range s.agents {
		if a.conn != nil {
			a.conn.SetReadDeadline(time.Now()) // its goroutine says good-bye
		}
	}
	s.mu.Unlock()
	s.wg.Wait()
	return err
}
