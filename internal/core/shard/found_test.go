package shard_test

import (
	"fmt"
	"strings"
	"testing"

	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/core/session"
	"tcpcopy/internal/core/shard"
	"tcpcopy/internal/test/rig"
)

// seen has a segment of production's server captured, so that the shard knows that these are.
func seen(b *rig.Bed) {
	fromServer(b, b.Conn("192.0.2.99:999"), packet.Segment{Flags: packet.RST})
}

// acks has production's server acknowledge what c has sent.
func acks(b *rig.Bed, c *rig.Conn) {
	fromServer(b, c, packet.Segment{Seq: fromISN + 1, Ack: c.Next(), Flags: packet.ACK})
}

// stranger sends a segment with made-up addresses.
func stranger(b *rig.Bed, i, n int) *rig.Conn {
	c := b.Conn(fmt.Sprintf("10.%d.%d.%d:%d", i>>16&255, i>>8&255, i&255, 1024+i%60000))
	c.Hold = true
	c.Data(strings.Repeat("x", n))
	return c
}

// given fails the test if not one copy was opened, or it was not given a text in the end.
func given(b *rig.Bed, text string) {
	b.Helper()
	if opened(b, 1); len(b.Open.All) == 0 {
		return
	}
	f := b.Open.All[0]
	f.Tell(session.Event{Kind: session.Received, N: 1 << 20})
	b.Step()
	b.Wait(sec)
	if string(f.Text) != text {
		b.Errorf("the copy was given %q, want %q", f.Text, text)
	}
}

// Segments of made-up addresses, without a SYN, open nothing, and take nothing of the bounds on
// sessions. A connection that was found under way among them loses nothing.
func TestMadeUpSegments(t *testing.T) {
	b := rig.NewBed(t, func(c *shard.Config) { c.MaxSessions = 10 })
	seen(b)
	for i := range 3000 {
		stranger(b, i, 100)
	}
	b.Step()
	c := b.Conn("192.0.2.1:40000")
	c.Data("GET 1,")
	for i := range 3000 {
		stranger(b, 3000+i, 0)
	}
	opened(b, 0)
	b.Live(0)
	c.Data("GET 2")
	acks(b, c)
	given(b, "GET 1,GET 2")
	b.Sessions(1, ledger.OverSessions, 0)
	b.Bytes(11, ledger.None, 11)
	b.Wait(mono.Time(shard.FoundLife) + sec)
	noHandshake(b, 3000) // an ACK without data is nothing
	if conns, segments := b.Sh.Found(); conns+segments > 0 {
		t.Errorf("%d connections and %d segments are kept", conns, segments)
	}
}

// What shows that a connection exists, and what does not.
func TestFoundUnderWay(t *testing.T) {
	type bed struct {
		*rig.Bed
		c *rig.Conn
	}
	server := func(seg packet.Segment) func(bed) {
		return func(b bed) {
			seg := seg
			seg.Ack += b.c.Next()
			fromServer(b.Bed, b.c, seg)
		}
	}
	wait := func(d mono.Time) func(bed) { return func(b bed) { b.Wait(d) } }
	data := func(text string) func(bed) { return func(b bed) { b.c.Data(text) } }
	again := func(b bed) {
		b.c.Send(packet.Segment{Seq: b.c.Next() - 4, Ack: fromISN, Payload: []byte("GET ")})
	}
	for _, tc := range []struct {
		name   string
		events []func(bed)
		text   string // of the copy; empty: none is opened
		lost   uint64 // no_handshake at once
	}{
		{"nothing", nil, "", 0},
		{"ACK", []func(bed){server(packet.Segment{Flags: packet.ACK})}, "GET ", 0},
		{"answer", []func(bed){server(packet.Segment{Flags: packet.ACK, Len: 80})}, "GET ", 0},
		{"ACK of what came before", []func(bed){server(packet.Segment{Flags: packet.ACK,
			Ack: 0xffffffff - 9})}, "GET ", 0},
		{"FIN", []func(bed){server(packet.Segment{Flags: packet.ACK | packet.FIN})}, "GET ", 0},
		{"RST", []func(bed){server(packet.Segment{Flags: packet.RST})}, "", 1},
		{"RST, ACK", []func(bed){server(packet.Segment{Flags: packet.RST | packet.ACK})}, "", 1},
		{"ACK of another connection", []func(bed){server(packet.Segment{Flags: packet.ACK,
			Ack: 1 << 30})}, "", 0},
		{"SYN-ACK", []func(bed){server(packet.Segment{Flags: packet.SYN | packet.ACK})}, "", 0},
		{"the client goes on at once", []func(bed){data("more")}, "", 0},
		{"the client repeats itself", []func(bed){wait(2 * sec), again, again}, "", 0},
		{"the client goes on, and the server says nothing", []func(bed){wait(500 * ms),
			data("more,"), wait(600 * ms), data("last")}, "GET more,last", 0},
		{"the client's reset", []func(bed){func(b bed) {
			b.c.Send(packet.Segment{Seq: b.c.Next(), Flags: packet.RST})
		}, server(packet.Segment{Flags: packet.ACK})}, "", 1},
		{"the client's end", []func(bed){func(b bed) { b.c.Fin() },
			server(packet.Segment{Flags: packet.ACK})}, "GET ", 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := bed{Bed: rig.NewBed(t)}
			seen(b.Bed)
			b.Wait(sec)
			b.c = b.Conn("192.0.2.1:40000")
			b.c.Data("GET ")
			opened(b.Bed, 0)
			for _, f := range tc.events {
				f(b)
			}
			noHandshake(b.Bed, tc.lost)
			if tc.text == "" {
				opened(b.Bed, 0)
				b.Sessions(0, ledger.None, 0)
				b.Wait(mono.Time(shard.FoundLife) + sec)
				noHandshake(b.Bed, 1)
				return
			}
			given(b.Bed, tc.text)
			noHandshake(b.Bed, 0)
			b.Bytes(uint64(len(tc.text)), ledger.None, uint64(len(tc.text)))
		})
	}
}

// Where production's side is not captured, a segment without a SYN is enough, but only a share of
// the sessions may begin so.
func TestFoundInOneDirection(t *testing.T) {
	const most = 100
	b := rig.NewBed(t, func(c *shard.Config) { c.MaxSessions = most })
	for i := range 3 * most {
		stranger(b, i, 10)
	}
	b.Step()
	b.Live(most / shard.WeakShare)
	for i := range most / 2 {
		b.Conn(fmt.Sprintf("192.0.2.1:%d", 1024+i)).Syn().Data("GET")
	}
	opened(b, most/2+most/shard.WeakShare)
	b.Bytes(3*most*10+most/2*3, ledger.OverSessions, (3*most-most/shard.WeakShare)*10)
	// Production answers one of them: its place is free for another one.
	c := stranger(b, 0, 10)
	b.Step()
	acks(b, c)
	c = b.Conn("192.0.2.2:40000")
	c.Data("GET")
	b.Wait(2 * sec)
	c.Data("GET")
	b.Live(most/2 + most/shard.WeakShare + 1)
}

// All that is kept is bounded. What came last stays.
func TestMostFound(t *testing.T) {
	for _, tc := range []struct {
		name      string
		n, length int
		change    func(*shard.Config)
	}{
		{"connections", 3000, 1, func(c *shard.Config) { c.MaxHalfOpen = 1000 }},
		{"segments", 2 * shard.FoundPackets, 1, func(*shard.Config) {}},
		{"bytes", 9000, 1400, func(*shard.Config) {}},
		{"bytes, where memory is plenty", 9000, 1400,
			func(c *shard.Config) { c.MaxMemory = 1 << 30 }},
		{"segments, where memory is plenty", 2 * shard.FoundPackets, 1,
			func(c *shard.Config) { c.MaxMemory = 1 << 30 }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := rig.NewBed(t, tc.change)
			seen(b)
			for i := range tc.n {
				stranger(b, i, tc.length)
				if i%500 == 0 {
					b.Step()
				}
			}
			c := b.Conn("192.0.2.1:40000")
			c.Data("GET")
			conns, segments := b.Sh.Found()
			mostSegments, mostBytes := b.Sh.MostFound()
			if segments > mostSegments || conns >= tc.n || conns < 100 ||
				b.Sh.Held() > int64(mostBytes)*3/2 {
				t.Errorf("%d connections, %d segments, %d bytes", conns, segments, b.Sh.Held())
			}
			acks(b, c)
			given(b, "GET")
			b.Wait(mono.Time(shard.FoundLife) + sec)
			if conns, segments := b.Sh.Found(); conns+segments > 0 {
				t.Errorf("%d connections and %d segments are kept", conns, segments)
			}
		})
	}
	t.Run("of one connection", func(t *testing.T) {
		b := rig.NewBed(t)
		seen(b)
		c := b.Conn("192.0.2.1:40000")
		c.Hold = true
		for range 3 * shard.MaxFoundSegments {
			c.Data("x")
		}
		b.Step()
		if conns, segments := b.Sh.Found(); conns != 1 || segments != shard.MaxFoundSegments {
			t.Errorf("%d connections, %d segments", conns, segments)
		}
		b.Sh.Drain(b.Now)
		noHandshake(b, 1)
	})
}
