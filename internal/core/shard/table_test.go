package shard_test

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/core/session"
	"tcpcopy/internal/core/shard"
	"tcpcopy/internal/test/rig"
)

const (
	ms  = mono.Time(time.Millisecond)
	sec = mono.Time(time.Second)
)

// finish ends the i-th stream in order.
func finish(b *rig.Bed, i int) {
	f := b.Open.All[i]
	f.Tell(session.Event{Kind: session.Finished, N: uint64(len(f.Text))})
	b.Step()
}

func TestOneConnectionOneCopy(t *testing.T) {
	b := rig.NewBed(t)
	c := b.Conn("192.0.2.1:40000").Syn()
	c.Data("GET 1")
	d := b.Conn("192.0.2.1:40001").Syn()
	d.Data("GET 2")
	if len(b.Open.All) != 2 || string(b.Open.All[0].Text) != "GET 1" ||
		string(b.Open.All[1].Text) != "GET 2" {
		t.Fatalf("%d copies: %+v", len(b.Open.All), b.Open.All)
	}
	b.Live(2)
	c.Fin()
	if !b.Open.All[0].Shut || b.Open.All[1].Shut {
		t.Error("not the right copy was closed")
	}
	finish(b, 0)
	b.Live(1)
	b.Sessions(2, ledger.None, 1)
	b.Bytes(10, ledger.None, 10)
}

// The last packets of a connection that has ended begin no new one.
func TestTombstone(t *testing.T) {
	b := rig.NewBed(t)
	c := b.Conn("192.0.2.1:40000").Syn()
	c.Data("GET")
	c.Fin()
	finish(b, 0)
	b.Live(0)
	c.Seg(0, "") // the ACK of the server's FIN
	c.Seg(packet.FIN, "")
	b.Live(0)
	b.Wait(sec - ms)
	if b.Sh.Places() != 1 {
		t.Errorf("%d places are kept, wanted 1", b.Sh.Places())
	}
	b.Wait(2 * ms)
	if b.Sh.Places() != 0 {
		t.Errorf("%d places are kept, wanted none", b.Sh.Places())
	}
	if len(b.Open.All) != 1 {
		t.Errorf("%d copies, wanted 1", len(b.Open.All))
	}
	b.Sessions(1, ledger.None, 1)
	// The end of a connection that was never seen.
	c.Fin()
	c.Seg(packet.RST, "")
	b.Live(0)
}

func TestPortReuse(t *testing.T) {
	t.Run("while the old one lives", func(t *testing.T) {
		b := rig.NewBed(t)
		c := b.Conn("192.0.2.1:40000").Syn()
		c.Data("old")
		c.Send(packet.Segment{Seq: c.Isn, Flags: packet.SYN}) // repeated: not a new one
		if len(b.Open.All) != 1 {
			t.Fatalf("%d copies, wanted 1", len(b.Open.All))
		}
		n := b.Conn("192.0.2.1:40000")
		n.Isn = 77000
		n.Syn()
		n.Data("new")
		if len(b.Open.All) != 2 || string(b.Open.All[1].Text) != "new" {
			t.Fatalf("%d copies, wanted 2", len(b.Open.All))
		}
		if !b.Open.All[0].Aborted || string(b.Open.All[0].Text) != "old" {
			t.Errorf("the old one: %+v", b.Open.All[0])
		}
		b.Live(1)
		b.Sessions(2, ledger.None, 1)
	})
	t.Run("right after the old one", func(t *testing.T) {
		b := rig.NewBed(t)
		c := b.Conn("192.0.2.1:40000").Syn()
		c.Fin()
		finish(b, 0)
		n := b.Conn("192.0.2.1:40000")
		n.Isn = 77000
		n.Syn()
		n.Data("new")
		b.Live(1)
		b.Wait(3 * sec) // the old one's place is given up, the new one's is not
		n.Data("er")
		if got := string(b.Open.All[1].Text); got != "newer" {
			t.Errorf("the copy was given %q", got)
		}
		if b.Sh.Places() != 1 {
			t.Errorf("%d places, wanted 1", b.Sh.Places())
		}
	})
	t.Run("again and again in one batch", func(t *testing.T) {
		b := rig.NewBed(t, func(c *shard.Config) { c.Services[0].Copies = 3 })
		for i := range 20 {
			c := b.Conn("192.0.2.1:40000")
			c.Hold = true

			c.Isn = c.Isn.Add(i * 100000)
			c.Syn()
			c.Data("x")
		}
		b.Step()
		b.Wait(sec)
		b.Live(3)
		b.Sessions(60, ledger.None, 57)
		b.Bytes(60, ledger.None, 60)
	})
}

func TestCopies(t *testing.T) {
	b := rig.NewBed(t, func(c *shard.Config) { c.Services[0].Copies = 3; c.MaxSessions = 5 })
	c := b.Conn("192.0.2.1:40000").Syn()
	c.Data("GET")
	b.Live(3)
	for i, f := range b.Open.All {
		if string(f.Text) != "GET" || f.Spec.Client != c.Addr {
			t.Errorf("copy %d was given %q of %v", i, f.Text, f.Spec.Client)
		}
	}
	// Room for two of the next three.
	d := b.Conn("192.0.2.1:40001").Syn()
	d.Data("PUT")
	b.Live(5)
	b.Sessions(6, ledger.OverSessions, 1)
	// And for none.
	e := b.Conn("192.0.2.1:40002").Syn()
	e.Data("POST")
	b.Live(5)
	b.Sessions(9, ledger.OverSessions, 4)
	b.Bytes(9+6+12, ledger.OverSessions, 12)
	// The middle one of three ends: the others go on.
	f := b.Open.All[1]
	f.Tell(session.Event{Kind: session.ResetByPeer})
	b.Step()
	c.Data("more")
	if got := string(b.Open.All[0].Text) + string(b.Open.All[2].Text); got != "GETmoreGETmore" {
		t.Errorf("the others were given %q", got)
	}
	c.Fin()
	for _, i := range []int{0, 2} {
		finish(b, i)
	}
	b.Wait(2 * sec)
	b.Live(2)
	if b.Sh.Places() != 1 {
		t.Errorf("%d places, wanted 1", b.Sh.Places())
	}
}

func TestLimits(t *testing.T) {
	t.Run("sessions", func(t *testing.T) {
		b := rig.NewBed(t, func(c *shard.Config) { c.MaxSessions = 2 })
		for i := range 5 {
			c := b.Conn(fmt.Sprintf("192.0.2.1:%d", 40000+i)).Syn()
			c.Data("GET")
		}
		b.Live(2)
		b.Sessions(5, ledger.OverSessions, 3)
		b.Bytes(15, ledger.OverSessions, 9)
	})
	t.Run("memory", func(t *testing.T) {
		b := rig.NewBed(t, func(c *shard.Config) { c.MaxMemory = 300 << 10 })
		b.Open.Deaf = true // nothing is taken
		first := b.Conn("192.0.2.1:40000").Syn()
		for range 4 {
			first.Data(string(make([]byte, 64<<10)))
		}
		b.Live(1)
		for range 3 {
			first.Data(string(make([]byte, 64<<10)))
		}
		// Its own bytes were over the bound: they are gone, and it is refused.
		if b.Sh.Held() != 0 {
			t.Errorf("%d bytes in use", b.Sh.Held())
		}
		b.Sessions(1, ledger.OverMemory, 1)
		b.Bytes(7*64<<10, ledger.OverMemory, 7*64<<10)
	})
	t.Run("memory, by sessions alone", func(t *testing.T) {
		b := rig.NewBed(t, func(c *shard.Config) { c.MaxMemory = 10 * shard.SessionCost })
		for i := range 20 {
			b.Conn(fmt.Sprintf("192.0.2.1:%d", 40000+i)).Syn()
		}
		b.Live(11)
		b.Sessions(20, ledger.OverMemory, 9)
	})
}

func TestSample(t *testing.T) {
	const n = 2000
	chosen := func(share float64) map[int]bool {
		b := rig.NewBed(t, func(c *shard.Config) {
			c.Services[0].Sample = share
			c.MaxSessions = n
		})
		for i := range n {
			b.Conn(fmt.Sprintf("192.0.2.%d:%d", i%200+1, 10000+i)).Syn().Data("GET")
		}
		all := map[int]bool{}
		for _, f := range b.Open.All {
			all[int(f.Spec.Client.Port())-10000] = true
		}
		b.Sessions(n, ledger.SampledOut, uint64(n-len(all)))
		b.Bytes(3*n, ledger.SampledOut, uint64(3*(n-len(all))))
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
	b := rig.NewBed(t, func(c *shard.Config) {
		c.Services[0].Since = 100 * sec
		c.Services[0].Ramp = 100 * time.Second
	})
	count := func() int {
		before := len(b.Open.All)
		for i := range 500 {
			c := b.Conn(fmt.Sprintf("192.0.2.1:%d", 10000+len(b.Open.All)+i))

			c.Isn = c.Isn.Add(int(b.Now / ms))
			c.Syn()
			c.Seg(packet.RST, "")
		}
		n := len(b.Open.All) - before
		b.Wait(2 * sec)
		return n
	}
	if n := count(); n > 5 {
		t.Errorf("at the start %d of 500", n)
	}
	b.Wait(48 * sec)
	if n := count(); n < 200 || n > 300 {
		t.Errorf("half way %d of 500", n)
	}
	b.Wait(50 * sec)
	if n := count(); n != 500 {
		t.Errorf("at the end %d of 500", n)
	}
}

// What has ended is used again, and no more of it kept than is useful.
func TestEntriesAreUsedAgain(t *testing.T) {
	b := rig.NewBed(t, func(c *shard.Config) { c.MaxSessions = 2000 })
	for round := range 3 {
		var conns []*rig.Conn
		for i := range 1000 {
			c := b.Conn(fmt.Sprintf("192.0.2.1:%d", 10000+i))
			c.Isn = c.Isn.Add(round * 1000000)
			c.Hold = true
			c.Syn()
			c.Data("GET")
			conns = append(conns, c)
		}
		b.Step()
		b.Live(1000)
		for _, c := range conns {
			c.Seg(packet.RST, "")
		}
		b.Step()
		b.Live(0)
		b.Wait(2 * sec)
	}
	linked, counted := b.Sh.Spares()
	if counted > shard.MaxSpare {
		t.Errorf("%d entries are kept, wanted at most %d", counted, shard.MaxSpare)
	}
	if linked != counted {
		t.Errorf("%d entries in the list, %d counted", linked, counted)
	}
	b.Sessions(3000, ledger.None, 3000)
}

func TestDrain(t *testing.T) {
	b := rig.NewBed(t)
	c := b.Conn("192.0.2.1:40000").Syn()
	c.Data("GET")
	c.Answers(10)
	d := b.Conn("192.0.2.1:40001").Syn()
	d.Data("GET")
	b.Sh.Drain(b.Now)
	b.Step()
	if b.Open.All[0].Shut || !b.Open.All[1].Shut {
		t.Errorf("closed: %v, %v; wanted the one that waits for nothing", b.Open.All[0].Shut,
			b.Open.All[1].Shut)
	}
	b.Open.All[0].Tell(session.Event{Kind: session.Received, N: 10})
	b.Step()
	b.Wait(sec)
	if !b.Open.All[0].Shut {
		t.Error("answered, and not closed")
	}
	finish(b, 0)
	finish(b, 1)
	b.Live(0)
}

// With the clock held back, as the engine does when it was late, packets are from the future.
func TestPacketsFromTheFuture(t *testing.T) {
	b := rig.NewBed(t)
	c := b.Conn("192.0.2.1:40000")
	c.Hold = true
	b.Now += 500 * ms
	c.Syn()
	c.Data("GET")
	b.Now -= 500 * ms
	b.Step()
	b.Wait(sec)
	if string(b.Open.All[0].Text) != "GET" {
		t.Errorf("the copy was given %q", b.Open.All[0].Text)
	}
}

func TestOf(t *testing.T) {
	for _, count := range []int{0, 1, 2, 3, 7, 16} {
		hits := make([]int, max(count, 1))
		for port := range 1 << 16 {
			i := shard.Of(uint16(port), count)
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
}

func TestTuple(t *testing.T) {
	for _, c := range []struct{ client, server string }{
		{"192.0.2.1:1234", "198.51.100.1:80"}, {"[2001:db8::1]:1234", "[2001:db8::2]:80"},
	} {
		client, server := netip.MustParseAddrPort(c.client), netip.MustParseAddrPort(c.server)
		tu := shard.TupleOf(client, server)
		if tu.Client() != client || tu.Server() != server {
			t.Errorf("TupleOf(%v, %v) is of %v and %v", client, server, tu.Client(), tu.Server())
		}
	}
}
