package socket

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/session"
	"tcpcopy/internal/sys"
)

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
				t.Errorf("ended with %+v; the target had %d bytes, %d of them a header", ev, n,
					tc.header)
			} else if ev.N >= c.rec.taken {
				t.Errorf("%d bytes acknowledged of %d taken: nothing was under way", ev.N,
					c.rec.taken)
			}
		})
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
	skew.Store(int64(lingerLimit))
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
		{"nobody answers", Config{ConnectTimeout: 50 * time.Millisecond}, fullBacklog(t),
			ledger.ConnectTimeout},
		{"no target", Config{}, netip.AddrPort{}, ledger.LinkError},
		{"local address of others", Config{Bind: []netip.Addr{netip.MustParseAddr("192.0.2.1")}},
			closedPort("127.0.0.1"), ledger.NoSourceAddress},
		{"no local address of the family", Config{Bind: []netip.Addr{netip.MustParseAddr("::1")}},
			closedPort("127.0.0.1"), ledger.NoSourceAddress},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := play(t, tc.cfg).open(1, tc.target, pattern(10), 0)
			c.release(10)
			ev := c.last()
			if ev.Kind != session.Failed || ev.Reason != tc.want || ev.N != 0 {
				t.Errorf("ended with %v %v after %d bytes, wanted failed %v", kindName(ev.Kind),
					ev.Reason, ev.N, tc.want)
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
	addr := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"),
		uint16(sa.(*syscall.SockaddrInet4).Port))
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
	s := out.Open(now(), &session.OpenSpec{ID: 1, Target: target,
		Record: &memory{b: pattern(10), t: t}})
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
	for deadline := time.Now().Add(patience); len(out.Events()) < batchesQueued; {
		if time.Now().After(deadline) {
			t.Fatalf("%d batches of events wait, wanted %d", len(out.Events()), batchesQueued)
		}
		<-time.After(time.Millisecond)
	}
	out.Close()
}
