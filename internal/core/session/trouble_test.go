package session

import (
	"strings"
	"testing"
	"time"

	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/packet"
)

func TestCaptureGap(t *testing.T) {
	t.Run("known by the server's acknowledgment", func(t *testing.T) {
		r := fresh(t, silent)
		r.data("GET 1")
		r.takes()
		r.next += 7 // not captured
		r.data("tail")
		r.serverAcks(r.next)
		r.wait(holeGraceT - ms)
		r.state(Flowing)
		r.wait(ms)
		r.state(Watching)
		if !r.stream().aborted {
			t.Error("the copy goes on without the bytes that are missing")
		}
		r.sessions(1, ledger.CaptureGap, 1)
		r.bytes(9, ledger.CaptureGap, 4)
		// The next turn begins another copy.
		r.answers(10)
		r.data("GET 2")
		r.copies(2)
		r.opened()
		r.copied("GET 2")
		r.takes()
		r.sessions(2, ledger.None, 0)
	})
	t.Run("the last bytes", func(t *testing.T) {
		r := fresh(t)
		r.data("GET 1")
		r.takes()
		r.next += 7
		r.serverAcks(r.next)
		r.wait(holeGraceT)
		r.sessions(1, ledger.CaptureGap, 1)
		r.bytes(5, ledger.CaptureGap, 0)
	})
	t.Run("a turn's start", func(t *testing.T) {
		r := fresh(t, silent)
		r.data("GET 1")
		r.takes()
		r.answers(10)
		r.next += 4
		r.data("second half")
		r.serverAcks(r.next)
		r.wait(sec)
		r.copies(1) // half a turn is no start
		r.answers(10)
		r.data("GET 3")
		r.copies(2)
		r.opened()
		r.copied("GET 3")
	})
	t.Run("acknowledged before it is captured", func(t *testing.T) {
		r := fresh(t)
		r.serverAcks(5)
		r.wait(holeGraceT - ms)
		r.data("GET 1")
		r.wait(sec)
		r.state(Flowing)
		r.copied("GET 1")
	})
}

func TestCaptureGapInTime(t *testing.T) {
	t.Run("known by time", func(t *testing.T) {
		r := fresh(t)
		r.data("GET 1")
		r.takes()
		r.seg(r.next+3, "tail", 0)
		r.wait(holeLimitT - ms)
		r.state(Flowing)
		r.wait(ms)
		r.state(Watching)
		r.sessions(1, ledger.CaptureGap, 1)
		r.bytes(9, ledger.CaptureGap, 4)
	})
	part := func(r *rig, payload string, size int) {
		r.Helper()
		r.fromClient(packet.Segment{Seq: r.isn.Add(1 + r.next), Ack: r.irs.Add(1 + r.seen),
			Flags: packet.ACK, Window: 500,
			Payload: []byte(payload), Len: size})
	}
	t.Run("a segment that was cut on its way here", func(t *testing.T) {
		r := fresh(t)
		r.data("GET 1")
		r.takes()
		r.answers(10)
		part(r, "GET", 9)
		r.wait(holeGraceT - ms)
		r.state(Flowing)
		r.wait(ms)
		r.state(Watching)
		if text := r.stream().text; text != "GET 1" || !r.stream().aborted {
			t.Errorf("the copy had %q, aborted %v", text, r.stream().aborted)
		}
		r.sessions(1, ledger.CaptureGap, 1)
		r.bytes(5, ledger.CaptureGap, 0)
	})
	t.Run("a segment that was cut, and comes again whole", func(t *testing.T) {
		r := fresh(t)
		part(r, "", 5)
		r.wait(holeGraceT - ms)
		r.data("GET 1")
		r.wait(sec)
		r.state(Flowing)
		r.copied("GET 1")
	})
	t.Run("filled in time", func(t *testing.T) {
		r := fresh(t)
		r.seg(3, "def", 0)
		r.wait(4 * sec)
		r.seg(0, "abc", 0)
		r.wait(4 * sec)
		r.state(Flowing)
		r.copied("abcdef")
	})
	t.Run("two at once", func(t *testing.T) {
		r := fresh(t)
		r.seg(3, "def", 0)
		r.seg(9, "jkl", 0)
		r.wait(20 * sec)
		r.sessions(1, ledger.CaptureGap, 1)
		r.bytes(6, ledger.CaptureGap, 6)
		if n := r.count.Bytes.InFlight(); n != 0 {
			t.Errorf("%d bytes in flight without a copy", n)
		}
	})
}

func TestCaptureGapAtTheEnd(t *testing.T) {
	t.Run("before the FIN", func(t *testing.T) {
		r := fresh(t)
		r.data("GET 1")
		r.takes()
		r.next += 7
		r.fin()
		r.fromServer(packet.Segment{Seq: r.irs + 1, Ack: r.isn.Add(2 + r.next),
			Flags: packet.ACK | packet.FIN})
		r.wait(sec)
		r.state(Gone)
		r.sessions(1, ledger.CaptureGap, 1)
	})
	t.Run("the last byte before a reset", func(t *testing.T) {
		r := fresh(t)
		r.data("GET 1")
		r.takes()
		r.next++
		r.answers(10)
		r.rst()
		r.wait(sec)
		r.state(Gone)
		r.sessions(1, ledger.CaptureGap, 1)
	})
	t.Run("too much behind a hole", func(t *testing.T) {
		r := fresh(t)
		for i := range 2000 {
			r.seg(10+2*i, "x", 0)
		}
		r.sessions(1, ledger.CaptureGap, 1)
	})
	t.Run("an acknowledgment of what was never sent", func(t *testing.T) {
		r := fresh(t)
		r.data("GET 1")
		r.fin()
		r.serverAcks(5000)
		r.wait(30 * sec)
		if r.s.State() != Gone && r.s.State() != Closing {
			t.Errorf("state %d", r.s.State())
		}
	})
}

const (
	holeGraceT = 200 * ms
	holeLimitT = 5 * sec
)

func TestLostFIN(t *testing.T) {
	r := fresh(t)
	r.data("GET")
	r.takes()
	r.says(10)
	r.serverFIN()
	r.replies(10)
	r.seen = 11
	r.ack()
	r.serverAcks(r.next + 1)
	if r.stream().shut {
		t.Error("closed too soon")
	}
	r.wait(sec)
	if !r.stream().shut {
		t.Error("the server has acknowledged a FIN, and the copy is not closed")
	}
	r.finishes()
	r.ended(false, ledger.None)
}

// If a FIN is captured after its acknowledgment, nothing is missing.
func TestFINAfterItsAcknowledgment(t *testing.T) {
	r := fresh(t)
	r.data("GET")
	r.takes()
	r.answers(10)
	r.serverAcks(r.next + 1)
	r.fin()
	r.wait(8 * sec) // the gate holds it
	r.state(Flowing)
	r.replies(10)
	r.wait(sec)
	r.state(Closing)
	r.finishes()
	r.ended(false, ledger.None)
}

func TestTargetResets(t *testing.T) {
	t.Run("reset, then another copy at the next turn", func(t *testing.T) {
		r := fresh(t, silent)
		r.data("GET 1")
		r.takes()
		r.targetResets(5)
		r.state(Watching)
		r.sessions(1, ledger.TargetReset, 1)
		r.bytes(5, ledger.None, 5)
		r.answers(10)
		r.data("GET 2")
		r.copies(2)
		r.opened()
		r.copied("GET 2")
		r.takes()
		r.sessions(2, ledger.None, 0)
		r.bytes(10, ledger.None, 10)
		r.adopted(1)
	})
	t.Run("reset in the middle of a turn", func(t *testing.T) {
		r := fresh(t, silent)
		r.data("first half, ")
		r.targetResets(4)
		r.bytes(12, ledger.None, 4)
		r.bytes(12, ledger.TargetReset, 8)
		r.data("second half")
		r.copies(1)
		r.bytes(23, ledger.TargetReset, 19)
	})
	t.Run("reset of what the kernel had taken", func(t *testing.T) {
		r := fresh(t)
		r.data("0123456789")
		r.takes()
		r.bytes(10, ledger.None, 10)
		r.targetResets(6)
		r.bytes(10, ledger.None, 6)
		r.bytes(10, ledger.TargetReset, 4)
	})
	t.Run("reset after both had closed", func(t *testing.T) {
		r := fresh(t)
		r.data("GET")
		r.fin()
		r.takes()
		r.targetResets(3)
		r.ended(false, ledger.None)
	})
	t.Run("reset with a turn waiting", func(t *testing.T) {
		r := fresh(t, silent)
		r.data("GET 1")
		r.takes()
		r.answers(10)
		r.data("GET 2")
		r.targetResets(5)
		r.copies(2) // the turn that waited gets a copy at once
		r.opened()
		r.copied("GET 2")
	})
}

// A target that does not answer is tried again after a second.
func TestTargetDoesNotAnswer(t *testing.T) {
	r := newRig(t, silent)
	r.syn()
	r.data("GET 1")
	r.fails(ledger.ConnectTimeout, 0)
	r.answers(3)
	r.wait(mono.Time(retryAfter) - ms)
	r.data("too soon")
	r.copies(1)
	r.answers(3)
	r.wait(ms)
	r.data("GET 2")
	r.copies(2)
	r.fails(ledger.ConnectTimeout, 0)
}

func TestTargetClosesOrRefuses(t *testing.T) {
	t.Run("refused", func(t *testing.T) {
		r := newRig(t, silent)
		r.syn()
		r.data("GET 1")
		r.fails(ledger.TargetRefused, 0)
		r.sessions(1, ledger.TargetRefused, 1)
		r.bytes(5, ledger.TargetRefused, 5)
		r.answers(3)
		r.data("at once") // the target is not asked for each turn
		r.copies(1)
		r.bytes(12, ledger.TargetRefused, 12)
		r.answers(3)
		r.wait(100 * ms)
		r.data("GET 2")
		r.copies(2) // a target that is back is used within 100 ms
		r.fails(ledger.TargetRefused, 0)
		r.sessions(2, ledger.TargetRefused, 2)
		r.bytes(17, ledger.TargetRefused, 17)
		r.fin()
		r.state(Gone)
		r.sessions(2, ledger.TargetRefused, 2)
	})
	t.Run("closed, then another copy at the next turn", func(t *testing.T) {
		r := fresh(t, silent)
		r.data("GET 1")
		r.takes()
		r.answers(10)
		r.replies(10)
		r.targetShuts() // it keeps connections alive for a shorter time
		r.wait(30 * sec)
		r.state(Flowing)
		r.data("GET 2")
		r.copies(2)
		if !r.streams[0].aborted {
			t.Error("the old copy was left")
		}
		r.opened()
		r.copied("GET 2")
		r.sessions(2, ledger.TargetClosed, 1)
		r.bytes(10, ledger.TargetClosed, 0)
	})
	t.Run("closed and reset in the middle of a turn", func(t *testing.T) {
		r := fresh(t)
		r.data("first")
		r.takes()
		r.targetShuts()
		r.data("second")
		r.targetResets(5)
		r.sessions(1, ledger.TargetClosed, 1)
		r.bytes(11, ledger.TargetClosed, 6)
	})
	t.Run("both servers close after the answer", func(t *testing.T) {
		r := fresh(t)
		r.data("GET")
		r.takes()
		r.says(10)
		r.serverFIN()
		r.replies(10)
		r.targetShuts()
		r.seen = 11
		r.fin()
		r.finishes()
		r.ended(false, ledger.None)
	})
	t.Run("an event after the end is ignored", func(t *testing.T) {
		r := fresh(t)
		r.data("GET")
		r.targetResets(0)
		r.s.Handle(r.now, &Event{ID: 7, Kind: Taken, N: 3, At: r.now})
		r.settle()
		r.bytes(3, ledger.None, 0)
	})
}

func TestGateTimeouts(t *testing.T) {
	t.Run("the gate: no answer begins", func(t *testing.T) {
		r := fresh(t, silent)
		r.data("GET 1")
		r.takes()
		r.answers(10)
		r.data("GET 2")
		r.wait(10*sec - ms)
		r.state(Flowing)
		r.wait(ms)
		r.state(Watching)
		r.sessions(1, ledger.GateTimeout, 1)
		r.bytes(10, ledger.GateTimeout, 5)
		r.copies(1) // the turn that waited is lost
		r.answers(10)
		r.data("GET 3")
		r.copies(2)
		r.opened()
		r.copied("GET 3")
	})
	t.Run("the gate: the target has not even acknowledged", func(t *testing.T) {
		r := fresh(t, silent)
		r.data("GET 1")
		r.takes()
		r.stream().unacked = 3
		r.bytes(5, ledger.None, 5)
		r.answers(10)
		r.data("GET 2")
		r.wait(10 * sec)
		r.bytes(10, ledger.GateTimeout, 8)
	})
	t.Run("the gate: an answer without end", func(t *testing.T) {
		r := fresh(t)
		r.data("SUBSCRIBE")
		r.takes()
		r.answers(10)
		r.data("PING")
		for range 99 {
			r.wait(100 * ms)
			r.replies(7)
		}
		r.copied("SUBSCRIBE")
		r.wait(100 * ms)
		r.copied("SUBSCRIBEPING")
		if r.count.GateForced != 1 {
			t.Errorf("%d turns forced, wanted 1", r.count.GateForced)
		}
	})
	t.Run("the gate, at the end of the client", func(t *testing.T) {
		r := fresh(t)
		r.data("GET 1")
		r.takes()
		r.answers(10)
		r.fin()
		r.wait(10 * sec)
		r.state(Gone)
		r.sessions(1, ledger.GateTimeout, 1)
		r.bytes(5, ledger.None, 5)
	})
}

func TestStall(t *testing.T) {
	t.Run("the target takes nothing", func(t *testing.T) {
		r := fresh(t)
		r.data("GET")
		r.wait(20*sec - ms)
		r.state(Flowing)
		r.wait(ms)
		r.state(Watching)
		r.sessions(1, ledger.SendTimeout, 1)
		r.bytes(3, ledger.SendTimeout, 3)
	})
	t.Run("the target takes a little now and then", func(t *testing.T) {
		r := fresh(t)
		r.data("0123456789")
		for i := range 10 {
			r.wait(19 * sec)
			r.event(Event{Kind: Taken, N: uint64(i + 1)})
			r.ack()
		}
		r.state(Flowing)
		r.bytes(10, ledger.None, 10)
	})
	// A turn that was released late has as much time as any other.
	t.Run("the stall counts from the release", func(t *testing.T) {
		r := fresh(t, func(s *Service) { s.Stall = 5 * time.Second })
		r.data("GET 1")
		r.takes()
		r.answers(10)
		r.data("GET 2")
		r.wait(9 * sec)
		r.replies(7)
		r.wait(sec)
		r.copied("GET 1GET 2")
		r.state(Flowing)
		r.wait(3 * sec)
		r.state(Flowing)
		r.takes()
		r.bytes(10, ledger.None, 10)
	})
	t.Run("the target does not close", func(t *testing.T) {
		r := fresh(t)
		r.data("GET")
		r.takes()
		r.fin()
		r.wait(20*sec - ms)
		r.state(Closing)
		r.wait(ms)
		r.ended(true, ledger.None)
	})
}

func TestIdle(t *testing.T) {
	t.Run("idle with all delivered", func(t *testing.T) {
		r := fresh(t)
		r.data("GET")
		r.takes()
		r.wait(120*sec - ms)
		r.state(Flowing)
		r.wait(ms)
		r.ended(true, ledger.None)
	})
	t.Run("what either side says keeps it", func(t *testing.T) {
		r := fresh(t)
		r.data("GET")
		r.takes()
		for range 3 {
			r.wait(100 * sec)
			r.says(1)
			r.wait(100 * sec)
			r.ack()
			r.wait(100 * sec)
			r.replies(1)
		}
		r.state(Flowing)
	})
	t.Run("idle while it waits for a turn", func(t *testing.T) {
		r := fresh(t)
		r.data("GET")
		r.targetResets(0)
		r.wait(120 * sec)
		r.state(Gone)
		r.sessions(1, ledger.TargetReset, 1)
	})
	t.Run("idle with bytes that wait at the gate", func(t *testing.T) {
		r := fresh(t, func(s *Service) { s.Idle = 5 * time.Second })
		r.data("GET 1")
		r.takes()
		r.answers(10)
		r.data("GET 2")
		r.wait(5 * sec)
		r.ended(true, ledger.IdleTimeout)
		r.bytes(10, ledger.IdleTimeout, 5)
	})
}

func TestOverSession(t *testing.T) {
	t.Run("the target is too slow", func(t *testing.T) {
		r := fresh(t)
		block := strings.Repeat("x", 64<<10)
		for range 17 {
			r.data(block)
		}
		r.state(Refused)
		r.sessions(1, ledger.OverSession, 1)
		r.bytes(17*64<<10, ledger.OverSession, 17*64<<10)
		if r.pool.InUse() != 0 {
			t.Errorf("%d bytes are kept of a session that was refused", r.pool.InUse())
		}
		r.data("more")
		r.answers(5)
		r.data("a turn")
		r.bytes(17*64<<10+10, ledger.OverSession, 17*64<<10+10)
		r.copies(1)
	})
	t.Run("all of it behind a hole", func(t *testing.T) {
		r := fresh(t)
		block := strings.Repeat("x", 64<<10)
		for i := range 40 {
			r.seg(1+i*64<<10, block, 0)
			if r.pool.InUse() > int64(r.svc.MaxBytes)+128<<10 {
				t.Fatalf("%d bytes are kept", r.pool.InUse())
			}
		}
		r.state(Refused)
		if r.pool.InUse() != 0 {
			t.Errorf("%d bytes are kept of a session that was refused", r.pool.InUse())
		}
		r.fin()
		r.state(Gone)
	})
	t.Run("refused for one reason", func(t *testing.T) {
		r := fresh(t)
		r.data("GET")
		r.s.Refuse(r.now, ledger.OverMemory)
		r.s.Refuse(r.now, ledger.OverSession)
		r.settle()
		r.data("more")
		r.bytes(7, ledger.OverMemory, 7)
		r.sessions(1, ledger.OverMemory, 1)
	})
	t.Run("refused before it said anything", func(t *testing.T) {
		r := newRig(t)
		r.seg(0, "", 0)
		r.s.Refuse(r.now, ledger.OverMemory)
		r.settle()
		r.data("GET")
		r.sessions(1, ledger.OverMemory, 1)
		r.bytes(3, ledger.OverMemory, 3)
	})
}
