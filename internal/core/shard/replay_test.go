package shard

import (
	"testing"

	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/core/session"
)

// A recording that is played again is of new connections, though their packets are the same to the last bit. The
// old ones end once their target has answered, whether their clients had ended them or not.
func TestRenew(t *testing.T) {
	b := newBed(t, func(c *Config) { c.Start = 100 * sec })
	play := func() {
		ended := b.conn("192.0.2.1:40000").syn()
		ended.data("GET 1")
		ended.fin()
		b.conn("192.0.2.1:40001").syn().data("GET 2") // open at the recording's end
		// One that was open at its beginning: its first bytes may be the middle of a request, in every pass.
		c := b.conn("192.0.2.1:40002")
		c.data("ST 3")
		c.answers(10)
		c.data("POST 4")
	}
	play()
	first := len(b.open.all)
	b.sh.Renew(b.now)
	b.step()
	play()
	if len(b.open.all) != 2*first {
		t.Fatalf("%d copies, wanted %d for each pass", len(b.open.all), first)
	}
	for i, f := range b.open.all[:first] {
		if !f.shut {
			t.Errorf("copy %d of the first pass is not closed", i)
		}
		if again := string(b.open.all[first+i].text); again != string(f.text) {
			t.Errorf("copy %d: %q, and %q again", i, f.text, again)
		}
	}
	for i := range b.open.all {
		b.finish(i)
	}
	if c := b.sh.Snapshot(); c.Sessions.Dropped[ledger.Replaced] > 0 {
		t.Errorf("%+v", c.Sessions)
	}
}

// Those are busy that have something to give to their target, and not those that wait for their client.
func TestBusy(t *testing.T) {
	b := newBed(t)
	busy := func(want int, held int64) {
		t.Helper()
		if b.sh.Busy() != want || b.sh.Held() > 0 != (held > 0) {
			t.Errorf("%d busy sessions, %d bytes held, wanted %d and %d", b.sh.Busy(), b.sh.Held(), want, held)
		}
	}
	busy(0, 0)
	b.open.deaf = true // connections do not open
	c := b.conn("192.0.2.1:40000").syn()
	busy(1, 0)
	c.data("GET")
	busy(1, 3)
	b.open.deaf = false
	f := b.open.all[0]
	f.tell(session.Event{Kind: session.Opened})
	f.tell(session.Event{Kind: session.Taken, N: 3})
	b.step()
	busy(0, 0) // what it waits for is its client's next packet
	c.fin()
	busy(1, 0)
	b.finish(0)
	busy(0, 0)
}
