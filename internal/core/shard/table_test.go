package shard

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/core/session"
)

func (b *bed) finish(i int) {
	f := b.open.all[i]
	f.tell(session.Event{Kind: session.Finished, N: uint64(len(f.text))})
	b.step()
}

func TestOneConnectionOneCopy(t *testing.T) {
	b := newBed(t)
	c := b.conn("192.0.2.1:40000").syn()
	c.data("GET 1")
	d := b.conn("192.0.2.1:40001").syn()
	d.data("GET 2")
	if len(b.open.all) != 2 || string(b.open.all[0].text) != "GET 1" || string(b.open.all[1].text) != "GET 2" {
		t.Fatalf("%d copies: %+v", len(b.open.all), b.open.all)
	}
	b.live(2)
	c.fin()
	if !b.open.all[0].shut || b.open.all[1].shut {
		t.Error("not the right copy was closed")
	}
	b.finish(0)
	b.live(1)
	b.sessions(2, ledger.None, 1)
	b.bytes(10, ledger.None, 10)
}

// The last packets of a connection that has ended begin no new one.
func TestTombstone(t *testing.T) {
	b := newBed(t)
	c := b.conn("192.0.2.1:40000").syn()
	c.data("GET")
	c.fin()
	b.finish(0)
	b.live(0)
	c.seg(0, "") // the ACK of the server's FIN
	c.seg(packet.FIN, "")
	b.live(0)
	b.wait(sec - ms)
	if len(b.sh.flows) != 1 {
		t.Errorf("%d places are kept, wanted 1", len(b.sh.flows))
	}
	b.wait(2 * ms)
	if len(b.sh.flows) != 0 {
		t.Errorf("%d places are kept, wanted none", len(b.sh.flows))
	}
	if len(b.open.all) != 1 {
		t.Errorf("%d copies, wanted 1", len(b.open.all))
	}
	b.sessions(1, ledger.None, 1)
	// The end of something that nobody saw.
	c.fin()
	c.seg(packet.RST, "")
	b.live(0)
}

func TestPortReuse(t *testing.T) {
	t.Run("while the old one lives", func(t *testing.T) {
		b := newBed(t)
		c := b.conn("192.0.2.1:40000").syn()
		c.data("old")
		c.send(packet.Segment{Seq: c.isn, Flags: packet.SYN}) // repeated: not a new one
		if len(b.open.all) != 1 {
			t.Fatalf("%d copies, wanted 1", len(b.open.all))
		}
		n := b.conn("192.0.2.1:40000")
		n.isn = 77000
		n.syn()
		n.data("new")
		if len(b.open.all) != 2 || string(b.open.all[1].text) != "new" {
			t.Fatalf("%d copies, wanted 2", len(b.open.all))
		}
		if !b.open.all[0].aborted || string(b.open.all[0].text) != "old" {
			t.Errorf("the old one: %+v", b.open.all[0])
		}
		b.live(1)
		b.sessions(2, ledger.None, 1)
	})
	t.Run("right after the old one", func(t *testing.T) {
		b := newBed(t)
		c := b.conn("192.0.2.1:40000").syn()
		c.fin()
		b.finish(0)
		n := b.conn("192.0.2.1:40000")
		n.isn = 77000
		n.syn()
		n.data("new")
		b.live(1)
		b.wait(3 * sec) // the old one's place is given up, the new one's is not
		n.data("er")
		if got := string(b.open.all[1].text); got != "newer" {
			t.Errorf("the copy was given %q", got)
		}
		if len(b.sh.flows) != 1 {
			t.Errorf("%d places, wanted 1", len(b.sh.flows))
		}
	})
	t.Run("again and again in one batch", func(t *testing.T) {
		b := newBed(t, func(c *Config) { c.Services[0].Copies = 3 })
		for i := range 20 {
			c := b.conn("192.0.2.1:40000")
			c.hold = true

			c.isn = c.isn.Add(i * 100000)
			c.syn()
			c.data("x")
		}
		b.step()
		b.wait(sec)
		b.live(3)
		b.sessions(60, ledger.None, 57)
		b.bytes(60, ledger.None, 60)
	})
}

func TestCopies(t *testing.T) {
	b := newBed(t, func(c *Config) { c.Services[0].Copies = 3; c.MaxSessions = 5 })
	c := b.conn("192.0.2.1:40000").syn()
	c.data("GET")
	b.live(3)
	for i, f := range b.open.all {
		if string(f.text) != "GET" || f.spec.Client != c.addr {
			t.Errorf("copy %d was given %q of %v", i, f.text, f.spec.Client)
		}
	}
	// Room for two of the next three.
	d := b.conn("192.0.2.1:40001").syn()
	d.data("PUT")
	b.live(5)
	b.sessions(6, ledger.OverSessions, 1)
	// And for none.
	e := b.conn("192.0.2.1:40002").syn()
	e.data("POST")
	b.live(5)
	b.sessions(9, ledger.OverSessions, 4)
	b.bytes(9+6+12, ledger.OverSessions, 12)
	// The middle one of three ends: the others go on.
	f := b.open.all[1]
	f.tell(session.Event{Kind: session.ResetByPeer})
	b.step()
	c.data("more")
	if got := string(b.open.all[0].text) + string(b.open.all[2].text); got != "GETmoreGETmore" {
		t.Errorf("the others were given %q", got)
	}
	c.fin()
	for _, i := range []int{0, 2} {
		b.finish(i)
	}
	b.wait(2 * sec)
	b.live(2)
	if len(b.sh.flows) != 1 {
		t.Errorf("%d places, wanted 1", len(b.sh.flows))
	}
}

func TestLimits(t *testing.T) {
	t.Run("sessions", func(t *testing.T) {
		b := newBed(t, func(c *Config) { c.MaxSessions = 2 })
		for i := range 5 {
			c := b.conn(fmt.Sprintf("192.0.2.1:%d", 40000+i)).syn()
			c.data("GET")
		}
		b.live(2)
		b.sessions(5, ledger.OverSessions, 3)
		b.bytes(15, ledger.OverSessions, 9)
	})
	t.Run("memory", func(t *testing.T) {
		b := newBed(t, func(c *Config) { c.MaxMemory = 300 << 10 })
		b.open.deaf = true // nothing is taken
		first := b.conn("192.0.2.1:40000").syn()
		for range 4 {
			first.data(string(make([]byte, 64<<10)))
		}
		b.live(1)
		for range 3 {
			first.data(string(make([]byte, 64<<10)))
		}
		// Its own bytes were over the bound: they are gone, and it is refused.
		if b.sh.pool.InUse() != 0 {
			t.Errorf("%d bytes in use", b.sh.pool.InUse())
		}
		b.sessions(1, ledger.OverMemory, 1)
		b.bytes(7*64<<10, ledger.OverMemory, 7*64<<10)
	})
	t.Run("memory, by sessions alone", func(t *testing.T) {
		b := newBed(t, func(c *Config) { c.MaxMemory = 10 * sessionCost })
		for i := range 20 {
			b.conn(fmt.Sprintf("192.0.2.1:%d", 40000+i)).syn()
		}
		b.live(11)
		b.sessions(20, ledger.OverMemory, 9)
	})
}

func TestSample(t *testing.T) {
	const n = 2000
	chosen := func(share float64) map[int]bool {
		b := newBed(t, func(c *Config) { c.Services[0].Sample = share; c.MaxSessions = n })
		for i := range n {
			b.conn(fmt.Sprintf("192.0.2.%d:%d", i%200+1, 10000+i)).syn().data("GET")
		}
		all := map[int]bool{}
		for _, f := range b.open.all {
			all[int(f.spec.Client.Port())-10000] = true
		}
		b.sessions(n, ledger.SampledOut, uint64(n-len(all)))
		b.bytes(3*n, ledger.SampledOut, uint64(3*(n-len(all))))
		return all
	}
	some, again, more := chosen(0.3), chosen(0.3), chosen(0.6)
	if len(some) < n/4 || len(some) > n*35/100 {
		t.Errorf("%d of %d chosen, wanted about 30%%", len(some), n)
	}
	for i := range n {
		if some[i] != again[i] {
			t.Fatalf("client %d is chosen in one run and not in another", i)
		}
		if some[i] && !more[i] {
			t.Fatalf("client %d is of the 30%%, and not of the 60%%", i)
		}
	}
	if len(chosen(0)) != 0 || len(chosen(1)) != n {
		t.Error("0 is not none, or 1 not all")
	}
}

func TestRamp(t *testing.T) {
	b := newBed(t, func(c *Config) { c.Services[0].Since = 100 * sec; c.Services[0].Ramp = 100 * time.Second })
	count := func() int {
		before := len(b.open.all)
		for i := range 500 {
			c := b.conn(fmt.Sprintf("192.0.2.1:%d", 10000+len(b.open.all)+i))

			c.isn = c.isn.Add(int(b.now / ms))
			c.syn()
			c.seg(packet.RST, "")
		}
		n := len(b.open.all) - before
		b.wait(2 * sec)
		return n
	}
	if n := count(); n > 5 {
		t.Errorf("at the start %d of 500", n)
	}
	b.wait(48 * sec)
	if n := count(); n < 200 || n > 300 {
		t.Errorf("half way %d of 500", n)
	}
	b.wait(50 * sec)
	if n := count(); n != 500 {
		t.Errorf("at the end %d of 500", n)
	}
}

// What has ended is used again, and no more of it kept than is useful.
func TestEntriesAreUsedAgain(t *testing.T) {
	b := newBed(t, func(c *Config) { c.MaxSessions = 2000 })
	for round := range 3 {
		var conns []*conn
		for i := range 1000 {
			c := b.conn(fmt.Sprintf("192.0.2.1:%d", 10000+i))
			c.isn = c.isn.Add(round * 1000000)
			c.hold = true
			c.syn()
			c.data("GET")
			conns = append(conns, c)
		}
		b.step()
		b.live(1000)
		for _, c := range conns {
			c.seg(packet.RST, "")
		}
		b.step()
		b.live(0)
		b.wait(2 * sec)
	}
	if b.sh.spares > maxSpare {
		t.Errorf("%d entries are kept, wanted at most %d", b.sh.spares, maxSpare)
	}
	n := 0
	for e := b.sh.spare; e != nil && n < 5000; e = e.copy {
		n++
	}
	if n != b.sh.spares {
		t.Errorf("%d entries in the list, %d counted", n, b.sh.spares)
	}
	b.sessions(3000, ledger.None, 3000)
}

func TestDrain(t *testing.T) {
	b := newBed(t)
	c := b.conn("192.0.2.1:40000").syn()
	c.data("GET")
	c.answers(10)
	d := b.conn("192.0.2.1:40001").syn()
	d.data("GET")
	b.sh.Drain(b.now)
	b.step()
	if b.open.all[0].shut || !b.open.all[1].shut {
		t.Errorf("closed: %v, %v; wanted the one that waits for nothing", b.open.all[0].shut, b.open.all[1].shut)
	}
	b.open.all[0].tell(session.Event{Kind: session.Received, N: 10})
	b.step()
	b.wait(sec)
	if !b.open.all[0].shut {
		t.Error("answered, and not closed")
	}
	b.finish(0)
	b.finish(1)
	b.live(0)
}

// With the clock held back, as the engine does when it was late, packets are from the future.
func TestPacketsFromTheFuture(t *testing.T) {
	b := newBed(t)
	c := b.conn("192.0.2.1:40000")
	c.hold = true
	b.now += 500 * ms
	c.syn()
	c.data("GET")
	b.now -= 500 * ms
	b.step()
	b.wait(sec)
	if string(b.open.all[0].text) != "GET" {
		t.Errorf("the copy was given %q", b.open.all[0].text)
	}
}

func TestOf(t *testing.T) {
	for _, count := range []int{0, 1, 2, 3, 7, 16} {
		hits := make([]int, max(count, 1))
		for port := range 1 << 16 {
			i := Of(uint16(port), count)
			if i < 0 || i >= len(hits) {
				t.Fatalf("Of(%d, %d) = %d", port, count, i)
			}
			hits[i]++
		}
		for i, n := range hits {
			if mean := (1 << 16) / len(hits); n < mean*9/10 || n > mean*11/10 {
				t.Errorf("shard %d of %d has %d ports, wanted about %d", i, count, n, mean)
			}
		}
	}
	for _, shift := range []int{0, 1, 100, -100, 70000, -70000, 64512} {
		raw := Raw{PortShift: shift}
		for port := range 1 << 16 {
			moved := Raw{PortShift: -shift}
			if got := raw.ReplyPort(moved.ReplyPort(uint16(port))); got != uint16(port) {
				t.Fatalf("port %d moved by %d and back is %d", port, shift, got)
			}
		}
	}
}

func TestTuple(t *testing.T) {
	for _, c := range []struct{ client, server string }{
		{"192.0.2.1:1234", "198.51.100.1:80"}, {"[2001:db8::1]:1234", "[2001:db8::2]:80"},
	} {
		client, server := netip.MustParseAddrPort(c.client), netip.MustParseAddrPort(c.server)
		tu := TupleOf(client, server)
		if tu.Client() != client || tu.Server() != server {
			t.Errorf("TupleOf(%v, %v) is of %v and %v", client, server, tu.Client(), tu.Server())
		}
	}
}
