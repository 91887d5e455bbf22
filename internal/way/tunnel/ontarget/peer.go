package ontarget

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/session"
	"tcpcopy/internal/proto"
	"tcpcopy/internal/way"
	"tcpcopy/internal/way/link/key"
	"tcpcopy/internal/way/link/wire"
	"tcpcopy/internal/way/socket"
)

// ErrSlow reports that a copier does not read its events.
var ErrSlow = errors.New("ontarget: the copier does not read its events")

// Peer is one connection of a copier, with its streams.
type Peer struct {
	server   *Server
	instance wire.Instance
	holder   *key.Holder // nil: of the only key, or there is none
	send     func([]byte) bool
	broken   func() // ends the copier's connection
	out      *socket.Output
	digests  *proto.Digesting // to unpack digests with; nil: the copier compares no answers
	done     chan struct{}
	wake     chan struct{} // a token: a stream waits for its two ends

	mu      sync.Mutex
	closed  bool
	slow    bool
	streams map[uint64]*stream
	waiting []*stream
	frame   []byte       // of events, begun
	digest  proto.Digest // of the answer that is reported
	// OpLate: which stream begins late, and when its client sent that with which it begins; 0: none
	late      uint64
	lateSince mono.Time
}

// maxConnectTimeout bounds what a copier may request.
const maxConnectTimeout = 10 * time.Minute

// Attach makes a peer for a copier's connection. holder is whose key it proved; nil: that of the
// only key. connect is how long attempts to connect may take; 0: Config.ConnectTimeout. digesting
// makes what digests of answers share; nil: there are none. send queues a copy of a message to the
// copier; it does not block, and reports whether there was room. broken ends the connection.
func (s *Server) Attach(instance wire.Instance, holder *key.Holder, connect time.Duration,
	digesting func() *proto.Digesting, send func([]byte) bool, broken func()) (*Peer, error) {
	if connect <= 0 {
		connect = s.cfg.ConnectTimeout
	}
	cfg := socket.Config{Now: s.cfg.Now, ConnectTimeout: min(connect, maxConnectTimeout),
		SendTimeout: s.cfg.SendTimeout, Enter: s.cfg.Enter}
	var own *proto.Digesting // the poller has another: it is another goroutine
	if digesting != nil {
		cfg.Digesting, own = digesting(), digesting()
		cfg.Digesting.Buffers = new(way.Buffers)
		own.Buffers = cfg.Digesting.Buffers
	}
	out, err := socket.New(cfg)
	if err != nil {
		return nil, fmt.Errorf("ontarget: %w", err)
	}
	p := &Peer{server: s, instance: instance, holder: holder, send: send, broken: broken, out: out,
		digests: own, done: make(chan struct{}), wake: make(chan struct{}, 1),
		streams: make(map[uint64]*stream)}
	s.countPeer(instance, 1)
	go p.run()
	return p, nil
}

// Operations carries out the body of a message. After an error, ErrSlow or one that wraps one of
// package wire's, the connection must be closed.
func (p *Peer) Operations(body []byte) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil
	}
	now := p.server.cfg.Now()
	var op wire.Op
	for len(body) > 0 {
		var err error
		if body, err = wire.NextOp(body, &op); err != nil {
			return err
		}
		if err := p.operate(now, &op); err != nil {
			return err
		}
	}
	p.step(now, nil)
	return p.flush()
}

// operate carries out one operation. The lock is held.
func (p *Peer) operate(now mono.Time, op *wire.Op) error {
	s := p.streams[op.ID]
	if op.Kind == wire.OpLate {
		p.late, p.lateSince = op.ID, now.Add(-op.Age)
		return nil
	}
	if op.Kind == wire.OpOpen || op.Kind == wire.OpListen {
		if s != nil {
			return fmt.Errorf("%w in operations: stream %d is opened twice", wire.ErrValue, op.ID)
		}
		p.open(now, op)
		return nil
	}
	if s == nil {
		return nil // it has ended, and the copier has yet to learn that
	}
	switch op.Kind {
	case wire.OpData:
		if s.received+uint64(len(op.Data))-s.taken > wire.Window {
			return fmt.Errorf("%w in operations: stream %d has more than %d bytes under way",
				wire.ErrValue, op.ID, wire.Window)
		}
		if s.closing {
			return fmt.Errorf("%w in operations: data after the end of stream %d", wire.ErrValue,
				op.ID)
		}
		p.server.in.Add(uint64(len(op.Data)))
		s.feed(now, op.Data)
		if len(s.kept) > 0 && p.server.full() {
			p.shed(now, s)
		}
	case wire.OpRead:
		s.read(op.Proto)
	case wire.OpExpect:
		if !s.expect(op.Request, op.Hint) || len(s.hints) > 0 && p.server.full() {
			p.shed(now, s)
		}
	case wire.OpCloseWrite:
		s.closing = true
		if s.conn != nil {
			s.conn.CloseWrite(now)
		}
	case wire.OpAbort:
		if s.conn != nil {
			s.conn.Abort(now)
		}
		p.server.aborted.Add(1)
		s.end()
	}
	return nil
}

// shed ends a stream because memory is short.
func (p *Peer) shed(now mono.Time, s *stream) {
	acked := s.taken
	if s.conn != nil {
		s.conn.Abort(now)
	}
	p.fail(s, ledger.OverMemory, acked)
}

// open opens a stream.
func (p *Peer) open(now mono.Time, op *wire.Op) {
	s := &stream{peer: p, id: op.ID, tuple: tuple{op.Client, op.Target}, giveUp: now.Add(takeover),
		since: now, reads: op.Kind == wire.OpListen}
	if op.ID == p.late && p.lateSince != 0 {
		s.since = p.lateSince
	}
	p.server.streams.Add(1)
	p.streams[op.ID] = s
	if why := p.server.allow(p.holder, op.Client, op.Target); why != ledger.None {
		p.fail(s, why, 0)
		return
	}
	p.try(now, s)
}

// try connects, unless another stream has the same two ends. If that is the same copier's, the
// stream waits for its end: the client uses its port again.
func (p *Peer) try(now mono.Time, s *stream) {
	if old, free := p.server.claim(s); !free {
		if old == nil || old.peer.instance != p.instance || !now.Before(s.giveUp) {
			p.fail(s, ledger.TupleTaken, 0)
			return
		}
		p.wait(s)
		return
	}
	if why := s.begin(now); why != ledger.None {
		p.fail(s, why, 0)
	}
}

// wait lets the stream be tried again soon.
func (p *Peer) wait(s *stream) {
	if !s.waiting {
		s.waiting = true
		p.waiting = append(p.waiting, s)
	}
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// retry tries the streams that wait again.
func (p *Peer) retry(now mono.Time) {
	all := p.waiting
	p.waiting = nil
	for _, s := range all {
		s.waiting = false
		if p.streams[s.id] == s && s.conn == nil {
			p.try(now, s)
		}
	}
}

// fail ends a stream and reports why.
func (p *Peer) fail(s *stream, why ledger.Reason, acked uint64) {
	p.server.countFailed(why)
	s.end()
	p.report(&wire.StreamEvent{Kind: wire.EventFailed, ID: s.id, N: acked, Reason: why})
}

// maxMessage is the size at which a message of events is sent.
const maxMessage = wire.MaxEvents / 2

// report adds an event to the message for the copier.
func (p *Peer) report(ev *wire.StreamEvent) {
	if len(p.frame) == 0 {
		p.frame = wire.BeginFrame(p.frame, wire.TypeStreamEvents)
	}
	p.frame = wire.AppendStreamEvent(p.frame, ev)
	if len(p.frame) > maxMessage {
		_ = p.flush()
	}
}

// flush sends the message of events. None is ever left out: a copier that does not read them
// loses its connection.
func (p *Peer) flush() error {
	if len(p.frame) > 0 {
		if !p.slow && !p.send(wire.EndFrame(p.frame, 0)) {
			p.slow = true
		}
		p.frame = p.frame[:0]
	}
	if p.slow {
		return ErrSlow
	}
	return nil
}

// step handles a batch of the sockets' events, or nil, and what follows from it. The lock is held.
func (p *Peer) step(now mono.Time, b *socket.Batch) {
	for more := true; more; more = p.out.Pending() {
		events := p.out.Step(now, b)
		b = nil
		for i := range events {
			if s := p.streams[uint64(events[i].ID)]; s != nil && s.conn != nil {
				s.handle(now, &events[i])
			}
		}
	}
}

// run is the peer's goroutine.
func (p *Peer) run() {
	defer close(p.done)
	timer := time.NewTimer(time.Hour)
	timer.Stop()
	armed := false
	for {
		var batch *socket.Batch
		again, ok := false, true
		select {
		case batch, ok = <-p.out.Events():
			if !ok {
				return
			}
		case <-p.wake:
			if !armed {
				armed = true
				timer.Reset(retryEvery)
			}
			continue
		case <-timer.C:
			armed, again = false, true
		}
		p.mu.Lock()
		if !p.closed {
			now := p.server.cfg.Now()
			if batch != nil {
				p.step(now, batch)
			}
			if again {
				p.retry(now)
				p.step(now, nil)
			}
			if p.flush() != nil {
				p.broken()
			}
		}
		p.mu.Unlock()
	}
}

// Close ends all streams with a reset, and the peer's goroutine.
func (p *Peer) Close() {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return
	}
	p.closed = true
	now := p.server.cfg.Now()
	for _, s := range p.streams {
		if s.conn != nil {
			s.conn.Abort(now)
		}
		p.server.linksLost.Add(1)
		s.end()
	}
	p.out.Close()
	p.mu.Unlock()
	<-p.done
	p.server.countPeer(p.instance, -1)
}

var _ session.Record = (*stream)(nil)
