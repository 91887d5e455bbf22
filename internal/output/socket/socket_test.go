package socket

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"tcpcopy/internal/ledger"
	"tcpcopy/internal/mono"
	"tcpcopy/internal/session"
	"tcpcopy/internal/sys"
)

func TestContentArrives(t *testing.T) {
	for _, tc := range []struct {
		name     string
		host     string
		size     int
		cut      int
		releases []int
		mapped   bool
	}{
		{"one byte", "127.0.0.1", 1, 0, []int{1}, false},
		{"IPv6", "::1", 1000, 0, []int{1000}, false},
		{"IPv4 address in IPv6 clothes", "127.0.0.1", 1000, 0, []int{1000}, true},
		{"segments", "127.0.0.1", 64 << 10, 1448, []int{64 << 10}, false},
		{"more segments than one call takes", "127.0.0.1", 3000, 10, []int{3000}, false},
		{"released in turns, not at segments' ends", "127.0.0.1", 20000, 1448, []int{1, 1447, 1448, 1449, 9999, 20000}, false},
		{"nothing at all", "127.0.0.1", 0, 0, nil, false},
		{"large", "127.0.0.1", 8 << 20, 64 << 10, []int{8 << 20}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := make(chan []byte, 1)
			target := serve(t, tc.host, func(c *net.TCPConn) {
				b, err := io.ReadAll(c)
				if err != nil {
					t.Error(err)
				}
				got <- b
				_, _ = c.Write(make([]byte, 777))
			})
			if tc.mapped {
				target = netip.AddrPortFrom(netip.AddrFrom16(target.Addr().As16()), target.Port())
			}
			content := pattern(tc.size)
			c := play(t, Config{}).open(1, target, content, tc.cut)
			for _, end := range tc.releases {
				c.release(end)
				c.waitN(session.Taken, end)
			}
			c.closeWrite()
			if ev := c.last(); ev.Kind != session.Finished || ev.N != uint64(tc.size) {
				t.Errorf("ended with %+v, wanted finished with %d bytes", ev, tc.size)
			}
			if b := <-got; !bytes.Equal(b, content) {
				t.Errorf("the target read %d bytes, not the %d that were sent", len(b), tc.size)
			}
			c.waitN(session.Received, 777)
		})
	}
}

func TestReleasedBeforeOpen(t *testing.T) {
	target := serve(t, "127.0.0.1", echo)
	p := play(t, Config{})
	c := &played{p: p, id: 1, news: make(chan struct{}, 1), rec: &memory{b: pattern(500), t: t}}
	p.in(func() { // in one step, so that it cannot have opened in between
		p.copies[1] = c
		c.stream = p.out.Open(now(), &session.OpenSpec{ID: 1, Target: target, Record: c.rec})
		c.stream.Release(now(), 500)
		c.stream.CloseWrite(now())
	})
	if ev := c.last(); ev.Kind != session.Finished {
		t.Errorf("ended with %+v, wanted finished", ev)
	}
	c.waitN(session.Received, 500)
}

func TestHalfCloseOursFirst(t *testing.T) {
	goOn := make(chan struct{})
	target := serve(t, "127.0.0.1", func(c *net.TCPConn) {
		_, _ = io.Copy(io.Discard, c)
		<-goOn
		_, _ = c.Write(make([]byte, 300<<10))
	})
	c := play(t, Config{}).open(1, target, pattern(100), 0)
	c.release(100)
	c.closeWrite()
	c.waitN(session.Taken, 100)
	close(goOn)
	c.last()
	want := []session.EventKind{session.Opened, session.Taken, session.Received, session.Shut, session.Finished}
	if got := c.kinds(); !slices.Equal(got, want) {
		t.Errorf("events %v, wanted %v", got, want)
	}
	c.waitN(session.Received, 300<<10)
}

func TestHalfCloseTheirsFirst(t *testing.T) {
	got := make(chan []byte, 1)
	target := serve(t, "127.0.0.1", func(c *net.TCPConn) {
		_, _ = c.Write(make([]byte, 2000))
		_ = c.CloseWrite()
		b, _ := io.ReadAll(c)
		got <- b
	})
	content := pattern(5000)
	c := play(t, Config{}).open(1, target, content, 1448)
	c.wait(session.Shut)
	c.release(5000)
	c.waitN(session.Taken, 5000)
	c.closeWrite()
	if ev := c.last(); ev.Kind != session.Finished {
		t.Errorf("ended with %+v, wanted finished", ev)
	}
	if !bytes.Equal(<-got, content) {
		t.Error("what was sent after the target's FIN did not arrive")
	}
	want := []session.EventKind{session.Opened, session.Received, session.Shut, session.Taken, session.Finished}
	if got := c.kinds(); !slices.Equal(got, want) {
		t.Errorf("events %v, wanted %v", got, want)
	}
}

func TestResetByPeer(t *testing.T) {
	target := serve(t, "127.0.0.1", func(c *net.TCPConn) {
		_, _ = io.ReadFull(c, make([]byte, 1234))
		_ = c.SetLinger(0)
	})
	c := play(t, Config{Proxy: NoProxy}).open(1, target, pattern(1234), 0)
	c.release(1234)
	if ev := c.last(); ev.Kind != session.ResetByPeer || ev.N != 1234 {
		t.Errorf("ended with %+v, wanted a reset after 1234 bytes", ev)
	}
}

func TestResetTellsWhatWasAcknowledged(t *testing.T) {
	for _, tc := range []struct {
		name   string
		proxy  Proxy
		header int
	}{{"no header", NoProxy, 0}, {"the header does not count", ProxyV2, 16}} {
		t.Run(tc.name, func(t *testing.T) {
			const size = 8 << 20
			mayPeek, queued, mayReset := make(chan struct{}), make(chan int, 1), make(chan struct{})
			target := serve(t, "127.0.0.1", func(c *net.TCPConn) {
				_ = c.SetReadBuffer(20 << 10)
				<-mayPeek
				raw, err := c.SyscallConn()
				if err != nil {
					t.Error(err)
				}
				_ = raw.Control(func(fd uintptr) {
					n, _, err := syscall.Recvfrom(int(fd), make([]byte, size), syscall.MSG_PEEK)
					if err != nil {
						t.Error(err)
					}
					queued <- n
				})
				<-mayReset
				_ = c.SetLinger(0)
			})
			c := play(t, Config{Proxy: tc.proxy}).open(1, target, pattern(size), 64<<10)
			c.release(size)
			c.untilBlocked()
			close(mayPeek)
			n := <-queued
			c.inTime("acknowledgment of what the target has", func() bool {
				return sys.StatusTCP(c.stream.(*conn).polled.fd).Acked == uint64(1+n)
			})
			close(mayReset)
			if ev := c.last(); ev.Kind != session.ResetByPeer || ev.N != uint64(n-tc.header) {
				t.Errorf("ended with %+v; the target had %d bytes, %d of them a header", ev, n, tc.header)
			} else if ev.N >= c.rec.taken {
				t.Errorf("%d bytes acknowledged of %d taken: nothing was under way", ev.N, c.rec.taken)
			}
		})
	}
}

// untilBlocked waits until the kernel takes no more.
func (c *played) untilBlocked() {
	c.p.t.Helper()
	c.inTime("full buffer in the kernel", func() bool { return c.stream.(*conn).blocked })
}

// inTime waits until something holds that the player's goroutine can see and that no event tells of.
func (c *played) inTime(want string, holds func() bool) {
	c.p.t.Helper()
	for deadline := time.Now().Add(patience); ; {
		var yes bool
		c.p.in(func() { yes = holds() })
		if yes {
			return
		}
		if time.Now().After(deadline) {
			c.p.t.Fatalf("session %d: no %s in %v", c.id, want, patience)
		}
		select {
		case <-c.news:
		case <-time.After(time.Millisecond):
		}
	}
}

func TestSlowReader(t *testing.T) {
	const size = 32 << 20
	goOn := make(chan struct{})
	got := make(chan []byte, 1)
	target := serve(t, "127.0.0.1", func(c *net.TCPConn) {
		_ = c.SetReadBuffer(256 << 10) // much smaller, and loopback is slow: its segments have 64 KB
		<-goOn
		b, _ := io.ReadAll(c)
		got <- b
	})
	content := pattern(size)
	p := play(t, Config{})
	c := p.open(1, target, content, 9000)
	c.release(size)
	c.closeWrite()
	c.untilBlocked()
	// Another one is not held back by it.
	d := p.open(2, serve(t, "127.0.0.1", echo), pattern(10), 0)
	d.release(10)
	d.waitN(session.Received, 10)
	close(goOn)
	if ev := c.last(); ev.Kind != session.Finished {
		t.Errorf("ended with %+v, wanted finished", ev)
	}
	if !bytes.Equal(<-got, content) {
		t.Error("the slow reader read something else")
	}
}

func TestLargeAnswerDoesNotStarveOthers(t *testing.T) {
	const size = 200 << 20
	target := serve(t, "127.0.0.1", func(c *net.TCPConn) {
		b := make([]byte, 1<<20)
		for n := 0; n < size; n += len(b) {
			if _, err := c.Write(b); err != nil {
				t.Error(err)
				return
			}
		}
	})
	p := play(t, Config{})
	c := p.open(1, target, nil, 0)
	d := p.open(2, serve(t, "127.0.0.1", echo), pattern(10), 0)
	d.release(10)
	d.waitN(session.Received, 10)
	c.waitN(session.Received, size)
	c.wait(session.Shut)
	c.closeWrite()
	if ev := c.last(); ev.Kind != session.Finished {
		t.Errorf("ended with %+v, wanted finished", ev)
	}
}

func TestAbortResets(t *testing.T) {
	for _, tc := range []struct {
		name string
		sent int
	}{{"nothing sent", 0}, {"bytes sent", 100}} {
		t.Run(tc.name, func(t *testing.T) {
			got := make(chan error, 1)
			target := serve(t, "127.0.0.1", func(c *net.TCPConn) {
				_, err := io.ReadFull(c, make([]byte, tc.sent+1))
				got <- err
			})
			c := play(t, Config{}).open(1, target, pattern(100), 0)
			c.wait(session.Opened)
			c.release(tc.sent)
			c.waitN(session.Opened, 0)
			c.abort()
			if err := <-got; !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("the target reads %v, wanted a reset", err)
			}
			before := len(c.all())
			c.p.in(func() { // what comes after does nothing
				c.stream.Release(now(), 100)
				c.stream.CloseWrite(now())
				c.stream.Abort(now())
			})
			if n := len(c.all()); n != before {
				t.Errorf("events after Abort: %+v", c.all()[before:])
			}
		})
	}
}

// TestAbortKeepsWhatWasTaken: the session counts bytes as delivered when they are taken.
func TestAbortKeepsWhatWasTaken(t *testing.T) {
	for _, tc := range []struct {
		name  string
		close bool
	}{{"abort", false}, {"output closes", true}} {
		t.Run(tc.name, func(t *testing.T) {
			goOn := make(chan struct{})
			got := make(chan int64, 1)
			target := serve(t, "127.0.0.1", func(c *net.TCPConn) {
				_ = c.SetReadBuffer(256 << 10)
				<-goOn
				n, err := io.Copy(io.Discard, c)
				if !errors.Is(err, syscall.ECONNRESET) {
					t.Errorf("the target read %d bytes and %v, wanted a reset", n, err)
				}
				got <- n
			})
			c := play(t, Config{}).open(1, target, pattern(32<<20), 64<<10)
			c.release(32 << 20)
			c.untilBlocked()
			var taken uint64
			c.p.in(func() {
				taken = c.stream.(*conn).sent
				c.stream.Abort(now())
				close(goOn)
				if tc.close {
					c.p.out.Close()
				}
			})
			if n := <-got; n != int64(taken) {
				t.Errorf("%d bytes were taken, %d arrived", taken, n)
			}
		})
	}
}

func TestAbortDoesNotWaitForEver(t *testing.T) {
	reset := make(chan error, 1)
	target := serve(t, "127.0.0.1", func(c *net.TCPConn) {
		_ = c.SetReadBuffer(4 << 10)
		for {
			if _, err := c.Write([]byte("x")); err != nil {
				reset <- err
				return
			}
		}
	})
	var skew atomic.Int64
	p := play(t, Config{Now: func() mono.Time { return now().Add(time.Duration(skew.Load())) }})
	c := p.open(1, target, pattern(10<<20), 0)
	c.release(10 << 20)
	c.untilBlocked()
	c.abort()
	skew.Store(int64(leaveLimit))
	if err := <-reset; !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
		t.Errorf("the target sees %v, wanted a reset", err)
	}
}

func TestAbortBeforeOpen(t *testing.T) {
	target := serve(t, "127.0.0.1", echo)
	p := play(t, Config{})
	c := &played{p: p, id: 1, news: make(chan struct{}, 1), rec: &memory{t: t}}
	p.in(func() {
		p.copies[1] = c
		p.out.Open(now(), &session.OpenSpec{ID: 1, Target: target, Record: c.rec}).Abort(now())
	})
	d := p.open(2, target, pattern(3), 0)
	d.release(3)
	d.waitN(session.Received, 3)
	if evs := c.all(); len(evs) > 0 {
		t.Errorf("events after Abort: %+v", evs)
	}
}

func TestCannotOpen(t *testing.T) {
	closedPort := func(host string) netip.AddrPort {
		l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		return netip.MustParseAddrPort(l.Addr().String())
	}
	for _, tc := range []struct {
		name   string
		cfg    Config
		target netip.AddrPort
		want   ledger.Reason
	}{
		{"closed port", Config{}, closedPort("127.0.0.1"), ledger.TargetRefused},
		{"closed port, IPv6", Config{}, closedPort("::1"), ledger.TargetRefused},
		{"nobody answers", Config{ConnectTimeout: 50 * time.Millisecond}, fullBacklog(t), ledger.ConnectTimeout},
		{"no target", Config{}, netip.AddrPort{}, ledger.LinkError},
		{"local address of others", Config{Bind: []netip.Addr{netip.MustParseAddr("192.0.2.1")}}, closedPort("127.0.0.1"), ledger.NoSourceAddress},
		{"no local address of the family", Config{Bind: []netip.Addr{netip.MustParseAddr("::1")}}, closedPort("127.0.0.1"), ledger.NoSourceAddress},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := play(t, tc.cfg).open(1, tc.target, pattern(10), 0)
			c.release(10)
			ev := c.last()
			if ev.Kind != session.Failed || ev.Reason != tc.want || ev.N != 0 {
				t.Errorf("ended with %v %v after %d bytes, wanted failed %v", kindName(ev.Kind), ev.Reason, ev.N, tc.want)
			}
			if n := len(c.all()); n != 1 {
				t.Errorf("events %+v, wanted only the last", c.all())
			}
		})
	}
}

// fullBacklog is the address of one who listens and answers no more SYNs.
func fullBacklog(t *testing.T) netip.AddrPort {
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
	sa, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	addr := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(sa.(*syscall.SockaddrInet4).Port))
	c, err := net.Dial("tcp", addr.String()) // the queue of length 0 has room for one
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return addr
}

func TestSendTimeout(t *testing.T) {
	hold := make(chan struct{})
	target := serve(t, "127.0.0.1", func(c *net.TCPConn) {
		_ = c.SetReadBuffer(4 << 10)
		<-hold
	})
	defer close(hold)
	c := play(t, Config{SendTimeout: 300 * time.Millisecond}).open(1, target, pattern(10<<20), 0)
	c.release(10 << 20)
	ev := c.last()
	if ev.Kind != session.Failed || ev.Reason != ledger.SendTimeout {
		t.Errorf("ended with %v %v, wanted failed send_timeout", kindName(ev.Kind), ev.Reason)
	}
	if ev.N == 0 || ev.N >= c.rec.taken {
		t.Errorf("%d bytes acknowledged of %d taken, wanted some and not all", ev.N, c.rec.taken)
	}
}

func TestBindInTurn(t *testing.T) {
	seen := make(chan netip.Addr, 4)
	target := serve(t, "127.0.0.1", func(c *net.TCPConn) {
		seen <- c.RemoteAddr().(*net.TCPAddr).AddrPort().Addr()
		echo(c)
	})
	p := play(t, Config{Bind: []netip.Addr{
		netip.MustParseAddr("127.0.0.2"), netip.MustParseAddr("::1"), netip.MustParseAddr("127.0.0.3"),
	}})
	count := map[string]int{}
	for id := range session.ID(4) {
		p.open(id, target, nil, 0).wait(session.Opened)
		count[(<-seen).String()]++
	}
	if count["127.0.0.2"] != 2 || count["127.0.0.3"] != 2 {
		t.Errorf("connections by source: %v, wanted two from each of 127.0.0.2 and 127.0.0.3", count)
	}
}

func TestCloseResetsWhatIsOpen(t *testing.T) {
	got := make(chan error, 1)
	target := serve(t, "127.0.0.1", func(c *net.TCPConn) {
		_, err := c.Read(make([]byte, 1))
		got <- err
	})
	out, err := New(Config{Now: now})
	if err != nil {
		t.Fatal(err)
	}
	s := out.Open(now(), &session.OpenSpec{ID: 1, Target: target, Record: &memory{b: pattern(10), t: t}})
	if evs := out.Step(now(), <-out.Events()); len(evs) != 1 || evs[0].Kind != session.Opened {
		t.Fatalf("events %+v, wanted opened", evs)
	}
	out.Close()
	out.Close()
	if err := <-got; !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the target reads %v, wanted a reset", err)
	}
	s.Release(now(), 10)
	s.CloseWrite(now())
	s.Abort(now())
	if b, ok := <-out.Events(); ok {
		t.Errorf("batch %+v after Close", b)
	}
	if evs := out.Step(now(), nil); len(evs) > 0 || out.Pending() {
		t.Errorf("events %+v after Close", evs)
	}
}

func TestCloseWhileNobodyTakesEvents(t *testing.T) {
	target := serve(t, "127.0.0.1", func(c *net.TCPConn) {
		for {
			if _, err := c.Write([]byte("x")); err != nil {
				return
			}
		}
	})
	out, err := New(Config{Now: now})
	if err != nil {
		t.Fatal(err)
	}
	out.Open(now(), &session.OpenSpec{ID: 1, Target: target, Record: &memory{t: t}})
	for deadline := time.Now().Add(patience); len(out.Events()) < batchesQueued && time.Now().Before(deadline); {
		<-time.After(time.Millisecond)
	}
	out.Close()
}

func TestStaleEventsFindNobody(t *testing.T) {
	p, err := newPoller(Config{Now: now})
	if err != nil {
		t.Fatal(err)
	}
	defer p.epoll.Close()
	a, b := &conn{}, &conn{}
	old := p.takeSlot(a)
	a.polled.state = stateOpen
	a.polled.fd = -1
	p.release(a)
	fresh := p.takeSlot(b)
	if uint32(old) != uint32(fresh) {
		t.Fatalf("slots %d and %d: not used again", uint32(old), uint32(fresh))
	}
	if p.lookup(old) != nil || p.lookup(fresh) != b || p.lookup(99) != nil {
		t.Error("a tag leads to another connection")
	}
}

// TestManyAtRandom opens, writes, closes and aborts in a seeded order, against targets that echo, close,
// reset and do not read; the player checks the events.
func TestManyAtRandom(t *testing.T) {
	const sessions = 400
	rnd := rand.New(rand.NewPCG(1, 2))
	idle := make(chan struct{})
	t.Cleanup(func() { close(idle) })
	targets := []netip.AddrPort{
		serve(t, "127.0.0.1", echo),
		serve(t, "::1", echo),
		serve(t, "127.0.0.1", func(c *net.TCPConn) { _ = c.SetLinger(0) }),
		serve(t, "127.0.0.1", func(c *net.TCPConn) {
			_, _ = io.ReadFull(c, make([]byte, 2000))
			_ = c.SetLinger(0)
		}),
		serve(t, "127.0.0.1", func(c *net.TCPConn) {
			_, _ = c.Write([]byte("greeting"))
			_ = c.CloseWrite()
			_, _ = io.Copy(io.Discard, c)
		}),
		serve(t, "127.0.0.1", func(*net.TCPConn) {}), // closes at once: a reset to what is written later
		fullBacklog(t),
	}
	p := play(t, Config{ConnectTimeout: 200 * time.Millisecond})
	var live []*played
	for id := range session.ID(sessions) {
		content := pattern(rnd.IntN(200 << 10))
		c := p.open(id, targets[rnd.IntN(len(targets))], content, 1448)
		live = append(live, c)
		for range rnd.IntN(3) {
			d := live[rnd.IntN(len(live))]
			d.release(rnd.IntN(len(d.rec.b) + 1))
		}
		if rnd.IntN(10) == 0 {
			i := rnd.IntN(len(live))
			live[i].abort()
			live = slices.Delete(live, i, i+1)
		}
	}
	ends := map[string]int{}
	for _, c := range live {
		c.release(len(c.rec.b))
		c.closeWrite()
	}
	for _, c := range live {
		ev := c.last()
		ends[kindName(ev.Kind)]++
		if ev.Kind == session.Finished && ev.N != uint64(len(c.rec.b)) {
			t.Errorf("session %d finished with %d of %d bytes", c.id, ev.N, len(c.rec.b))
		}
	}
	t.Log(ends)
	if ends["finished"] == 0 || ends["reset by peer"] == 0 || ends["failed"] == 0 {
		t.Errorf("ends %v, wanted some of each", ends)
	}
}
