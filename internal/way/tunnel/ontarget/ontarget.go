// Package ontarget is the target side of the tunnel. On the target's host it carries out the
// operations of copiers: it opens kernel TCP connections from the clients' own addresses, feeds
// them, and reports what becomes of them. Answers are counted and discarded inside the kernel.
//
// A Server is a host's. A Peer is one connection of a copier, with its streams and a
// socket.Output of its own. A Peer has one goroutine, which handles the events of the sockets;
// operations arrive on the goroutine that serves the connection, and a lock orders the two.
// Nothing here waits for a target. What a target does not take is kept, within the credit that
// the copier has (wire.Window), so that a slow connection does not delay others.
//
// When a copier's connection breaks, its streams end at once: what the kernel has taken still
// arrives, followed by a reset. The copier opens new ones at its clients' next turns.
//
// Package intercept owns the connections to copiers, and calls this package through an interface.
// The command makes the Server. Package localroute changes what must be changed on the host, and
// knows where to connect.
package ontarget

import (
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/sys"
	"tcpcopy/internal/way/link/key"
	"tcpcopy/internal/way/link/wire"
)

// Routes knows where connections can go; *localroute.Host is one.
type Routes interface {
	// Way returns where to connect, and with which mark, so that the target's server sees the
	// client.
	Way(target netip.AddrPort) (dest netip.AddrPort, mark uint32, err error)
	// Free lets a connection to dest, which Way has returned, follow at once on one with the same
	// ends.
	Free(client, dest netip.AddrPort) error
	// Owns reports whether an address is this host's.
	Owns(netip.Addr) bool
	// Client reports whether connections can come from an address.
	Client(netip.Addr) bool
}

// Config is what a Server needs. Routes and Now are required.
type Config struct {
	Routes Routes
	Now    func() mono.Time
	// Allow are the ports that copiers may connect to, on the host's own addresses, but for Except.
	Allow  key.Ports
	Except []uint16
	// Clients are the networks that connections may come from; empty: any.
	Clients []netip.Prefix

	// MaxStreams bounds the streams of all copiers; 0: 65,536. It is reduced if the process may not
	// open as many files.
	MaxStreams int
	MaxBytes   int64 // bytes of all copiers that wait for targets; 0: 256 MB

	ConnectTimeout time.Duration // 0: 10 s
	SendTimeout    time.Duration // see socket.Config; 0: 2 minutes
	// Enter moves a thread into the target's network namespace; nil: it is the process's own.
	Enter func() error
	Log   *slog.Logger
}

const (
	defaultStreams     = 1 << 16
	defaultBytes       = 256 << 20
	defaultSendTimeout = 2 * time.Minute
	// takeover is how long a stream waits for the end of one with the same two ends, and of what
	// the kernel still has of it.
	takeover   = 3 * time.Second
	retryEvery = 10 * time.Millisecond
	// fileLimit is how many descriptors the process requests.
	fileLimit = 1 << 20
	// spareFiles are descriptors for all else than streams, so that a full server still accepts
	// copiers and writes its log.
	spareFiles = 256
	// maxLogged bounds how many targets are named in the log.
	maxLogged = 64
)

// Stats are a Server's totals.
type Stats struct {
	Streams   int64 // now
	Copiers   int64 // connections of copiers now
	Buffered  int64 // bytes that wait for targets now
	Opened    uint64
	Finished  uint64
	Aborted   uint64            // by copiers
	Reset     uint64            // by targets
	BytesIn   uint64            // from copiers, for targets
	BytesOut  uint64            // that targets sent, and that were discarded
	LinksLost uint64            // streams that ended because their copier's connection did
	Failed    map[string]uint64 // streams, by reason
}

// tuple names a connection by its ends.
type tuple struct{ client, target netip.AddrPort }

// Server is a target host's side of all tunnels. Its methods are safe from any goroutine.
type Server struct {
	cfg Config

	streams, copiers, buffered                            atomic.Int64
	opened, finished, aborted, resets, in, out, linksLost atomic.Uint64

	mu     sync.Mutex
	tuples map[tuple]*stream
	owners map[wire.Instance]int // connections of each copier
	recent recentOwners          // of tuples, while there are several copiers
	failed map[ledger.Reason]uint64
	logged map[netip.AddrPort]bool // targets that cannot be reached
}

// New returns a Server, which has no copiers yet.
func New(cfg Config) *Server {
	if cfg.MaxStreams <= 0 {
		cfg.MaxStreams = defaultStreams
	}
	if cfg.MaxBytes <= 0 {
		cfg.MaxBytes = defaultBytes
	}
	if cfg.SendTimeout <= 0 {
		cfg.SendTimeout = defaultSendTimeout
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	if files, err := sys.RaiseFileLimit(fileLimit); err == nil &&
		int(files) < cfg.MaxStreams+spareFiles {
		room := int(files) - min(spareFiles, int(files)/4)
		cfg.Log.Info("the limit of open files leaves room for fewer connections", "files", files,
			"connections", room, "configured", cfg.MaxStreams)
		cfg.MaxStreams = room
	}
	return &Server{cfg: cfg, tuples: make(map[tuple]*stream), owners: make(map[wire.Instance]int),
		failed: make(map[ledger.Reason]uint64),
		logged: make(map[netip.AddrPort]bool)}
}

// Serves reports whether the holder of a key may connect to a target; nil: of the only key.
func (s *Server) Serves(holder *key.Holder, target netip.AddrPort) bool {
	if holder != nil {
		if r := holder.Rights(); !r.Open || r.Ports != nil && !r.Ports.Has(target.Port()) {
			return false
		}
	}
	return s.cfg.Routes.Owns(target.Addr()) && s.cfg.Allow.Has(target.Port()) &&
		!slices.Contains(s.cfg.Except, target.Port())
}

// allow returns why a stream cannot be opened for the holder of a key, None if it can.
func (s *Server) allow(holder *key.Holder, client, target netip.AddrPort) ledger.Reason {
	switch {
	case !s.Serves(holder, target):
		return ledger.TargetForbidden
	case client.Port() == 0, client.Addr().Is4() != target.Addr().Is4(),
		!s.cfg.Routes.Client(client.Addr()), !within(s.cfg.Clients, client.Addr()),
		holder != nil && !within(holder.Rights().Clients, client.Addr()):
		return ledger.BadClientAddress
	case s.streams.Load() > int64(s.cfg.MaxStreams): // it is counted already
		return ledger.OverSessions
	case s.buffered.Load() >= s.cfg.MaxBytes:
		return ledger.OverMemory
	}
	return ledger.None
}

// within reports whether an address is in one of the networks, or there are none.
func within(networks []netip.Prefix, a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	return len(networks) == 0 ||
		slices.ContainsFunc(networks, func(n netip.Prefix) bool { return n.Contains(a) })
}

// full reports whether the streams hold more than the bound on memory.
func (s *Server) full() bool { return s.buffered.Load() > s.cfg.MaxBytes }

// logUnreachable logs, once for each target, why its server cannot be reached.
func (s *Server) logUnreachable(target netip.AddrPort, err error) {
	s.mu.Lock()
	known := s.logged[target] || len(s.logged) >= maxLogged
	if !known {
		s.logged[target] = true
	}
	s.mu.Unlock()
	if !known {
		s.cfg.Log.Warn("target cannot be reached from clients' addresses", "target", target,
			"error", err)
	}
}

func (s *Server) countFailed(r ledger.Reason) {
	s.mu.Lock()
	s.failed[r]++
	s.mu.Unlock()
}

// Stats returns the totals at this moment.
func (s *Server) Stats() Stats {
	st := Stats{
		Streams: s.streams.Load(), Copiers: s.copiers.Load(), Buffered: s.buffered.Load(),
		Opened: s.opened.Load(), Finished: s.finished.Load(), Aborted: s.aborted.Load(),
		Reset: s.resets.Load(), BytesIn: s.in.Load(), BytesOut: s.out.Load(),
		LinksLost: s.linksLost.Load(), Failed: map[string]uint64{},
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for r, n := range s.failed {
		st.Failed[r.String()] = n
	}
	return st
}
