package agent

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"math"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"tcpcopy/internal/way/link/key"
	"tcpcopy/internal/way/link/wire"
)

const (
	dialTimeout      = 5 * time.Second
	handshakeTimeout = 5 * time.Second
	writeTimeout     = 10 * time.Second
	deadAfter        = 10 * time.Second // without a word from the copier
	tellEvery        = time.Second      // counts
	pingEvery        = 2                // of those
	backoffLo        = 100 * time.Millisecond
	backoffHi        = 3 * time.Second
	lastWait         = 2 * time.Second // to send what is left at the end
	// maxAge is how old packets may be when they are sent: what waited longer, for a connection or for a slow
	// one, would reach the target as a burst of the past.
	maxAge = 3 * time.Second
	// burst is for how long a connection may be ahead of --max-mbps.
	burst = 50 * time.Millisecond
)

// sender is the goroutine that connects and sends.
type sender struct {
	a      *Agent
	packer packer
	next   uint64 // the number of the packet that is sent next
	out    []byte
	told   string // the last failure that was logged

	paid   time.Time     // until when the bytes that were sent have used up --max-mbps
	shrunk atomic.Uint64 // bytes on the wire for each of records, as a float64's bits; 0: not known
}

func newInstance() (id wire.Instance) {
	rand.Read(id[:]) // never fails
	return id
}

// ratio is how many bytes on the wire a byte of records takes.
func (s *sender) ratio() float64 {
	if bits := s.shrunk.Load(); bits != 0 {
		return math.Float64frombits(bits)
	}
	return 1
}

// run holds the connection up until ctx is done, and then sends what is left.
func (s *sender) run(ctx context.Context) {
	backoff := backoffLo
	for ctx.Err() == nil {
		began := time.Now()
		err := s.converse(ctx)
		if ctx.Err() != nil {
			return
		}
		s.lost(err)
		if time.Since(began) > 2*backoffHi {
			backoff = backoffLo
		}
		s.wait(ctx, backoff/2+time.Duration(float64(backoff/2)*random()))
		s.a.count.linkDown.Add(s.a.queue.expire(s.a.cfg.Now(), maxAge))
		backoff = min(2*backoff, backoffHi)
	}
}

func random() float64 {
	var b [1]byte
	rand.Read(b[:])
	return float64(b[0]) / 256
}

// wait lets d pass, or less where ctx is done.
func (s *sender) wait(ctx context.Context, d time.Duration) {
	end := time.NewTimer(d)
	defer end.Stop()
	select {
	case <-ctx.Done():
	case <-end.C:
	}
}

func (s *sender) lost(err error) {
	s.a.mu.Lock()
	st := &s.a.state
	if st.Up {
		st.Up, st.Since = false, time.Now()
	}
	st.Err = err
	s.a.mu.Unlock()
	if text := err.Error(); text != s.told { // once for each change, not for each attempt
		s.told = text
		s.a.cfg.Log.Warn("agent: no connection to the copier", "copier", s.a.cfg.To, "error", err)
	}
}

// converse connects, and sends until the connection or ctx ends.
func (s *sender) converse(ctx context.Context) error {
	conn, software, err := s.connect(ctx)
	if err != nil {
		return fmt.Errorf("connect to copier %s: %w", s.a.cfg.To, err)
	}
	defer conn.Close()
	s.a.count.linkDown.Add(s.a.queue.expire(s.a.cfg.Now(), maxAge))
	s.a.mu.Lock()
	st := &s.a.state
	st.Up, st.Since, st.Software = true, time.Now(), software
	st.Connects++
	s.a.mu.Unlock()
	s.told = ""
	s.a.cfg.Log.Info("agent: connected", "copier", s.a.cfg.To, "software", software)
	heard := make(chan error, 1)
	go func() { heard <- conn.listen() }()
	err = s.send(ctx, conn, heard)
	conn.Close()
	if e := <-heard; err == nil || errors.Is(err, net.ErrClosed) {
		err = e
	}
	return fmt.Errorf("connection to copier %s: %w", s.a.cfg.To, err)
}

// What a handshake can fail with, besides the network's own errors.
var (
	errWrongKey = errors.New("the copier holds another key: wanted the same on both sides")
	errNoKey    = errors.New("the copier was started without a key: wanted --key there, or --insecure here")
	errForeign  = errors.New("what answers there is no copier that takes agents: wanted tcpcopy copy --from agent://…")
)

func (s *sender) connect(ctx context.Context) (conn *framed, software string, err error) {
	cfg := &s.a.cfg
	d := net.Dialer{Timeout: dialTimeout, KeepAlive: 15 * time.Second}
	raw, err := d.DialContext(ctx, "tcp", cfg.To)
	if err != nil {
		return nil, "", err
	}
	stop := context.AfterFunc(ctx, func() { raw.SetDeadline(time.Now()) })
	defer stop()
	raw.SetDeadline(time.Now().Add(handshakeTimeout))
	if conn, software, err = s.greet(raw); err != nil {
		raw.Close()
		return nil, "", err
	}
	raw.SetDeadline(time.Time{})
	return conn, software, nil
}

func (s *sender) greet(raw net.Conn) (*framed, string, error) {
	cfg := &s.a.cfg
	conn := &framed{Conn: raw}
	if cfg.TLS != nil {
		c := cfg.TLS.Clone()
		c.DynamicRecordSizingDisabled = true // whole records from the start: nobody waits for their first bytes
		t := tls.Client(raw, c)
		if err := t.Handshake(); err != nil {
			return nil, "", handshakeError(err)
		}
		conn.Conn = t
	}
	h := wire.AgentHello{Version: wire.Version, Instance: s.a.instance, Name: cfg.Name, Software: cfg.Software, Next: s.next, Counts: s.a.count.counts()}
	if _, err := conn.Write(h.Append([]byte(wire.Preface))); err != nil {
		return nil, "", handshakeError(err)
	}
	f, err := conn.next()
	if err != nil {
		return nil, "", handshakeError(err)
	}
	switch f.Type {
	case wire.TypeAgentWelcome:
		var w wire.AgentWelcome
		err := w.Decode(f.Body)
		return conn, w.Software, err
	case wire.TypeRefuse:
		var r wire.Refuse
		if err := r.Decode(f.Body); err != nil {
			return nil, "", err
		}
		return nil, "", errors.New("the copier refuses: " + r.Text)
	}
	return nil, "", fmt.Errorf("got %v, want %v", f.Type, wire.TypeAgentWelcome)
}

func handshakeError(err error) error {
	var record tls.RecordHeaderError
	switch {
	case errors.Is(err, key.ErrWrong):
		return errWrongKey
	case errors.As(err, &record) && string(record.RecordHeader[:]) == wire.Preface[:len(record.RecordHeader)]:
		return errNoKey
	case errors.As(err, &record), errors.Is(err, wire.ErrPreface):
		return errForeign
	case strings.Contains(err.Error(), "tls: bad certificate"): // the other side's verdict on our key
		return errWrongKey
	}
	return err
}

// framed is a connection and what was read of it.
type framed struct {
	net.Conn
	in wire.Reader
}

// next reads until there is a frame.
func (c *framed) next() (wire.Frame, error) {
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

// listen reads what the copier says, answers to pings and good-bye, and closes the connection when it says no
// more: that ends the sender's write, if it is in one.
func (c *framed) listen() error {
	defer c.Close()
	for {
		c.SetReadDeadline(time.Now().Add(deadAfter))
		f, err := c.next()
		if err != nil {
			return err
		}
		switch f.Type {
		case wire.TypePong:
		case wire.TypeBye:
			var b wire.Bye
			if err := b.Decode(f.Body); err != nil {
				return err
			}
			return fmt.Errorf("the copier has closed it: %v", b.Reason)
		default:
			if err := f.Unexpected(); err != nil {
				return err
			}
		}
	}
}

// send sends batches and counts until the connection ends, or ctx: then what is left.
func (s *sender) send(ctx context.Context, conn net.Conn, heard chan error) error {
	tick := time.NewTicker(tellEvery)
	defer tick.Stop()
	var ticks uint64
	for {
		if err := s.flush(ctx, conn); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return s.finish(conn)
		case err := <-heard:
			heard <- err
			return err
		case <-tick.C:
			c := s.a.count.counts()
			s.out = c.Append(s.out[:0])
			if ticks++; ticks%pingEvery == 0 {
				s.out = (&wire.Ping{ID: ticks}).Append(s.out)
			}
			if err := write(conn, s.out, writeTimeout); err != nil {
				return err
			}
		case <-s.a.queue.wake:
		}
	}
}

// flush sends what waits.
func (s *sender) flush(ctx context.Context, conn net.Conn) error {
	for {
		s.a.count.overMemory.Add(s.a.queue.expire(s.a.cfg.Now(), maxAge))
		b := s.a.queue.take()
		if b == nil {
			return nil
		}
		s.pace(ctx)
		err := s.sendBatch(conn, b, writeTimeout)
		s.a.queue.free(b)
		if err != nil {
			return err
		}
	}
}

// pace waits until --max-mbps allows more, or ctx is done.
func (s *sender) pace(ctx context.Context) {
	if ahead := time.Until(s.paid); ahead > burst {
		s.wait(ctx, ahead-burst)
	}
}

func (s *sender) sendBatch(conn net.Conn, b *batch, timeout time.Duration) error {
	records, packing := s.packer.pack(b.records)
	p := wire.Packets{First: s.next, Count: b.count, At: b.at, Sent: s.a.cfg.Now(), Packing: packing, Size: uint32(len(b.records))}
	s.out = append(p.AppendHeader(s.out[:0], len(records)), records...)
	s.shrunk.Store(math.Float64bits(float64(len(s.out)) / float64(len(b.records))))
	if err := write(conn, s.out, timeout); err != nil {
		s.a.count.linkDown.Add(uint64(b.count)) // it may have arrived in part, which is of no use
		return err
	}
	s.next += uint64(b.count)
	s.a.count.sent.Add(uint64(b.count))
	s.a.count.sentBytes.Add(uint64(len(s.out)))
	if rate := s.a.cfg.MaxRate; rate > 0 {
		if now := time.Now(); s.paid.Before(now) {
			s.paid = now
		}
		s.paid = s.paid.Add(time.Duration(float64(len(s.out)) / rate * float64(time.Second)))
	}
	return nil
}

func write(conn net.Conn, b []byte, timeout time.Duration) error {
	conn.SetWriteDeadline(time.Now().Add(timeout))
	_, err := conn.Write(b)
	return err
}

// finish sends what is left, the last counts, and good-bye.
func (s *sender) finish(conn net.Conn) error {
	end := time.Now().Add(lastWait)
	for left := lastWait; left > 0; left = time.Until(end) {
		b := s.a.queue.take()
		if b == nil {
			break
		}
		if err := s.sendBatch(conn, b, left); err != nil {
			return err
		}
		s.a.queue.free(b)
	}
	c := s.a.count.counts()
	s.out = (&wire.Bye{Reason: wire.ByeShutdown}).Append(c.Append(s.out[:0]))
	return write(conn, s.out, lastWait)
}
