package session

import (
	"testing"
	"time"

	"tcpcopy/internal/core/ledger"
)

// holding holds turns for 5 s.
func holding(svc *Service) { svc.Hold = 5 * time.Second }

// A connection whose copy finds the target away has another copy from its start when the target is
// back, and each turn goes as the gate permits.
func TestHeldFromTheStart(t *testing.T) {
	r := newRig(t, holding)
	r.syn()
	r.data("one ")
	r.away = ledger.TargetRefused
	r.fails(ledger.TargetRefused, 0)
	r.answers(10)
	r.data("two ")
	r.wait(sec)
	r.fin()
	r.copies(1)
	r.away = ledger.None
	r.settle()
	r.copies(2)
	if r.stream().spec.SYN.MSS != 1460 || r.stream().spec.Window != 64240 {
		t.Errorf("the second copy opens with %+v", r.stream().spec)
	}
	r.opened()
	r.copied("one ")
	r.takes()
	r.replies(10)
	r.wait(400 * ms)
	r.copied("one two ")
	r.takes()
	r.targetShuts()
	r.finishes()
	r.ended(false, ledger.None)
	r.bytes(8, ledger.None, 8)
}

// A turn of which the target had nothing when it reset the connection goes to the next copy; what
// it may have is not sent again.
func TestHeldTurn(t *testing.T) {
	for _, test := range []struct {
		name        string
		taken, acks int
		want        string
	}{
		{"nothing", 4, 4, "two "},
		{"acknowledged", 4, 6, ""},
		{"taken", 6, 4, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := fresh(t, holding)
			r.data("one ")
			r.takes()
			r.replies(10)
			r.answers(10)
			r.data("two ")
			r.wait(400 * ms)
			r.copied("one two ")
			if f := r.stream(); test.taken > f.taken {
				f.taken = test.taken
				r.event(Event{Kind: Taken, N: uint64(f.taken)})
			}
			r.targetResets(test.acks)
			if test.want == "" {
				r.copies(1)
				r.state(Watching)
				return
			}
			r.copies(2)
			r.opened()
			r.wait(400 * ms)
			r.copied(test.want)
			r.takes()
			r.bytes(8, ledger.None, 8)
			r.sessions(1, ledger.None, 0)
		})
	}
}

// A turn waits for as long as the service holds turns, and then counts as dropped.
func TestHeldForLong(t *testing.T) {
	r := newRig(t, holding)
	r.syn()
	r.data("one ")
	r.away = ledger.LinkDown
	r.fails(ledger.LinkDown, 0)
	r.wait(5*sec - 1)
	r.bytes(4, ledger.LinkDown, 0)
	r.state(Waiting)
	r.wait(1)
	r.bytes(4, ledger.LinkDown, 4)
	r.state(Watching)
	r.sessions(1, ledger.LinkDown, 1)
}

// What fails for another reason, or later than a turn may wait, is not held.
func TestNotHeld(t *testing.T) {
	for _, why := range []ledger.Reason{ledger.TupleTaken, ledger.TargetForbidden,
		ledger.NoSourceAddress} {
		r := newRig(t, holding)
		r.syn()
		r.data("one ")
		r.fails(why, 0)
		r.state(Watching)
		r.bytes(4, why, 4)
	}
	r := newRig(t, holding)
	r.syn()
	r.data("one ")
	r.wait(5 * sec)
	r.fails(ledger.ConnectTimeout, 0)
	r.state(Watching)
	r.bytes(4, ledger.ConnectTimeout, 4)
}

// A copy that is reset before it was given anything, while it opens or waits for a greeting, begins
// again.
func TestHeldBeforeItBegan(t *testing.T) {
	r := newRig(t, holding)
	r.syn()
	r.data("one ")
	r.targetResets(0)
	r.copies(2)
	r.opened()
	r.copied("one ")
	r.takes()

	r = newRig(t, holding)
	r.data("one ") // of a connection found under way
	r.opened()
	r.state(Greeting)
	r.targetResets(0)
	r.copies(2)
	r.opened()
	r.wait(400 * ms)
	r.copied("one ")
	r.takes()
}

// The first bytes of a client whose copy was lost before begin a turn, though no answer precedes
// them.
func TestFirstBytesAfterLoss(t *testing.T) {
	r := newRig(t)
	r.syn()
	r.opened()
	r.targetResets(0)
	r.state(Watching)
	r.data("one ")
	r.copies(2)
	r.bytes(4, ledger.TargetReset, 0)
}
