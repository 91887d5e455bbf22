// Package mirror receives mirrored traffic of production: a Source over UDP for the mirrors of
// clouds (VXLAN, GENEVE), and a Port over an interface that a switch mirrors to.
//
// A mirrored packet carries neither its time nor its direction. Its time is that of arrival here,
// and the reader knows which side is the server. A packet that the mirror has cut stays cut. The
// package starts no goroutine: the engine opens a source, and its reader goroutine calls Next.
package mirror

import (
	"errors"
	"fmt"
	"log/slog"
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

// Kind is an encapsulation in UDP.
type Kind uint8

// The encapsulations.
const (
	VXLAN  Kind = iota // RFC 7348
	GENEVE             // RFC 8926
)

// Config describes what a Source listens to.
type Config struct {
	Kind     Kind
	Listen   netip.AddrPort // an invalid address stands for all addresses of this host
	Networks []uint32       // the VNIs to accept; none: all
	Peers    []netip.Prefix // the senders to accept; none: all
	Filter   filter.Program // of inner packets, from the IP header on; empty: accept all
	Buffer   int            // bytes that the kernel may queue; 0: 16 MB
	// Now is the clock of Frame.Time. If Now is nil, the clock starts with Listen.
	Now func() mono.Time
	Log *slog.Logger // nil: slog.Default()
}

// Source is a source.Source over a UDP port.
type Source struct {
	cfg    Config
	decode func([]byte, *packet.Inner) error
	socket *sys.UDPSocket
	others *strangers // datagrams of senders that are not accepted; nil: all are
	epoll  *sys.Epoll
	evs    []sys.EpollEvent
	recv   *sys.ReceiveBatch
	clock  source.StampClock
	batch  []source.Frame
	inner  packet.Inner // of the current datagram

	offered, delivered, foreign, malformed atomic.Uint64

	// mu guards the fields below. It also keeps the socket open while Stats reads it.
	mu      sync.Mutex
	dropped uint64
	lastCnt uint32 // last value of the kernel's counter, which wraps
	closed  bool   // Close was called
	inNext  bool   // a call of Next is running
	freed   bool   // the descriptors are closed
}

var _ source.Source = (*Source)(nil)

// Listen opens the port in the network namespace of the calling thread. It needs no capability.
// With CAP_NET_ADMIN the buffer may exceed the system's limit.
func Listen(cfg Config) (*Source, error) {
	if cfg.Now == nil {
		start := time.Now()
		cfg.Now = func() mono.Time { return mono.Time(time.Since(start)) }
	}
	if cfg.Buffer <= 0 {
		cfg.Buffer = 16 << 20
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	s := &Source{
		cfg: cfg, decode: packet.DecodeVXLAN, evs: make([]sys.EpollEvent, 2),
		recv: sys.NewReceiveBatch(), batch: make([]source.Frame, 0, sys.ReceiveBatchSize),
		clock: source.NewStampClock(cfg.Now()),
	}
	if cfg.Kind == GENEVE {
		s.decode = packet.DecodeGENEVE
	}
	var err error
	if len(cfg.Peers) == 0 {
		s.socket, err = sys.ListenUDP(cfg.Listen, cfg.Buffer)
	} else {
		var others *sys.UDPSocket
		s.socket, others, err = sys.ListenUDPPeers(cfg.Listen, cfg.Buffer, cfg.Peers)
		s.others = &strangers{socket: others, log: cfg.Log}
	}
	if err != nil {
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

// Addr returns the address that the source listens on.
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

// next is Next without its handling of Close.
func (s *Source) next(wait time.Duration) ([]source.Frame, error) {
	var end time.Time // of a bounded wait
	if wait > 0 {
		end = time.Now().Add(wait)
	}
	for {
		now := s.cfg.Now()
		s.others.watch(now)
		n, err := s.socket.Receive(s.recv)
		if err != nil {
			return nil, fmt.Errorf("capture: %w", err)
		}
		if n > 0 {
			if frames := s.fill(n); len(frames) > 0 {
				return frames, nil
			}
		} else {
			s.clock.Empty(now)
		}
		left := wait
		if wait > 0 {
			left = max(0, time.Until(end))
		}
		switch {
		case s.isClosed():
			return nil, nil
		case n > 0 && left != 0: // the socket may hold more, and the epoll is edge triggered
		case left == 0:
			return nil, nil
		default:
			if _, err := s.epoll.Wait(s.evs, left); err != nil {
				return nil, fmt.Errorf("capture: %w", err)
			}
		}
	}
}

// fill makes a batch of n received datagrams.
func (s *Source) fill(n int) []source.Frame {
	now := s.cfg.Now()
	s.clock.Read(now, time.Now().UnixNano())
	batch := s.batch[:0]
	for i := range n {
		in := &s.inner
		err := s.decode(s.recv.Datagram(i), in)
		if err == nil && len(s.cfg.Networks) > 0 && !slices.Contains(s.cfg.Networks, in.Network) {
			err = packet.ErrNotIP
		}
		if f, ok := s.frame(in, err); ok {
			f.Time = now
			if stamp := s.recv.Stamp(i); stamp != 0 {
				f.Time = s.clock.At(stamp)
			}
			batch = append(batch, f)
		}
	}
	s.delivered.Add(uint64(len(batch)))
	return batch
}

// frame makes a frame of an inner packet; err is the error of decoding it. It reports whether the
// packet is accepted.
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
	// Two networks count as two interfaces, because a packet may be in two mirrors.
	return source.Frame{Data: data, Wire: in.Wire, Ifindex: int32(in.Network), VLAN: in.VLAN}, true
}

// Stats implements source.Source.
func (s *Source) Stats() source.Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.readDrops()
	strange := s.others.count()
	return source.Stats{
		Offered: s.offered.Load() + s.dropped + strange, Dropped: s.dropped,
		Delivered: s.delivered.Load(), Foreign: s.foreign.Load() + strange,
		Malformed: s.malformed.Load(),
	}
}

// readDrops adds what the kernel has counted since the last call. The caller holds mu.
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

// Close implements source.Source. A batch that the caller still holds stays valid.
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

// free closes the descriptors. No call of Next may run, and the caller holds mu if the source is in
// use.
func (s *Source) free() error {
	if s.freed {
		return nil
	}
	if s.epoll != nil {
		s.readDrops()
		s.epoll.Close()
	}
	s.freed = true
	return errors.Join(s.socket.Close(), s.others.close())
}
