// Package intercept is the daemon that sees a target's answers and tells the copiers about them:
// each captured header goes, over one connection or a few, to the copier that owns it, and to no
// other.
//
// Its goroutines: one for each capture source, which decodes, routes and encodes batches under the
// lock; one that accepts for each listener; for each copier's connection a reader and a writer,
// with a bounded buffer between the router and the writer, so that nobody who reads slowly holds up
// the others. The command makes the sources and hands them in; package link is the copier's end.
package intercept

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/source"
	"tcpcopy/internal/way/link/wire"
	"tcpcopy/internal/way/raw/route"
)

// Locals knows this host's addresses; *locals.Set is one.
type Locals interface {
	Has(netip.Addr) bool
	All() []netip.Addr
}

// Config is what an intercept needs. Zero values of the bounds stand for the defaults.
type Config struct {
	// Streams, where it is set, carries out copiers' operations on the target itself: this is an
	// intercept on the target, which needs no Sources. It makes what a copier's connection is
	// served by; send queues a message to the copier, without waiting, and says whether there was
	// room; broken ends the connection.
	Streams func(hello *wire.Hello, send func([]byte) bool, broken func()) (StreamPort, error)
	// Serves says whether copiers' connections may go to a target, so that a copier hears it at
	// once; nil: to any. With Streams.
	Serves func(target netip.AddrPort) bool
	// Sources yield the target's packets. They are Run's from now on, which closes them.
	Sources []source.Source
	// Whole has the sources capture all packets of these targets whole, from its return on; all
	// others they may cut behind the headers. nil: answers cannot be read here. It must not wait.
	Whole func(targets []netip.AddrPort) error
	// Hurry has the sources yield packets at once for a while, at the price of more batches. nil:
	// they always do. For any goroutine; it must not wait.
	Hurry func(time.Duration)
	// Listen is where copiers connect; port 0 is any. Without TLS it must be loopback, or Insecure
	// set.
	Listen   []netip.AddrPort
	TLS      *tls.Config // key.ServerTLS; nil: no key
	Insecure bool        // without a key, listen beyond loopback
	// Local is this host's addresses: packets to them are not answers to copies. nil: none is
	// known.
	Local Locals
	// Pass are networks of clients whose packets are nobody's: they are left alone.
	Pass []netip.Prefix
	// Devices names the interfaces that the sources capture on, for the check of forwarding; empty:
	// all.
	Devices         []string
	AllowForwarding bool   // skip that check: something else keeps answers from real clients
	ProcSys         string // where the sysctls are; default /proc/sys

	MaxCopiers int           // copiers at the same time; default and at most 255
	Buffer     int           // bytes that may wait for one connection's writer; default 4 MB
	DeadAfter  time.Duration // a connection that says nothing for this long is closed; default 6 s
	Route      route.Config  // its Seed is set by New if 0
	Software   string
	Now        func() mono.Time // the clock of the sources' times; nil: since New
	Log        *slog.Logger     // nil: slog.Default()
}

// StreamPort serves the streams of one connection of a copier; *landing.Port is one.
type StreamPort interface {
	// Operations carries out the body of a message; after an error the connection is closed.
	Operations(body []byte) error
	// Close ends the streams.
	Close()
}

const (
	maxConnsEach     = 16 // parallel connections of one copier
	maxStrangers     = 64 // connections that have not introduced themselves
	handshakeTimeout = 5 * time.Second
	writeTimeout     = 10 * time.Second
	expireEvery      = 20 * time.Millisecond
)

// Intercept is the daemon. Make one with New, then Run it once.
type Intercept struct {
	cfg       Config
	log       *slog.Logger
	listeners []net.Listener
	conns     connCounters
	logged    complaints
	strangers strangers
	wg        sync.WaitGroup
	closing   atomic.Bool

	mu      sync.Mutex // guards what follows; held for a batch, never while waiting for I/O
	table   *route.Table
	owners  [256]*copier // by owner; those who left stay for their counts
	touched []*peer      // have headers that are not sealed
	next    mono.Time    // of table.Expire
	answers answers
	frames  FrameStats
	open    map[net.Conn]struct{} // all connections, to close them at the end
}

// New checks the configuration and the host, and listens. Errors are typed where the user can mend
// something: *ForwardingError, *OpenError.
func New(cfg Config) (*Intercept, error) {
	if len(cfg.Sources) == 0 && cfg.Streams == nil {
		return nil, errors.New("intercept: no capture source")
	}
	if len(cfg.Listen) == 0 {
		return nil, errors.New("intercept: no address to listen on")
	}
	open := false
	for _, a := range cfg.Listen {
		if cfg.TLS == nil && !a.Addr().IsLoopback() {
			if !cfg.Insecure {
				return nil, &OpenError{Addr: a}
			}
			open = true
		}
	}
	if cfg.ProcSys == "" {
		cfg.ProcSys = "/proc/sys"
	}
	if !cfg.AllowForwarding && cfg.Streams == nil {
		if err := CheckForwarding(cfg.ProcSys, cfg.Devices); err != nil {
			return nil, err
		}
	}
	if cfg.MaxCopiers <= 0 || cfg.MaxCopiers > 255 {
		cfg.MaxCopiers = 255
	}
	if cfg.Buffer <= 0 {
		cfg.Buffer = 4 << 20
	}
	if cfg.DeadAfter <= 0 {
		cfg.DeadAfter = 6 * time.Second
	}
	if cfg.Route.Hold <= 0 {
		cfg.Route.Hold = 200 * time.Millisecond
	}
	if cfg.Route.Seed == 0 {
		cfg.Route.Seed = randomSeed()
	}
	if cfg.Now == nil {
		start := time.Now()
		cfg.Now = func() mono.Time { return mono.Time(time.Since(start)) }
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	s := &Intercept{cfg: cfg, log: cfg.Log,
		table: route.New(cfg.Now(), cfg.Route), open: make(map[net.Conn]struct{})}
	for _, a := range cfg.Listen {
		ln, err := net.Listen("tcp", a.String())
		if err != nil {
			for _, l := range s.listeners {
				l.Close()
			}
			return nil, fmt.Errorf("intercept: listen for copiers on %s: %w", a, err)
		}
		s.listeners = append(s.listeners, ln)
	}
	if open {
		s.log.Warn("intercept: no key: whoever can connect may do what a copier may", "listen", s.Addrs())
	}
	return s, nil
}

// Addrs is where copiers can connect.
func (s *Intercept) Addrs() []netip.AddrPort {
	var all []netip.AddrPort
	for _, l := range s.listeners {
		a := l.Addr().(*net.TCPAddr).AddrPort()
		all = append(all, netip.AddrPortFrom(a.Addr().Unmap(), a.Port()))
	}
	return all
}

// Run captures and serves until ctx is done or a source fails, and returns when all its goroutines
// have ended: nil after ctx, else the source's error.
func (s *Intercept) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	for _, ln := range s.listeners {
		s.wg.Go(func() { s.accept(ln) })
	}
	var sources sync.WaitGroup
	for _, src := range s.cfg.Sources {
		sources.Go(func() {
			if err := s.capture(src); err != nil && ctx.Err() == nil {
				cancel(fmt.Errorf("intercept: capture: %w", err))
			}
		})
	}
	<-ctx.Done()
	s.closing.Store(true)
	for _, ln := range s.listeners {
		ln.Close()
	}
	for _, src := range s.cfg.Sources {
		src.Close()
	}
	sources.Wait()
	s.farewell()
	s.wg.Wait()
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return nil
}

// farewell tells every copier that we go; the writers close after it.
func (s *Intercept) farewell() {
	bye := (&wire.Bye{Reason: wire.ByeShutdown}).Append(nil)
	s.mu.Lock()
	defer s.mu.Unlock()
	welcomed := make(map[net.Conn]bool)
	for _, c := range s.owners {
		if c == nil {
			continue
		}
		for _, p := range c.peers {
			welcomed[p.conn] = true
			p.out.finish(bye)
		}
	}
	for conn := range s.open {
		if !welcomed[conn] {
			conn.Close()
		}
	}
}

// OpenError says that the intercept would listen to the world without a key.
type OpenError struct{ Addr netip.AddrPort }

// Error names the address and what would be accepted.
func (e *OpenError) Error() string {
	return fmt.Sprintf("intercept: listen on %s without a key: wanted --key, or a loopback address, or --insecure", e.Addr)
}
