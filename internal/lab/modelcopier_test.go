package lab

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"
)

// fault is what the model copier does wrong with one request.
type fault int

const (
	faithful   fault = iota
	drop             // never sent
	double           // sent twice
	swap             // sent after the next one
	flipBody         // one bit of the payload differs
	flipHead         // one bit of the header differs
	hasty            // not held back at all
	tooHasty         // sent when half of the answer before has come
	elsewhere        // sent as another connection's
	neverClose       // its connection stays open
)

// modelCopier is a copier without a fault, or with faults made on purpose. Unlike a real one it is
// a proxy between the clients and production, and knows the protocol: it holds each request back
// until the target has sent the answers that the client had seen.
type modelCopier struct {
	t          *testing.T
	production string
	target     string
	listener   net.Listener
	fault      func(q request) fault
	// the first request of a connection to copy; nil: the very first
	from    func(q request) bool
	running sync.WaitGroup

	mu   sync.Mutex
	open []net.Conn
}

func newModelCopier(t *testing.T, production, target string, h rehearsal) *modelCopier {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	e := &modelCopier{t: t, production: production, target: target, listener: l, fault: h.fault,
		from: h.from}
	if e.fault == nil {
		e.fault = func(request) fault { return faithful }
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			e.running.Go(func() { e.carry(c) })
		}
	}()
	return e
}

// close waits until all copies have ended.
func (e *modelCopier) close() {
	e.listener.Close()
	e.running.Wait()
	for _, c := range e.open {
		c.Close()
	}
}

// copied is a request with its bytes.
type copied struct {
	request
	bytes []byte
}

// carry is one client's connection.
func (e *modelCopier) carry(client net.Conn) {
	defer client.Close()
	production, err := net.Dial("tcp", e.production)
	if err != nil {
		e.t.Error(err)
		return
	}
	defer production.Close()
	var both sync.WaitGroup
	both.Go(func() {
		io.Copy(client, production)
		client.Close()
	})
	queue := make(chan copied, 1<<16)
	both.Go(func() { e.copy(queue) })
	for {
		c, err := readRequest(client)
		if err != nil {
			break
		}
		queue <- copied{c.request, bytes.Clone(c.bytes)} // which a fault may change
		if _, err := production.Write(c.bytes); err != nil {
			break
		}
	}
	close(queue)
	production.(*net.TCPConn).CloseWrite()
	both.Wait()
}

func readRequest(r io.Reader) (copied, error) {
	var c copied
	head := make([]byte, requestHeader)
	if _, err := io.ReadFull(r, head); err != nil {
		return c, err
	}
	if !c.parse(head) {
		return c, errors.New("bad header")
	}
	c.bytes = append(head, make([]byte, c.length)...)
	_, err := io.ReadFull(r, c.bytes[requestHeader:])
	return c, err
}

// copy plays the requests to the target, on a connection that opens at once, or with the first it
// copies.
func (e *modelCopier) copy(queue <-chan copied) {
	begun := e.from == nil
	var s *copyStream
	open := func() bool {
		c, err := net.Dial("tcp", e.target)
		if err != nil {
			e.t.Error(err)
			return false
		}
		s = newCopyStream(c)
		return true
	}
	if begun && !open() {
		return
	}
	var held *copied
	keepOpen := false
	for q := range queue {
		if !begun {
			if !e.from(q.request) {
				continue
			}
			begun = true
			if !open() {
				return
			}
			s.first = int64(q.num)
		}
		f := e.fault(q.request)
		switch f {
		case hasty:
		case tooHasty:
			s.awaitBytes(q.num)
		default:
			s.await(q.seen, q.flags&flagGreeted != 0)
		}
		switch f {
		case drop:
			s.forget(q.num)
			continue
		case swap:
			held = &q
			continue
		case flipBody:
			q.bytes[requestHeader+3] ^= 0x10
		case flipHead:
			q.bytes[9] ^= 0x10
		case elsewhere:
			other := q.request
			other.conn += 1 << 20
			other.put(q.bytes)
		case neverClose:
			keepOpen = true
		}
		s.conn.Write(q.bytes)
		if f == double {
			s.conn.Write(q.bytes)
		}
		if held != nil {
			s.conn.Write(held.bytes)
			held = nil
		}
	}
	if s == nil {
		return
	}
	if keepOpen {
		e.mu.Lock()
		e.open = append(e.open, s.conn)
		e.mu.Unlock()
		return
	}
	s.conn.(*net.TCPConn).CloseWrite()
	<-s.ended
	s.conn.Close()
}

// copyStream is a model copier's connection to the target; it knows which requests have been
// answered.
type copyStream struct {
	conn  net.Conn
	ended chan struct{}

	mu       sync.Mutex
	moved    *sync.Cond
	greeted  bool
	answered map[uint32]bool
	first    int64 // the number of the first request copied
	bytes    int64
	over     bool
}

func newCopyStream(c net.Conn) *copyStream {
	s := &copyStream{conn: c, ended: make(chan struct{}), answered: map[uint32]bool{}}
	s.moved = sync.NewCond(&s.mu)
	go s.read()
	return s
}

func (s *copyStream) Write(b []byte) (int, error) {
	s.mu.Lock()
	s.bytes += int64(len(b))
	s.moved.Broadcast()
	s.mu.Unlock()
	return len(b), nil
}

func (s *copyStream) read() {
	defer close(s.ended)
	in := io.TeeReader(s.conn, s)
	head := make([]byte, answerHeader)
	for {
		_, err := io.ReadFull(in, head)
		var a answer
		if err == nil && a.parse(head) {
			_, err = io.CopyN(io.Discard, in, int64(a.length))
		}
		s.mu.Lock()
		if err == nil {
			if a.num == greetingNumber {
				s.greeted = true
			} else {
				s.answered[a.num] = true
			}
		}
		s.over = err != nil
		s.moved.Broadcast()
		s.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// await waits until the target has answered what a client that has seen so many answers has seen,
// as far as this connection has asked for it.
func (s *copyStream) await(seen uint32, greeted bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for !s.over {
		if (!greeted || s.greeted) && (int64(seen)-1 < s.first || s.answered[seen-1]) {
			return
		}
		s.moved.Wait()
	}
}

// forget wakes all that wait for an answer that will not come.
func (s *copyStream) forget(num uint32) {
	s.mu.Lock()
	s.answered[num] = true
	s.mu.Unlock()
}

// awaitBytes waits until something of the n-th answer has come, where all have the same length of
// 600.
func (s *copyStream) awaitBytes(n uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for !s.over && s.bytes < int64(n)*600-300 {
		s.moved.Wait()
	}
}

// rehearsal is a run on loopback with a modelCopier instead of the real one.
type rehearsal struct {
	scenario Scenario
	answers  string
	fault    func(q request) fault
	from     func(q request) bool
	settled  uint32 // if not 0: only what follows this request of every connection is compared
}

func (h rehearsal) play(t *testing.T) *Result {
	t.Helper()
	options := Options{Via: Socket, Answers: h.answers, Load: &h.scenario}
	scenario, err := options.scenario()
	if err != nil {
		t.Fatal(err)
	}
	listen := func() net.Listener {
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	clock := newClock()
	productionConfig, targetConfig := options.servers(&scenario)
	production, target := serve(listen(), productionConfig, clock), serve(listen(), targetConfig,
		clock)
	e := newModelCopier(t, production.listener.Addr().String(), target.listener.Addr().String(), h)
	l := load{scenario: scenario, dial: func(ctx context.Context, _ int) (*net.TCPConn, error) {
		return net.DialTCP("tcp4", nil,
			net.TCPAddrFromAddrPort(netip.MustParseAddrPort(e.listener.Addr().String())))
	}}
	l.run(t.Context())
	e.running.Wait()
	r := &Result{Options: options, Scenario: scenario, Sent: l.sent.Load(),
		Answered: l.answered.Load(), ClientsFailed: l.failed.Load(), ClientError: l.first}
	// All is sent; the servers notice the last closing a moment later. If one does not, the result
	// tells what is left open.
	deadline := time.Now().Add(20 * time.Second)
	for ; time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if production.record.open.Load() == 0 && target.record.open.Load() <= int64(len(e.open)) {
			break
		}
	}
	left := target.record.open.Load()
	e.close()
	production.close()
	target.close()
	var after time.Duration
	if h.settled > 0 {
		for _, stream := range production.record.streams {
			after = max(after, stream[h.settled].at)
		}
		r.Scenario.CopierAfter = after
	}
	r.Production, r.Target, r.Comparison = compare(&production.record, &target.record, after)
	r.Target.LeftOpen = left
	return r
}

func printed(r *Result) string {
	var b bytes.Buffer
	r.Print(&b)
	return b.String()
}
