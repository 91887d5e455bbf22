package socket

import (
	"bytes"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"tcpcopy/internal/core/session"
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
		{"released in turns, not at segments' ends", "127.0.0.1", 20000, 1448,
			[]int{1, 1447, 1448, 1449, 9999, 20000}, false},
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
	want := []session.EventKind{session.Opened, session.Taken, session.Received, session.Shut,
		session.Finished}
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
	want := []session.EventKind{session.Opened, session.Received, session.Shut, session.Taken,
		session.Finished}
	if got := c.kinds(); !slices.Equal(got, want) {
		t.Errorf("events %v, wanted %v", got, want)
	}
}

// untilBlocked waits until the kernel takes no more.
func (c *played) untilBlocked() {
	c.p.t.Helper()
	c.inTime("full buffer in the kernel", func() bool { return c.stream.(*conn).blocked })
}

// inTime waits until something holds that the player's goroutine can see and that no event tells
// of.
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
		// much smaller, and loopback is slow: its segments have 64 KB
		_ = c.SetReadBuffer(256 << 10)
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

func TestBindInTurn(t *testing.T) {
	seen := make(chan netip.Addr, 4)
	target := serve(t, "127.0.0.1", func(c *net.TCPConn) {
		seen <- c.RemoteAddr().(*net.TCPAddr).AddrPort().Addr()
		echo(c)
	})
	p := play(t, Config{Bind: []netip.Addr{
		netip.MustParseAddr("127.0.0.2"), netip.MustParseAddr("::1"), netip.MustParseAddr(
			"127.0.0.3"),
	}})
	count := map[string]int{}
	for id := range session.ID(4) {
		p.open(id, target, nil, 0).wait(session.Opened)
		count[(<-seen).String()]++
	}
	if count["127.0.0.2"] != 2 || count["127.0.0.3"] != 2 {
		t.Errorf("connections by source: %v, wanted two from each of 127.0.0.2 and 127.0.0.3",
			count)
	}
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

// TestManyAtRandom opens, writes, closes and aborts in a seeded order, against targets that echo,
// close, reset and do not read; the player checks the events.
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
		// closes at once: a reset to what is written later
		serve(t, "127.0.0.1", func(*net.TCPConn) {}),
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
