package ontarget

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/proto/http1"
	"tcpcopy/internal/sys"
	"tcpcopy/internal/way/link/key"
	"tcpcopy/internal/way/link/wire"
	"tcpcopy/internal/way/tunnel/localroute"
)

const patience = 20 * time.Second

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var start = time.Now()

func now() mono.Time { return mono.Time(time.Since(start)) }

// every allows all ports.
var every = key.Ports{Any: true}

// loopback lets loopback addresses be clients, so that the tests need no routing.
type loopback struct{ unreachable error }

func (l loopback) Way(target netip.AddrPort) (netip.AddrPort, uint32, error) {
	return target, 0, l.unreachable
}
func (loopback) Free(_, _ netip.AddrPort) error { return nil }
func (loopback) Owns(a netip.Addr) bool         { return a.IsLoopback() }
func (loopback) Client(a netip.Addr) bool {
	return a.IsLoopback() &&
		a != netip.IPv6Loopback()
}

// copier is the other end of a peer.
type copier struct {
	t    testing.TB
	peer *Peer

	mu     sync.Mutex
	events []wire.StreamEvent
	news   chan struct{}
	deaf   bool // takes no more messages
	broken chan struct{}
}

func attach(t testing.TB, l *Server, name byte) *copier {
	t.Helper()
	return attachWith(t, l, name, 0)
}

func attachWith(t testing.TB, l *Server, name byte, connect time.Duration) *copier {
	t.Helper()
	return attachAs(t, l, name, nil, connect)
}

func attachAs(t testing.TB, l *Server, name byte, holder *key.Holder,
	connect time.Duration) *copier {
	t.Helper()
	c := &copier{t: t, news: make(chan struct{}, 1), broken: make(chan struct{}, 8)}
	var err error
	c.peer, err = l.Attach(wire.Instance{name}, holder, connect, nil, c.take,
		func() { c.broken <- struct{}{} })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.peer.Close)
	return c
}

func (c *copier) take(frame []byte) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.deaf {
		return false
	}
	for body := frame[wire.FrameHeader:]; len(body) > 0; {
		var ev wire.StreamEvent
		rest, err := wire.NextStreamEvent(body, &ev)
		if err != nil {
			c.t.Errorf("events: %v", err)
			return true
		}
		c.events = append(c.events, ev)
		body = rest
	}
	select {
	case c.news <- struct{}{}:
	default:
	}
	return true
}

func (c *copier) operate(ops ...wire.Op) error {
	var body []byte
	for i := range ops {
		body = wire.AppendOp(body, &ops[i])
	}
	err := c.peer.Operations(body)
	clear(body) // the peer must not keep it
	return err
}

func (c *copier) must(ops ...wire.Op) {
	c.t.Helper()
	if err := c.operate(ops...); err != nil {
		c.t.Fatal(err)
	}
}

// await waits for an event of a stream, of a kind and with at least n.
func (c *copier) await(id uint64, kind wire.StreamEventKind, n uint64) wire.StreamEvent {
	c.t.Helper()
	over := time.NewTimer(patience)
	defer over.Stop()
	for {
		c.mu.Lock()
		for _, ev := range c.events {
			if ev.ID == id && ev.Kind == kind && ev.N >= n {
				c.mu.Unlock()
				return ev
			}
		}
		all := append([]wire.StreamEvent(nil), c.events...)
		c.mu.Unlock()
		select {
		case <-c.news:
		case <-over.C:
			c.t.Fatalf("stream %d: no event %d with %d; there were %+v", id, kind, n, all)
		}
	}
}

// server accepts connections, and returns them.
func server(t testing.TB) (netip.AddrPort, <-chan net.Conn) {
	t.Helper()
	fd, err := sys.OpenTCP(false)
	if err != nil {
		t.Fatal(err)
	}
	err = sys.BindTransparent(fd, netip.MustParseAddrPort("127.0.0.9:0"))
	sys.ResetTCP(fd)
	if errors.Is(err, os.ErrPermission) {
		t.Skip(err)
	}
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	conns := make(chan net.Conn, 64)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			conns <- c
		}
	}()
	t.Cleanup(func() {
		l.Close()
		<-done
		for {
			select {
			case c := <-conns:
				c.Close()
				continue
			default:
			}
			return
		}
	})
	return l.Addr().(*net.TCPAddr).AddrPort(), conns
}

func accept(t testing.TB, conns <-chan net.Conn) net.Conn {
	t.Helper()
	select {
	case c := <-conns:
		t.Cleanup(func() { c.Close() })
		c.SetDeadline(time.Now().Add(patience))
		return c
	case <-time.After(patience):
		t.Fatal("nobody connected")
		return nil
	}
}

func client(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 9, byte(i)}),
		uint16(20000+os.Getpid()%20000))
}

func open(id uint64, i int, target netip.AddrPort) wire.Op {
	return wire.Op{Kind: wire.OpOpen, ID: id, Client: client(i), Target: target}
}

func data(id uint64, b []byte) wire.Op { return wire.Op{Kind: wire.OpData, ID: id, Data: b} }

func TestConversation(t *testing.T) {
	target, conns := server(t)
	c := attach(t, New(Config{Allow: every, Routes: loopback{}, Now: now}), 1)
	c.must(open(1, 1, target), data(1, []byte("hello ")), data(1, []byte("there")),
		wire.Op{Kind: wire.OpCloseWrite, ID: 1})
	s := accept(t, conns)
	if got := s.RemoteAddr().String(); got != client(1).String() {
		t.Errorf("the server sees %s, want %s", got, client(1))
	}
	if b, err := io.ReadAll(s); err != nil || string(b) != "hello there" {
		t.Errorf("the server read %q, %v", b, err)
	}
	c.await(1, wire.EventOpened, 0)
	c.await(1, wire.EventTaken, 11)
	if _, err := s.Write(make([]byte, 100_000)); err != nil {
		t.Fatal(err)
	}
	s.Close()
	c.await(1, wire.EventReceived, 100_000)
	c.await(1, wire.EventFinished, 0)
	if st := c.peer.server.Stats(); st.Streams != 0 || st.Finished != 1 || st.BytesIn != 11 ||
		st.BytesOut != 100_000 || st.Buffered != 0 {
		t.Errorf("stats %+v", st)
	}
}

// TestSlowTarget: a stream whose target does not read uses its credit and no more, and does not
// delay others.
func TestSlowTarget(t *testing.T) {
	target, conns := server(t)
	c := attach(t, New(Config{Allow: every, Routes: loopback{}, Now: now}), 1)
	c.must(open(1, 1, target), open(2, 2, target))
	by := map[string]net.Conn{}
	for range 2 {
		s := accept(t, conns)
		by[s.RemoteAddr().String()] = s
	}
	slow, fast := by[client(1).String()], by[client(2).String()]
	piece := bytes.Repeat([]byte("slow "), wire.MaxData/5)
	sent, taken, kept := 0, uint64(0), 0
	for kept+len(piece) <= wire.Window { // until the kernel takes no more
		for sent-int(taken)+len(piece) <= wire.Window {
			c.must(data(1, piece))
			sent += len(piece)
		}
		c.peer.mu.Lock()
		kept = len(c.peer.streams[1].kept)
		c.peer.mu.Unlock()
		// the kernel has taken some, and we have or will be told
		if kept+len(piece) <= wire.Window {
			taken = c.await(1, wire.EventTaken, taken+1).N
		}
	}
	if b := c.peer.server.Stats().Buffered; b < int64(kept) || b > 2*wire.Window {
		t.Errorf("%d bytes are kept, want %d or some more", b, kept)
	}
	c.must(data(2, []byte("fast")))
	if _, err := io.ReadFull(fast, make([]byte, 4)); err != nil {
		t.Errorf("the other stream: %v", err)
	}
	tooMuch := slices.Repeat([]wire.Op{data(1, piece)}, wire.Window/len(piece)+1)
	if err := c.operate(tooMuch...); !errors.Is(err, wire.ErrValue) {
		t.Errorf("more than the credit: %v, want ErrValue", err)
	}
	go func() {
		slow.SetReadDeadline(time.Now().Add(patience))
		io.Copy(io.Discard, slow)
	}()
	c.await(1, wire.EventTaken, uint64(sent))
	if b := c.peer.server.Stats().Buffered; b != 0 {
		t.Errorf("%d bytes are kept after all were taken", b)
	}
}

func TestContent(t *testing.T) {
	target, conns := server(t)
	c := attach(t, New(Config{Allow: every, Routes: loopback{}, Now: now}), 1)
	c.must(open(1, 1, target))
	s := accept(t, conns)
	const total = 8 << 20
	want := make([]byte, total)
	for i := range want {
		want[i] = byte(i ^ i>>8 ^ i>>16)
	}
	got := make(chan []byte, 1)
	go func() {
		var b []byte
		buf := make([]byte, 3000)
		for i := 0; ; i++ {
			n, err := s.Read(buf[:1+i%len(buf)])
			b = append(b, buf[:n]...)
			if err != nil {
				got <- b
				return
			}
		}
	}()
	for off := 0; off < total; {
		n := min(1+off*7%wire.MaxData, total-off)
		if off+n > wire.Window {
			c.await(1, wire.EventTaken, uint64(off+n-wire.Window))
		}
		c.must(data(1, bytes.Clone(want[off:off+n])))
		off += n
	}
	c.must(wire.Op{Kind: wire.OpCloseWrite, ID: 1})
	if b := <-got; !bytes.Equal(b, want) {
		t.Errorf("the server read %d bytes that differ from the %d sent", len(b), total)
	}
}

func TestRefusals(t *testing.T) {
	target, _ := server(t)
	for _, tc := range []struct {
		name string
		cfg  Config
		op   wire.Op
		want ledger.Reason
	}{
		{"another port", Config{Allow: key.Ports{List: []uint16{1}}}, open(1, 1, target),
			ledger.TargetForbidden},
		{"no port at all", Config{Allow: key.Ports{Loopback: []uint16{1}}}, open(1, 1, target),
			ledger.TargetForbidden},
		{"a client outside the networks", Config{Allow: every,
			Clients: []netip.Prefix{netip.MustParsePrefix("127.1.0.0/16")}}, open(1, 1, target),
			ledger.BadClientAddress},
		{"a server on loopback alone", Config{Allow: every,
			Routes: loopback{fmt.Errorf("no: %w", localroute.ErrPrivate)}}, open(1, 1, target),
			ledger.TargetForbidden},
		{"an exempt port", Config{Allow: every, Except: []uint16{target.Port()}},
			open(1, 1, target),
			ledger.TargetForbidden},
		{"another host", Config{Allow: every}, open(1, 1, netip.MustParseAddrPort("192.0.2.1:80")),
			ledger.TargetForbidden},
		{"no client address", Config{Allow: every}, wire.Op{Kind: wire.OpOpen, ID: 1,
			Client: netip.MustParseAddrPort("192.0.2.1:80"),
			Target: target}, ledger.BadClientAddress},
		{"no client port", Config{Allow: every}, wire.Op{Kind: wire.OpOpen, ID: 1,
			Client: netip.MustParseAddrPort("127.0.9.1:0"),
			Target: target}, ledger.BadClientAddress},
		{"another family", Config{Allow: every}, wire.Op{Kind: wire.OpOpen, ID: 1,
			Client: netip.MustParseAddrPort("[2001:db8::1]:80"),
			Target: target}, ledger.BadClientAddress},
		{"unreachable", Config{Allow: every, Routes: loopback{errors.New("no way")}},
			open(1, 1, target), ledger.TargetUnreachable},
		{"nobody listens", Config{Allow: every}, open(1, 1, netip.MustParseAddrPort("127.0.0.1:1")),
			ledger.TargetRefused},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if tc.cfg.Routes == nil {
				tc.cfg.Routes = loopback{}
			}
			tc.cfg.Now = now
			l := New(tc.cfg)
			c := attach(t, l, 1)
			c.must(tc.op, data(1, []byte("unheard")))
			if ev := c.await(1, wire.EventFailed, 0); ev.Reason != tc.want {
				t.Errorf("failed for %v, want %v", ev.Reason, tc.want)
			}
			if st := l.Stats(); st.Streams != 0 || st.Failed[tc.want.String()] != 1 {
				t.Errorf("stats %+v", st)
			}
		})
	}
}

func TestBounds(t *testing.T) {
	target, conns := server(t)
	l := New(Config{Allow: every, Routes: loopback{}, Now: now, MaxStreams: 2, MaxBytes: 100_000})
	c := attach(t, l, 1)
	c.must(open(1, 1, target), open(2, 2, target), open(3, 3, target))
	if ev := c.await(3, wire.EventFailed, 0); ev.Reason != ledger.OverSessions {
		t.Errorf("the third stream failed for %v", ev.Reason)
	}
	c.await(1, wire.EventOpened, 0)
	c.await(2, wire.EventOpened, 0)
	accept(t, conns)
	accept(t, conns)
	for sent := 0; sent < 100<<20; sent += wire.MaxData {
		c.mu.Lock()
		failed, taken := ledger.None, uint64(0)
		for _, ev := range c.events {
			if ev.ID == 1 && ev.Kind == wire.EventFailed {
				failed = ev.Reason
			}
			if ev.ID == 1 && ev.Kind == wire.EventTaken {
				taken = ev.N
			}
		}
		c.mu.Unlock()
		if failed == ledger.OverMemory {
			return
		}
		if failed != ledger.None || uint64(sent)+wire.MaxData-taken > wire.Window {
			t.Fatalf("%d bytes sent, %d taken, failed for %v: want over_memory before", sent, taken,
				failed)
		}
		c.must(data(1, make([]byte, wire.MaxData)))
	}
	t.Error("no bound on memory")
}

// TestLateCopy: a copier that is far behind repeats nothing that another one has done.
func TestLateCopy(t *testing.T) {
	target, conns := server(t)
	var later atomic.Int64
	l := New(Config{Allow: every, Routes: loopback{},
		Now: func() mono.Time { return now().Add(time.Duration(later.Load())) }})
	c, other := attach(t, l, 1), attach(t, l, 2)
	c.must(open(1, 1, target))
	accept(t, conns)
	c.await(1, wire.EventOpened, 0)
	c.must(wire.Op{Kind: wire.OpAbort, ID: 1})
	later.Store(int64(4 * time.Second))
	other.must(wire.Op{Kind: wire.OpLate, ID: 1, Age: 4 * time.Second}, open(1, 1, target))
	if ev := other.await(1, wire.EventFailed, 0); ev.Reason != ledger.TupleTaken {
		t.Errorf("it failed for %v", ev.Reason)
	}
	other.must(open(2, 1, target)) // another connection of the client
	other.await(2, wire.EventOpened, 0)
	accept(t, conns)
}

// TestSameEnds: a client uses its port again, with the same copier and with another one.
func TestSameEnds(t *testing.T) {
	target, conns := server(t)
	l := New(Config{Allow: every, Routes: loopback{}, Now: now})
	c, other := attach(t, l, 1), attach(t, l, 2)
	c.must(open(1, 1, target))
	accept(t, conns)
	c.await(1, wire.EventOpened, 0)
	other.must(open(1, 1, target))
	if ev := other.await(1, wire.EventFailed, 0); ev.Reason != ledger.TupleTaken {
		t.Errorf("another copier's: %v", ev.Reason)
	}
	c.must(open(2, 1, target), data(2, []byte("again")))
	c.must(wire.Op{Kind: wire.OpAbort, ID: 1})
	c.await(2, wire.EventOpened, 0)
	s := accept(t, conns)
	if b := make([]byte, 5); true {
		if _, err := io.ReadFull(s, b); err != nil || string(b) != "again" {
			t.Errorf("read %q, %v", b, err)
		}
	}
	c.must(wire.Op{Kind: wire.OpAbort, ID: 2})
	other.must(open(2, 1, target)) // it is only behind
	if ev := other.await(2, wire.EventFailed, 0); ev.Reason != ledger.TupleTaken {
		t.Errorf("another copier's, afterwards: %v", ev.Reason)
	}
	c.must(open(3, 1, target))
	c.await(3, wire.EventOpened, 0)
	accept(t, conns)
	c.peer.Close() // the first one is gone, and the other takes over
	other.must(open(3, 1, target))
	other.await(3, wire.EventOpened, 0)
}

func TestLostCopier(t *testing.T) {
	target, conns := server(t)
	l := New(Config{Allow: every, Routes: loopback{}, Now: now})
	c := attach(t, l, 1)
	c.must(open(1, 1, target), data(1, []byte("the last words")))
	s := accept(t, conns)
	c.await(1, wire.EventTaken, 14)
	c.peer.Close()
	b, err := io.ReadAll(s)
	if string(b) != "the last words" || err == nil {
		t.Errorf("read %q, %v; want all that was taken, and a reset", b, err)
	}
	if st := l.Stats(); st.Streams != 0 || st.LinksLost != 1 || st.Copiers != 0 {
		t.Errorf("stats %+v", st)
	}
	if err := c.operate(open(2, 2, target)); err != nil {
		t.Errorf("operations afterwards: %v", err)
	}
}

func TestDeafCopier(t *testing.T) {
	target, conns := server(t)
	c := attach(t, New(Config{Allow: every, Routes: loopback{}, Now: now}), 1)
	c.must(open(1, 1, target))
	s := accept(t, conns)
	c.await(1, wire.EventOpened, 0)
	c.mu.Lock()
	c.deaf = true
	c.mu.Unlock()
	if _, err := s.Write([]byte("an answer")); err != nil {
		t.Fatal(err)
	}
	select {
	case <-c.broken:
	case <-time.After(patience):
		t.Error("the copier's connection was not ended")
	}
}

func FuzzOperations(f *testing.F) {
	ops := []wire.Op{open(1, 1, netip.MustParseAddrPort("127.0.0.1:9")), data(1, []byte("x")),
		{Kind: wire.OpRead, ID: 1, Proto: http1.Kind}, {Kind: wire.OpExpect, ID: 1, Request: 1,
			Hint: 1},
		{Kind: wire.OpCloseWrite, ID: 1}, data(1, []byte("y")), {Kind: wire.OpAbort, ID: 1}}
	var body []byte
	for i := range ops {
		body = wire.AppendOp(body, &ops[i])
	}
	f.Add(body)
	l := New(Config{Allow: every, Routes: loopback{errors.New("nowhere")}, Now: now,
		MaxStreams: 10})
	peer, err := l.Attach(wire.Instance{}, nil, 0, nil,
		func([]byte) bool { return true }, func() {})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(peer.Close)
	f.Fuzz(func(t *testing.T, body []byte) {
		if err := peer.Operations(body); err != nil && !errors.Is(err, wire.ErrValue) &&
			!errors.Is(err, wire.ErrShort) {
			t.Fatal(err)
		}
		if st := l.Stats(); st.Streams != 0 || st.Buffered != 0 {
			t.Fatalf("left over: %+v", st)
		}
	})
}

// TestFileLimit: a server allows no more connections than the process may open.
func TestFileLimit(t *testing.T) {
	files, err := sys.RaiseFileLimit(1 << 20)
	if err != nil {
		t.Fatal(err)
	}
	if l := New(Config{Allow: every, Routes: loopback{}, Now: now,
		MaxStreams: 1 << 30}); l.cfg.MaxStreams >= int(files) {
		t.Errorf("room for %d connections with %d files", l.cfg.MaxStreams, files)
	}
	l := New(Config{Allow: every, Routes: loopback{}, Now: now, MaxStreams: 100})
	if l.cfg.MaxStreams != 100 {
		t.Errorf("room for %d connections, wanted 100", l.cfg.MaxStreams)
	}
}

// fullBacklog returns the address of a listener that answers no SYN after the first.
func fullBacklog(t *testing.T) netip.AddrPort {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(fd) })
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	return sys.LocalAddr(fd)
}

// TestConnectTimeout: a copier says how long attempts to connect may take, whatever the server's
// own limit is.
func TestConnectTimeout(t *testing.T) {
	server(t) // or the test is skipped
	target := fullBacklog(t)
	c := attachWith(t, New(Config{Allow: every, Routes: loopback{}, Now: now,
		ConnectTimeout: time.Hour}), 1,
		50*time.Millisecond)
	c.must(open(1, 1, target))
	c.await(1, wire.EventOpened, 0)
	c.must(open(2, 2, target), open(3, 3, target))
	if ev := c.await(3, wire.EventFailed, 0); ev.Reason != ledger.ConnectTimeout {
		t.Errorf("failed for %v, want %v", ev.Reason, ledger.ConnectTimeout)
	}
}
