package ontarget

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/session"
	"tcpcopy/internal/way/link/wire"
	"tcpcopy/internal/way/socket"
)

// ErrSlow says that a copier does not read what is told it.
var ErrSlow = errors.New("landing: the copier does not read its events")

// Port is one copier's connection with its streams.
type Port struct {
	landing  *Landing
	instance Instance
	send     func([]byte) bool
	broken   func() // ends the copier's connection
	out      *socket.Output
	done     chan struct{}
	wake     chan struct{} // something waits for its ends from now on

	mu      sync.Mutex
	closed  bool
	slow    bool
	streams map[uint64]*stream
	waiting []*stream
	frame   []byte // of events, begun
}

// longestConnect bounds what a copier may ask for.
const longestConnect = 10 * time.Minute

// Attach makes a port for a copier's connection. connect is how long attempts to connect may
// take; 0: as Config.ConnectTimeout says. send queues a message to the copier, without waiting,
// and says whether there was room; broken ends the connection, where there was not.
func (l *Landing) Attach(instance Instance, connect time.Duration, send func([]byte) bool, broken func()) (*Port, error) {
	if connect <= 0 {
		connect = l.cfg.ConnectTimeout
	}
	out, err := socket.New(socket.Config{Now: l.cfg.Now, ConnectTimeout: min(connect, longestConnect),
		SendTimeout: l.cfg.SendTimeout, Enter: l.cfg.Enter})
	if err != nil {
		return nil, fmt.Errorf("landing: %w", err)
	}
	p := &Port{landing: l, instance: instance, send: send, broken: broken, out: out, done: make(chan struct{}),
		wake: make(chan struct{}, 1), streams: make(map[uint64]*stream)}
	l.enter(instance, 1)
	go p.pump()
	return p, nil
}

// Operations carries out the body of a message. An error says that it breaks the protocol, and
// that the connection is of no further use; it wraps one of package wire's.
func (p *Port) Operations(body []byte) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil
	}
	now := p.landing.cfg.Now()
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

func (p *Port) operate(now mono.Time, op *wire.Op) error {
	s := p.streams[op.ID]
	if op.Kind == wire.OpOpen || op.Kind == wire.OpListen {
		if s != nil {
			return fmt.Errorf("%w in operations: stream %d is opened twice", wire.ErrValue, op.ID)
		}
		p.open(now, op)
		return nil
	}
	if s == nil {
		return nil // it has ended, and the copier does not know yet
	}
	switch op.Kind {
	case wire.OpData:
		if s.received+uint64(len(op.Data))-s.taken > wire.Window {
			return fmt.Errorf("%w in operations: stream %d has more than %d bytes under way", wire.ErrValue, op.ID, wire.Window)
		}
		if s.closing {
			return fmt.Errorf("%w in operations: data after the end of stream %d", wire.ErrValue, op.ID)
		}
		p.landing.in.Add(uint64(len(op.Data)))
		s.feed(now, op.Data)
		if len(s.kept) > 0 && p.landing.buffered.Load() > p.landing.cfg.MaxBytes {
			p.shed(now, s)
		}
	case wire.OpRead:
		s.read(op.Proto)
	case wire.OpExpect:
		if !s.expect(op.Request, op.Hint) {
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
		p.landing.aborted.Add(1)
		s.over()
	}
	return nil
}

// shed ends a stream for want of memory.
func (p *Port) shed(now mono.Time, s *stream) {
	acked := s.taken
	if s.conn != nil {
		s.conn.Abort(now)
	}
	p.fail(s, ledger.OverMemory, acked)
}

func (p *Port) open(now mono.Time, op *wire.Op) {
	s := &stream{port: p, id: op.ID, tuple: tuple{op.Client, op.Target}, giveUp: now.Add(takeover),
		listen: op.Kind == wire.OpListen}
	p.landing.streams.Add(1)
	p.streams[op.ID] = s
	if why := p.landing.allow(op.Client, op.Target); why != ledger.None {
		p.fail(s, why, 0)
		return
	}
	p.try(now, s)
}

// try connects, unless another stream has the same two ends. Where that is the same copier's, it
// makes way: the client has used its port again.
func (p *Port) try(now mono.Time, s *stream) {
	if old, free := p.landing.claim(now, s); !free {
		if old == nil || old.port.instance != p.instance || !now.Before(s.giveUp) {
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

// wait has the stream tried again soon.
func (p *Port) wait(s *stream) {
	if !s.waiting {
		s.waiting = true
		p.waiting = append(p.waiting, s)
	}
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// retry tries those again that wait.
func (p *Port) retry(now mono.Time) {
	all := p.waiting
	p.waiting = nil
	for _, s := range all {
		s.waiting = false
		if p.streams[s.id] == s && s.conn == nil {
			p.try(now, s)
		}
	}
}

// fail ends a stream and says why.
func (p *Port) fail(s *stream, why ledger.Reason, acked uint64) {
	p.landing.countFailed(why)
	s.over()
	p.tell(&wire.StreamEvent{Kind: wire.EventFailed, ID: s.id, N: acked, Reason: why})
}

// mostEvents is how large a message of events grows.
const mostEvents = wire.MaxEvents / 2

func (p *Port) tell(ev *wire.StreamEvent) {
	if len(p.frame) == 0 {
		p.frame = wire.BeginFrame(p.frame, wire.TypeStreamEvents)
	}
	p.frame = wire.AppendStreamEvent(p.frame, ev)
	if len(p.frame) > mostEvents {
		_ = p.flush()
	}
}

// flush sends what was told. Events are never left out: a copier that does not read them is let go.
func (p *Port) flush() error {
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

// step takes a batch of the sockets, or nil, and what follows from it.
func (p *Port) step(now mono.Time, b *socket.Batch) {
	for more := true; more; more = p.out.Pending() {
		events := p.out.Step(now, b)
		b = nil
		for i := range events {
			if s := p.streams[uint64(events[i].ID)]; s != nil && s.conn != nil {
				s.heed(now, &events[i])
			}
		}
	}
}

// pump is the port's goroutine.
func (p *Port) pump() {
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
			now := p.landing.cfg.Now()
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

// Close ends all streams, as the package says, and the port's goroutine.
func (p *Port) Close() {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return
	}
	p.closed = true
	now := p.landing.cfg.Now()
	for _, s := range p.streams {
		if s.conn != nil {
			s.conn.Abort(now)
		}
		p.landing.linksLost.Add(1)
		s.over()
	}
	p.out.Close()
	p.mu.Unlock()
	<-p.done
	p.landing.enter(p.instance, -1)
}

var _ session.Record = (*stream)(nil)
