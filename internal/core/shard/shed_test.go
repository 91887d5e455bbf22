package shard_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/core/shard"
	"tcpcopy/internal/test/rig"
)

// Beyond the memory bound the sessions with the largest backlogs are refused as a whole, whoever
// sends next; the others go on.
func TestTheLargestBacklogIsShedFirst(t *testing.T) {
	b := rig.NewBed(t, func(c *shard.Config) { c.MaxMemory = 1 << 20 })
	b.Open.Deaf = true // nothing is taken
	backlog := []int{2, 9, 1, 3}
	piece := strings.Repeat("x", 64<<10)
	var all []*rig.Conn
	for i, n := range backlog {
		c := b.Conn(fmt.Sprintf("192.0.2.1:%d", 40000+i)).Syn()
		for range n {
			c.Data(piece)
		}
		all = append(all, c)
	}
	b.Sessions(4, ledger.OverMemory, 0)
	all[2].Data(piece) // 16 pieces, and the sessions: more than may be
	b.Bytes(16*64<<10, ledger.OverMemory, 9*64<<10)
	if held := b.Sh.Held(); held != 7*64<<10 {
		t.Errorf("%d bytes are held after the shedding", held)
	}
	// What the session that was refused goes on to send is dropped, and takes no room.
	all[1].Data(piece)
	b.Bytes(17*64<<10, ledger.OverMemory, 10*64<<10)
}

// A staggered copy holds packets that are not due yet. They count, and are dropped with it.
func TestAStaggeredBacklogIsShed(t *testing.T) {
	b := rig.NewBed(t, func(c *shard.Config) {
		c.MaxMemory = 1 << 20
		c.Services[0].Copies, c.Services[0].Stagger = 2, time.Minute
	})
	piece := strings.Repeat("x", 64<<10)
	c := b.Conn("192.0.2.1:40000").Syn()
	for range 14 { // the first copy's are taken at once, the second's wait
		c.Data(piece)
	}
	if held := b.Sh.Held(); held != 14*64<<10 {
		t.Fatalf("%d bytes are held, wanted 14 pieces", held)
	}
	c.Data(piece)
	b.Bytes(2*15*64<<10, ledger.OverMemory, 15*64<<10)
	if held := b.Sh.Held(); held > 128 {
		t.Errorf("%d bytes are held after the shedding", held)
	}
}

// A step with a limit leaves sessions to the next ones, in their order. Store advances none.
func TestLimit(t *testing.T) {
	b := rig.NewBed(t)
	var all [5]*rig.Conn
	for i := range all {
		all[i] = b.Conn(fmt.Sprintf("192.0.2.1:%d", 40000+i)).Syn()
	}
	for _, c := range all {
		c.Hold = true
		c.Data("GET")
	}
	sent := func() (n int) {
		for i, f := range b.Open.All {
			if f.Text == nil {
				continue
			}
			if n++; i >= n {
				t.Errorf("copy %d has sent before the one before it", i)
			}
		}
		return n
	}
	b.Sh.Store(b.Now, b.In.Packets)
	b.In.Packets = nil
	if b.Sh.Held() == 0 || sent() != 0 || !b.Sh.More() {
		t.Fatalf("Store: %d bytes are held, %d copies have sent", b.Sh.Held(), sent())
	}
	for i, want := range []int{2, 4, 5} {
		b.Sh.Step(b.Now, &shard.Input{Limit: 2})
		if sent() != want || i < 2 != b.Sh.More() {
			t.Fatalf("after %d steps %d copies have sent, wanted %d; more: %v", i+1, sent(), want,
				b.Sh.More())
		}
	}
	b.Step()
	if b.Sh.More() {
		t.Error("sessions are left after a step without a limit")
	}
}

// Only so many of the connections that were refused are remembered, those seen last.
func TestMostMarks(t *testing.T) {
	b := rig.NewBed(t, func(c *shard.Config) { c.Services[0].MaxRate = 1 })
	b.Wait(sec)
	const conns = 5 * shard.MaxMarks / 2
	var last *rig.Conn
	for i := range conns {
		last = b.Conn(fmt.Sprintf("10.%d.%d.%d:1024", i>>16, i>>8&255, i&255))
		last.Hold = true
		last.Syn()
		if i%1000 == 0 {
			b.Step()
		}
	}
	b.Step()
	if n := b.Sh.Marks(); n < shard.MaxMarks || n > 2*shard.MaxMarks {
		t.Errorf("%d are remembered of %d, want %d to %d", n, conns, shard.MaxMarks,
			2*shard.MaxMarks)
	}
	before := b.Sh.Snapshot().Bytes.Dropped[ledger.OverRate]
	b.Wait(sec)
	last.Data("GET")
	b.Step()
	if n := b.Sh.Snapshot().Bytes.Dropped[ledger.OverRate] - before; n != 3 {
		t.Errorf("%d bytes of the last one are over_rate, want 3", n)
	}
}
