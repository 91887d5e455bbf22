// Package ontarget is where a tunnel's connections come down: on the target's host it carries out
// the operations of the copiers, opens kernel TCP connections from the clients' own addresses,
// feeds them, and says what became of them. Answers are counted and discarded inside the kernel.
//
// A Landing is a host's; a Port is one copier's connection to the intercept, with its streams,
// its own socket.Output, and one goroutine, which takes what the sockets tell; the operations
// come on the goroutine of the connection's reader. The port's lock orders the two. Nothing here
// waits for a target: what one does not take is kept, within the credit that the copier has
// (wire.Window), so that a slow connection holds up no other.
//
// When a copier's connection breaks, its streams are ended at once: what the kernel has taken
// still arrives, and then comes a reset. The copier opens new ones at its clients' next turns.
//
// Package intercept owns the connections to copiers and calls this one through an interface; the
// command makes the Landing. It changes nothing on the host: package localroute does, and says
// where to connect.
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
	"tcpcopy/internal/way/link/wire"
)

// Routes says where connections can go; *localroute.Host is one.
type Routes interface {
	// Way is where to connect so that target's server sees the client, and with which mark.
	Way(target netip.AddrPort) (dest netip.AddrPort, mark uint32, err error)
	// Free lets a connection to dest, which Way has returned, follow at once on one with the same
	// ends.
	Free(client, dest netip.AddrPort) error
	// Owns says whether an address is this host's.
	Owns(netip.Addr) bool
	// Client says whether connections can come from an address.
	Client(netip.Addr) bool
}

// Config is what a Landing needs. Routes and Now are required.
type Config struct {
	Routes Routes
	Now    func() mono.Time
	// Ports are those that copiers may connect to, on the host's own addresses. Empty: all but
	// Except.
	Ports  []uint16
	Except []uint16

	MaxStreams int   // of all copiers; 0: 65,536; fewer where the process may not open as many files
	MaxBytes   int64 // that wait for targets, of all copiers; 0: 256 MB

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
	// takeover is how long a stream waits for one that has the same two ends, and for what the
	// kernel still has of it.
	takeover   = 3 * time.Second
	retryEvery = 10 * time.Millisecond
	// fileLimit is how many descriptors the process asks to be allowed.
	fileLimit = 1 << 20
	// spareFiles are descriptors for all else than streams: a full landing takes copiers in all
	// the same, and the log can be written.
	spareFiles = 256
	// complainOnce bounds how many targets are named in the log.
	complainOnce = 64
)

// Stats are a Landing's totals.
type Stats struct {
	Streams   int64 // now
	Copiers   int64 // connections of copiers now
	Buffered  int64 // bytes that wait for targets now
	Opened    uint64
	Finished  uint64
	Aborted   uint64 // by copiers
	Reset     uint64 // by targets
	BytesIn   uint64 // from copiers, for targets
	BytesOut  uint64 // that targets answered, and that were thrown away
	LinksLost uint64 // streams that ended because their copier's connection did
	Failed    map[string]uint64
}

// tuple names a connection by its ends.
type tuple struct{ client, target netip.AddrPort }

// Landing is a target host's end of all tunnels.
type Landing struct {
	cfg Config

	streams, copiers, buffered                            atomic.Int64
	opened, finished, aborted, resets, in, out, linksLost atomic.Uint64

	mu       sync.Mutex
	tuples   map[tuple]*stream
	owners   map[Instance]int // connections of each copier
	past     pastOwners       // of tuples, while there are several copiers
	failed   map[ledger.Reason]uint64
	complain map[netip.AddrPort]bool
}

// New returns a Landing without copiers.
func New(cfg Config) *Landing {
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
	if files, err := sys.RaiseFileLimit(fileLimit); err == nil && int(files) < cfg.MaxStreams+spareFiles {
		room := int(files) - min(spareFiles, int(files)/4)
		cfg.Log.Info("the limit of open files leaves room for fewer connections", "files", files, "connections", room, "configured", cfg.MaxStreams)
		cfg.MaxStreams = room
	}
	return &Landing{cfg: cfg, tuples: make(map[tuple]*stream), owners: make(map[Instance]int), failed: make(map[ledger.Reason]uint64),
		complain: make(map[netip.AddrPort]bool)}
}

// Serves says whether copiers may connect to a target.
func (l *Landing) Serves(target netip.AddrPort) bool {
	if !l.cfg.Routes.Owns(target.Addr()) {
		return false
	}
	if len(l.cfg.Ports) > 0 {
		return slices.Contains(l.cfg.Ports, target.Port())
	}
	return !slices.Contains(l.cfg.Except, target.Port())
}

// allow says why a stream cannot be; None if it can.
func (l *Landing) allow(client, target netip.AddrPort) ledger.Reason {
	switch {
	case !l.Serves(target):
		return ledger.TargetForbidden
	case client.Port() == 0, client.Addr().Is4() != target.Addr().Is4(), !l.cfg.Routes.Client(client.Addr()):
		return ledger.BadClientAddress
	case l.streams.Load() > int64(l.cfg.MaxStreams): // it is counted already
		return ledger.OverSessions
	case l.buffered.Load() >= l.cfg.MaxBytes:
		return ledger.OverMemory
	}
	return ledger.None
}

// unreachable logs, once for each target, why a server cannot be reached.
func (l *Landing) unreachable(target netip.AddrPort, err error) {
	l.mu.Lock()
	said := l.complain[target] || len(l.complain) >= complainOnce
	if !said {
		l.complain[target] = true
	}
	l.mu.Unlock()
	if !said {
		l.cfg.Log.Warn("target cannot be reached from clients' addresses", "target", target, "error", err)
	}
}

func (l *Landing) countFailed(r ledger.Reason) {
	l.mu.Lock()
	l.failed[r]++
	l.mu.Unlock()
}

// Stats returns the totals at this moment.
func (l *Landing) Stats() Stats {
	s := Stats{
		Streams: l.streams.Load(), Copiers: l.copiers.Load(), Buffered: l.buffered.Load(),
		Opened: l.opened.Load(), Finished: l.finished.Load(), Aborted: l.aborted.Load(), Reset: l.resets.Load(),
		BytesIn: l.in.Load(), BytesOut: l.out.Load(), LinksLost: l.linksLost.Load(), Failed: map[string]uint64{},
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for r, n := range l.failed {
		s.Failed[r.String()] = n
	}
	return s
}

// Instance is the copier that a Port belongs to: its connections may follow each other on the
// same ends.
type Instance = wire.Instance
