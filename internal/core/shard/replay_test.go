package shard_test

import (
	"testing"

	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/core/session"
	"tcpcopy/internal/core/shard"
	"tcpcopy/internal/test/rig"
)

// A recording that is played again is of new connections, though their packets are the same to the
// last bit. The old ones end once their target has answered, whether their clients had ended them
// or not.
func TestRenew(t *testing.T) {
	b := rig.NewBed(t, func(c *shard.Config) { c.Start = 100 * sec })
	play := func() {
		ended := b.Conn("192.0.2.1:40000").Syn()
		ended.Data("GET 1")
		ended.Fin()
		b.Conn("192.0.2.1:40001").Syn().Data("GET 2") // open at the recording's end
		// One that was open at its beginning: its first bytes may be the middle of a request, in
		// every pass.
		c := b.Conn("192.0.2.1:40002")
		c.Data("ST 3")
		c.Answers(10)
		c.Data("POST 4")
	}
	play()
	first := len(b.Open.All)
	b.Sh.Renew(b.Now)
	b.Step()
	play()
	if len(b.Open.All) != 2*first {
		t.Fatalf("%d copies, wanted %d for each pass", len(b.Open.All), first)
	}
	for i, f := range b.Open.All[:first] {
		if !f.Shut {
			t.Errorf("copy %d of the first pass is not closed", i)
		}
		if again := string(b.Open.All[first+i].Text); again != string(f.Text) {
			t.Errorf("copy %d: %q, and %q again", i, f.Text, again)
		}
	}
	for i := range b.Open.All {
		finish(b, i)
	}
	if c := b.Sh.Snapshot(); c.Sessions.Dropped[ledger.Replaced] > 0 {
		t.Errorf("%+v", c.Sessions)
	}
}

// Those are busy that have something to give to their target, and not those that wait for their
// client.
func TestBusy(t *testing.T) {
	b := rig.NewBed(t)
	busy := func(want int, held int64) {
		t.Helper()
		if b.Sh.Busy() != want || b.Sh.Held() > 0 != (held > 0) {
			t.Errorf("%d busy sessions, %d bytes held, wanted %d and %d", b.Sh.Busy(), b.Sh.Held(),
				want, held)
		}
	}
	busy(0, 0)
	b.Open.Deaf = true // connections do not open
	c := b.Conn("192.0.2.1:40000").Syn()
	busy(1, 0)
	c.Data("GET")
	busy(1, 3)
	b.Open.Deaf = false
	f := b.Open.All[0]
	f.Tell(session.Event{Kind: session.Opened})
	f.Tell(session.Event{Kind: session.Taken, N: 3})
	b.Step()
	busy(0, 0) // what it waits for is its client's next packet
	c.Fin()
	busy(1, 0)
	finish(b, 0)
	busy(0, 0)
}
