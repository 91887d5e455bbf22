package link

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/sys"
	"tcpcopy/internal/way/link/key"
	"tcpcopy/internal/way/link/wire"
)

const (
	dialTimeout      = 5 * time.Second
	handshakeTimeout = 5 * time.Second
	keepBuffer       = 1 << 20
	// writeAtOnce is what has writeTimeout to be taken: a link may be slow, as long as it moves.
	writeAtOnce = 32 << 10
	lastWait    = time.Second
)

var writeTimeout = 10 * time.Second // changed by tests

// Conn is one connection that was welcomed.
type Conn struct {
	net.Conn
	in      wire.Reader
	welcome wire.Welcome

	mu      sync.Mutex
	pending []byte
	spare   []byte
	limit   int
	ended   bool
	crowded bool // Put was refused
	wake    chan struct{}
}

// streamQueue is how many bytes of operations may wait for a connection's writer.
const streamQueue = 512 << 10

// Put queues a frame of operations, which is copied. It never blocks, and returns false where too much
// waits already, or the connection has ended; OnRoom or OnStreams says when that changes.
func (c *Conn) Put(frame []byte) bool {
	c.mu.Lock()
	if c.ended || len(c.pending) > streamQueue {
		c.crowded = true
		c.mu.Unlock()
		return false
	}
	c.pending = append(c.pending, frame...)
	c.mu.Unlock()
	select {
	case c.wake <- struct{}{}:
	default:
	}
	return true
}

// put encodes a message into what waits to be written. Where it cannot, it says whether the connection has
// ended, or has too much waiting.
func (c *Conn) put(encode func([]byte) []byte) (queued, ended bool) {
	c.mu.Lock()
	if c.ended || len(c.pending) > c.limit {
		defer c.mu.Unlock()
		return false, c.ended
	}
	c.pending = encode(c.pending)
	c.mu.Unlock()
	select {
	case c.wake <- struct{}{}:
	default:
	}
	return true, false
}

// keep holds connection number i up until the link is closed.
func (l *Link) keep(i int) {
	backoff := l.cfg.BackoffLo
	for l.ctx.Err() == nil {
		slot, changed := l.slot.watch()
		began := time.Now()
		c, err := l.connect(uint8(i), slot)
		if err == nil {
			err = l.serve(c, changed)
		}
		if l.ctx.Err() != nil {
			return
		}
		var refused *Refused
		wait := backoff/2 + time.Duration(random(0, int(backoff/2)))
		switch {
		case errors.Is(err, errSlotChanged):
			wait = 0
		case errors.As(err, &refused) && refused.Code == wire.CodeSlot && l.slot.Get() != slot:
			wait = l.cfg.BackoffLo / 4 // another one was chosen; two copiers should not chase each other
		case c != nil && time.Since(began) > 2*l.cfg.BackoffHi:
			backoff = l.cfg.BackoffLo // it had been up for a while
			wait = backoff/2 + time.Duration(random(0, int(backoff/2)))
		default:
			backoff = min(2*backoff, l.cfg.BackoffHi)
		}
		l.failed(err)
		if wait > 0 {
			timer := time.NewTimer(wait)
			select {
			case <-l.ctx.Done():
				timer.Stop()
			case <-timer.C:
			}
		}
	}
}

var errSlotChanged = errors.New("another slot was chosen")

// connect dials, proves the key, and introduces the copier.
func (l *Link) connect(index, slot uint8) (*Conn, error) {
	ctx, cancel := context.WithTimeout(l.ctx, dialTimeout)
	raw, err := l.cfg.Dial(ctx, "tcp", l.addr)
	cancel()
	if err != nil {
		return nil, fmt.Errorf("connect to intercept %s: %w", l.addr, err)
	}
	raw = sys.NewStream(raw)
	stop := context.AfterFunc(l.ctx, func() { raw.Close() })
	defer stop()
	raw.SetDeadline(time.Now().Add(handshakeTimeout))
	c := &Conn{Conn: raw, limit: l.cfg.Queue, wake: make(chan struct{}, 1)}
	if err := l.greet(c, raw, index, slot); err != nil {
		c.Close()
		return nil, fmt.Errorf("connect to intercept %s: %w", l.addr, err)
	}
	raw.SetDeadline(time.Time{})
	return c, nil
}

func (l *Link) greet(c *Conn, raw net.Conn, index, slot uint8) error {
	if l.cfg.TLS != nil {
		t := tls.Client(raw, l.cfg.TLS)
		if err := t.Handshake(); err != nil {
			return handshakeError(err)
		}
		c.Conn = t
	}
	h := wire.Hello{Version: wire.Version, Instance: l.cfg.Instance, Slot: slot, Conn: index, Conns: uint8(l.cfg.Conns),
		Capabilities: wire.ReadsAnswers, Software: l.cfg.Software, Targets: l.targets(), Clients: l.cfg.Clients,
		ConnectTimeout: l.cfg.ConnectTimeout}
	if _, err := c.Write(h.Append([]byte(wire.Preface))); err != nil {
		return handshakeError(err)
	}
	f, err := c.next()
	if err != nil {
		return handshakeError(err)
	}
	switch f.Type {
	case wire.TypeWelcome:
		c.in.Introduced()
		return c.welcome.Decode(f.Body)
	case wire.TypeRefuse:
		var r wire.Refuse
		if err := r.Decode(f.Body); err != nil {
			return err
		}
		switch r.Code {
		case wire.CodeNeedsKey:
			return ErrNeedsKey
		case wire.CodeNoKey:
			return ErrNoKey
		case wire.CodeSlot:
			l.slot.refused(l.addr, slot, r.Slots)
		}
		return &Refused{Code: r.Code, Text: r.Text}
	case wire.TypeBye:
		return errors.New("the intercept is shutting down")
	}
	return fmt.Errorf("greet: got %v, want welcome", f.Type)
}

// handshakeError gives the causes that a user can mend their names.
func handshakeError(err error) error {
	var record tls.RecordHeaderError
	switch {
	case errors.Is(err, key.ErrWrong):
		return ErrWrongKey
	case errors.As(err, &record):
		// Our own preface is what an intercept without a key answers.
		if strings.HasPrefix(wire.Preface, string(record.RecordHeader[:])) {
			return ErrNoKey
		}
		return fmt.Errorf("%w: %v", ErrForeign, err)
	case errors.Is(err, wire.ErrPreface):
		return fmt.Errorf("%w: %v", ErrForeign, err)
	case strings.Contains(err.Error(), "tls: bad certificate"): // the other side's verdict on our key
		return ErrWrongKey
	}
	return fmt.Errorf("greet: %w", err)
}

// fatal says whether an error is one that a person has to mend.
func fatal(err error) bool {
	var r *Refused
	if errors.As(err, &r) {
		return r.Code != wire.CodeSlot && r.Code != wire.CodeFull
	}
	for _, e := range []error{ErrWrongKey, ErrNeedsKey, ErrNoKey, ErrForeign} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// serve reads from a welcomed connection until it ends, with a writer beside it.
func (l *Link) serve(c *Conn, changed <-chan struct{}) error {
	select {
	case <-changed:
		c.Close()
		return errSlotChanged
	default:
	}
	done := make(chan struct{})
	why := make(chan error, 1) // the writer's reason to close
	var writer sync.WaitGroup
	writer.Go(func() { why <- l.write(c, done, changed) })
	l.came(c)
	tunnel := c.welcome.Way == wire.WayTunnel && l.cfg.OnStreams != nil
	if tunnel {
		l.cfg.OnStreams(c, true)
	}
	err := l.read(c)
	if tunnel {
		l.cfg.OnStreams(c, false)
	}
	close(done)
	c.Close() // who is not heard is not written to
	writer.Wait()
	if e := <-why; e != nil {
		err = e
	}
	l.went(c)
	return fmt.Errorf("link to intercept %s: %w", l.addr, err)
}

// write sends what is queued, and pings, until done, the link's end, or another slot; then it closes the
// connection, which ends the reader. Its error is the reason, nil for a reason that the reader knows.
func (l *Link) write(c *Conn, done, changed <-chan struct{}) error {
	defer c.Close()
	// For a write that is under way when the link is closed.
	defer context.AfterFunc(l.ctx, func() { c.SetWriteDeadline(time.Now().Add(lastWait)) })()
	tick := time.NewTicker(l.cfg.PingEvery)
	defer tick.Stop()
	var id uint64
	var last error
	for last == nil {
		select {
		case <-done:
			return nil
		case <-l.ctx.Done():
			last = l.ctx.Err()
			c.put((&wire.Bye{Reason: wire.ByeShutdown}).Append)
		case <-changed:
			last = errSlotChanged
		case <-tick.C:
			id++
			c.put((&wire.Ping{ID: id}).Append)
		case <-c.wake:
		}
		c.mu.Lock()
		b := c.pending
		c.pending, c.spare = c.spare[:0], nil
		c.ended = last != nil
		room := c.crowded && !c.ended
		c.crowded = false
		c.mu.Unlock()
		if room && l.cfg.OnRoom != nil {
			l.cfg.OnRoom(c)
		}
		if err := l.writeAll(c, b, last != nil); err != nil {
			select {
			case <-done:
				return nil
			default:
				return fmt.Errorf("write: %w", err)
			}
		}
		c.mu.Lock()
		if cap(b) <= keepBuffer {
			c.spare = b[:0]
		}
		c.mu.Unlock()
	}
	return last
}

// writeAll writes b, as slowly as the peer takes it, if it takes something now and then; but for the last bytes,
// and once the link is closed, it has lastWait.
func (l *Link) writeAll(c *Conn, b []byte, last bool) error {
	end := time.Now().Add(lastWait)
	for part := range slices.Chunk(b, writeAtOnce) {
		if last {
			c.SetWriteDeadline(end)
		} else {
			now := time.Now()
			c.SetWriteDeadline(now.Add(writeTimeout))
			if l.ctx.Err() != nil { // after the line above: see write
				last, end = true, now.Add(lastWait)
				c.SetWriteDeadline(end)
			}
		}
		if _, err := c.Write(part); err != nil {
			return err
		}
	}
	return nil
}

// next reads until there is a frame.
func (c *Conn) next() (wire.Frame, error) {
	for {
		f, ok, err := c.in.Next()
		if err != nil || ok {
			return f, err
		}
		n, err := c.Read(c.in.Space())
		c.in.Filled(n)
		if err != nil && n == 0 {
			return f, err
		}
	}
}

// read hands on what the intercept reports.
func (l *Link) read(c *Conn) error {
	var headers wire.Headers
	var batch Batch
	var tuples []wire.Tuple
	for {
		f, ok, err := c.in.Next()
		if err == nil && !ok {
			c.SetReadDeadline(time.Now().Add(l.cfg.DeadAfter))
			n, e := c.Read(c.in.Space())
			c.in.Filled(n)
			l.count.bytes.Add(uint64(n))
			if e != nil && n == 0 {
				var timeout net.Error
				if errors.As(e, &timeout) && timeout.Timeout() {
					return fmt.Errorf("nothing heard for %v", l.cfg.DeadAfter)
				}
				return e
			}
			continue
		}
		if err == nil {
			switch f.Type {
			case wire.TypeHeaders:
				if err = headers.Decode(f.Body); err == nil {
					l.report(&headers, &batch)
				}
			case wire.TypeOwner:
				var o wire.Owner
				if err = o.Decode(f.Body); err == nil {
					l.owner(o)
				}
			case wire.TypeClaimRefused:
				if tuples, err = wire.DecodeTuples(tuples[:0], f.Type, f.Body); err == nil {
					l.count.claimsRefused.Add(uint64(len(tuples)))
					if l.cfg.OnRefused != nil {
						l.cfg.OnRefused(tuples)
					}
				}
			case wire.TypeICMP:
				var m wire.ICMP
				if err = m.Decode(f.Body); err == nil {
					l.count.icmp.Add(1)
					if l.cfg.OnICMP != nil {
						l.cfg.OnICMP(m)
					}
				}
			case wire.TypeAnswers:
				if l.cfg.OnAnswers == nil {
					err = f.Unexpected()
				} else {
					err = l.cfg.OnAnswers(f.Body)
				}
			case wire.TypeStreamEvents:
				if l.cfg.OnEvents == nil {
					err = f.Unexpected()
				} else {
					err = l.cfg.OnEvents(c, f.Body)
				}
			case wire.TypePing:
				var p wire.Ping
				if err = p.Decode(f.Body); err == nil {
					c.put((&wire.Pong{ID: p.ID, At: l.cfg.Now()}).Append)
				}
			case wire.TypePong:
			case wire.TypeBye:
				var b wire.Bye
				if err = b.Decode(f.Body); err == nil {
					return fmt.Errorf("the intercept closed it: %v %s", b.Reason, b.Text)
				}
			default:
				err = f.Unexpected()
			}
		}
		if err != nil {
			l.count.malformed.Add(1)
			return err
		}
	}
}

func (l *Link) report(h *wire.Headers, b *Batch) {
	l.count.batches.Add(1)
	l.count.headers.Add(uint64(len(h.Segments)))
	if l.cfg.OnBatch == nil {
		return
	}
	now := l.cfg.Now()
	b.Segments, b.At = h.Segments, slices.Grow(b.At[:0], len(h.Ages))
	for _, age := range h.Ages {
		b.At = append(b.At, max(now-mono.Time(age), 0))
	}
	l.cfg.OnBatch(b)
}

// came enters a connection that was welcomed.
func (l *Link) came(c *Conn) {
	l.mu.Lock()
	l.up = append(l.up, c)
	s := &l.state
	s.Conns, s.Way, s.Slot, s.Software = len(l.up), c.welcome.Way, c.welcome.Slot, c.welcome.Software
	s.Reads = c.ReadsAnswers()
	s.Forbidden, s.Fatal = c.welcome.Forbidden, false
	if !s.Up {
		s.Up, s.Since = true, time.Now()
		if l.saw {
			s.Reconnects++
		}
		l.saw = true
	}
	l.settled()
	now := *s
	l.mu.Unlock()
	l.tell(now)
}

// went takes a connection out.
func (l *Link) went(c *Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if i := slices.Index(l.up, c); i >= 0 {
		l.up = slices.Delete(l.up, i, i+1)
	}
	l.state.Conns = len(l.up)
}

// failed notes why a connection could not be had, or was lost.
func (l *Link) failed(err error) {
	l.mu.Lock()
	s := &l.state
	changed := s.Err == nil || s.Err.Error() != err.Error() || s.Up && len(l.up) == 0
	s.Err, s.Fatal = err, fatal(err) && len(l.up) == 0
	if s.Up && len(l.up) == 0 {
		s.Up, s.Since = false, time.Now()
	}
	if s.Fatal {
		l.settled()
	}
	now := *s
	l.mu.Unlock()
	if changed {
		l.tell(now)
	}
}

func (l *Link) settled() {
	select {
	case <-l.first:
	default:
		close(l.first)
	}
}

// tell gives a state to who wants to know. One line of log for each change, not for each attempt.
func (l *Link) tell(s State) {
	switch {
	case s.Up && s.Err == nil:
		l.cfg.Log.Info("link: intercept is up", "intercept", s.Intercept, "slot", s.Slot, "connections", s.Conns)
	case s.Up:
		l.cfg.Log.Info("link: intercept is up", "intercept", s.Intercept, "slot", s.Slot, "connections", s.Conns, "last", s.Err)
	default:
		l.cfg.Log.Warn("link: intercept is down", "intercept", s.Intercept, "error", s.Err)
	}
	if l.cfg.OnState != nil {
		l.cfg.OnState(s)
	}
}
