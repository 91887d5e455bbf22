package session

import (
	"testing"

	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/packet"
)

func whole(svc *Service)  { svc.WholeOnly = true }
func silent(svc *Service) { svc.Gate.Greeted(false) } // it is known not to greet
func greets(svc *Service) { svc.Gate.Greeted(true) }

// busy returns a connection found under way whose client has just sent something.
func busy(t *testing.T, change ...func(*Service)) *rig {
	r := newRig(t, change...)
	r.init(packet.Segment{Seq: r.isn + 1, Ack: r.irs + 1, Flags: packet.ACK}, true)
	return r
}

func (r *rig) adopted(n uint64) {
	r.Helper()
	if r.count.Adopted != n {
		r.Errorf("at %v: %d sessions adopted, wanted %d", r.now, r.count.Adopted, n)
	}
}

func TestAdoption(t *testing.T) {
	t.Run("in the middle of a turn", func(t *testing.T) {
		r := busy(t, silent)
		r.data("second half")
		r.copies(0)
		r.answers(40)
		r.copies(0)
		r.bytes(11, ledger.NoSYN, 11)
		r.data("GET 2")
		r.copies(1)
		r.adopted(1)
		r.copied("") // until it has opened
		r.opened()
		r.copied("GET 2")
		r.takes()
		r.answers(30)
		r.data("GET 3")
		r.copied("GET 2")
		r.replies(40)
		r.wait(sec)
		r.copied("GET 2GET 3")
		r.takes()
		r.sessions(1, ledger.None, 0)
		r.bytes(21, ledger.None, 10)
		if r.count.Turns != 2 {
			t.Errorf("%d turns, wanted 2", r.count.Turns)
		}
	})
	t.Run("first seen at a turn, after silence", func(t *testing.T) {
		r := newRig(t, silent)
		r.data("GET 1")
		r.copies(1)
		r.opened()
		r.copied("GET 1")
		r.bytes(5, ledger.NoSYN, 0)
	})
	t.Run("after a lull", func(t *testing.T) {
		r := busy(t, silent)
		r.data("log line")
		r.wait(sec - ms)
		r.data("log line")
		r.copies(0)
		r.wait(sec)
		r.data("third")
		r.copies(1)
		r.opened()
		r.copied("third")
		r.bytes(21, ledger.NoSYN, 16)
	})
	t.Run("a retransmission after a lull is no turn", func(t *testing.T) {
		r := busy(t, silent)
		r.data("first half, ")
		r.wait(2 * sec)
		r.seg(0, "first half, ", 0)
		r.copies(0)
		r.data("second half")
		r.copies(0)
	})
}

func TestAdoptionBySingleBytes(t *testing.T) {
	t.Run("a keepalive probe first", func(t *testing.T) {
		for _, probe := range []string{"", "\x00"} {
			r := newRig(t, silent)
			r.seg(-1, probe, 0)
			r.next = 0
			r.copies(0)
			r.sessions(0, ledger.None, 0)
			// A single byte may be the first of a request; the next turn must follow a lull.
			r.wait(100*ms + mono.Time(len(probe))*sec)
			r.data("GET 1")
			r.copies(1)
			r.opened()
			r.copied("GET 1")
			r.sessions(1, ledger.None, 0)
		}
	})
	t.Run("a request's first byte first", func(t *testing.T) {
		r := newRig(t, silent)
		r.data("G")
		r.data("ET 1")
		r.copies(0)
		r.answers(10)
		r.data("G")
		r.copies(0)
		r.data("ET 2")
		r.copies(1)
		r.opened()
		r.copied("GET 2")
	})
	t.Run("dribbled after a lull", func(t *testing.T) {
		r := busy(t, silent)
		r.data("log line")
		r.wait(2 * sec)
		r.data("n")
		r.wait(100 * ms)
		r.data("ext")
		r.copies(1)
		r.opened()
		r.copied("next")
	})
	t.Run("keepalive probes for ever", func(t *testing.T) {
		r := newRig(t, silent)
		for range 3 {
			r.seg(-1, "\x00", 0)
			r.wait(60 * sec)
		}
		r.copies(0)
		r.sessions(0, ledger.None, 0)
	})
}

func TestAdoptionAtTheEnd(t *testing.T) {
	t.Run("the turn's first bytes come late", func(t *testing.T) {
		r := busy(t, silent)
		r.answers(10)
		r.seg(3, "DEF", 0)
		r.copies(0)
		r.wait(10 * ms)
		r.seg(0, "ABC", 0)
		r.copies(1)
		r.opened()
		r.copied("ABCDEF")
	})
	t.Run("the client goes before it says anything", func(t *testing.T) {
		r := busy(t)
		r.ack()
		r.fin()
		r.state(Gone)
		r.sessions(0, ledger.NoSYN, 0)
	})
	t.Run("the client goes after half a turn", func(t *testing.T) {
		r := busy(t)
		r.data("second half")
		r.rst()
		r.state(Gone)
		r.sessions(1, ledger.NoSYN, 1)
		r.bytes(11, ledger.NoSYN, 11)
	})
	t.Run("the client goes with its turn", func(t *testing.T) {
		r := busy(t, silent)
		r.answers(5)
		r.data("QUIT")
		r.fin()
		r.opened()
		r.copied("QUIT")
		if !r.stream().shut {
			t.Error("the client has closed, its copy has not")
		}
		r.takes()
		r.finishes()
		r.ended(false, ledger.None)
	})
}

func TestAdoptionWaitsForGreeting(t *testing.T) {
	t.Run("unknown, and none comes", func(t *testing.T) {
		r := newRig(t)
		r.data("GET 1")
		r.opened()
		r.wait(399 * ms)
		r.copied("")
		r.state(Greeting)
		r.wait(ms)
		r.copied("GET 1")
		if wait, _ := r.svc.Gate.Greeting(); wait != 0 {
			t.Error("the target does not greet, and nothing was learned of that")
		}
	})
	t.Run("unknown, and one comes", func(t *testing.T) {
		r := newRig(t)
		r.data("NOOP")
		r.opened()
		r.wait(100 * ms)
		r.replies(20)
		r.wait(100 * ms)
		r.replies(20)
		r.wait(399 * ms)
		r.copied("")
		r.wait(ms)
		r.copied("NOOP")
		r.takes()
		// The greeting is no part of the answer.
		r.answers(15)
		r.data("QUIT")
		r.copied("NOOP")
		r.replies(15)
		r.wait(20 * ms)
		r.copied("NOOPQUIT")
	})
	t.Run("known, and it is slow", func(t *testing.T) {
		r := newRig(t, greets)
		r.data("NOOP")
		r.opened()
		r.wait(5 * sec)
		r.copied("")
		r.replies(20)
		r.wait(400 * ms)
		r.copied("NOOP")
	})
	t.Run("known, and it does not come", func(t *testing.T) {
		r := newRig(t, greets)
		r.data("NOOP")
		r.opened()
		r.wait(10*sec - ms)
		r.copied("")
		r.wait(ms)
		r.copied("NOOP")
	})
}

func TestWholeSessionsOnly(t *testing.T) {
	t.Run("under way", func(t *testing.T) {
		r := newRig(t, whole)
		r.data("GET 1")
		r.answers(10)
		r.seg(r.next+3, "late", 0)
		r.data("GET 2")
		r.wait(3 * sec)
		r.data("GET 3")
		r.copies(0)
		r.sessions(1, ledger.NoSYN, 0)
		r.fin()
		r.state(Gone)
		r.sessions(1, ledger.NoSYN, 1)
		if n := r.count.Bytes.Dropped[ledger.NoSYN] +
			r.count.Bytes.Dropped[ledger.CaptureGap]; n != r.count.Bytes.Captured || n < 15 {
			t.Errorf("%d bytes of %d dropped", n, r.count.Bytes.Captured)
		}
	})
	t.Run("from the start", func(t *testing.T) {
		r := fresh(t, whole)
		r.data("GET 1")
		r.copied("GET 1")
		r.takes()
		// A copy that is lost is not opened again.
		r.targetResets(5)
		r.answers(5)
		r.data("GET 2")
		r.copies(1)
		r.bytes(10, ledger.TargetReset, 5)
		r.fin()
		r.state(Gone)
		r.sessions(1, ledger.TargetReset, 1)
	})
}

func TestTLSIsRefused(t *testing.T) {
	const hello = "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"
	t.Run("in one piece", func(t *testing.T) {
		r := fresh(t)
		r.data(hello)
		r.state(Refused)
		r.copied("")
		r.isTLS()
	})
	t.Run("byte by byte", func(t *testing.T) {
		r := fresh(t)
		for i := range hello {
			r.data(hello[i : i+1])
			r.wait(100 * ms)
			r.copied("")
		}
		r.isTLS()
	})
	t.Run("after STARTTLS", func(t *testing.T) {
		r := fresh(t)
		r.data("STARTTLS\r\n")
		r.takes()
		r.answers(10)
		r.data(hello)
		r.replies(10)
		r.wait(sec)
		r.copied("STARTTLS\r\n")
		r.bytes(21, ledger.None, 10)
		r.bytes(21, ledger.TLS, 11)
		r.sessions(1, ledger.TLS, 1)
		r.state(Refused)
		r.data("\x17\x03\x03\x00\x10abc") // more of it is counted
		r.bytes(29, ledger.TLS, 19)
		r.fin()
		r.state(Gone)
		r.sessions(1, ledger.TLS, 1)
	})
	t.Run("in the middle of a request it is none", func(t *testing.T) {
		r := fresh(t)
		r.data("PUT ")
		r.data(hello)
		r.copied("PUT " + hello)
	})
	t.Run("found under way", func(t *testing.T) {
		r := newRig(t, silent)
		r.data("\x17\x03\x03\x00\x10abc")
		r.opened()
		r.copied("")
		r.state(Refused)
		r.sessions(1, ledger.TLS, 1)
	})
	t.Run("only the first byte is like it", func(t *testing.T) {
		r := fresh(t)
		r.data("\x16")
		r.copied("")
		r.wait(sec - ms)
		r.copied("")
		r.wait(ms)
		r.copied("\x16")
		r.data("more")
		r.copied("\x16more")
	})
	t.Run("another protocol that begins so", func(t *testing.T) {
		r := fresh(t)
		r.data("\x16\x03\x01\x00\x05\x02xxxx")
		r.copied("\x16\x03\x01\x00\x05\x02xxxx")
	})
}

// isTLS checks that the session was refused as TLS, with all of its bytes.
func (r *rig) isTLS() {
	r.Helper()
	r.sessions(1, ledger.TLS, 1)
	if r.count.Bytes.Dropped[ledger.TLS] != r.count.Bytes.Captured {
		r.Errorf("%d bytes of %d dropped", r.count.Bytes.Dropped[ledger.TLS],
			r.count.Bytes.Captured)
	}
	if !r.stream().aborted || r.count.Turns != 0 {
		r.Errorf("aborted: %v, turns: %d", r.stream().aborted, r.count.Turns)
	}
}
