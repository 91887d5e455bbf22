package e2e

import (
	"bufio"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"tcpcopy/internal/lab/netlab"
	"tcpcopy/internal/sys"
)

// A second service, beside the one that clients talk to. Those who attack use it.
const (
	attackedPort       = 81
	attackedTargetPort = 8081
)

// TestStalledUploads checks that uploads to a target that reads nothing, many times what the copier
// may hold, do not end the copying of others: those that hold the most are dropped.
func TestStalledUploads(t *testing.T) {
	const maxRSS = 256 << 20
	uploads, size := 10_000, 64<<10
	if testing.Short() {
		t.Parallel()
		uploads = 1_000
	}
	if n, err := sys.RaiseFileLimit(1 << 17); err != nil || int(n) < uploads+1000 {
		t.Skipf("%d files may be open: %v", n, err)
	}
	someWays(t, only(socket), func(t *testing.T, way string) {
		s := newStand(t, setting{way: way})
		// What the kernels hold is little beside what the copier has to.
		for _, host := range []*netlab.Namespace{s.net.Production, s.net.Target} {
			set(t, host, "ipv4/tcp_rmem", "4096 8192 8192")
			set(t, host, "ipv4/tcp_wmem", "4096 8192 8192")
		}
		p := s.pair()
		accept(t, s.net.Production, onPort(attackedPort), func(c net.Conn) {
			if _, err := io.CopyN(io.Discard, c, int64(size)); err == nil {
				c.Write([]byte("."))
				io.Copy(io.Discard, c) // until the client closes
			}
		})
		over := make(chan struct{})
		accept(t, s.net.Target, onPort(attackedTargetPort), func(net.Conn) { <-over })
		defer close(over)
		c := s.copyPair("-x", s.mapping(attackedPort, attackedTargetPort), "-m", "16")
		kept := s.keepOpen(productionPort, 50)
		text := []byte(noiseText(size))
		for i := range uploads {
			cl := dial(t, s.net.Client, netlab.ClientAddr(i%4, false),
				netip.AddrPortFrom(s.production, attackedPort))
			if _, err := cl.Write(text); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(cl, make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
			cl.Close() // its copy has not ended
			if i%(uploads/20) == 0 {
				kept.say()
			}
		}
		kept.finish()
		p.caughtUp(t)
		p.expectSame(t)
		r := c.end()
		t.Logf("%d sessions, dropped %v; %d bytes, dropped %v; memory %d MB", r.Sessions.Captured,
			r.Sessions.Dropped, r.Bytes.Captured, r.Bytes.Dropped, r.Resources.MaxRSSBytes>>20)
		if r.Sessions.Captured < uint64(uploads+50) || r.Bytes.Dropped["over_memory"] == 0 {
			t.Errorf("%d sessions, bytes dropped: %v; wanted some of them over_memory",
				r.Sessions.Captured, r.Bytes.Dropped)
		}
		if r.Resources.MaxRSSBytes > maxRSS {
			t.Errorf("%d MB of memory, wanted at most %d", r.Resources.MaxRSSBytes>>20, maxRSS>>20)
		}
	})
}

// TestSlowReaders checks that clients that ask for much and read nothing hold up no other copy,
// take no memory, and are copied whole when they go on.
func TestSlowReaders(t *testing.T) {
	const maxRSS, answer = 128 << 20, 100 << 10
	readers := 2_000
	if testing.Short() {
		readers = 200
	}
	someWays(t, only(socket), func(t *testing.T, way string) {
		s := newStand(t, setting{way: way})
		// Little of an answer is on its way.
		set(t, s.net.Client, "ipv4/tcp_rmem", "4096 8192 8192")
		set(t, s.net.Production, "ipv4/tcp_wmem", "4096 8192 8192")
		p := s.pair()
		text := []byte(noiseText(answer))
		var asked [2]atomic.Int64
		for i, host := range []*netlab.Namespace{s.net.Production, s.net.Target} {
			port := []int{attackedPort, attackedTargetPort}[i]
			accept(t, host, onPort(port), func(c net.Conn) {
				for r := bufio.NewReader(c); ; {
					if _, err := r.ReadString('\n'); err != nil {
						return
					}
					asked[i].Add(1)
					c.Write(text)
				}
			})
		}
		c := s.copyPair("-x", s.mapping(attackedPort, attackedTargetPort))
		kept := s.keepOpen(productionPort, 50)
		var open []*client
		ask := func(cl *client) {
			if _, err := io.WriteString(cl, "much\n"); err != nil {
				t.Error(err)
			}
		}
		for i := range readers {
			cl := dial(t, s.net.Client, netlab.ClientAddr(i%4, false),
				netip.AddrPortFrom(s.production, attackedPort))
			ask(cl)
			open = append(open, cl)
			if i%(readers/20) == 0 {
				kept.say()
			}
		}
		kept.finish()
		p.caughtUp(t)
		p.expectSame(t)
		eventually(t, "the target is asked by all", func() bool {
			return asked[1].Load() == int64(readers)
		})
		for _, cl := range open { // they go on
			if _, err := io.CopyN(io.Discard, cl, answer); err != nil {
				t.Error(err)
			}
			ask(cl)
		}
		eventually(t, "the target is asked by all again", func() bool {
			return asked[1].Load() == int64(2*readers)
		})
		for _, cl := range open {
			cl.Close()
		}
		r := c.end()
		t.Logf("%d sessions, dropped %v; memory %d MB", r.Sessions.Captured, r.Sessions.Dropped,
			r.Resources.MaxRSSBytes>>20)
		if r.Sessions.Captured != uint64(readers+50) || len(r.Bytes.Dropped) > 0 {
			t.Errorf("%d sessions, bytes dropped: %v; wanted %d, and none", r.Sessions.Captured,
				r.Bytes.Dropped, readers+50)
		}
		if r.Resources.MaxRSSBytes > maxRSS {
			t.Errorf("%d MB of memory, wanted at most %d", r.Resources.MaxRSSBytes>>20, maxRSS>>20)
		}
	})
}

// worst is what a client, and the servers in answer to it, send to hurt a protocol's readers.
type worst struct {
	name, proto  string
	says, answer string
}

func worstOfProtocols() []worst {
	const long = 4 << 20
	prepare := "\x16\x00\x00\x00\x16SELECT * FROM t WHERE" // COM_STMT_PREPARE
	return []worst{
		{"a header without an end", "http1", "GET / HTTP/1.1\r\nX: " + strings.Repeat("a", long),
			"HTTP/1.1 200 OK\r\nX: " + strings.Repeat("a", long)},
		{"headers without an end", "http1",
			"GET / HTTP/1.1\r\n" + strings.Repeat("a:b\r\n", long/5),
			"HTTP/1.1 200 OK\r\n" + strings.Repeat("a:b\r\n", long/5)},
		{"a chunk's size without an end", "http",
			"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" +
				strings.Repeat("0", long), "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" +
				strings.Repeat("f", long)},
		{"100,000 requests at once", "http1", strings.Repeat("GET / HTTP/1.1\r\nHost: a\r\n\r\n",
			100_000), strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", 100_000)},
		{"10,000 deep", "redis", strings.Repeat("*1\r\n", 10_000),
			strings.Repeat("*1\r\n", 10_000)},
		{"an endless line", "redis", strings.Repeat("x", long), "+" + strings.Repeat("x", long)},
		{"many arguments", "redis", "*1048576\r\n" + strings.Repeat("$1\r\nx\r\n", 500_000),
			"*1048576\r\n" + strings.Repeat(":1\r\n", 500_000)},
		{"65,536 commands at once", "redis", strings.Repeat("PING\r\n", 1<<16),
			strings.Repeat("+PONG\r\n", 1<<15)},
		{"65,536 statements", "mysql", strings.Repeat(prepare, 1<<16),
			strings.Repeat("\xff\xff\xff\x00", 1<<16)},
		{"a packet without an end", "mysql", "\xff\xff\xff\x00" + strings.Repeat("x", long),
			"\x4a\x00\x00\x00\x0a" + strings.Repeat("8", long)},
	}
}

// TestWorstOfProtocols checks that what is meant to hurt a protocol's readers reaches the target as
// it reached production, within bounded memory, and that others are copied beside it.
func TestWorstOfProtocols(t *testing.T) {
	t.Parallel()
	const maxRSS = 256 << 20
	someWays(t, only(socket), func(t *testing.T, way string) {
		for i, w := range worstOfProtocols() {
			if testing.Short() && i%2 > 0 { // some of each protocol
				continue
			}
			t.Run(w.proto+": "+w.name, func(t *testing.T) {
				s := newStand(t, setting{way: way})
				p := s.pair()
				at := map[*netlab.Namespace]*atomic.Int64{}
				for host, port := range map[*netlab.Namespace]int{
					s.net.Production: attackedPort, s.net.Target: attackedTargetPort,
				} {
					n := new(atomic.Int64)
					at[host] = n
					accept(t, host, onPort(port), func(c net.Conn) { w.serve(c, n) })
				}
				c := s.copyPair("-x", s.mapping(attackedPort, attackedTargetPort))
				const clients = 5
				var all sync.WaitGroup
				for range clients {
					cl := dial(t, s.net.Client, netip.Addr{},
						netip.AddrPortFrom(s.production, attackedPort))
					all.Go(func() {
						go io.WriteString(cl, w.says)
						if _, err := io.CopyN(io.Discard, cl, int64(len(w.answer))); err != nil {
							t.Errorf("production's answer: %v", err)
						}
					})
				}
				s.talk(productionPort, "beside", 10, 5)
				all.Wait()
				p.caughtUp(t)
				p.expectSame(t)
				want := int64(clients * len(w.says))
				for name, host := range map[string]*netlab.Namespace{
					"production": s.net.Production, "the target": s.net.Target,
				} {
					if !within(patience, func() bool { return at[host].Load() == want }) {
						t.Errorf("%s has %d bytes of %d", name, at[host].Load(), want)
					}
				}
				r := c.end()
				t.Logf("dropped %v; memory %d MB", r.Bytes.Dropped, r.Resources.MaxRSSBytes>>20)
				if r.Resources.MaxRSSBytes > maxRSS {
					t.Errorf("%d MB of memory, wanted at most %d", r.Resources.MaxRSSBytes>>20,
						maxRSS>>20)
				}
			})
		}
	})
}

// serve counts what a client says, and sends the answer when it has said all.
func (w *worst) serve(c net.Conn, n *atomic.Int64) {
	b := make([]byte, 64<<10)
	for said := 0; said < len(w.says); {
		k, err := c.Read(b)
		said += k
		n.Add(int64(k))
		if err != nil {
			return
		}
	}
	io.WriteString(c, w.answer)
	io.Copy(io.Discard, c) // until the client closes
}
