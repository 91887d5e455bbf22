package shard_test

import (
	"fmt"
	"testing"
	"time"

	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/core/shard"
	"tcpcopy/internal/test/rig"
)

// Uploads that a target does not take reach the bound on memory. They are refused, the largest
// first; clients with small requests go on, and new ones are admitted.
func TestMemoryIsTakenFromTheLargest(t *testing.T) {
	const uploads, size, most = 16, 512 << 10, 4 << 20
	b := rig.NewBed(t, func(c *shard.Config) { c.MaxMemory = most })
	b.Open.Deaf = true // nothing is taken
	var small, large []*rig.Conn
	for i := range 100 {
		small = append(small, b.Conn(fmt.Sprintf("192.0.2.1:%d", 1024+i)).Syn())
	}
	for i := range uploads {
		large = append(large, b.Conn(fmt.Sprintf("192.0.2.2:%d", 1024+i)).Syn())
	}
	text := string(make([]byte, 16<<10))
	said := 0
	for round := range size / len(text) {
		for _, c := range large {
			c.Data(text)
			if n := b.Sh.Memory(); n > most {
				t.Fatalf("%d bytes of memory, wanted at most %d", n, most)
			}
		}
		if round%4 == 0 {
			for _, c := range small {
				c.Data("GET /")
				said++
			}
		}
	}
	for i := range 20 {
		c := b.Conn(fmt.Sprintf("192.0.2.3:%d", 1024+i)).Syn()
		c.Data("GET /")
	}
	a := b.Sh.Snapshot()
	refused := a.Sessions.Dropped[ledger.OverMemory]
	if refused == 0 || refused > uploads || a.Sessions.DroppedAll() != refused {
		t.Errorf("%d sessions of %d uploads were refused: %+v", refused, uploads, a.Sessions)
	}
	if n := a.Bytes.Dropped[ledger.OverMemory] % uint64(len(text)); n != 0 {
		t.Errorf("%d bytes of small requests were dropped", n)
	}
	b.Live(100 + uploads + 20)
}

// The packets that wait for a staggered copy count, headers alone too, and the copy that has the
// most of them is refused; the first copy of the connection and other connections are not.
func TestMemoryOfStaggeredCopies(t *testing.T) {
	const most = 1 << 20
	b := rig.NewBed(t, func(c *shard.Config) {
		c.MaxMemory = most
		c.Services[0].Copies, c.Services[0].Stagger = 2, time.Hour
	})
	c, other := b.Conn("192.0.2.1:40000").Syn(), b.Conn("192.0.2.1:40001").Syn()
	other.Data("GET /")
	for i := range 10000 {
		fromServer(b, c, packet.Segment{Seq: fromISN + 1, Ack: c.Isn + 1, Flags: packet.ACK,
			Window: uint16(i)})
		if n := b.Sh.Memory(); n > most {
			t.Fatalf("%d bytes of memory, wanted at most %d", n, most)
		}
	}
	b.Sessions(4, ledger.OverMemory, 1)
	opened(b, 2) // the refused one had not begun
	b.Live(4)
}

// Where sessions hold little, more sessions than the bound has room for are refused as they come,
// and none of those that there are.
func TestMemoryOfManySessions(t *testing.T) {
	b := rig.NewBed(t, func(c *shard.Config) { c.MaxMemory = 100 * shard.SessionCost })
	b.Open.Deaf = true
	for i := range 200 {
		b.Conn(fmt.Sprintf("192.0.2.1:%d", 1024+i)).Syn().Data("GET /")
	}
	a := b.Sh.Snapshot()
	if n := a.Sessions.Dropped[ledger.OverMemory]; n < 100 || n > 110 ||
		uint64(b.Sh.Live())+n != 200 {
		t.Errorf("%d of 200 sessions were refused, %d live", n, b.Sh.Live())
	}
}
