package intercept_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/core/seqnum"
	"tcpcopy/internal/source"
	"tcpcopy/internal/way/link"
	"tcpcopy/internal/way/link/key"
	"tcpcopy/internal/way/link/wire"
	"tcpcopy/internal/way/raw/intercept"
)

const deadline = 10 * time.Second

var (
	target  = netip.MustParseAddrPort("10.0.0.2:8080")
	target6 = netip.MustParseAddrPort("[fd00::2]:8080")
	began   = time.Now()
)

func now() mono.Time { return mono.Time(time.Since(began)) }

// fakeSource yields the frames that a test sends.
type fakeSource struct {
	frames chan []source.Frame
	closed chan struct{}
	once   sync.Once
}

func newSource() *fakeSource {
	return &fakeSource{frames: make(chan []source.Frame, 1024), closed: make(chan struct{})}
}

func (f *fakeSource) Next(wait time.Duration) ([]source.Frame, error) {
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case b := <-f.frames:
		return b, nil
	case <-f.closed:
		return nil, source.ErrClosed
	case <-t.C:
		return nil, nil
	}
}

func (f *fakeSource) Stats() source.Stats { return source.Stats{} }

func (f *fakeSource) Close() error {
	f.once.Do(func() { close(f.closed) })
	return nil
}

// see lets the intercept capture segments.
func (f *fakeSource) see(segs ...packet.Segment) {
	var batch []source.Frame
	for i := range segs {
		b := packet.Append(nil, &segs[i])
		batch = append(batch, source.Frame{Data: b, Wire: len(b), Time: now()})
	}
	f.frames <- batch
}

func client(n int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, 2, byte(n >> 8)}),
		uint16(20000+n&0xff))
}

func client6(n int) netip.AddrPort {
	return netip.AddrPortFrom(netip.MustParseAddr("fd00::1:5"), uint16(20000+n))
}

func synAck(c netip.AddrPort, slot uint8) packet.Segment {
	s := packet.Segment{Src: target, Dst: c, Flags: packet.SYN | packet.ACK, Seq: 100,
		Ack: seqnum.Value(0x5500+uint32(slot)) + 1, Window: 1000, Opts: packet.Options{MSS: 1460}}
	if c.Addr().Is6() {
		s.Src = target6
	}
	return s
}

func data(c netip.AddrPort, seq int, n int) packet.Segment {
	s := packet.Segment{Src: target, Dst: c, Flags: packet.ACK, Seq: seqnum.Value(seq), Ack: 9,
		Payload: make([]byte, n), Len: n}
	if c.Addr().Is6() {
		s.Src = target6
	}
	return s
}

// safeBuffer is a log that goroutines write and a test reads.
type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(b)
}

func (s *safeBuffer) count(text string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Count(s.b.String(), text)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// daemon is a running intercept with its source and log.
type daemon struct {
	*intercept.Intercept
	src  *fakeSource
	log  *safeBuffer
	addr string
	stop func()
}

func noForwarding(t testing.TB) string {
	root := t.TempDir()
	for _, f := range []string{"net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"} {
		write(t, filepath.Join(root, f), "0\n")
	}
	return root
}

func write(t testing.TB, file, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func start(t testing.TB, change func(*intercept.Config)) *daemon {
	t.Helper()
	d := &daemon{src: newSource(), log: new(safeBuffer)}
	cfg := intercept.Config{
		Sources: []source.Source{d.src},
		Listen:  []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")},
		ProcSys: noForwarding(t), Now: now, Software: "test",
		Log: slog.New(slog.NewTextHandler(d.log, nil)),
	}
	if change != nil {
		change(&cfg)
	}
	var err error
	if d.Intercept, err = intercept.New(cfg); err != nil {
		t.Fatal(err)
	}
	d.addr = d.Addrs()[0].String()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	d.stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("Run: %v", err)
			}
		case <-time.After(deadline):
			t.Error("the intercept does not end")
		}
	})
	t.Cleanup(d.stop)
	return d
}

// copier is a link group that records its callbacks.
type copier struct {
	*link.Group
	log *safeBuffer

	mu       sync.Mutex
	got      map[netip.AddrPort][]packet.Segment // by client
	n        int
	answers  []string
	icmp     []wire.ICMP
	states   []link.State
	lastAge  time.Duration
	onUp     func()
	slowness chan struct{} // not nil: OnBatch waits until it is closed
}

func dial(t testing.TB, addrs []string, change func(*copier, *link.Config)) *copier {
	t.Helper()
	c := &copier{log: new(safeBuffer), got: make(map[netip.AddrPort][]packet.Segment)}
	cfg := link.Config{Targets: []netip.AddrPort{target, target6}, Software: "test", Now: now,
		BackoffLo: 5 * time.Millisecond, BackoffHi: 50 * time.Millisecond,
		Log: slog.New(slog.NewTextHandler(c.log, nil)),
		OnBatch: func(b *link.Batch) {
			if c.slowness != nil {
				<-c.slowness
			}
			c.mu.Lock()
			defer c.mu.Unlock()
			for i, s := range b.Segments {
				c.got[s.Dst] = append(c.got[s.Dst], s)
				c.n++
				c.lastAge = now().Sub(b.At[i])
			}
		},
		OnState: func(s link.State) {
			c.mu.Lock()
			c.states = append(c.states, s)
			up := c.onUp
			c.mu.Unlock()
			if s.Up && up != nil {
				up()
			}
		},
		OnOwner: func(tu wire.Tuple, o wire.Ownership) {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.answers = append(c.answers, fmt.Sprintf("%v %v", tu.Client.Port(), o))
		},
		OnRefused: func(tuples []wire.Tuple) {
			c.mu.Lock()
			defer c.mu.Unlock()
			for _, tu := range tuples {
				c.answers = append(c.answers, fmt.Sprintf("%v refused, after %d headers",
					tu.Client.Port(), len(c.got[tu.Client])))
			}
		},
		OnSought: func(tu wire.Tuple, free bool) {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.answers = append(c.answers, fmt.Sprintf("%v free %v", tu.Client.Port(), free))
		},
		OnICMP: func(m wire.ICMP) {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.icmp = append(c.icmp, m)
		},
	}
	if change != nil {
		change(c, &cfg)
	}
	c.Group = link.NewGroup(addrs, cfg)
	c.Start()
	t.Cleanup(c.Close)
	return c
}

func ready(t testing.TB, c *copier) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	if err := c.WaitReady(ctx); err != nil {
		t.Fatalf("not ready: %v", err)
	}
	// A slot refused by one intercept may just be changing at another.
	wait(t, "all links up", c.Up)
}

// count is how many headers of a client's connection arrived.
func (c *copier) count(a netip.AddrPort) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.got[a])
}

func (c *copier) total() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n
}

// first is the first header of a client's connection.
func (c *copier) first(a netip.AddrPort) packet.Segment {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.got[a][0]
}

// bytes is how much payload the headers of a client's connection had.
func (c *copier) bytes(a netip.AddrPort) (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.got[a] {
		n += s.Len
	}
	return n
}

// wait waits until cond holds.
func wait(t testing.TB, what string, cond func() bool) {
	t.Helper()
	end := time.After(deadline)
	look := time.NewTicker(time.Millisecond)
	defer look.Stop()
	for !cond() {
		select {
		case <-look.C:
		case <-end:
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

func newKey(t testing.TB) key.Key {
	t.Helper()
	k, err := key.Parse(key.Generate())
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func withKey(k key.Key) func(*intercept.Config) {
	return func(c *intercept.Config) { c.TLS = key.ServerTLS(k) }
}

func usingKey(k key.Key) func(*copier, *link.Config) {
	return func(_ *copier, c *link.Config) { c.TLS = key.ClientTLS(k) }
}

func sendBytes(t testing.TB, addr string, b []byte) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(deadline))
	if _, err := c.Write(b); err != nil {
		t.Fatal(err)
	}
	return c
}
