package sim

import (
	"fmt"
	"testing"
	"time"

	"tcpcopy/internal/way/raw/tcp"
)

// TestVariants sends over a bad network with every combination of options, with every algorithm of
// congestion control, over IPv6, and to targets with little room.
func TestVariants(t *testing.T) {
	seeds := int64(20)
	if testing.Short() {
		seeds = 4
	}
	for mask := range 48 {
		ts, sack, scale, v6 := mask&1 != 0, mask&2 != 0, mask&4 != 0, mask&8 != 0
		control := uint8(mask >> 4)
		name := fmt.Sprintf("timestamps=%s,sack=%s,scaling=%s,ipv6=%s,%s", yes(ts), yes(sack),
			yes(scale), yes(v6),
			[]string{tcp.Reno: "reno", tcp.CUBIC: "cubic", tcp.BBR: "bbr"}[control])
		t.Run(name, func(t *testing.T) {
			for seed := range seeds {
				loss := []float64{0.01, 0.05, 0.15}[seed%3]
				tr := badNetwork(loss, seed%2 == 0, seed%4 < 2, 20*time.Millisecond, seed+1000)
				tr.cfg.Syn.HasTS, tr.cfg.Syn.SACKPermitted, tr.cfg.Syn.HasWScale = ts, sack, scale
				tr.cfg.CongestionControl = control
				if v6 {
					tr.cfg.Local, tr.cfg.Remote = client6, target6
				}
				if seed%5 == 4 {
					tr.peer.RecvBuf = 16 << 10
				}
				tr.must(t)
			}
		})
	}
}

// TestSlowReader has a server that reads a little now and then: the window closes again and again.
func TestSlowReader(t *testing.T) {
	for seed := range int64(10) {
		started := false
		tr := badNetwork(0.02, false, false, 10*time.Millisecond, seed)
		tr.peer.RecvBuf = 32 << 10
		tr.upload = 200_000
		tr.serve = func(p *Peer) {
			if started {
				return
			}
			started = true
			var read func()
			read = func() {
				p.Read(8 << 10)
				if !p.EOF && p.Err == nil {
					p.At(150*time.Millisecond, read)
				}
			}
			p.At(3*time.Second, read)
		}
		tr.must(t)
		if !started {
			t.Fatal("the server did not start")
		}
	}
}

// TestThroughput is an upload over 20 ms. With loss, what bounds it is the congestion window: Reno
// has 1.22 segments / sqrt(loss) on average, here 2.8 MB/s, when nothing else costs time.
func TestThroughput(t *testing.T) {
	for _, tc := range []struct {
		name  string
		cc    uint8
		loss  float64
		bytes int
		limit time.Duration // virtual
	}{
		{"Reno", tcp.Reno, 0.001, 20_000_000, 6 * time.Second},
		{"CUBIC", tcp.CUBIC, 0.001, 20_000_000, 6 * time.Second},
		{"BBR", tcp.BBR, 0.001, 20_000_000, time.Second},
		{"BBR, 5 % loss", tcp.BBR, 0.05, 20_000_000, 3 * time.Second},
		{"no loss", tcp.Reno, 0, 20_000_000, time.Second},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tr := badNetwork(tc.loss, false, false, 20*time.Millisecond, 1)
			tr.upload, tr.segment, tr.answer = tc.bytes, 64<<10, 100
			tr.cfg.CongestionControl = tc.cc
			tr.up.Jitter, tr.down.Jitter = 0, 0
			tr.peer.RecvBuf = 4 << 20
			out := tr.must(t)
			t.Logf("%d bytes in %v, %d segments sent again", tc.bytes, out.took, out.retrans)
			if out.took > tc.limit {
				t.Errorf("took %v, want at most %v", out.took, tc.limit)
			}
		})
	}
}
