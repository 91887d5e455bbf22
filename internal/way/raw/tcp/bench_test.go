package tcp

import (
	"testing"
	"time"

	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/packet"
)

// answer delivers a segment of a target with timestamps that acknowledges everything and carries
// length bytes.
func answer(c *Conn, s *packet.Segment, now mono.Time, length int) {
	s.Flags = packet.ACK
	s.Seq = c.rseq(c.rcvNxt)
	s.Ack = c.seq(c.nxt)
	s.Window = 2000
	s.Len = length
	s.Opts.HasTS = true
	s.Opts.TSVal = uint32(now / mono.Time(time.Millisecond))
	s.Opts.TSEcr = c.tsAt(now)
	c.Deliver(now, s)
}

// BenchmarkRequest is a request on an open connection and its answer: release, send, an answer that
// acknowledges it, our ACK.
func BenchmarkRequest(b *testing.B) {
	var c Conn
	now := establish(b, &c, Config{ISN: 1, Syn: fullSyn()}, &chunks{make([]byte, 300), 300},
		fullSyn(), 1000)
	out := make([]packet.Segment, 0, 16)
	var s packet.Segment
	end := uint64(0)
	b.ReportAllocs()
	for b.Loop() {
		now += mono.Time(200 * time.Microsecond)
		end += 300
		c.Release(now, end)
		out, _ = c.Poll(now, out[:0])
		now += mono.Time(100 * time.Microsecond)
		answer(&c, &s, now, 2000)
		out, _ = c.Poll(now, out[:0])
	}
	if c.Status().Acked != end {
		b.Fatal("not acknowledged")
	}
}

// BenchmarkUpload is one full segment sent and acknowledged, with a window of others in flight.
func BenchmarkUpload(b *testing.B) {
	var c Conn
	now := establish(b, &c, Config{ISN: 1, Syn: fullSyn()}, &chunks{make([]byte, 1448), 1448},
		fullSyn(), 65535)
	out := make([]packet.Segment, 0, 512)
	var s packet.Segment
	c.Release(now, 1<<40)
	out, _ = c.Poll(now, out[:0])
	b.ReportAllocs()
	for b.Loop() {
		now += mono.Time(20 * time.Microsecond)
		s.Flags = packet.ACK
		s.Seq = c.rseq(c.rcvNxt)
		s.Ack = c.seq(c.flight.at(0).end)
		s.Window = 300 // 38400 bytes: some 26 segments
		s.Opts.HasTS = true
		s.Opts.TSVal = uint32(now / mono.Time(time.Millisecond))
		s.Opts.TSEcr = c.tsAt(now)
		c.Deliver(now, &s)
		out, _ = c.Poll(now, out[:0])
	}
	if st := c.Status(); st.Acked < uint64(b.N)*1448 || c.flight.len() < 10 {
		b.Fatalf("%d rounds, status %+v", b.N, st)
	}
}

// BenchmarkLossyAck is an acknowledgment with three SACK blocks while 1,000 segments are in flight:
// the most expensive segment that an honest target sends.
func BenchmarkLossyAck(b *testing.B) {
	var c Conn
	now := establish(b, &c, Config{ISN: 1, Syn: fullSyn()}, &chunks{make([]byte, 1448), 1448},
		fullSyn(), 65535)
	c.cwnd = 1000 * 1448
	c.wnd = 1 << 30
	out := make([]packet.Segment, 0, 2048)
	c.Release(now, 1<<40)
	for range 8 {
		out, _ = c.Poll(now, out[:0])
	}
	now += mono.Time(10 * time.Millisecond)
	var s packet.Segment
	i := 0
	b.ReportAllocs()
	for b.Loop() {
		i++
		now += 1000
		s.Flags = packet.ACK
		s.Seq = c.rseq(c.rcvNxt)
		s.Ack = c.seq(c.una)
		s.Window = 65535
		s.Opts.HasTS = true
		s.Opts.TSVal = uint32(now / mono.Time(time.Millisecond))
		s.Opts.TSEcr = c.tsAt(now)
		s.Opts.NSACK = 3
		for k := range 3 {
			first := c.una + uint64(1448*(1+k*300))
			s.Opts.SACK[k] = packet.SACKBlock{First: c.seq(first),
				End: c.seq(first + uint64(1448*(1+i%290)))}
		}
		c.Deliver(now, &s)
		out, _ = c.Poll(now, out[:0])
	}
}
