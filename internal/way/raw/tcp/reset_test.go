package tcp

import (
	"testing"

	"tcpcopy/internal/core/packet"
)

func TestAckFor(t *testing.T) {
	fin := packet.Segment{
		Src: targetAddr, Dst: clientAddr, Seq: 0xffffffff, Ack: 501, Flags: packet.FIN | packet.ACK,
		Len:  10,
		Opts: packet.Options{HasTS: true, TSVal: 77, TSEcr: 33},
	}
	a := AckFor(&fin)
	if a.Src != clientAddr || a.Dst != targetAddr || a.Flags != packet.ACK || a.Seq != 501 ||
		a.Ack != 10 {
		t.Errorf("got %v, want an ACK of 10", &a)
	}
	if !a.Opts.HasTS || a.Opts.TSVal != 33 || a.Opts.TSEcr != 77 {
		t.Errorf("got %v, want the timestamps turned round", &a)
	}
}

func TestResetFor(t *testing.T) {
	challenge := packet.Segment{Src: targetAddr, Dst: clientAddr, Seq: 900, Ack: 501,
		Flags: packet.ACK}
	r := ResetFor(&challenge)
	if r.Src != clientAddr || r.Dst != targetAddr || r.Flags != packet.RST || r.Seq != 501 {
		t.Errorf("got %v, want a RST at 501", &r)
	}
}

// TestInitAgain checks that Init leaves nothing of an earlier connection.
func TestInitAgain(t *testing.T) {
	var c Conn
	now := establish(t, &c, Config{ISN: 9, Syn: fullSyn()}, &chunks{make([]byte, 1000), 1000},
		fullSyn(), 65535)
	c.Release(now, 9000)
	out, _ := c.Poll(now, nil)
	c.Deliver(now, &packet.Segment{Seq: 8000, Ack: 10, Flags: packet.ACK, Len: 100, Window: 500,
		Opts: packet.Options{
			NSACK: 1, SACK: [4]packet.SACKBlock{{First: 1010, End: 3010}},
		}})
	out, _ = c.Poll(now, out[:0])
	c.Abort(now)
	if c.Poll(now, out[:0]); !c.Status().Done {
		t.Fatal("not done after Abort")
	}
	var fresh Conn
	cfg := Config{Local: clientAddr, Remote: targetAddr, ISN: 77, Syn: fullSyn()}
	src := &chunks{make([]byte, 1000), 1000}
	if n := testing.AllocsPerRun(10, func() { c.Init(&cfg, src) }); n != 0 {
		t.Errorf("Init allocates %v times", n)
	}
	fresh.Init(&cfg, src)
	c.flight.recs, fresh.flight.recs = nil, nil
	c.ooo, fresh.ooo = nil, nil
	if a, b := c.Status(), fresh.Status(); a != b {
		t.Errorf("status %+v, want %+v", a, b)
	}
	if c.nxt != 0 || c.cwnd != 0 || c.sacked != 0 || c.undo != (undo{}) || c.cubic != (cubic{}) {
		t.Errorf("something is left of the old connection: %+v", &c)
	}
}
