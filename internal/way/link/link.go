// Package link is the copier's end of its connections to an intercept: it connects, proves the key,
// introduces the copier, and comes back after every failure; it hands on the headers that the intercept
// reports, and tells it which connections are the copier's.
//
// A Link is one intercept; a Group is all of one copier's, which share a slot. Each of a link's
// connections has a goroutine that connects and reads, and while it is up one that writes and pings. The
// engine makes the group and gives the callbacks. Package intercept is the other end.
package link

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
	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/way/link/wire"
)

// Batch is what an intercept saw, in the order in which it saw it. It belongs to the link again when the
// callback returns.
type Batch struct {
	Segments []packet.Segment // from targets to clients; without payload, Len says how much they had
	// At are the times when the segments were seen, on the copier's clock, as well as can be known: the
	// time from the intercept to here is not in them.
	At []mono.Time
}

// State is how a link stands.
type State struct {
	Intercept  string // as configured
	Up         bool   // at least one connection is welcomed
	Conns      int    // connections that are
	Way        wire.Way
	Slot       uint8
	Software   string           // the intercept's
	Reads      bool             // it reads what targets answer
	Forbidden  []netip.AddrPort // those of Config.Targets that it connects nobody to
	Since      time.Time        // when Up last changed
	Reconnects uint64           // how often it came up again
	Err        error            // why it is down, or a connection was last lost; nil if none ever was
	// Fatal: Err will not go away by itself (a wrong key, a version, a local client address). The link
	// goes on trying, slowly, all the same: somebody may mend it.
	Fatal bool
}

// Config is what a link needs. The callbacks come from the links' goroutines, several at a time if there
// are several connections, must not block for long, and must not call Close; nil ones are left out.
type Config struct {
	TLS      *tls.Config // key.ClientTLS; nil: no key
	Conns    int         // parallel connections to each intercept, 1 to 16; default 1
	Instance wire.Instance
	Software string
	Targets  []netip.AddrPort // where copies are sent
	Clients  []netip.Prefix   // addresses that stand in for clients, if any
	// ConnectTimeout is what an intercept on the target is asked to give an attempt to connect; 0: its own.
	ConnectTimeout time.Duration

	// OnBatch gets the headers. OnState gets every change of a link; after one to Up the copier claims
	// what it owns. OnOwner answers Query, and OnSought answers Seek. OnRefused names tuples that are another's,
	// which were claimed, or of which a SYN-ACK follows.
	OnBatch   func(*Batch)
	OnState   func(State)
	OnOwner   func(wire.Tuple, wire.Ownership)
	OnSought  func(t wire.Tuple, free bool)
	OnRefused func([]wire.Tuple)
	OnICMP    func(wire.ICMP)
	// OnAnswers gets what the intercept has found of answers, a body that is the link's again when the callback
	// returns. An error ends the connection.
	OnAnswers func(body []byte) error
	// The tunnel: OnStreams tells of each connection to an intercept on the target, when it comes and when
	// it is lost; all that OnEvents gets of it comes between the two, a body that is the link's again when
	// the callback returns. OnRoom says that a connection that had no room has some.
	OnStreams func(c *Conn, up bool)
	OnEvents  func(c *Conn, body []byte) error
	OnRoom    func(c *Conn)

	// Dial connects; nil: the usual way.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	Now  func() mono.Time // the copier's clock; nil: since Dial
	Log  *slog.Logger     // nil: slog.Default()

	PingEvery time.Duration // default 2 s
	DeadAfter time.Duration // an intercept that says nothing for this long is gone; default 6 s
	BackoffLo time.Duration // between attempts, at first and at most; default 100 ms and 2 s
	BackoffHi time.Duration
	Queue     int // bytes of claims and questions that may wait for a connection; default 16 MB
}

func (c *Config) defaults() {
	set := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	set(&c.PingEvery, 2*time.Second)
	set(&c.DeadAfter, 6*time.Second)
	set(&c.BackoffLo, 100*time.Millisecond)
	set(&c.BackoffHi, 2*time.Second)
	if c.Conns <= 0 {
		c.Conns = 1
	}
	c.Conns = min(c.Conns, 16)
	if c.Queue <= 0 {
		c.Queue = 16 << 20
	}
	if c.Instance == (wire.Instance{}) {
		c.Instance = NewInstance()
	}
	if c.Now == nil {
		start := time.Now()
		c.Now = func() mono.Time { return mono.Time(time.Since(start)) }
	}
	if c.Dial == nil {
		c.Dial = (&net.Dialer{KeepAlive: 15 * time.Second}).DialContext // TCP_NODELAY is Go's default
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
}

// Stats are totals of a link.
type Stats struct {
	Batches       uint64
	Headers       uint64
	Bytes         uint64 // read
	Claims        uint64 // tuples sent in claims
	ClaimsRefused uint64
	QueueDropped  uint64 // claims, releases and questions that found no connection or no room
	Malformed     uint64 // messages that could not be read: each cost its connection
	ICMP          uint64
}

type counters struct {
	batches, headers, bytes, claims, claimsRefused, queueDropped, malformed, icmp atomic.Uint64
}

// Link is the copier's end of one intercept. Its methods are safe from any goroutine.
type Link struct {
	cfg    Config
	addr   string
	slot   *Slot
	count  counters
	cancel context.CancelFunc
	ctx    context.Context
	wg     sync.WaitGroup
	owner  func(wire.Owner) // of the group

	mu    sync.Mutex
	state State
	to    []netip.AddrPort // Config.Targets, or what SetTargets has made of them
	up    []*Conn          // welcomed, in the order of their coming
	first chan struct{}    // closed at the first state that is up or fatal
	saw   bool
}

// Dial starts a link to the intercept at addr, host:port, and returns at once: the link connects, and
// connects again, until Close. slot is shared with the copier's other links.
func Dial(addr string, slot *Slot, cfg Config) *Link {
	cfg.defaults()
	l := newLink(addr, slot, cfg)
	l.owner = func(o wire.Owner) {
		if cfg.OnOwner != nil {
			cfg.OnOwner(o.Tuple, o.Owner)
		}
	}
	l.start()
	return l
}

func newLink(addr string, slot *Slot, cfg Config) *Link {
	l := &Link{cfg: cfg, addr: addr, slot: slot, to: cfg.Targets, first: make(chan struct{}), state: State{Intercept: addr, Since: time.Now()}}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	return l
}

func (l *Link) start() {
	for i := range l.cfg.Conns {
		l.wg.Go(func() { l.keep(i) })
	}
}

// Close says good-bye and ends the link's goroutines; no callback comes after it.
func (l *Link) Close() {
	l.cancel()
	l.wg.Wait()
}

// State is how the link stands.
func (l *Link) State() State {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state
}

// WaitReady waits until the intercept has welcomed the copier, and returns nil, or has refused it for a
// reason that will not go away by itself, and returns that. An intercept that cannot be reached is
// waited for as long as ctx allows.
func (l *Link) WaitReady(ctx context.Context) error {
	select {
	case <-l.first:
		if s := l.State(); !s.Up && s.Fatal {
			return s.Err
		}
		return nil
	case <-ctx.Done():
		if s := l.State(); s.Err != nil {
			return s.Err
		}
		return fmt.Errorf("connect to intercept %s: %w", l.addr, ctx.Err())
	}
}

// Stats returns the link's totals.
func (l *Link) Stats() Stats {
	c := &l.count
	return Stats{Batches: c.batches.Load(), Headers: c.headers.Load(), Bytes: c.bytes.Load(), Claims: c.claims.Load(),
		ClaimsRefused: c.claimsRefused.Load(), QueueDropped: c.queueDropped.Load(), Malformed: c.malformed.Load(), ICMP: c.icmp.Load()}
}

// Claim tells the intercept that tuples are this copier's. It never blocks, and returns false where the
// link is down or too much waits: claim again at the next change to Up.
func (l *Link) Claim(tuples []wire.Tuple) bool {
	ok := l.tuples(wire.TypeClaim, tuples)
	if ok {
		l.count.claims.Add(uint64(len(tuples)))
	}
	return ok
}

// Release tells the intercept that tuples are no longer used. As Claim.
func (l *Link) Release(tuples []wire.Tuple) bool { return l.tuples(wire.TypeRelease, tuples) }

// Hurry tells the intercept that turns wait for answers; see wire.HurryFor. As Claim.
func (l *Link) Hurry() bool { return l.send(wire.AppendHurry) }

// ReadAnswers tells the intercept what to read. As Claim.
func (l *Link) ReadAnswers(readings []wire.Reading) bool {
	for len(readings) > 0 {
		n := 0
		queued := l.send(func(dst []byte) []byte {
			start := len(dst)
			dst = wire.BeginFrame(dst, wire.TypeReadAnswers)
			for n = 0; n < len(readings) && len(dst)-start < wire.MaxAnswers/2; n++ {
				dst = wire.AppendReading(dst, &readings[n])
			}
			return wire.EndFrame(dst, start)
		})
		if !queued {
			return false
		}
		readings = readings[n:]
	}
	return true
}

func (l *Link) tuples(t wire.Type, tuples []wire.Tuple) bool {
	for len(tuples) > 0 {
		n := min(len(tuples), wire.MaxTuples)
		if !l.send(func(dst []byte) []byte { return wire.AppendTuples(dst, t, tuples[:n]) }) {
			return false
		}
		tuples = tuples[n:]
	}
	return true
}

// SetTargets says where copies are sent from now on: to the intercept at once if the link is up, and else when
// it comes up.
func (l *Link) SetTargets(targets []netip.AddrPort) {
	l.mu.Lock()
	l.to = targets
	up := len(l.up) > 0
	l.mu.Unlock()
	if up {
		l.send((&wire.Targets{List: targets}).Append)
	}
}

func (l *Link) targets() []netip.AddrPort {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.to
}

// query asks who owns a connection; l.owner gets the answer. As Claim.
func (l *Link) query(id uint32, t wire.Tuple) bool {
	q := wire.Query{ID: id, Tuple: t}
	return l.send(q.Append)
}

// seek asks whether a connection may be opened; l.owner gets the answer. As Claim.
func (l *Link) seek(id uint32, t wire.Tuple, age time.Duration) bool {
	s := wire.Seek{ID: id, Age: uint32(min(age.Milliseconds(), 1<<31)), Tuple: t}
	return l.send(s.Append)
}

// send queues a message on the first connection that is up: claims, releases and queries keep their
// order as long as it lives.
func (l *Link) send(encode func([]byte) []byte) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.up {
		if queued, ended := c.put(encode); queued {
			return true
		} else if !ended {
			break
		}
	}
	l.count.queueDropped.Add(1)
	return false
}

// Refused is the intercept's answer to who may not use it.
type Refused struct {
	Code wire.Code
	Text string
}

// Error gives the intercept's own words.
func (e *Refused) Error() string { return "the intercept refuses: " + e.Text }

// What a handshake can fail with, besides *Refused and the network's own errors.
var (
	// ErrWrongKey: the intercept holds another key.
	ErrWrongKey = errors.New("the intercept holds another key: wanted the same on both sides")
	// ErrNeedsKey: the intercept wants a key, and this copier has none.
	ErrNeedsKey = errors.New("the intercept wants a key, and none was given: wanted --key")
	// ErrNoKey: this copier has a key, and the intercept has none.
	ErrNoKey = errors.New("the intercept was started without a key: wanted --key there, or none here")
	// ErrForeign: whoever answered is no intercept.
	ErrForeign = errors.New("what answers there is no tcpcopy intercept")
)
