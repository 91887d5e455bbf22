package session

import (
	"strings"
	"testing"

	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/core/packet"
)

func TestWholeLife(t *testing.T) {
	r := newRig(t)
	r.syn()
	r.copies(1)
	if r.stream().spec.SYN.MSS != 1460 || r.stream().spec.Window != 64240 {
		t.Errorf("the copy opens with %+v", r.stream().spec)
	}
	r.data("GET 1")
	r.copied("GET 1") // before it has opened: it may travel with the handshake
	r.opened()
	r.takes()
	r.answers(100)
	r.data("GET 2")
	r.copied("GET 1") // until the target has answered, too
	r.wait(3 * sec)
	r.copied("GET 1")
	r.replies(60)
	r.wait(399 * ms)
	r.copied("GET 1")
	r.wait(1 * ms)
	r.copied("GET 1GET 2")
	r.takes()
	r.replies(100)
	r.answers(100)
	r.fin()
	if r.stream().shut != true {
		r.wait(sec)
	}
	if !r.stream().shut {
		t.Error("the client has closed, its copy has not")
	}
	r.state(Closing)
	r.serverFIN()
	r.targetShuts()
	r.finishes()
	r.ended(false, ledger.None)
	r.bytes(10, ledger.None, 10)
	if r.count.Turns != 2 || r.count.AnswerBytes != 160 ||
		r.count.GateQuiet+r.count.GatePredicted != 2 {
		t.Errorf("%d turns, %d bytes answered, the gate opened %d times by silence, %d by number",
			r.count.Turns, r.count.AnswerBytes,
			r.count.GateQuiet, r.count.GatePredicted)
	}
}

func TestHalfClose(t *testing.T) {
	r := fresh(t)
	r.data("all of it")
	r.fin()
	r.copied("all of it")
	if !r.stream().shut {
		t.Error("the client's FIN waits, though it saw nothing before it sent it")
	}
	r.takes()
	r.says(500)
	r.replies(500)
	r.serverFIN()
	r.finishes()
	r.ended(false, ledger.None)
}

func TestServerClosesFirst(t *testing.T) {
	r := fresh(t)
	r.data("GET")
	r.takes()
	r.says(50)
	r.serverFIN()
	r.seen = 51 // the FIN counts, too
	r.fin()
	if r.stream().shut {
		t.Error("the copy closes before it was answered")
	}
	r.replies(50)
	r.targetShuts()
	if !r.stream().shut {
		t.Error("the target has answered and closed, and the copy does not")
	}
	r.finishes()
	r.ended(false, ledger.None)
	r.bytes(3, ledger.None, 3)
}

func TestReset(t *testing.T) {
	for _, c := range []struct {
		name  string
		flags packet.Flags
	}{{"with ACK", packet.RST | packet.ACK}, {"without", packet.RST}} {
		t.Run(c.name, func(t *testing.T) {
			r := fresh(t)
			r.data("GET")
			r.answers(20)
			seg := packet.Segment{Seq: r.isn.Add(1 + r.next), Flags: c.flags}
			if c.flags.Has(packet.ACK) {
				seg.Ack = r.irs.Add(1 + r.seen)
			}
			r.fromClient(seg)
			if r.stream().aborted {
				t.Error("reset before the bytes have arrived")
			}
			r.takes()
			if r.stream().aborted {
				t.Error("reset before the answer that the client had")
			}
			r.replies(20)
			r.wait(sec)
			r.ended(true, ledger.None)
			r.bytes(3, ledger.None, 3)
		})
	}
}

func TestResetWithoutAnswer(t *testing.T) {
	t.Run("in the middle of an answer", func(t *testing.T) {
		r := fresh(t)
		r.data("GET")
		r.takes()
		r.rst()
		r.ended(true, ledger.None)
	})
	t.Run("at once", func(t *testing.T) {
		r := newRig(t)
		r.syn()
		r.rst()
		r.state(Opening) // the target is to see what the server saw: a connection, and its reset
		r.opened()
		r.ended(true, ledger.None)
	})
	t.Run("after a FIN", func(t *testing.T) {
		r := fresh(t)
		r.data("GET")
		r.takes()
		r.fin()
		r.state(Closing)
		r.rst()
		r.ended(true, ledger.None)
	})
	t.Run("by the server", func(t *testing.T) {
		r := fresh(t)
		r.data("GET")
		r.takes()
		r.fromServer(packet.Segment{Seq: r.irs + 1, Ack: r.isn.Add(1 + r.next),
			Flags: packet.ACK | packet.RST})
		r.ended(true, ledger.None)
	})
	t.Run("far outside the window", func(t *testing.T) {
		r := fresh(t)
		r.fromClient(packet.Segment{Seq: r.isn + 1<<24, Flags: packet.RST})
		r.state(Flowing)
	})
	t.Run("of an earlier connection from the port, overtaken by the SYN", func(t *testing.T) {
		r := fresh(t)
		r.fromClient(packet.Segment{Seq: r.isn - 400000, Flags: packet.RST})
		r.state(Flowing)
		r.data("GET")
		r.copied("GET")
		r.takes()
		r.rst()
		r.ended(true, ledger.None)
	})
	t.Run("by the server, of an earlier connection", func(t *testing.T) {
		r := fresh(t)
		r.fromServer(packet.Segment{Seq: r.irs + 1<<28, Ack: r.isn - 400000,
			Flags: packet.ACK | packet.RST})
		r.data("GET")
		r.copied("GET")
	})
	t.Run("with pipelined turns that wait", func(t *testing.T) {
		r := fresh(t)
		r.data("one")
		r.answers(10)
		r.data("two")
		r.rst()
		r.takes()
		r.copied("one")
		r.replies(10)
		r.wait(sec)
		r.copied("onetwo")
		r.takes()
		r.ended(true, ledger.None)
	})
}

func TestPipelining(t *testing.T) {
	r := fresh(t)
	r.data("a")
	r.data("b")
	r.data("c")
	r.copied("abc")
	r.takes()
	if r.count.Turns != 1 {
		t.Errorf("%d turns, wanted 1", r.count.Turns)
	}
	// The next comes when the first of three answers was seen, and the server had sent two.
	r.says(20)
	r.seen = 10
	r.data("d")
	r.copied("abc")
	r.replies(9)
	r.wait(100 * ms)
	r.copied("abc")
	r.replies(11)
	r.wait(sec)
	r.copied("abcd")
}

// Turns that are captured while the gate is shut wait, each for its own answer.
func TestTurnsQueue(t *testing.T) {
	r := fresh(t)
	r.data("0")
	r.takes()
	for i := range 5 {
		r.answers(10 + i)
		r.data(string(rune('1' + i)))
	}
	r.copied("0")
	for i := range 5 {
		r.wait(3 * sec)
		r.copied("012345"[:i+1])
		r.replies(30)
		r.wait(2 * sec)
		r.copied("012345"[:i+2])
		r.takes()
	}
	r.bytes(6, ledger.None, 6)
}

func TestGreeting(t *testing.T) {
	r := fresh(t)
	r.answers(30) // 220 ready
	r.data("HELO")
	r.copied("")
	r.wait(3 * sec)
	r.copied("")
	r.replies(25)
	r.wait(399 * ms)
	r.copied("")
	r.wait(ms)
	r.copied("HELO")
	if r.count.Turns != 1 {
		t.Errorf("%d turns, wanted 1", r.count.Turns)
	}
	if wait, _ := r.svc.Gate.Greeting(); wait != 10e9 {
		t.Errorf("the service greets, and adopted copies wait for that only %v", wait)
	}
}

// A burst that is captured before the session is advanced has the effect of its packets one by one.
func TestNoGreetingInABurst(t *testing.T) {
	r := newRig(t)
	seg := func(s packet.Segment) {
		s.Len = len(s.Payload)
		r.s.FromClient(r.now, &s, r.now, 1)
	}
	r.syn()
	seg(packet.Segment{Seq: r.isn + 1, Ack: r.irs + 1, Flags: packet.ACK, Payload: []byte("one")})
	r.s.FromServer(&packet.Segment{Seq: r.irs + 1, Ack: r.isn + 4, Flags: packet.ACK, Len: 50},
		r.now)
	seg(packet.Segment{Seq: r.isn + 4, Ack: r.irs + 51, Flags: packet.ACK, Payload: []byte("two")})
	r.settle()
	r.copied("one")
	if wait, _ := r.svc.Gate.Greeting(); wait != 0 {
		t.Errorf("the service does not greet, but adopted copies wait for it %v", wait)
	}
}

func TestDribble(t *testing.T) {
	r := fresh(t)
	want := ""
	for _, b := range strings.Split("GET / HTTP/1.1\r\n\r\n\x16\x03\x01", "") {
		r.data(b)
		r.wait(50 * ms)
		want += b
		r.copied(want) // each at once: nothing waits for an answer
	}
	if r.count.Turns != 1 {
		t.Errorf("%d turns, wanted 1", r.count.Turns)
	}
	r.takes()
	// Packets out of order.
	r.answers(10)
	r.replies(10)
	r.wait(sec)
	at := r.next
	r.seg(at+2, "cd", 0)
	r.seg(at+4, "ef", 0)
	r.copied(want)
	r.seg(at, "ab", 0)
	r.copied(want + "abcdef")
	r.seg(at, "ab", 0) // again
	r.copied(want + "abcdef")
	if r.count.Turns != 2 {
		t.Errorf("%d turns, wanted 2", r.count.Turns)
	}
}

func TestSYN(t *testing.T) {
	t.Run("repeated", func(t *testing.T) {
		r := newRig(t)
		r.syn()
		r.fromClient(packet.Segment{Seq: r.isn, Flags: packet.SYN})
		r.copies(1)
	})
	t.Run("with bytes", func(t *testing.T) {
		r := newRig(t)
		r.fromClient(packet.Segment{Seq: r.isn, Flags: packet.SYN, Payload: []byte("fast")})
		r.copied("fast")
		r.next = 4
		r.data("er")
		r.copied("faster")
	})
	t.Run("seen on two interfaces", func(t *testing.T) {
		r := newRig(t)
		r.syn()
		r.data("x")
		r.if0 = 2
		r.seg(0, "x", packet.PSH)
		if r.count.Packets.Twice != 1 {
			t.Errorf("%d packets seen twice, wanted 1", r.count.Packets.Twice)
		}
	})
}

func TestSuperseded(t *testing.T) {
	t.Run("what was sent still arrives", func(t *testing.T) {
		r := fresh(t)
		r.data("one")
		r.takes()
		r.answers(10)
		r.data("two")
		r.s.Superseded()
		r.settle()
		r.copied("one")
		r.replies(10)
		r.wait(sec)
		r.copied("onetwo")
		r.takes()
		r.ended(true, ledger.None)
	})
	t.Run("nothing to do", func(t *testing.T) {
		r := fresh(t)
		r.s.Superseded()
		r.settle()
		r.ended(true, ledger.None)
	})
	t.Run("closing", func(t *testing.T) {
		r := fresh(t)
		r.fin()
		r.s.Superseded()
		r.settle()
		r.ended(true, ledger.None)
	})
}

func TestDrain(t *testing.T) {
	t.Run("waits for the answer", func(t *testing.T) {
		r := fresh(t)
		r.data("GET")
		r.takes()
		r.answers(10)
		r.s.Drain()
		r.settle()
		if r.stream().shut {
			t.Error("closed before the answer that the client had seen")
		}
		r.replies(10)
		r.wait(sec)
		if !r.stream().shut {
			t.Error("answered, and not closed")
		}
		r.finishes()
		r.ended(false, ledger.None)
	})
	t.Run("without a copy", func(t *testing.T) {
		r := newRig(t)
		r.seg(0, "", 0)
		r.s.Drain()
		r.settle()
		r.state(Gone)
	})
}

func TestShutdown(t *testing.T) {
	t.Run("with nothing left to do", func(t *testing.T) {
		r := fresh(t)
		r.data("GET")
		r.takes()
		r.s.Shutdown(r.now)
		r.settle()
		r.ended(true, ledger.None)
	})
	t.Run("with bytes that nobody took", func(t *testing.T) {
		r := fresh(t)
		r.data("GET")
		r.s.Shutdown(r.now)
		r.settle()
		r.ended(true, ledger.Shutdown)
		r.bytes(3, ledger.Shutdown, 3)
	})
	t.Run("with bytes behind a hole", func(t *testing.T) {
		r := fresh(t)
		r.seg(5, "GET", 0)
		r.s.Shutdown(r.now)
		r.settle()
		r.ended(true, ledger.Shutdown)
		r.bytes(3, ledger.CaptureGap, 3)
	})
	t.Run("without a copy", func(t *testing.T) {
		r := newRig(t)
		r.seg(0, "", 0)
		r.s.Shutdown(r.now)
		r.settle()
		r.state(Gone)
		r.sessions(0, ledger.Shutdown, 0)
	})
}

// A client that has closed resets when the server continues, after the server has acknowledged its
// FIN. No bytes are missing then, however much the copy still has to send.
func TestResetBehindFIN(t *testing.T) {
	r := fresh(t)
	r.data("one")
	r.takes()
	r.answers(100)
	r.data("two")
	r.fin()
	r.serverAcks(r.next + 1)
	r.says(100)
	r.seg(r.next+1, "", packet.RST)
	r.wait(6 * sec)
	r.copied("one")
	r.replies(100)
	r.wait(sec)
	r.copied("onetwo")
	r.takes()
	r.wait(20 * sec)
	r.ended(true, ledger.None)
	r.bytes(6, ledger.None, 6)
}
