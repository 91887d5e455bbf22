package agent

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"sync/atomic"
	"time"

	"tcpcopy/internal/way/link"
	"tcpcopy/internal/way/link/wire"
)

const (
	pingEvery   = 2 * time.Second
	deadAfter   = 10 * time.Second // a copier that sends nothing for this long is gone
	countsEvery = time.Second
	backoffLow  = 100 * time.Millisecond
	backoffHigh = 3 * time.Second
	lastWait    = 2 * time.Second // for what is left to send at the end
	// maxQueue bounds counts and pings that wait to be written, in bytes.
	maxQueue = 64 << 10
	// maxAge is how old packets may be when they are sent. Older ones, which waited for a
	// connection or a slow one, would reach the target as a burst, long after production received
	// them.
	maxAge = 3 * time.Second
	// burst is for how long a connection may be ahead of --max-mbps.
	burst = 50 * time.Millisecond
)

// sender connects to the copier and sends batches, on a goroutine of its own.
type sender struct {
	a      *Agent
	dialer link.Dialer
	packer packer
	next   uint64 // the number of the packet that is sent next
	out    []byte
	logged string // the last failure in the log

	paid time.Time // until when the bytes that were sent use up --max-mbps
	// packed is how many bytes are sent for each of records, as the bits of a float64; 0: not
	// known.
	packed atomic.Uint64
}

func newSender(a *Agent) sender {
	return sender{
		a: a, packer: packer{mode: a.cfg.Compress},
		dialer: link.Dialer{
			Options: link.Options{TLS: a.cfg.TLS, Queue: maxQueue, PingEvery: pingEvery,
				DeadAfter: deadAfter, Now: a.cfg.Now},
			Addr: a.cfg.To, Peer: "copier", Keyless: "--insecure",
			Wanted: "copier that accepts agents (wanted tcpcopy copy --from agent://...)",
		},
	}
}

// ratio returns how many bytes are sent for each byte of records.
func (s *sender) ratio() float64 {
	if bits := s.packed.Load(); bits != 0 {
		return math.Float64frombits(bits)
	}
	return 1
}

// run keeps the connection up until ctx is done, and then sends what is left.
func (s *sender) run(ctx context.Context) {
	backoff := link.Backoff{Low: backoffLow, High: backoffHigh}
	for {
		lived, err := s.connection(ctx)
		if ctx.Err() != nil {
			return
		}
		s.disconnected(err)
		link.Sleep(ctx, backoff.Next(lived))
		if ctx.Err() != nil {
			return
		}
		s.a.count.linkDown.Add(s.a.queue.expire(s.a.cfg.Now(), maxAge))
	}
}

// connection makes one connection, and sends over it until it or ctx ends. It returns how long the
// connection lasted.
func (s *sender) connection(ctx context.Context) (lived time.Duration, err error) {
	end, software, err := s.connect(ctx)
	if err != nil {
		return 0, fmt.Errorf("connect to copier %s: %w", s.a.cfg.To, err)
	}
	began := time.Now()
	s.connected(software)
	end.Start(nil)
	defer context.AfterFunc(ctx, func() { end.FinishBy(lastWait) })()
	lost := make(chan error, 1)
	go func() { lost <- receive(end) }()
	if err = s.send(ctx, end, lost); err != nil {
		end.Close()
	}
	if e := <-lost; err == nil || errors.Is(err, net.ErrClosed) {
		err = e
	}
	end.Close()
	end.Wait()
	return time.Since(began), fmt.Errorf("connection to copier %s: %w", s.a.cfg.To, err)
}

func (s *sender) connect(ctx context.Context) (*link.Endpoint, string, error) {
	cfg := &s.a.cfg
	h := wire.AgentHello{Version: wire.Version, Instance: s.a.instance, Name: cfg.Name,
		Software: cfg.Software, Next: s.next, Counts: s.a.count.counts()}
	end, f, err := s.dialer.Connect(ctx, h.Append, wire.TypeAgentWelcome)
	if err != nil {
		return nil, "", err
	}
	var w wire.AgentWelcome
	if err = w.Decode(f.Body); err != nil {
		end.Close()
		return nil, "", err
	}
	return end, w.Software, nil
}

// connected records that there is a connection.
func (s *sender) connected(software string) {
	s.a.count.linkDown.Add(s.a.queue.expire(s.a.cfg.Now(), maxAge))
	s.a.mu.Lock()
	st := &s.a.state
	st.Up, st.Since, st.Software = true, time.Now(), software
	st.Connects++
	s.a.mu.Unlock()
	s.logged = ""
	s.a.cfg.Log.Info("agent: connected", "copier", s.a.cfg.To, "software", software)
}

// disconnected records why there is no connection, and logs each new reason once.
func (s *sender) disconnected(err error) {
	s.a.mu.Lock()
	st := &s.a.state
	if st.Up {
		st.Up, st.Since = false, time.Now()
	}
	st.Err = err
	s.a.mu.Unlock()
	if text := err.Error(); text != s.logged {
		s.logged = text
		s.a.cfg.Log.Warn("agent: no connection to the copier", "copier", s.a.cfg.To, "error", err)
	}
}

// receive reads until the connection ends, which it closes. A copier sends nothing but what the
// endpoint handles.
func receive(end *link.Endpoint) error {
	defer end.Close()
	for {
		f, err := end.Receive()
		if err == nil {
			err = f.Unexpected()
		}
		if err != nil {
			return err
		}
	}
}

// send sends batches and counts until the connection ends, or ctx: then it sends what is left.
func (s *sender) send(ctx context.Context, end *link.Endpoint, lost chan error) error {
	tick := time.NewTicker(countsEvery)
	defer tick.Stop()
	for {
		if err := s.sendQueue(ctx, end); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return s.finish(end)
		case err := <-lost:
			lost <- err
			return err
		case <-tick.C:
			c := s.a.count.counts()
			end.Put(c.Append(nil))
		case <-s.a.queue.wake:
		}
	}
}

// sendQueue sends the batches that wait. After ctx is done it does not pace them.
func (s *sender) sendQueue(ctx context.Context, end *link.Endpoint) error {
	for {
		s.a.count.overMemory.Add(s.a.queue.expire(s.a.cfg.Now(), maxAge))
		b := s.a.queue.pop()
		if b == nil {
			return nil
		}
		if ahead := time.Until(s.paid); ahead > burst {
			link.Sleep(ctx, ahead-burst)
		}
		err := s.sendBatch(end, b)
		s.a.queue.recycle(b)
		if err != nil {
			return err
		}
	}
}

// sendBatch sends one batch.
func (s *sender) sendBatch(end *link.Endpoint, b *batch) error {
	records, packing := s.packer.pack(b.records)
	p := wire.Packets{First: s.next, Count: b.count, At: b.at, Sent: s.a.cfg.Now(),
		Packing: packing, Size: uint32(len(b.records))}
	s.out = append(p.AppendHeader(s.out[:0], len(records)), records...)
	s.packed.Store(math.Float64bits(float64(len(s.out)) / float64(len(b.records))))
	if err := end.Send(s.out); err != nil {
		s.a.count.linkDown.Add(uint64(b.count)) // a part that arrived is of no use
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

// finish sends what is left, the last counts, and a Bye.
func (s *sender) finish(end *link.Endpoint) error {
	for b := s.a.queue.pop(); b != nil; b = s.a.queue.pop() {
		if err := s.sendBatch(end, b); err != nil {
			return err
		}
		s.a.queue.recycle(b)
	}
	c := s.a.count.counts()
	end.Finish(append(c.Append(nil), link.Bye(nil)...))
	return nil
}
