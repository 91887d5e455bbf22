// Package mirror takes production's traffic from a mirror of it: a source.Source over UDP for the clouds'
// mirrors (VXLAN, GENEVE), and one over a switch's mirror port.
//
// A mirrored packet says neither when it was seen nor which way it went: the time is that of its arrival
// here, and which side is the server is the reader's to know. Packets that the mirror has cut are handed on
// as such. The package starts no goroutine; the engine opens a source, and its reader goroutine calls Next.
package mirror

import (
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/source"
	"tcpcopy/internal/source/filter"
	"tcpcopy/internal/sys"
)

// Kind is an encapsulation over UDP.
type Kind uint8

// The kinds.
const (
	VXLAN  Kind = iota // RFC 7348
	GENEVE             // RFC 8926
)

// Config says what a Source listens to.
type Config struct {
	Kind     Kind
	Listen   netip.AddrPort // an address that is not valid: all of this host's
	Networks []uint32       // VNIs that are wanted; none: all
	Filter   filter.Program // over the inner packet from its IP header on; empty: everything
	Buffer   int            // bytes that may wait in the kernel; 0: 16 MB
	// Now is the clock of Frame.Time, the engine's. Nil: a clock that starts with Listen.
	Now func() mono.Time
}

// Source is a source.Source over a UDP port.
type Source struct {
	cfg    Config
	decode func([]byte, *packet.Inner) error
	socket *sys.UDPSocket
	epoll  *sys.Epoll
	evs    []sys.EpollEvent
	recv   *sys.ReceiveBatch
	batch  []source.Frame
	inner  packet.Inner // of the datagram in hand

	offered, delivered, foreign, malformed atomic.Uint64

	mu      sync.Mutex // guards what follows, and the socket against being closed while Stats reads it
	dropped uint64
	lastCnt uint32 // of the kernel's counter, which wraps
	closed  bool   // Close was called
	inNext  bool
	freed   bool
}

var _ source.Source = (*Source)(nil)

// Listen opens the port, in the network namespace of the calling thread. It needs no capability, but with
// CAP_NET_ADMIN the buffer may be larger than the system's limit.
func Listen(cfg Config) (*Source, error) {
	if cfg.Now == nil {
		start := time.Now()
		cfg.Now = func() mono.Time { return mono.Time(time.Since(start)) }
	}
	if cfg.Buffer <= 0 {
		cfg.Buffer = 16 << 20
	}
	s := &Source{
		cfg: cfg, decode: packet.DecodeVXLAN, evs: make([]sys.EpollEvent, 2),
		recv: sys.NewReceiveBatch(), batch: make([]source.Frame, 0, sys.ReceiveBatchSize),
	}
	if cfg.Kind == GENEVE {
		s.decode = packet.DecodeGENEVE
	}
	var err error
	if s.socket, err = sys.ListenUDP(cfg.Listen, cfg.Buffer); err != nil {
		return nil, fmt.Errorf("capture: %w", err)
	}
	if s.epoll, err = sys.NewEpoll(); err == nil {
		err = s.socket.Watch(s.epoll, 0)
	}
	if err != nil {
		s.free()
		return nil, fmt.Errorf("capture: %w", err)
	}
	return s, nil
}

// Addr is where the source listens.
func (s *Source) Addr() netip.AddrPort { return s.socket.LocalAddr() }

// Next implements source.Source.
func (s *Source) Next(wait time.Duration) ([]source.Frame, error) {
	s.mu.Lock()
	if s.closed {
		s.free()
		s.mu.Unlock()
		return nil, source.ErrClosed
	}
	s.inNext = true
	s.mu.Unlock()
	frames, err := s.next(wait)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.inNext = false
	if s.closed && len(frames) == 0 {
		s.free()
		return nil, source.ErrClosed
	}
	return frames, err
}

func (s *Source) next(wait time.Duration) ([]source.Frame, error) {
	var end time.Time // of a bounded wait
	if wait > 0 {
		end = time.Now().Add(wait)
	}
	for {
		n, err := s.socket.Receive(s.recv)
		if err != nil {
			return nil, fmt.Errorf("capture: %w", err)
		}
		if n > 0 {
			if frames := s.fill(n); len(frames) > 0 {
				return frames, nil
			}
		}
		left := wait
		if wait > 0 {
			left = max(0, time.Until(end))
		}
		switch {
		case s.isClosed():
			return nil, nil
		case n > 0 && left != 0: // there may be more, and nothing else wakes us
		case left == 0:
			return nil, nil
		default:
			if _, err := s.epoll.Wait(s.evs, left); err != nil {
				return nil, fmt.Errorf("capture: %w", err)
			}
		}
	}
}

// fill makes a batch of the datagrams that were received.
func (s *Source) fill(n int) []source.Frame {
	now := s.cfg.Now()
	batch := s.batch[:0]
	for i := range n {
		in := &s.inner
		err := s.decode(s.recv.Datagram(i), in)
		if err == nil && len(s.cfg.Networks) > 0 && !slices.Contains(s.cfg.Networks, in.Network) {
			err = packet.ErrNotIP
		}
		if f, ok := s.frame(in, err); ok {
			f.Time = now
			batch = append(batch, f)
		}
	}
	s.delivered.Add(uint64(len(batch)))
	return batch
}

// frame makes a frame of a packet from within an encapsulation; err is what its reader said.
func (s *Source) frame(in *packet.Inner, err error) (source.Frame, bool) {
	if err == nil {
		if changed, e := packet.Unwrap(in); changed {
			err = e
		}
	}
	switch err {
	case nil:
	case packet.ErrNotIP:
		s.offered.Add(1)
		s.foreign.Add(1)
		return source.Frame{}, false
	default:
		s.offered.Add(1)
		s.malformed.Add(1)
		return source.Frame{}, false
	}
	data := in.Data
	if len(s.cfg.Filter) > 0 {
		m := filter.Meta{Len: in.Wire, HasVLAN: in.VLAN != 0, VLAN: in.VLAN}
		if data = data[:s.cfg.Filter.Match(data, &m)]; len(data) == 0 {
			return source.Frame{}, false
		}
	}
	s.offered.Add(1)
	// The network stands for an interface: what two mirrors show is seen on two.
	return source.Frame{Data: data, Wire: in.Wire, Ifindex: int32(in.Network), VLAN: in.VLAN}, true
}

// Stats implements source.Source.
func (s *Source) Stats() source.Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.readDrops()
	return source.Stats{
		Offered: s.offered.Load() + s.dropped, Dropped: s.dropped, Delivered: s.delivered.Load(),
		Foreign: s.foreign.Load(), Malformed: s.malformed.Load(),
	}
}

// readDrops adds what the kernel counted since the last time; mu is held.
func (s *Source) readDrops() {
	if s.freed {
		return
	}
	if n, err := s.socket.Drops(); err == nil {
		s.dropped += uint64(n - s.lastCnt)
		s.lastCnt = n
	}
}

func (s *Source) isClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

// Close implements source.Source. A batch that is held stays valid.
func (s *Source) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	if s.inNext {
		s.epoll.Wake()
		return nil
	}
	return s.free()
}

// free closes everything; nobody may be in Next, and mu is held once the source is in use.
func (s *Source) free() error {
	if s.freed {
		return nil
	}
	if s.epoll != nil {
		s.readDrops()
		s.epoll.Close()
	}
	s.freed = true
	return s.socket.Close()
}
