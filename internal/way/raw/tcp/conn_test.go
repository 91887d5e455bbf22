package tcp

import (
	"net/netip"
	"testing"
	"time"
	"unsafe"

	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/core/seqnum"
)

var (
	clientAddr = netip.MustParseAddrPort("10.0.0.1:1234")
	targetAddr = netip.MustParseAddrPort("10.0.0.2:80")
)

// chunks is an endless Source of client segments of the same size.
type chunks struct {
	data []byte
	size uint64
}

func (s *chunks) View(off uint64, max int) []byte {
	n := int(s.size - off%s.size)
	return s.data[:min(n, max, len(s.data))]
}

func fullSyn() packet.Options {
	return packet.Options{MSS: 1460, WScale: 7, HasWScale: true, SACKPermitted: true, HasTS: true}
}

// establish establishes c with a target that has the options opts. It returns the time after that.
func establish(t testing.TB, c *Conn, cfg Config, src Source, opts packet.Options,
	win uint16) mono.Time {
	t.Helper()
	cfg.Local, cfg.Remote = clientAddr, targetAddr
	c.Init(&cfg, src)
	c.Open(0)
	out, _ := c.Poll(0, nil)
	if len(out) != 1 || out[0].Flags != packet.SYN {
		t.Fatalf("Open sent %v, want a SYN", out)
	}
	if opts.HasTS {
		opts.TSEcr = out[0].Opts.TSVal
	}
	now := mono.Time(10 * time.Millisecond)
	c.Deliver(now, &packet.Segment{Seq: 7000, Ack: cfg.ISN + 1, Flags: packet.SYN | packet.ACK,
		Window: win, Opts: opts})
	if out, _ = c.Poll(now, out[:0]); len(out) != 1 || out[0].Flags != packet.ACK {
		t.Fatalf("SYN-ACK was answered by %v, want an ACK", out)
	}
	if st := c.Status(); !st.Established || st.State != StateEstablished {
		t.Fatalf("status %+v, want established", st)
	}
	return now
}

func TestSize(t *testing.T) {
	size := unsafe.Sizeof(Conn{})
	t.Logf("a Conn has %d bytes", size)
	if size > 600 {
		t.Errorf("a Conn has %d bytes, want at most 600", size)
	}
}

func TestRequestAnswerClose(t *testing.T) {
	var c Conn
	isn := seqnum.Value(0xfffffff0) // wraps within the first request
	now := establish(t, &c, Config{ISN: isn, Syn: fullSyn()}, &chunks{make([]byte, 100), 100},
		fullSyn(), 1000)
	c.Release(now, 100)
	out, _ := c.Poll(now, nil)
	if len(out) != 1 || out[0].Len != 100 || out[0].Flags != packet.ACK|packet.PSH ||
		out[0].Seq != isn+1 {
		t.Fatalf("sent %v, want the request", out)
	}
	now = now.Add(10 * time.Millisecond)
	ack := out[0].Seq.Add(100)
	c.Deliver(now, &packet.Segment{Seq: 7001, Ack: ack, Flags: packet.ACK, Len: 5000, Window: 1000,
		Opts: packet.Options{HasTS: true}})
	out, next := c.Poll(now, out[:0])
	if len(out) != 1 || out[0].Ack != 12001 || out[0].Len != 0 {
		t.Fatalf("sent %v, want an ACK of 12001", out)
	}
	if next != mono.Never {
		t.Fatalf("wants to wake at %v, want never", next)
	}
	if st := c.Status(); st.Acked != 100 || st.Received != 5000 {
		t.Fatalf("status %+v", st)
	}
	c.CloseWrite(now)
	out, _ = c.Poll(now, out[:0])
	if len(out) != 1 || out[0].Flags != packet.ACK|packet.FIN {
		t.Fatalf("sent %v, want a FIN", out)
	}
	c.Deliver(now, &packet.Segment{Seq: 12001, Ack: ack + 1, Flags: packet.ACK | packet.FIN,
		Window: 1000})
	if c.Status().Done {
		t.Fatal("done before the last ACK was sent")
	}
	out, next = c.Poll(now, out[:0])
	if len(out) != 1 || out[0].Ack != 12002 || next != mono.Never {
		t.Fatalf("sent %v, next %v, want the last ACK", out, next)
	}
	if st := c.Status(); !st.Done || st.Err != CauseNone || !st.RemoteFIN || st.Received != 5000 {
		t.Fatalf("status %+v, want done", st)
	}
}

func TestTimeoutRepeats(t *testing.T) {
	var c Conn
	now := establish(t, &c, Config{ISN: 1, Syn: fullSyn(), UserTimeout: 20 * time.Second},
		&chunks{make([]byte, 100), 100}, packet.Options{MSS: 1460}, 1000)
	c.Release(now, 100)
	out, next := c.Poll(now, nil)
	sends := len(out)
	for next != mono.Never {
		now = next
		out, next = c.Poll(now, out[:0])
		sends += len(out)
		if sends > 100 {
			t.Fatal("does not end")
		}
	}
	if st := c.Status(); st.Err != CauseUserTimeout || !st.Done {
		t.Fatalf("status %+v, want a user timeout", st)
	}
	if sends < 5 {
		t.Fatalf("sent %d segments, want repetitions", sends)
	}
}

// TestLeave checks that a SYN waits for Leave if it must, and no longer than the time to connect.
func TestLeave(t *testing.T) {
	sec := func(n int) mono.Time { return mono.Time(n) * mono.Time(time.Second) }
	for _, tc := range []struct {
		name string
		from uint8
		syns []int // how many SYNs there were by each second without leave
	}{
		{"none needs it", 0, []int{1, 2, 2, 3, 3}},
		{"the first needs it", 1, []int{0, 0, 0, 0, 0}},
		{"repetitions need it", 2, []int{1, 1, 1, 1, 1}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var c Conn
			c.Init(&Config{Local: clientAddr, Remote: targetAddr, ISN: 9, Syn: fullSyn(),
				LeaveFrom: tc.from, ConnectTimeout: 10 * time.Second}, &chunks{nil, 1})
			c.Leave() // nothing waits yet
			c.Open(0)
			sent := 0
			for s, want := range tc.syns {
				out, next := c.Poll(sec(s), nil)
				if sent += len(out); sent != want {
					t.Errorf("after %d s: %d SYNs, wanted %d", s, sent, want)
				}
				if !next.After(sec(s)) {
					t.Errorf("at %d s: wants to be called at %v", s, next)
				}
				if waits := c.Status().SynWaits; waits != (tc.from == 1 || tc.from == 2 && s > 0) {
					t.Errorf("at %d s: waits %v", s, waits)
				}
			}
			if tc.from == 0 {
				return
			}
			c.Leave()
			out, _ := c.Poll(sec(5), nil)
			if len(out) != 1 || out[0].Flags != packet.SYN || out[0].Seq != 9 {
				t.Fatalf("with leave %v is sent, wanted a SYN", out)
			}
			if out, _ = c.Poll(sec(9), nil); len(out) != 0 || !c.Status().SynWaits {
				t.Errorf("a leave lasted for another SYN: %v", out)
			}
			if c.Poll(sec(10), nil); c.Status().Err != CauseConnectTimeout {
				t.Errorf("%+v, wanted it to have timed out", c.Status())
			}
		})
	}
}
