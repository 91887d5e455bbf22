package sim

import (
	"bytes"
	"fmt"
	"math/rand"
	"net/netip"
	"testing"
	"time"

	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/core/seqnum"
	"tcpcopy/internal/test/sim/trace"
	"tcpcopy/internal/way/raw/tcp"
)

// transfer is a connection to be made: the client sends upload, the server answers with answer
// bytes when it has all of it, and both close.
type transfer struct {
	seed     int64
	upload   int
	segment  int // the client's segments have up to so many bytes
	answer   int
	up, down Path
	peer     PeerOptions
	cfg      tcp.Config
	limit    time.Duration // virtual
	serve    func(p *Peer) // instead of reading all at once
}

// outcome is what a transfer came to.
type outcome struct {
	took    time.Duration
	retrans int
	status  tcp.Status
	err     error
	trace   *trace.Trace
}

var (
	client4 = netip.MustParseAddrPort("192.0.2.1:40000")
	target4 = netip.MustParseAddrPort("198.51.100.1:80")
	client6 = netip.MustParseAddrPort("[2001:db8::1]:40000")
	target6 = netip.MustParseAddrPort("[2001:db8:1::1]:80")
)

func fullSyn() packet.Options {
	return packet.Options{MSS: 1460, WScale: 7, HasWScale: true, SACKPermitted: true, HasTS: true}
}

func (tr *transfer) run(traced bool) (out outcome) {
	w := NewWorld(tr.seed)
	data := make([]byte, tr.upload)
	rng := rand.New(rand.NewSource(tr.seed))
	rng.Read(data)
	rec := &Record{Data: data}
	for at := 0; at < len(data); {
		at = min(at+1+rng.Intn(tr.segment), len(data))
		rec.Ends = append(rec.Ends, uint64(at))
	}
	up, down := tr.up, tr.down
	cfg := tr.cfg
	if !cfg.Local.IsValid() {
		cfg.Local, cfg.Remote = client4, target4
	}
	cfg.ISN = seqnum.Value(rng.Uint32())
	cfg.TSBase = rng.Uint32()
	po := tr.peer
	po.Addr, po.Seed = cfg.Remote, tr.seed
	peer := NewPeer(w, po)
	defer peer.Close()
	c := NewClient(w, &up)
	if traced {
		c.Trace = new(trace.Trace)
		out.trace = c.Trace
	}
	c.Target = peer.Inject
	peer.Out = func(b []byte) { down.Send(w, len(b), func() { c.Deliver(b) }) }
	answer := make([]byte, tr.answer)
	wrote := 0
	shut := false
	peer.Serve = func() {
		if !peer.Accept() {
			return
		}
		if tr.serve != nil {
			tr.serve(peer)
		} else {
			peer.Read(1 << 30)
		}
		if len(peer.Received) >= len(data) && wrote < len(answer) && peer.Err == nil {
			wrote += peer.Write(answer[wrote:])
		}
		if peer.EOF && wrote == len(answer) && !shut {
			shut = true
			peer.Shutdown()
		}
	}
	c.Conn.Init(&cfg, rec)
	c.Conn.Open(0)
	c.Conn.Release(0, uint64(len(data)))
	c.Poll()
	closed := false
	until := mono.Time(tr.limit)
	if until == 0 {
		until = mono.Time(time.Hour)
	}
	for steps := 0; w.Step(until); steps++ {
		st := c.Conn.Status()
		if st.Done {
			break
		}
		if !closed && st.Acked == uint64(len(data)) && st.Received == uint64(len(answer)) {
			closed = true
			c.Conn.CloseWrite(w.Now())
			c.Poll()
		}
		if steps > 5_000_000 {
			out.err = fmt.Errorf("does not end")
			break
		}
	}
	out.status = c.Conn.Status()
	out.took = time.Duration(w.Now())
	out.retrans = int(out.status.Retransmits)
	if out.err == nil {
		out.err = out.check(peer, data, len(answer))
	}
	return out
}

// check returns an error unless both sides have closed in order and received what the other sent.
func (out *outcome) check(peer *Peer, data []byte, answer int) error {
	switch {
	case !out.status.Done || out.status.Err != tcp.CauseNone:
		return fmt.Errorf("ended as %+v", out.status)
	case peer.Err != nil:
		return fmt.Errorf("at the peer: %w", peer.Err)
	case !bytes.Equal(peer.Received, data):
		return fmt.Errorf("the peer has %d bytes, not the %d that were sent, or other ones",
			len(peer.Received), len(data))
	case out.status.Received != uint64(answer):
		return fmt.Errorf("received %d bytes, want %d", out.status.Received, answer)
	}
	return nil
}

// must runs a transfer and fails with a pcap of it.
func (tr *transfer) must(t *testing.T) outcome {
	t.Helper()
	out := tr.run(false)
	if out.err != nil {
		again := tr.run(true)
		t.Errorf("seed %d: %v after %v\npcap: %s", tr.seed, out.err, out.took,
			again.trace.Write(t, fmt.Sprintf("%s-%d", t.Name(), tr.seed)))
	}
	return out
}

func TestCleanTransfer(t *testing.T) {
	for _, tc := range []struct {
		name string
		tr   transfer
	}{
		{"IPv4", transfer{}},
		{"IPv6", transfer{cfg: tcp.Config{Local: client6, Remote: target6}}},
		{"no options", transfer{cfg: tcp.Config{Syn: packet.Options{MSS: 1460}}}},
		{"small MTU at the peer", transfer{peer: PeerOptions{MTU: 576}}},
		{"small receive buffer", transfer{peer: PeerOptions{RecvBuf: 16384}}},
		{"CUBIC", transfer{cfg: tcp.Config{CongestionControl: tcp.CUBIC}}},
		{"bottleneck", transfer{up: Path{Rate: 1 << 20, Queue: 30000,
			Delay: 10 * time.Millisecond}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tr := tc.tr
			tr.upload, tr.segment, tr.answer = 200_000, 3000, 50_000
			if tr.up.Delay == 0 {
				tr.up.Delay = 5 * time.Millisecond
			}
			tr.down.Delay = 5 * time.Millisecond
			if tr.cfg.Syn == (packet.Options{}) {
				tr.cfg.Syn = fullSyn()
			}
			out := tr.must(t)
			t.Logf("took %v, %d sent again", out.took, out.retrans)
		})
	}
}

// TestSeedDecides shows that a seed gives the same run every time, gVisor's goroutines
// notwithstanding.
func TestSeedDecides(t *testing.T) {
	for seed := range int64(5) {
		a := badNetwork(0.1, true, true, 10*time.Millisecond, seed).run(false)
		for range 3 {
			b := badNetwork(0.1, true, true, 10*time.Millisecond, seed).run(false)
			if a.took != b.took || a.status != b.status {
				t.Fatalf("seed %d: %v and %+v, then %v and %+v", seed, a.took, a.status, b.took,
					b.status)
			}
		}
	}
}
