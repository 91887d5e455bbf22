package link

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/proto"
	"tcpcopy/internal/way/link/wire"
)

// Batch holds the headers that one message of an intercept reports, in the order in which they
// were captured. It is valid until the callback returns.
type Batch struct {
	// Segments are from targets to clients, without payload; Len is the payload's length.
	Segments []packet.Segment
	// At are the times of capture, on the copier's clock. The time that the message took from the
	// intercept to the copier is not known, and not subtracted.
	At []mono.Time
}

// State is the state of a link.
type State struct {
	Intercept  string // as configured
	Up         bool   // at least one connection is welcomed
	Conns      int    // welcomed connections
	Way        wire.Way
	Slot       uint8
	Software   string           // the intercept's
	Reads      bool             // it reads what targets answer
	Probes     bool             // it takes part in examinations
	Forbidden  []netip.AddrPort // the targets that it opens no connections to
	Since      time.Time        // when Up last changed
	Reconnects uint64           // how often the link came up again
	Err        error            // why it is down, or last lost a connection; nil if it never did
	// Fatal reports that Err persists until a person does something: a wrong key, another version,
	// a client address that is the intercept's own. The link tries again all the same.
	Fatal bool
}

// Config is what a link needs. The links' goroutines make the callbacks, several at a time if there
// are several connections. A callback must not block for long and must not call Close. A nil one is
// not made.
type Config struct {
	TLS      *tls.Config // key.ClientTLS; nil: no key
	Conns    int         // parallel connections to each intercept, 1 to 16; default 1
	Instance wire.Instance
	Software string
	Targets  []netip.AddrPort // where copies are sent
	Clients  []netip.Prefix   // addresses that stand in for clients, if any
	// ConnectTimeout is how long an intercept on the target may take to open a connection; 0: its
	// own default.
	ConnectTimeout time.Duration
	// Digests has the intercepts make digests of answers, whose key is Seed. One that makes none is
	// not connected to.
	Digests bool
	Seed    uint64
	Wanted  proto.Wanted // what the digests are to have

	// OnBatch receives headers.
	OnBatch func(*Batch)
	// OnState receives every change of a link's state. After a change to Up the copier claims the
	// connections that it owns.
	OnState func(State)
	// OnOwner receives the answer to Query, OnSought the answer to Seek.
	OnOwner  func(wire.Tuple, wire.Ownership)
	OnSought func(t wire.Tuple, free bool)
	// OnRefused receives tuples of other copiers: refused claims, and connections whose SYN-ACK
	// follows in a batch.
	OnRefused func([]wire.Tuple)
	OnICMP    func(wire.ICMP)
	// OnAnswers receives what the intercept found of answers: the body of a message, valid until it
	// returns. An error ends the connection.
	OnAnswers func(body []byte) error

	// OnSeen receives what the intercept, or a witness, answers to Look. The Findings are valid
	// until it returns.
	OnSeen func(*wire.Seen)
	// OnLook makes this end a witness, which copies nothing. It receives the examinations that the
	// intercept passes on, and answers them with Saw.
	OnLook func(wire.Look)

	// OnStreams reports that a connection to an intercept on the target is up, or lost. Both events
	// of a connection enclose all its other callbacks.
	OnStreams func(c *Conn, up bool)
	// OnEvents receives the body of a message of stream events, valid until it returns. An error
	// ends the connection.
	OnEvents func(c *Conn, body []byte) error
	// OnRoom reports that a connection has room again, after Conn.Put has returned false.
	OnRoom func(c *Conn)

	// Dial connects; nil: TCP, from this process's network namespace.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	Now  func() mono.Time // the copier's clock; nil: a clock that starts with the link
	Log  *slog.Logger     // nil: slog.Default()

	PingEvery time.Duration // default 2 s
	DeadAfter time.Duration // an intercept that sends nothing for this long is gone; default 6 s
	BackoffLo time.Duration // the first wait between attempts; default 100 ms
	// The longest wait; default 800 ms, so that an intercept that comes back is found in a second.
	BackoffHi time.Duration
	Queue     int // bytes of claims and questions that may wait; default 16 MB
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
	set(&c.BackoffHi, 800*time.Millisecond)
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
	if c.Log == nil {
		c.Log = slog.Default()
	}
}

// Stats are totals of a link.
type Stats struct {
	ClaimsRefused uint64 // tuples
	QueueDropped  uint64 // messages that found no connection, or no room
}

// Link is the copier's end of one intercept. Its methods are safe from any goroutine.
type Link struct {
	cfg    Config
	dialer Dialer
	slot   *Slot
	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	wg     sync.WaitGroup
	owner  func(wire.Owner) // receives the answers to queries and seeks

	claimsRefused, queueDropped atomic.Uint64

	mu      sync.Mutex
	state   State
	targets []netip.AddrPort // Config.Targets, or those of SetTargets
	up      []*Conn          // welcomed, the oldest first
	ready   chan struct{}    // closed once the first state that is Up or Fatal is known
	wasUp   bool
}

// Dial starts a link to the intercept at addr, host:port, and returns at once: the link connects,
// and connects again, until Close. slot is shared with the copier's other links.
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
	l := &Link{cfg: cfg, slot: slot, targets: cfg.Targets, ready: make(chan struct{}),
		state: State{Intercept: addr, Since: time.Now()}}
	l.dialer = Dialer{
		Options: Options{TLS: cfg.TLS, Queue: cfg.Queue, PingEvery: cfg.PingEvery,
			DeadAfter: cfg.DeadAfter, Now: cfg.Now},
		Addr: addr, Dial: cfg.Dial, Peer: "intercept", Wanted: "tcpcopy intercept", Keyless: "none",
	}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	return l
}

func (l *Link) start() {
	for i := range l.cfg.Conns {
		l.wg.Go(func() { l.run(uint8(i)) })
	}
}

// Close sends a Bye and ends the link's goroutines. No callback is made after it.
func (l *Link) Close() {
	l.cancel()
	l.wg.Wait()
}

// State returns the link's state.
func (l *Link) State() State {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state
}

// WaitReady waits until the intercept has welcomed the copier, and returns nil, or until it has
// refused the copier for a reason that persists, and returns that. It waits for an intercept that
// cannot be reached until ctx is done.
func (l *Link) WaitReady(ctx context.Context) error {
	select {
	case <-l.ready:
		if s := l.State(); !s.Up && s.Fatal {
			return s.Err
		}
		return nil
	case <-ctx.Done():
		if s := l.State(); s.Err != nil {
			return s.Err
		}
		return fmt.Errorf("connect to intercept %s: %w", l.dialer.Addr, ctx.Err())
	}
}

// Stats returns the link's totals.
func (l *Link) Stats() Stats {
	return Stats{ClaimsRefused: l.claimsRefused.Load(), QueueDropped: l.queueDropped.Load()}
}

// Claim tells the intercept that this copier owns the tuples. It does not block. It returns false
// where the link is down, or too much waits to be sent: the copier claims again when the link is
// next up.
func (l *Link) Claim(tuples []wire.Tuple) bool { return l.sendTuples(wire.TypeClaim, tuples) }

// Release tells the intercept that tuples are no longer used. See Claim.
func (l *Link) Release(tuples []wire.Tuple) bool { return l.sendTuples(wire.TypeRelease, tuples) }

// Hurry tells the intercept that turns wait for answers; see wire.HurryFor and Claim.
func (l *Link) Hurry() bool { return l.send(wire.AppendHurry) }

// Look asks the intercept to take part in an examination. See Claim. It must have the capability:
// State.Probes.
func (l *Link) Look(q *wire.Look) bool { return l.send(q.Append) }

// Saw answers a Look. See Claim.
func (l *Link) Saw(s *wire.Seen) bool { return l.send(s.Append) }

// ReadAnswers tells the intercept what to read. See Claim.
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

func (l *Link) sendTuples(t wire.Type, tuples []wire.Tuple) bool {
	for len(tuples) > 0 {
		n := min(len(tuples), wire.MaxTuples)
		if !l.send(func(dst []byte) []byte { return wire.AppendTuples(dst, t, tuples[:n]) }) {
			return false
		}
		tuples = tuples[n:]
	}
	return true
}

// SetTargets changes where copies are sent. It tells the intercept at once if the link is up, and
// when it comes up otherwise.
func (l *Link) SetTargets(targets []netip.AddrPort) {
	l.mu.Lock()
	l.targets = targets
	up := len(l.up) > 0
	l.mu.Unlock()
	if up {
		l.send((&wire.Targets{List: targets}).Append)
	}
}

func (l *Link) currentTargets() []netip.AddrPort {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.targets
}

// query asks who owns a connection; l.owner receives the answer. See Claim.
func (l *Link) query(id uint32, t wire.Tuple) bool {
	q := wire.Query{ID: id, Tuple: t}
	return l.send(q.Append)
}

// seek asks whether a connection may be opened; l.owner receives the answer. See Claim.
func (l *Link) seek(id uint32, t wire.Tuple, age time.Duration) bool {
	s := wire.Seek{ID: id, Age: uint32(min(age.Milliseconds(), 1<<31)), Tuple: t}
	return l.send(s.Append)
}

// send queues a message on the oldest connection that is up. So claims, releases and queries keep
// their order as long as that connection lives.
func (l *Link) send(message func([]byte) []byte) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.up {
		if queued, ended := c.out.encode(l.cfg.Queue, message); queued {
			return true
		} else if !ended {
			break
		}
	}
	l.queueDropped.Add(1)
	return false
}
