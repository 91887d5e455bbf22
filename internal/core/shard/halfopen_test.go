package shard_test

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"tcpcopy/internal/core/balance"
	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/core/session"
	"tcpcopy/internal/core/shard"
	"tcpcopy/internal/test/rig"
)

// noHandshake fails the test if not n connections were counted whose handshake did not complete.
func noHandshake(b *rig.Bed, n uint64) {
	b.Helper()
	if got := b.Sh.Snapshot().NoHandshake; got != n {
		b.Errorf("at %v: no_handshake %d, wanted %d", b.Now, got, n)
	}
}

// opened fails the test if not n streams were opened.
func opened(b *rig.Bed, n int) {
	b.Helper()
	if len(b.Open.All) != n {
		b.Errorf("at %v: %d copies were opened, wanted %d", b.Now, len(b.Open.All), n)
	}
}

// fromServer has a segment of production's server to the client c captured.
func fromServer(b *rig.Bed, c *rig.Conn, seg packet.Segment) {
	seg.Src, seg.Dst = rig.Production, c.Addr
	b.In.Packets = append(b.In.Packets, shard.Packet{Seg: seg, At: b.Now, FromServer: true})
	b.Step()
}

const fromISN = 5000 // the server's initial sequence number, as rig.Conn acknowledges it

// synAck has the server's SYN-ACK to c captured.
func synAck(b *rig.Bed, c *rig.Conn) {
	fromServer(b, c, packet.Segment{Seq: fromISN, Ack: c.Isn + 1,
		Flags: packet.SYN | packet.ACK})
}

// SYNs of made-up addresses open nothing, spend nothing of the bounds on sessions, and are
// forgotten.
func TestSYNFlood(t *testing.T) {
	b := rig.NewBed(t, func(c *shard.Config) {
		c.MaxSessions = 10
		c.Services[0].MaxRate = 10
	})
	for i := range 3000 {
		b.Conn(fmt.Sprintf("10.0.%d.%d:%d", i/250, i%250, 1024+i)).HalfOpen()
	}
	opened(b, 0)
	b.Live(0)
	b.Sessions(0, ledger.None, 0)
	c := b.Conn("192.0.2.1:40000").Syn()
	c.Data("GET")
	if opened(b, 1); string(b.Open.All[0].Text) != "GET" {
		t.Errorf("the copy was given %q", b.Open.All[0].Text)
	}
	b.Sessions(1, ledger.OverSessions, 0)
	noHandshake(b, 0)
	b.Wait(6 * sec)
	noHandshake(b, 3000)
	if b.Sh.HalfOpen() != 0 {
		t.Errorf("%d half-open connections are kept", b.Sh.HalfOpen())
	}
	b.Sessions(1, ledger.OverSessions, 0)
}

// More half-open connections than there may be: the oldest are forgotten.
func TestMostHalfOpen(t *testing.T) {
	for name, change := range map[string]func(*shard.Config){
		"of all":    func(c *shard.Config) { c.MaxHalfOpen = 100 },
		"by memory": func(c *shard.Config) { c.MaxMemory = 16 * 100 * shard.HalfOpenCost },
	} {
		t.Run(name, func(t *testing.T) {
			b := rig.NewBed(t, change)
			first := b.Conn("192.0.2.1:1000").HalfOpen()
			for i := range 99 {
				b.Conn(fmt.Sprintf("192.0.2.2:%d", 1024+i)).HalfOpen()
			}
			if n := b.Sh.Memory(); n != 100*shard.HalfOpenCost {
				t.Errorf("memory %d", n)
			}
			first.HalfOpen() // its SYN again: the second one is now the oldest
			for i := range 50 {
				b.Conn(fmt.Sprintf("192.0.2.3:%d", 1024+i)).HalfOpen()
			}
			noHandshake(b, 50)
			if b.Sh.HalfOpen() != 100 {
				t.Errorf("%d half-open connections, wanted 100", b.Sh.HalfOpen())
			}
			first.Data("GET")
			opened(b, 1)
			b.Sessions(1, ledger.NoSYN, 0)
		})
	}
}

// The room for many half-open connections is given back.
func TestHalfOpenRoom(t *testing.T) {
	b := rig.NewBed(t)
	for range 3 {
		for i := range 20000 {
			c := b.Conn(fmt.Sprintf("10.%d.%d.1:%d", i>>8, i&255, 1024+i))
			c.Hold = true
			c.HalfOpen()
		}
		b.Step()
		b.Wait(6 * sec)
		if n := b.Sh.HalfOpenRoom(); n != 0 {
			t.Errorf("there is room for %d half-open connections, wanted none", n)
		}
	}
	noHandshake(b, 60000)
}

// What opens a connection, and what does not.
func TestHandshake(t *testing.T) {
	type bed struct {
		*rig.Bed
		c *rig.Conn
	}
	client := func(seq, ack int, flags packet.Flags, text string) func(bed) {
		return func(b bed) {
			b.c.Send(packet.Segment{Seq: b.c.Isn.Add(seq), Ack: fromISN, Flags: flags,
				Payload: []byte(text)})
		}
	}
	ack := func(seq, ack int, flags packet.Flags, text string) func(bed) {
		return func(b bed) {
			seg := packet.Segment{Seq: b.c.Isn.Add(seq), Flags: flags | packet.ACK,
				Payload: []byte(text)}
			seg.Ack = seg.Ack.Add(fromISN + ack)
			b.c.Send(seg)
		}
	}
	server := func(seq, ack int, flags packet.Flags, n int) func(bed) {
		return func(b bed) {
			seg := packet.Segment{Ack: b.c.Isn.Add(ack), Flags: flags | packet.ACK, Len: n}
			seg.Seq = seg.Seq.Add(fromISN + seq)
			fromServer(b.Bed, b.c, seg)
		}
	}
	accepted := func(b bed) { synAck(b.Bed, b.c) }
	for _, tc := range []struct {
		name   string
		events []func(bed)
		copies int
		failed uint64 // at once
	}{
		{"SYN", nil, 0, 0},
		{"SYN-ACK", []func(bed){accepted}, 0, 0},
		{"ACK", []func(bed){accepted, ack(1, 1, 0, "")}, 1, 0},
		{"ACK of a mirror that shows one direction", []func(bed){ack(1, 1, 0, "")}, 1, 0},
		{"the ACK was lost: data", []func(bed){accepted, ack(1, 1, packet.PSH, "GET")}, 1, 0},
		{"later data", []func(bed){accepted, ack(4, 100, packet.PSH, "more")}, 1, 0},
		{"FIN", []func(bed){accepted, ack(1, 1, packet.FIN, "")}, 1, 0},
		{"ACK of what the server did not send", []func(bed){accepted, ack(1, 0, 0, "")}, 0, 0},
		{"ACK of a guess", []func(bed){accepted, ack(1, 1<<24, 0, "")}, 0, 0},
		{"no ACK bit", []func(bed){accepted, client(1, 0, packet.PSH, "GET")}, 0, 0},
		{"RST of the client", []func(bed){accepted, client(1, 0, packet.RST, "")}, 0, 1},
		{"RST of an older connection", []func(bed){client(-9, 0, packet.RST, "")}, 0, 0},
		{"refused", []func(bed){server(-fromISN, 1, packet.RST, 0)}, 0, 1},
		{"RST that refuses another SYN", []func(bed){server(-fromISN, 2000000, packet.RST, 0)},
			0, 0},
		{"server acknowledges data", []func(bed){accepted, server(1, 4, 0, 0)}, 1, 0},
		{"server speaks", []func(bed){accepted, server(1, 1, packet.PSH, 80)}, 1, 0},
		{"server speaks, SYN-ACK lost", []func(bed){server(1, 1, packet.PSH, 80)}, 1, 0},
		{"server closes", []func(bed){accepted, server(1, 1, packet.FIN, 0)}, 1, 0},
		{"server repeats the SYN-ACK", []func(bed){accepted, accepted}, 0, 0},
		{"server's bare ACK", []func(bed){accepted, server(1, 1, 0, 0)}, 0, 0},
		{"server of an older connection", []func(bed){server(1, -5, packet.PSH, 80)}, 0, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := bed{Bed: rig.NewBed(t)}
			b.c = b.Conn("192.0.2.1:40000").HalfOpen()
			for _, f := range tc.events {
				f(b)
			}
			opened(b.Bed, tc.copies)
			noHandshake(b.Bed, tc.failed)
			b.Wait(6 * sec)
			opened(b.Bed, tc.copies)
			noHandshake(b.Bed, uint64(1-tc.copies))
			c := b.Sh.Snapshot()
			if int(c.Sessions.Captured) != tc.copies {
				t.Errorf("%d sessions captured", c.Sessions.Captured)
			}
		})
	}
}

// The server's first bytes are known from its SYN-ACK: a turn that answers a greeting waits for the
// copy's greeting, though the ACK between was lost.
func TestSYNACKIsKept(t *testing.T) {
	b := rig.NewBed(t)
	c := b.Conn("192.0.2.1:40000").HalfOpen()
	synAck(b, c)
	c.Send(packet.Segment{Seq: c.Isn + 1, Ack: fromISN + 1 + 80, Flags: packet.ACK | packet.PSH,
		Payload: []byte("login")})
	if opened(b, 1); len(b.Open.All[0].Text) != 0 {
		t.Fatalf("%q did not wait for the greeting", b.Open.All[0].Text)
	}
	b.Open.All[0].Tell(session.Event{Kind: session.Received, N: 80})
	b.Step()
	b.Wait(sec)
	if string(b.Open.All[0].Text) != "login" {
		t.Errorf("the copy was given %q", b.Open.All[0].Text)
	}
}

// The bytes of a SYN (RFC 7413) are the copy's first ones. They are kept within a bound.
func TestSYNWithData(t *testing.T) {
	b := rig.NewBed(t)
	syn := func(addr, text string) *rig.Conn {
		c := b.Conn(addr)
		c.Send(packet.Segment{Seq: c.Isn, Flags: packet.SYN, Payload: []byte(text)})
		return c
	}
	c := syn("192.0.2.1:40000", "GET 1")
	opened(b, 0)
	fromServer(b, c, packet.Segment{Seq: fromISN, Ack: c.Isn + 6,
		Flags: packet.SYN | packet.ACK})
	if opened(b, 1); string(b.Open.All[0].Text) != "GET 1" {
		t.Errorf("the copy was given %q", b.Open.All[0].Text)
	}
	b.Bytes(5, ledger.None, 5)
	for i := range 2000 {
		syn(fmt.Sprintf("192.0.2.2:%d", 1024+i), string(make([]byte, 1460)))
	}
	if n := b.Sh.Held(); n > 3<<20 {
		t.Errorf("%d bytes of SYNs are held", n)
	}
	opened(b, 1)
	b.Wait(6 * sec)
	noHandshake(b, 2000)
	b.Bytes(5, ledger.None, 5)
}

// A stranger's SYN with a client's address and port does not end the client's copy; the client's
// next connection from that port does.
func TestSYNOnALivingConnection(t *testing.T) {
	b := rig.NewBed(t, func(c *shard.Config) { c.Services[0].Copies = 2 })
	old := b.Conn("192.0.2.1:40000").Syn()
	old.Data("one")
	forged := b.Conn("192.0.2.1:40000")
	forged.Isn = 900000000
	forged.HalfOpen()
	fromServer(b, old, packet.Segment{Seq: fromISN + 1, Ack: old.Isn + 4, Flags: packet.ACK})
	old.Answers(10)
	for _, f := range b.Open.All {
		f.Tell(session.Event{Kind: session.Received, N: 10})
	}
	b.Step()
	old.Data("two")
	opened(b, 2)
	b.Live(2)
	b.Wait(6 * sec)
	noHandshake(b, 1)
	old.Data("three")
	for _, f := range b.Open.All {
		if string(f.Text) != "onetwothree" || f.Aborted {
			t.Errorf("the old copy was given %q, aborted: %v", f.Text, f.Aborted)
		}
	}
	next := b.Conn("192.0.2.1:40000")
	next.Isn = 77000
	next.HalfOpen()
	opened(b, 2)
	synAck(b, next)
	opened(b, 2)
	next.Data("new")
	opened(b, 4)
	b.Live(2)
	b.Sessions(4, ledger.None, 2)
	noHandshake(b, 1)
	if got := string(b.Open.All[2].Text); got != "new" {
		t.Errorf("the new copy was given %q", got)
	}
}

// A copy counts against the bounds when its connection is established, and a SYN that was refused
// is counted once, with the bytes that follow it.
func TestRateOfHandshakes(t *testing.T) {
	b := rig.NewBed(t, func(c *shard.Config) { c.Services[0].MaxRate = 1 })
	b.Wait(sec)
	for i := range 5 {
		b.Conn(fmt.Sprintf("192.0.2.9:%d", 1024+i)).HalfOpen()
	}
	for i := range 3 {
		c := b.Conn(fmt.Sprintf("192.0.2.1:%d", 1024+i)).Syn()
		c.Data("GET")
	}
	opened(b, 1)
	b.Sessions(3, ledger.OverRate, 2)
	b.Bytes(9, ledger.OverRate, 6)
}

// Staggered copies of a connection begin as long after each other as configured, counted from the
// SYN, whichever packet completes the handshake.
func TestStaggeredHandshake(t *testing.T) {
	b := rig.NewBed(t, func(c *shard.Config) {
		c.Services[0].Copies, c.Services[0].Stagger = 3, time.Second
		c.Services[0].Targets.Set(balance.Config{}, rig.TargetsOf(c.Services[0]))
	})
	c := b.Conn("192.0.2.1:40000").HalfOpen()
	b.Wait(300 * ms)
	synAck(b, c)
	c.Data("GET")
	opened(b, 1)
	b.Wait(800 * ms)
	opened(b, 2)
	b.Wait(sec)
	opened(b, 3)
	b.Wait(sec)
	for i, f := range b.Open.All {
		if string(f.Text) != "GET" {
			t.Errorf("copy %d was given %q", i, f.Text)
		}
	}
	noHandshake(b, 0)
}

// The end of a capture, and another pass of a recording, end half-open connections.
func TestHalfOpenAtTheEnd(t *testing.T) {
	b := rig.NewBed(t)
	c := b.Conn("192.0.2.1:40000").HalfOpen()
	b.Sh.Renew(b.Now)
	noHandshake(b, 1)
	c.HalfOpen()
	b.Sh.Drain(b.Now)
	noHandshake(b, 2)
	b.Conn("192.0.2.1:40001").HalfOpen()
	b.Sh.Shutdown(b.Now)
	noHandshake(b, 3)
}

// A SYN that was captured on two interfaces counts as captured twice; a SYN without timestamps
// cannot be told from one that was sent again.
func TestSYNTwice(t *testing.T) {
	b := rig.NewBed(t)
	client := netip.MustParseAddrPort("192.0.2.1:40000")
	for ifindex := range int32(2) {
		b.In.Packets = append(b.In.Packets, shard.Packet{At: b.Now, Ifindex: ifindex,
			Seg: packet.Segment{Src: client, Dst: rig.Production, Seq: 1000, Flags: packet.SYN,
				Opts: packet.Options{HasTS: true, TSVal: 9}}})
	}
	b.Step()
	if n := b.Sh.Snapshot().Packets.Twice; n != 1 {
		t.Errorf("%d packets were seen twice, wanted 1", n)
	}
}
