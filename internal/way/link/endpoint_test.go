package link

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/way/link/key"
	"tcpcopy/internal/way/link/wire"
)

const patience = 10 * time.Second

func testOptions() Options {
	return Options{Queue: 1 << 20, DeadAfter: patience, Now: func() mono.Time { return 77 }}
}

// shortWrites makes the peer accept something within d, for one test.
func shortWrites(t *testing.T, d time.Duration) {
	was := writeTimeout
	writeTimeout = d
	t.Cleanup(func() { writeTimeout = was })
}

// piped returns an endpoint that is started, and the other end of its connection. The pipe holds
// nothing: what was written was read.
func piped(t *testing.T, opt Options, room func()) (*Endpoint, *wireEnd) {
	t.Helper()
	near, far := net.Pipe()
	e := newEndpoint(near, "peer", &opt)
	e.in.Introduced()
	e.Start(room)
	t.Cleanup(func() {
		far.Close()
		e.Close()
		e.Wait()
	})
	return e, &wireEnd{Conn: far, t: t}
}

// wireEnd is the test's end of a connection, which reads and writes frames.
type wireEnd struct {
	net.Conn
	t      *testing.T
	in     wire.Reader
	opened bool
}

// send writes bytes, after the preface that opens a connection.
func (w *wireEnd) send(b []byte) {
	w.t.Helper()
	if !w.opened {
		w.opened = true
		b = append([]byte(wire.Preface), b...)
	}
	if _, err := w.Write(b); err != nil {
		w.t.Fatal(err)
	}
}

// frame reads the next frame.
func (w *wireEnd) frame() wire.Frame {
	w.t.Helper()
	w.SetReadDeadline(time.Now().Add(patience))
	for {
		f, ok, err := w.in.Next()
		if err != nil {
			w.t.Fatal(err)
		}
		if ok {
			return f
		}
		n, err := w.Read(w.in.Space())
		if w.in.Filled(n); err != nil && n == 0 {
			w.t.Fatal(err)
		}
	}
}

// receives calls Receive until it returns an error, and passes that on.
func receives(e *Endpoint) chan error {
	ended := make(chan error, 1)
	go func() {
		for {
			if _, err := e.Receive(); err != nil {
				ended <- err
				return
			}
		}
	}()
	return ended
}

// within returns what a goroutine passes on, in time.
func within[T any](t *testing.T, what string, c <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(patience):
		t.Fatalf("waited in vain for %s", what)
	}
	return v
}

// TestQueueBound: while more than the bound waits nothing is queued, and room is reported once the
// writer has taken it. What was queued is written whole and in order.
func TestQueueBound(t *testing.T) {
	opt := testOptions()
	opt.Queue = 100
	hasRoom := make(chan struct{}, 10)
	e, far := piped(t, opt, func() { hasRoom <- struct{}{} })
	e.Put([]byte("x"))
	first := make([]byte, 1)
	io.ReadFull(far, first) // the writer has taken it
	var sent bytes.Buffer
	frame := bytes.Repeat([]byte("y"), 60)
	n := 0
	for ; e.Put(frame); n++ {
		sent.Write(frame)
		if n > 100 {
			t.Fatal("the queue has no bound")
		}
	}
	if n < 2 || n > 4 { // 2 in the queue, and 2 that the writer may have taken
		t.Errorf("%d frames of 60 bytes found room in 100", n)
	}
	got := make([]byte, sent.Len())
	if _, err := io.ReadFull(far, got); err != nil || !bytes.Equal(got, sent.Bytes()) {
		t.Errorf("%d bytes arrive, %v", len(got), err)
	}
	within(t, "room", hasRoom)
	if !e.Put(frame) {
		t.Error("no room when all was written")
	}
	io.ReadFull(far, got[:60])
	select {
	case <-hasRoom:
		t.Error("room was reported, and none had been wanted")
	default:
	}
}

// TestPings: an endpoint answers pings, sends its own, and ends when the peer is silent.
func TestPings(t *testing.T) {
	opt := testOptions()
	e, far := piped(t, opt, nil)
	ended := receives(e)
	far.send((&wire.Ping{ID: 9}).Append(nil))
	pong := rawFrame(t, far)
	var p wire.Pong
	if err := p.Decode(pong.Body); err != nil || p.ID != 9 || p.At != 77 {
		t.Errorf("%v %+v (%v)", pong.Type, p, err)
	}
	far.Close()
	if err := within(t, "the end", ended); !errors.Is(err, io.EOF) || !Orderly(err) {
		t.Errorf("ended with %v", err)
	}

	opt.PingEvery, opt.DeadAfter = 5*time.Millisecond, 100*time.Millisecond
	e, far = piped(t, opt, nil)
	ended = receives(e)
	for i := range 3 {
		var p wire.Ping
		if f := rawFrame(t, far); p.Decode(f.Body) != nil || p.ID != uint64(i+1) {
			t.Errorf("%v %+v, want ping %d", f.Type, p, i+1)
		}
	}
	go io.Copy(io.Discard, far)
	var silent *Silent
	err := within(t, "the end", ended)
	if !errors.As(err, &silent) || err.Error() != "nothing received for 100ms" {
		t.Errorf("ended with %v", err)
	}
}

// rawFrame reads one frame of an endpoint that has written no preface.
func rawFrame(t *testing.T, c net.Conn) wire.Frame {
	t.Helper()
	c.SetReadDeadline(time.Now().Add(patience))
	head := make([]byte, wire.FrameHeader)
	if _, err := io.ReadFull(c, head); err != nil {
		t.Fatal(err)
	}
	f := wire.Frame{Type: wire.Type(head[0]), Flags: head[1], Body: make([]byte, head[5])}
	if _, err := io.ReadFull(c, f.Body); err != nil {
		t.Fatal(err)
	}
	return f
}

// TestBye: the peer's last words are the error, and tell an orderly end from others.
func TestBye(t *testing.T) {
	for _, tc := range []struct {
		bye     wire.Bye
		want    string
		orderly bool
	}{
		{wire.Bye{Reason: wire.ByeShutdown}, "the peer closed the connection: shutting down", true},
		{wire.Bye{Reason: wire.ByeProtocol, Text: "why"},
			"the peer closed the connection: protocol error: why", false},
	} {
		e, far := piped(t, testOptions(), nil)
		ended := receives(e)
		far.send(tc.bye.Append(nil))
		if err := within(t, "the end", ended); err.Error() != tc.want ||
			Orderly(err) != tc.orderly {
			t.Errorf("%v, orderly %v", err, Orderly(err))
		}
	}
}

// TestMalformed: what cannot be read ends the connection, and the Bye says why.
func TestMalformed(t *testing.T) {
	for name, b := range map[string][]byte{
		"a frame too long": {byte(wire.TypePing), 0, 0xff, 0xff, 0xff, 0xff},
		"half a ping":      wire.AppendRaw(nil, wire.TypePing, 0, []byte{1}),
		"half a bye":       wire.AppendRaw(nil, wire.TypeBye, 0, nil),
	} {
		t.Run(name, func(t *testing.T) {
			e, far := piped(t, testOptions(), nil)
			ended := receives(e)
			far.send(b)
			err := within(t, "the end", ended)
			if !wire.Malformed(err) || Orderly(err) {
				t.Errorf("ended with %v", err)
			}
			var bye wire.Bye
			if e := bye.Decode(Bye(err)[wire.FrameHeader:]); e != nil ||
				bye.Reason != wire.ByeProtocol || bye.Text != err.Error() {
				t.Errorf("%+v (%v)", bye, e)
			}
		})
	}
}

// TestFinish: what was queued is written, with the last frames behind it, and then the connection
// is closed. Nothing is queued afterwards.
func TestFinish(t *testing.T) {
	e, far := piped(t, testOptions(), nil)
	e.Put([]byte("one "))
	e.Finish([]byte("two"))
	e.Finish([]byte("three"))
	if e.Put([]byte("four")) {
		t.Error("a frame is queued after the last")
	}
	all, err := io.ReadAll(far)
	if err != nil || string(all) != "one two" {
		t.Errorf("%q, %v", all, err)
	}
	e.Wait()
}

// TestStuckPeer: a peer that reads nothing does not keep an endpoint from ending, with or without
// TLS, whose close_notify it does not read either.
func TestStuckPeer(t *testing.T) {
	k, err := key.Parse(key.Generate())
	if err != nil {
		t.Fatal(err)
	}
	for name, keyed := range map[string]bool{"plain": false, "TLS": true} {
		t.Run(name, func(t *testing.T) {
			var server, client *tls.Config
			if keyed {
				server, client = key.ServerTLS(k), key.ClientTLS(k)
			}
			admitted := make(chan *Endpoint, 1)
			s := newTestServer(t, server, func(e *Endpoint, _ []byte) (func() error, *wire.Refuse) {
				admitted <- e
				return func() error { return <-receives(e) }, nil
			}, func(o *Options) { o.Queue = 16 << 20 })
			c := s.dial(t, client)
			tcp := c.Conn
			if keyed {
				tcp = c.Conn.(*tls.Conn).NetConn()
			}
			tcp.(*net.TCPConn).SetReadBuffer(64 << 10)
			c.send(hello(1))
			e := within(t, "the endpoint", admitted)
			// More than the kernel takes, which is 4 MB and the peer's buffer.
			for b := make([]byte, 64<<10); e.Put(b); {
			}
			began := time.Now()
			e.Finish(Bye(nil))
			e.Wait()
			if took := time.Since(began); took > 4*time.Second {
				t.Errorf("ended after %v", took)
			}
		})
	}
}

// TestWriteTimeout: a peer that takes nothing for long is given up, for the writer's reason.
func TestWriteTimeout(t *testing.T) {
	shortWrites(t, 50*time.Millisecond)
	e, _ := piped(t, testOptions(), nil)
	ended := receives(e)
	e.Put([]byte("nobody reads this"))
	err := within(t, "the end", ended)
	if err == nil || !strings.HasPrefix(err.Error(), "write: ") || Orderly(err) {
		t.Errorf("ended with %v", err)
	}
	if e.Put([]byte("x")) {
		t.Error("a frame is queued after the writer has given up")
	}
}

// TestSendBesideQueue: frames that are sent at once are not mixed with those that are queued.
func TestSendBesideQueue(t *testing.T) {
	room := make(chan struct{}, 1)
	e, far := piped(t, testOptions(), func() {
		select {
		case room <- struct{}{}:
		default: // the last one was not taken yet
		}
	})
	var total atomic.Uint64
	e.CountBytes(&total)
	const rounds, size = 50, 70_000 // three parts each
	var wg sync.WaitGroup
	wg.Go(func() {
		frame := wire.AppendRaw(nil, wire.TypePackets, 0, bytes.Repeat([]byte("s"), size))
		for range rounds {
			if err := e.Send(frame); err != nil {
				t.Error(err)
			}
		}
	})
	wg.Go(func() {
		frame := wire.AppendRaw(nil, wire.TypeAgentCounts, 0, bytes.Repeat([]byte("q"), size))
		for n := 0; n < rounds; {
			if e.Put(frame) {
				n++
			} else {
				<-room
			}
		}
	})
	got := map[wire.Type]int{}
	in := new(wire.Reader)
	in.Introduced()
	in.Filled(copy(in.Space(), wire.Preface))
	for got[wire.TypePackets] < rounds || got[wire.TypeAgentCounts] < rounds {
		f, ok, err := in.Next()
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			n, err := far.Read(in.Space())
			if err != nil {
				t.Fatal(err)
			}
			in.Filled(n)
			continue
		}
		want := byte('s')
		if f.Type == wire.TypeAgentCounts {
			want = 'q'
		}
		if len(f.Body) != size || slices.ContainsFunc(f.Body, func(b byte) bool {
			return b != want
		}) {
			t.Fatalf("%v of %d bytes is mixed", f.Type, len(f.Body))
		}
		got[f.Type]++
	}
	wg.Wait()
	e.Finish(nil)
	e.Wait()
	if want := uint64(2 * rounds * (size + wire.FrameHeader)); total.Load() != want {
		t.Errorf("%d bytes are counted, want %d", total.Load(), want)
	}
}

// TestFinishBy: all that is still written has one deadline together.
func TestFinishBy(t *testing.T) {
	e, _ := piped(t, testOptions(), nil)
	e.FinishBy(50 * time.Millisecond)
	began := time.Now()
	if err := e.Send([]byte("nobody reads this")); err == nil {
		t.Error("sent")
	}
	e.Finish(Bye(nil))
	e.Wait()
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("ended after %v", took)
	}
}

func TestBackoff(t *testing.T) {
	b := Backoff{Low: 100, High: 400}
	for i, bound := range []time.Duration{100, 200, 400, 400} {
		if d := b.Next(0); d < bound/2 || d > bound {
			t.Errorf("wait %d: %d, want up to %d", i, d, bound)
		}
	}
	if d := b.Next(801); d > 100 {
		t.Errorf("%d after a connection that had lasted", d)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	Sleep(ctx, time.Hour)
}

// An intercept that comes back is found within a second, however long it was away.
func TestRedialsWithinASecond(t *testing.T) {
	var c Config
	c.defaults()
	b := Backoff{Low: c.BackoffLo, High: c.BackoffHi}
	for i := range 100 {
		if d := b.Next(0); d > 900*time.Millisecond {
			t.Fatalf("wait %d: %v", i, d)
		}
	}
}

// hello is a copier's hello with an instance.
func hello(instance byte) []byte {
	h := wire.Hello{Version: wire.Version, Instance: wire.Instance{instance}, Slot: 1, Conns: 1}
	return h.Append(nil)
}

// testServer is a Server of the test's, and its log.
type testServer struct {
	*Server
	log *logBuffer
}

func newTestServer(t *testing.T, k *tls.Config,
	admit func(*Endpoint, []byte) (func() error, *wire.Refuse),
	change ...func(*Options)) *testServer {
	t.Helper()
	return startTestServer(t, nil, k, admit, change...)
}

// startTestServer is newTestServer with the only peers that may connect; nil: all.
func startTestServer(t *testing.T, peers []netip.Prefix, k *tls.Config,
	admit func(*Endpoint, []byte) (func() error, *wire.Refuse),
	change ...func(*Options)) *testServer {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &testServer{log: new(logBuffer)}
	opt := testOptions()
	opt.TLS, opt.Queue = k, 4<<20
	for _, f := range change {
		f(&opt)
	}
	if admit == nil {
		admit = welcomes
	}
	s.Server = NewServer(ServerConfig{Options: opt, Listeners: []net.Listener{ln},
		Peers: peers, Hello: wire.TypeHello, Admit: admit,
		Log:    slog.New(slog.NewTextHandler(s.log, nil)),
		Prefix: "here", Self: "intercept", Peer: "copier", Software: "test"})
	s.Start()
	t.Cleanup(s.Close)
	return s
}

// welcomes admits every peer, and receives until its connection ends.
func welcomes(e *Endpoint, _ []byte) (func() error, *wire.Refuse) {
	w := wire.Welcome{Version: wire.Version, Way: wire.WayRaw, Slot: 1}
	e.Put(w.Append(nil))
	return func() error { return <-receives(e) }, nil
}

// dial connects to a server.
func (s *testServer) dial(t *testing.T, k *tls.Config) *wireEnd {
	t.Helper()
	c, err := net.Dial("tcp", s.Addrs()[0].String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if k != nil {
		c = tls.Client(c, k)
	}
	return &wireEnd{Conn: c, t: t}
}

// logBuffer is a log that goroutines write and a test reads.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// until waits until ok returns true.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); !ok(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// TestCloseOverTLS: a peer under TLS that takes nothing more, not even the word that the connection
// ends, has no more time for that than for what was written last.
func TestCloseOverTLS(t *testing.T) {
	k := newKey(t)
	ours, theirs := net.Pipe() // which has no buffer
	defer theirs.Close()
	server, client := tls.Server(ours, key.ServerTLS(k)), tls.Client(theirs, key.ClientTLS(k))
	done := make(chan error, 1)
	go func() { done <- client.Handshake() }()
	if err := server.Handshake(); err != nil {
		t.Fatal(err)
	}
	if err := within(t, "the handshake", done); err != nil {
		t.Fatal(err)
	}
	opt := testOptions()
	e := newEndpoint(ours, "peer", &opt)
	e.conn = server
	e.Start(nil)
	began := time.Now()
	e.Finish(nil)
	e.Wait()
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("closed after %v", took)
	}
}
