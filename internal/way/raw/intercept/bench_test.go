package intercept

import (
	"context"
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/core/seqnum"
	"tcpcopy/internal/source"
	"tcpcopy/internal/way/link/wire"
)

type noSource struct{}

func (noSource) Next(time.Duration) ([]source.Frame, error) { return nil, source.ErrClosed }
func (noSource) Stats() source.Stats                        { return source.Stats{} }
func (noSource) Close() error                               { return nil }

// routed makes an intercept with one copier, and frames of conns connections that are its own, 64
// to a batch. Nobody writes: out takes what the writer would.
func routed(t testing.TB, conns int) (s *Intercept, batches [][]source.Frame, out func() int) {
	s, err := New(Config{Sources: []source.Source{noSource{}}, Listen: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")},
		AllowForwarding: true, Log: slog.New(slog.DiscardHandler), Now: func() mono.Time { return 1000 }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		s.Run(ctx)
	})
	owner, err := s.table.Join([16]byte{1}, 7, nil)
	if err != nil {
		t.Fatal(err)
	}
	p := s.join(owner, nil, netip.Addr{}, &wire.Hello{Slot: 7, Conns: 1}, nil)
	out = func() int {
		p.out.mu.Lock()
		defer p.out.mu.Unlock()
		n := len(p.out.pending)
		p.out.pending = p.out.pending[:0]
		return n
	}
	t.Cleanup(func() { s.owners[owner].peers = nil })
	target := netip.MustParseAddrPort("10.0.0.2:8080")
	var learn, now []source.Frame
	for i := range conns {
		c := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, byte(i >> 14), byte(i >> 6)}), uint16(20000+i&63))
		for _, seg := range []packet.Segment{
			{Src: target, Dst: c, Flags: packet.SYN | packet.ACK, Ack: seqnum.Value(8)},
			{Src: target, Dst: c, Flags: packet.ACK, Seq: 5, Ack: 9, Len: 1000, Payload: make([]byte, 1000), Opts: packet.Options{HasTS: true, TSVal: 5}},
		} {
			b := packet.Append(nil, &seg)
			f := source.Frame{Data: b, Wire: len(b), Time: 900}
			if seg.Len == 0 {
				learn = append(learn, f)
			} else {
				now = append(now, f)
			}
		}
		if len(now) == 64 {
			batches = append(batches, now)
			now = nil
		}
	}
	var seg packet.Segment
	s.batch(1000, learn, &seg)
	out()
	return s, batches, out
}

func TestBatchAllocatesNothing(t *testing.T) {
	s, batches, out := routed(t, 1024)
	var seg packet.Segment
	i := 0
	if n := testing.AllocsPerRun(200, func() {
		s.batch(1000, batches[i%len(batches)], &seg)
		i++
		if out() == 0 {
			t.Fatal("nothing came out")
		}
	}); n > 0 {
		t.Errorf("%v allocations for a batch", n)
	}
}

// BenchmarkHeader is one captured header's way from a batch of frames to the writer's buffer.
func BenchmarkHeader(b *testing.B) {
	s, batches, out := routed(b, 8192)
	var seg packet.Segment
	i := 0
	b.ReportAllocs()
	for b.Loop() {
		s.batch(1000, batches[i%len(batches)], &seg)
		i++
		out()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/64, "ns/header")
}
