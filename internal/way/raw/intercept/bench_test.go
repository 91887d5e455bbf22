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
	"tcpcopy/internal/way/link"
	"tcpcopy/internal/way/link/wire"
)

type noSource struct{}

func (noSource) Next(time.Duration) ([]source.Frame, error) { return nil, source.ErrClosed }
func (noSource) Stats() source.Stats                        { return source.Stats{} }
func (noSource) Close() error                               { return nil }

// outbox collects what is queued for a peer, in the place of a writer.
type outbox struct{ pending []byte }

func (o *outbox) put(frames []byte) bool {
	o.pending = append(o.pending, frames...)
	return true
}

// drain returns what was queued since the last call, until the next call of put.
func (o *outbox) drain() []byte {
	b := o.pending
	o.pending = o.pending[:0]
	return b
}

// joined adds a connection of a copier to an intercept.
func joined(t testing.TB, s *Intercept, h *wire.Hello) (*peer, *outbox) {
	t.Helper()
	out := new(outbox)
	p := &peer{end: new(link.Endpoint), put: out.put, slot: h.Slot, index: h.Conn}
	if r := s.join(p, h); r != nil {
		t.Fatal(r.Text)
	}
	return p, out
}

// routed makes an intercept with one copier, and frames of conns connections of it, 64 to a batch.
// out returns how many bytes were queued for the copier since its last call.
func routed(t testing.TB, conns int) (s *Intercept, batches [][]source.Frame, out func() int) {
	s, err := New(Config{Sources: []source.Source{noSource{}},
		Listen:          []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")},
		AllowForwarding: true, Log: slog.New(slog.DiscardHandler),
		Now: func() mono.Time { return 1000 }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		s.Run(ctx)
	})
	_, box := joined(t, s, &wire.Hello{Instance: wire.Instance{1}, Slot: 7, Conns: 1})
	out = func() int { return len(box.drain()) }
	target := netip.MustParseAddrPort("10.0.0.2:8080")
	var learn, now []source.Frame
	for i := range conns {
		a := netip.AddrFrom4([4]byte{10, 1, byte(i >> 14), byte(i >> 6)})
		c := netip.AddrPortFrom(a, uint16(20000+i&63))
		for _, seg := range []packet.Segment{
			{Src: target, Dst: c, Flags: packet.SYN | packet.ACK, Ack: seqnum.Value(8)},
			{Src: target, Dst: c, Flags: packet.ACK, Seq: 5, Ack: 9, Len: 1000,
				Payload: make([]byte, 1000), Opts: packet.Options{HasTS: true, TSVal: 5}},
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

// BenchmarkHeader measures a captured header from a batch of frames to the queue of a connection.
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
