// Package intercept is the daemon that sees what a target answers and reports it to the copiers.
// Each captured header goes, over one connection or a few, to the copier that owns it, and to no
// other. On the target itself it carries out the copiers' operations instead.
//
// Its goroutines: one for each capture source, which decodes, routes and encodes batches under
// the lock, and those of a link.Server. Between the router and each connection's writer is a
// bounded queue, so that a copier that reads slowly does not delay the others. The command makes
// the sources and passes them in. The copier's end is link.Group.
//
// Read intercept.go first, then router.go (what becomes of a captured packet) and peer.go (what
// copiers ask for).
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
	"time"

	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/source"
	"tcpcopy/internal/way/link"
	"tcpcopy/internal/way/link/key"
	"tcpcopy/internal/way/link/wire"
	"tcpcopy/internal/way/raw/route"
)

// Locals knows this host's addresses; *locals.Set is one.
type Locals interface {
	// Has reports whether an address is this host's.
	Has(netip.Addr) bool
	// All returns all of them.
	All() []netip.Addr
}

// Config is what an intercept needs. Zero values of the bounds stand for the defaults.
type Config struct {
	// Streams makes the handler of a copier's connection. If it is set, the intercept stands on the
	// target, and needs no Sources. holder is whose key the copier proved; nil without Keys. send
	// queues a copy of a message to the copier; it does not block, and reports whether there was
	// room. broken ends the connection.
	Streams func(hello *wire.Hello, holder *key.Holder, send func([]byte) bool, broken func()) (
		StreamHandler, error)
	// Serves reports whether copies of a holder may go to a target, so that a copier learns it at
	// once; nil: to any. Used with Streams.
	Serves func(holder *key.Holder, target netip.AddrPort) bool
	// Sources yield the target's packets. Run closes them.
	Sources []source.Source
	// Whole makes the sources capture, from its return on, all packets of these targets whole. They
	// may cut all others after the headers. It must not block. nil: answers cannot be read here.
	Whole func(targets []netip.AddrPort) error
	// Hurry makes the sources yield packets at once for a while, at the price of more batches. It
	// is called from any goroutine, and must not block. nil: they always do.
	Hurry func(time.Duration)
	// Listen is where copiers connect; port 0 is any. Without TLS it must be loopback, or Insecure
	// set.
	Listen   []netip.AddrPort
	TLS      *tls.Config // key.ServerTLS, or that of Keys; nil: no key
	Keys     *key.Ring   // of whose keys each copier must prove one; nil: there is one, or none
	Insecure bool        // without a key, listen beyond loopback
	// Local is this host's addresses: packets to them are not answers to copies. nil: none is
	// known.
	Local Locals
	// Pass are networks of clients whose packets are ignored.
	Pass []netip.Prefix
	// Devices names the interfaces that the sources capture on, for the check of forwarding; empty:
	// all.
	Devices         []string
	AllowForwarding bool   // skip that check: something else keeps answers from real clients
	ProcSys         string // where the sysctls are; default /proc/sys

	// Probe sends a segment of an examination, which is no copy's; nil: none can be sent.
	Probe func(*packet.Segment) error
	// Examine begins to examine this host for a copier. The function that it returns ends that, and
	// returns what was found (wire.Seen). If it is not called, the examination ends by itself.
	// nil: there is none.
	Examine func(*wire.Look) (end func() []byte)

	MaxCopiers int           // copiers at the same time; default and at most 255
	Buffer     int           // bytes that may wait for one connection's writer; default 4 MB
	DeadAfter  time.Duration // a connection that sends nothing for this long is closed; default 6 s
	Route      route.Config  // its Seed is set by New if 0
	Software   string
	Now        func() mono.Time // the clock of the sources' times; nil: since New
	Log        *slog.Logger     // nil: slog.Default()
}

// StreamHandler carries out the operations of one copier's connection; *ontarget.Peer is one.
type StreamHandler interface {
	// Operations carries out the body of a message. After an error the connection is closed.
	Operations(body []byte) error
	// Close ends the streams.
	Close()
}

const (
	maxConnsEach = 16 // parallel connections of one copier
	expireEvery  = 20 * time.Millisecond
)

// Intercept is the daemon. Make one with New, then Run it once.
type Intercept struct {
	cfg    Config
	log    *slog.Logger
	server *link.Server

	mu      sync.Mutex // guards what follows; held for a batch, never while waiting for I/O
	table   *route.Table
	owners  [256]*copier // by owner; those that are gone remain for their counts
	touched []*peer      // have headers that are not sealed
	next    mono.Time    // of table.Expire
	answers answers
	allowed allowance // of ICMP errors that are reported
	exams   exams
	frames  FrameStats
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
	cfg.defaults()
	if !cfg.AllowForwarding && cfg.Streams == nil {
		if err := CheckForwarding(cfg.ProcSys, cfg.Devices); err != nil {
			return nil, err
		}
	}
	s := &Intercept{cfg: cfg, log: cfg.Log, table: route.New(cfg.Now(), cfg.Route)}
	listeners, err := listen(cfg.Listen)
	if err != nil {
		return nil, err
	}
	s.server = link.NewServer(link.ServerConfig{
		Options: link.Options{TLS: cfg.TLS, Queue: cfg.Buffer, DeadAfter: cfg.DeadAfter,
			Now: cfg.Now},
		Listeners: listeners, Hello: wire.TypeHello, Admit: s.admit, Log: cfg.Log,
		Prefix: "intercept", Self: "intercept", Peer: "copier", Software: cfg.Software,
	})
	if open {
		s.log.Warn("intercept: no key: whoever can connect may do what a copier may",
			"listen", s.Addrs())
	}
	return s, nil
}

func (c *Config) defaults() {
	if c.ProcSys == "" {
		c.ProcSys = "/proc/sys"
	}
	if c.MaxCopiers <= 0 || c.MaxCopiers > 255 {
		c.MaxCopiers = 255
	}
	if c.Buffer <= 0 {
		c.Buffer = 4 << 20
	}
	if c.DeadAfter <= 0 {
		c.DeadAfter = 6 * time.Second
	}
	if c.Route.Hold <= 0 {
		c.Route.Hold = 200 * time.Millisecond
	}
	if c.Route.Seed == 0 {
		c.Route.Seed = randomSeed()
	}
	if c.Now == nil {
		start := time.Now()
		c.Now = func() mono.Time { return mono.Time(time.Since(start)) }
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
}

func listen(addrs []netip.AddrPort) ([]net.Listener, error) {
	var all []net.Listener
	for _, a := range addrs {
		ln, err := net.Listen("tcp", a.String())
		if err != nil {
			for _, l := range all {
				l.Close()
			}
			return nil, fmt.Errorf("intercept: listen for copiers on %s: %w", a, err)
		}
		all = append(all, ln)
	}
	return all, nil
}

// Addrs returns where copiers can connect.
func (s *Intercept) Addrs() []netip.AddrPort { return s.server.Addrs() }

// Run captures and serves until ctx is done or a source fails, and returns when all its goroutines
// have ended: nil after ctx, else the source's error.
func (s *Intercept) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s.server.Start()
	var sources sync.WaitGroup
	for _, src := range s.cfg.Sources {
		sources.Go(func() {
			if err := s.capture(src); err != nil && ctx.Err() == nil {
				cancel(fmt.Errorf("intercept: capture: %w", err))
			}
		})
	}
	<-ctx.Done()
	for _, src := range s.cfg.Sources {
		src.Close()
	}
	sources.Wait()
	s.server.Close()
	err := context.Cause(ctx)
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return nil
	}
	return err
}

// OpenError reports that the intercept would listen beyond loopback without a key.
type OpenError struct{ Addr netip.AddrPort }

// Error names the address and what would be accepted.
func (e *OpenError) Error() string {
	return fmt.Sprintf("intercept: listen on %s without a key: "+
		"wanted --key, or a loopback address, or --insecure", e.Addr)
}
