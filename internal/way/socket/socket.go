// Package socket carries copies over the kernel's own TCP connections: one to the target for each client
// connection, opened, half-closed, closed and reset as the client did. It is the way that needs nothing:
// no intercept, no route, no privilege but the mark on its packets.
//
// It does not decide what is sent when (package session does), reads no answer (bytes are counted and
// discarded inside the kernel), and opens no connection by itself. The engine makes one Output for each
// shard and calls it from that shard's goroutine; each Output has one goroutine of its own, the poller.
//
// # Who owns what
//
// The poller opens a socket, watches it, reads from it and closes it. The shard's goroutine writes to it,
// straight from the session's record, which the poller never touches. The shard may use the descriptor from
// the moment that Step has seen it open until it has asked the poller to close it (Abort, or the end of
// the connection); only then does the poller close it, so that no write can hit a descriptor that has
// become another connection. Before it is open, and after it was asked, the poller owns it alone.
//
// Sockets belong to the network namespace of the process, where the poller runs on whatever thread is
// free; with Config.Enter the poller keeps a thread that stands in another one.
//
// Each wake of a connection is one note from the poller to the shard, in batches; Step turns notes into
// events. Requests the other way, to open and to close, go through a queue that the poller empties
// between two waits.
package socket

import (
	"errors"
	"fmt"
	"net/netip"
	"syscall"
	"time"

	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/session"
	"tcpcopy/internal/sys"
)

// Proxy says which PROXY protocol header goes in front of a copy's bytes.
type Proxy uint8

// The versions of the PROXY protocol, as HAProxy's proxy-protocol.txt has them.
const (
	NoProxy Proxy = iota
	ProxyV1       // a line of text
	ProxyV2       // binary
)

// Config is what an Output needs to know. Now is required.
type Config struct {
	// Now is the engine's clock. The poller calls it too.
	Now func() mono.Time
	// Mark is set on all packets to the target, so that the capture filter can leave them out. 0: none.
	Mark uint32
	// Bind are local addresses to connect from, in turn, those of the target's family. Empty: the
	// kernel chooses.
	Bind []netip.Addr
	// ConnectTimeout bounds an attempt to connect. 0: 10 s.
	ConnectTimeout time.Duration
	// SendTimeout bounds how long the target may leave bytes unacknowledged, or its window closed. 0:
	// the kernel's own limit, about 15 minutes.
	SendTimeout time.Duration
	// Proxy hands the client's address over to the target.
	Proxy Proxy
	// Enter moves the poller's thread into the network namespace where the connections are to be. nil:
	// they are in the process's own.
	Enter func() error
}

// DefaultConnectTimeout is Config.ConnectTimeout where that is 0.
const DefaultConnectTimeout = 10 * time.Second

// fileLimit is how many descriptors an Output asks to be allowed: the most of all shards together.
const fileLimit = 1 << 20

// Output opens connections for one shard. All methods are for the shard's goroutine.
type Output struct {
	poller *poller
	gather sys.Gather
	taken  []*conn // those whose next Taken event is still to come
	events []session.Event
	spent  *Batch // whose events the shard has in hand
	closed bool
}

// New starts an Output: its poller goroutine runs until Close. Where the mark cannot be set the error
// satisfies errors.Is(err, os.ErrPermission) and names the capability.
func New(cfg Config) (*Output, error) {
	if cfg.Now == nil {
		return nil, errors.New("socket output: no clock in its configuration, wanted Config.Now")
	}
	if cfg.Proxy > ProxyV2 {
		return nil, fmt.Errorf("socket output: PROXY protocol version %d, wanted 0, 1 or 2", cfg.Proxy)
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

// tryMark finds out at the start what would otherwise fail every connection.
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

// Open begins a connection to spec.Target and returns its stream; spec.Source is not used. Whether it
// opened comes as an event. The spec is not kept, its Record is.
func (o *Output) Open(_ mono.Time, spec *session.OpenSpec) session.Stream {
	c := &conn{out: o, id: spec.ID, record: spec.Record, polled: polled{target: spec.Target}}
	c.listen(spec)
	if v := o.poller.cfg.Proxy; v != NoProxy {
		c.polled.header = appendProxyHeader(nil, v, spec.Client, spec.Production)
	}
	o.poller.ask(request{conn: c, kind: askOpen})
	return c
}

// Stream is what OpenFrom returns: it says besides what of its record it does not need any more.
type Stream interface {
	session.Stream
	session.AnswerReader
	// Sent is how many of the record's bytes the kernel has. Taken events tell the same, later.
	Sent() uint64
}

// OpenFrom is Open from the client's own address and port, spec.Client, which must be of the target's
// family. The packets carry mark, unless it is 0, in the place of Config.Mark. Where another connection
// has the same two ends, the stream fails with ledger.TupleTaken. It is for an intercept on the target
// itself, which has seen to it that the target's answers come back here (package localroute).
func (o *Output) OpenFrom(_ mono.Time, spec *session.OpenSpec, mark uint32) Stream {
	from := netip.AddrPortFrom(spec.Client.Addr().Unmap(), spec.Client.Port())
	c := &conn{out: o, id: spec.ID, record: spec.Record, polled: polled{target: spec.Target, from: from, mark: mark}}
	c.listen(spec)
	o.poller.ask(request{conn: c, kind: askOpen})
	return c
}

// Events is where the poller puts its batches, each of which must be given to Step, in order. While
// nobody takes them the poller waits, and what the targets answer stays in the kernel. It is closed
// when the poller has ended.
func (o *Output) Events() <-chan *Batch { return o.poller.batches }

// Step goes on with the connections that the batch b tells of, and returns what the sessions must know:
// b's events, and how many bytes the kernel has taken. b may be nil and belongs to the Output again; the
// events are valid until the next Step.
func (o *Output) Step(now mono.Time, b *Batch) []session.Event {
	o.events = o.events[:0]
	if o.spent != nil { // the events before these pointed into it
		o.poller.recycle(o.spent)
		o.spent = nil
	}
	o.tellTaken(now) // before the answers to those bytes
	if b != nil {
		at := min(b.at, now)
		for i := range b.notes {
			b.notes[i].conn.heed(now, at, b, &b.notes[i])
		}
		o.spent = b
		o.tellTaken(now)
	}
	return o.events
}

// Pending says that Step has events even without a batch: the caller must not wait before it has called
// it.
func (o *Output) Pending() bool { return len(o.taken) > 0 }

// Close resets what is still connected and ends the poller; the streams do nothing from then on. It
// returns when the poller's goroutine has ended: at once, or within leaveAtClose where the kernel still
// holds bytes that were taken and that the targets have not acknowledged.
func (o *Output) Close() {
	if o.closed {
		return
	}
	o.closed = true
	o.poller.close()
	o.taken, o.events = nil, nil
}

func (o *Output) tell(c *conn, kind session.EventKind, n uint64, at mono.Time) {
	o.events = append(o.events, session.Event{ID: c.id, Kind: kind, N: n, At: at})
}

func (o *Output) tellTaken(at mono.Time) {
	for i, c := range o.taken {
		o.taken[i] = nil
		if c.untold && !c.gone {
			c.untold = false
			o.tell(c, session.Taken, c.sent, at)
		}
	}
	o.taken = o.taken[:0]
}
