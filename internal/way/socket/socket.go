// Package socket carries copies over TCP connections of this host's kernel: one to the target for
// each client connection, opened, half-closed, closed and reset as the client did. It needs no
// intercept, no route, and no privilege except for the mark on its packets.
//
// It does not decide what is sent when (core/session does). It counts the bytes of answers and
// discards them inside the kernel, unless a protocol's reader has to see them. A Way has one
// Output for each shard, which calls it from its goroutine; each Output has one goroutine of its
// own, the poller. The intercept on a target (package ontarget) uses Outputs as well, with
// OpenFrom.
//
// # Who owns what
//
// The poller opens a socket, watches it, reads from it and closes it. The shard's goroutine writes
// to it, from the session's record, which the poller never touches. The shard may use the
// descriptor from the Step that has seen it open until it has asked the poller to close it (Abort,
// or the end of the connection). Only then does the poller close it, so that no write can hit a
// descriptor that has become another connection. Before it is open, and after the request, the
// poller owns it alone.
//
// Sockets belong to the network namespace of the process, where the poller runs on any thread; with
// Config.Enter the poller keeps a thread of its own, in another namespace.
//
// For each event of a connection the poller puts one note into a batch for the shard; Step turns
// notes into session events. Requests of the shard, to open and to close, go through a queue that
// the poller empties between two waits.
package socket

import (
	"errors"
	"fmt"
	"net/netip"
	"syscall"
	"time"

	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/session"
	"tcpcopy/internal/proto"
	"tcpcopy/internal/sys"
)

// Proxy is which PROXY protocol header precedes a copy's bytes.
type Proxy uint8

// The versions of the PROXY protocol (HAProxy's proxy-protocol.txt).
const (
	NoProxy Proxy = iota
	ProxyV1       // a line of text
	ProxyV2       // binary
)

// Config is an Output's configuration. Now is required.
type Config struct {
	// Now is the clock of shards and poller.
	Now func() mono.Time
	// Mark is set on all packets to the target, so that the capture filter can exclude them. 0:
	// none.
	Mark uint32
	// Bind are local addresses to connect from, in turn, those of the target's family. Empty: the
	// kernel chooses.
	Bind []netip.Addr
	// ConnectTimeout bounds an attempt to connect. 0: 10 s.
	ConnectTimeout time.Duration
	// SendTimeout bounds how long the target may leave bytes unacknowledged, or its window closed.
	// 0: the kernel's own limit, about 15 minutes.
	SendTimeout time.Duration
	// Proxy hands the client's address over to the target.
	Proxy Proxy
	// Enter moves the poller's thread into the network namespace of the connections. nil: that is
	// the process's own.
	Enter func() error
	// Digesting is for digests of the answers, which only the poller uses; nil: there are none.
	Digesting *proto.Digesting
}

// DefaultConnectTimeout is Config.ConnectTimeout where that is 0.
const DefaultConnectTimeout = 10 * time.Second

// fileLimit is the limit of descriptors that an Output raises the process's to, for all shards.
const fileLimit = 1 << 20

// Output opens connections for one shard. All methods are for the shard's goroutine.
type Output struct {
	poller *poller
	gather sys.Gather
	taken  []*conn // those with bytes that no Taken event has reported
	events []session.Event
	spent  *Batch // that the events of the last Step point into
	closed bool
}

// New starts an Output: its poller goroutine runs until Close. Where the mark cannot be set the
// error satisfies errors.Is(err, os.ErrPermission) and names the capability.
func New(cfg Config) (*Output, error) {
	if cfg.Now == nil {
		return nil, errors.New("socket output: no clock in its configuration, wanted Config.Now")
	}
	if cfg.Proxy > ProxyV2 {
		return nil, fmt.Errorf("socket output: PROXY protocol version %d, wanted 0, 1 or 2",
			cfg.Proxy)
	}
	if cfg.ConnectTimeout <= 0 {
		cfg.ConnectTimeout = DefaultConnectTimeout
	}
	if err := tryMark(cfg.Mark); err != nil {
		return nil, fmt.Errorf("socket output: %w", err)
	}
	if _, err := sys.RaiseFileLimit(fileLimit); err != nil {
		return nil, fmt.Errorf("socket output: %w", err)
	}
	p, err := newPoller(cfg)
	if err != nil {
		return nil, fmt.Errorf("socket output: %w", err)
	}
	if err := p.start(); err != nil {
		p.epoll.Close()
		return nil, fmt.Errorf("socket output: %w", err)
	}
	return &Output{poller: p}, nil
}

// tryMark reports an error at the start that would otherwise fail every connection.
func tryMark(mark uint32) error {
	if mark == 0 {
		return nil
	}
	fd, err := sys.OpenTCP(false)
	if errors.Is(err, syscall.EAFNOSUPPORT) {
		fd, err = sys.OpenTCP(true)
	}
	if err != nil {
		return err
	}
	defer sys.ResetTCP(fd)
	return sys.SetMark(fd, mark)
}

// Open begins a connection to spec.Target and returns its stream. An event reports whether it has
// opened. The Output keeps spec.Record, and no reference to spec.
func (o *Output) Open(_ mono.Time, spec *session.OpenSpec) session.Stream {
	c := &conn{out: o, id: spec.ID, record: spec.Record, polled: polled{target: spec.Target}}
	c.listen(spec)
	if v := o.poller.cfg.Proxy; v != NoProxy {
		c.polled.header = appendProxyHeader(nil, v, spec.Client, spec.Production)
	}
	o.poller.ask(request{conn: c, kind: askOpen})
	return c
}

// Stream is what OpenFrom returns: a stream that also reports how much of its record it has sent.
type Stream interface {
	session.Stream
	session.AnswerReader
	// Sent returns how many of the record's bytes the kernel has taken. Taken events report it
	// later.
	Sent() uint64
}

// OpenFrom is Open from the client's own address and port, spec.Client, which must be of the
// target's IP version. The packets carry mark, unless it is 0, instead of Config.Mark. If another
// connection has the same two ends, the stream fails with ledger.TupleTaken. It is for an
// intercept on the target, which has the target's answers routed to this process (package
// localroute).
func (o *Output) OpenFrom(_ mono.Time, spec *session.OpenSpec, mark uint32) Stream {
	from := netip.AddrPortFrom(spec.Client.Addr().Unmap(), spec.Client.Port())
	c := &conn{out: o, id: spec.ID, record: spec.Record,
		polled: polled{target: spec.Target, from: from, mark: mark}}
	c.listen(spec)
	o.poller.ask(request{conn: c, kind: askOpen})
	return c
}

// Events returns the channel of the poller's batches, each of which must be given to Step, in
// order. While none is received the poller waits, and the targets' answers stay in the kernel. The
// channel is closed when the poller has ended.
func (o *Output) Events() <-chan *Batch { return o.poller.batches }

// Step takes in the batch b, which may be nil, and returns the events for the sessions: b's, and
// how many bytes the kernel has taken. The Output owns b again; the events are valid until the
// next Step.
func (o *Output) Step(now mono.Time, b *Batch) []session.Event {
	o.events = o.events[:0]
	if o.spent != nil { // the events before these pointed into it
		o.poller.recycle(o.spent)
		o.spent = nil
	}
	o.reportTaken(now) // before the answers to those bytes
	if b != nil {
		at := min(b.at, now)
		for i := range b.notes {
			b.notes[i].conn.apply(now, at, b, &b.notes[i])
		}
		o.spent = b
		o.reportTaken(now)
	}
	return o.events
}

// Pending reports whether Step has events without a batch.
func (o *Output) Pending() bool { return len(o.taken) > 0 }

// Close resets the connections and ends the poller; the streams do nothing from then on. It
// returns when the poller's goroutine has ended: at once, or within lingerAtClose if targets have
// not acknowledged bytes that the kernel has taken.
func (o *Output) Close() {
	if o.closed {
		return
	}
	o.closed = true
	o.poller.close()
	o.taken, o.events = nil, nil
}

// report adds an event for the next return of Step.
func (o *Output) report(c *conn, kind session.EventKind, n uint64, at mono.Time) {
	o.events = append(o.events, session.Event{ID: c.id, Kind: kind, N: n, At: at})
}

// reportTaken adds the Taken events that are due.
func (o *Output) reportTaken(at mono.Time) {
	for i, c := range o.taken {
		o.taken[i] = nil
		if c.unreported && !c.gone {
			c.unreported = false
			o.report(c, session.Taken, c.sent, at)
		}
	}
	o.taken = o.taken[:0]
}
