package send

import (
	"net/netip"
	"testing"

	"pgregory.net/rapid"

	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/core/seqnum"
)

// cut returns the segments that segmentation offload makes of a group.
func cut(segs []packet.Segment) (all []packet.Segment) {
	head := segs[0]
	head.Flags = segs[len(segs)-1].Flags
	var payload []byte
	for i := range segs {
		payload = append(payload, segs[i].Payload...)
	}
	size := len(segs[0].Payload)
	for off := 0; off < len(payload); off += size {
		s := head
		s.Seq = head.Seq.Add(off)
		s.Payload = payload[off:min(off+size, len(payload))]
		if off+size < len(payload) {
			s.Flags &^= packet.PSH | packet.FIN
		}
		all = append(all, s)
	}
	return all
}

// TestGroupLen: segmentation offload makes of every group its segments again.
func TestGroupLen(t *testing.T) {
	addr := netip.MustParseAddr("10.0.0.1")
	rapid.Check(t, func(t *rapid.T) {
		seldom := func(name string) bool { return rapid.IntRange(0, 9).Draw(t, name) == 0 }
		next := packet.Segment{
			Src: netip.AddrPortFrom(addr, 1), Dst: netip.AddrPortFrom(addr, 2),
			Seq: seqnum.Value(rapid.Uint32().Draw(t, "seq")), Flags: packet.ACK,
		}
		size := rapid.IntRange(1, 2000).Draw(t, "size")
		var segs []packet.Segment
		for range rapid.IntRange(1, 200).Draw(t, "segments") {
			s := next
			n := size
			if seldom("other size") {
				n = rapid.IntRange(0, 2000).Draw(t, "length")
			}
			s.Payload = make([]byte, n)
			for i := range s.Payload {
				s.Payload[i] = byte(int(s.Seq) + i)
			}
			if seldom("flags") {
				s.Flags = packet.Flags(rapid.Byte().Draw(t, "all flags"))
			}
			if seldom("PSH") {
				s.Flags |= packet.PSH
			}
			switch {
			case seldom("connection"):
				next.Src = netip.AddrPortFrom(addr, next.Src.Port()+1)
			case seldom("ack"):
				next.Ack++
			case seldom("time"):
				next.Opts.HasTS, next.Opts.TSVal = true, next.Opts.TSVal+1
			}
			segs = append(segs, s)
			if next.Seq = s.Seq.Add(n); seldom("gap") {
				next.Seq = next.Seq.Add(rapid.IntRange(-100, 100).Draw(t, "gap length"))
			}
		}
		for len(segs) > 0 {
			n := groupLen(segs)
			if n < 1 || n > len(segs) || n > maxGroup {
				t.Fatalf("group of %d of %d", n, len(segs))
			}
			group := segs[:n]
			segs = segs[n:]
			if n == 1 {
				continue
			}
			again, bytes := cut(group), 0
			if len(again) != n {
				t.Fatalf("%d segments are cut into %d", n, len(again))
			}
			for i := range group {
				a, b := again[i], group[i]
				bytes += len(b.Payload)
				if string(a.Payload) != string(b.Payload) {
					t.Fatalf("segment %d has other bytes", i)
				}
				if a.String() != b.String() || a.Flags != b.Flags || a.Opts != b.Opts ||
					a.Seq != b.Seq {
					t.Fatalf("segment %d is %v, was %v", i, &a, &b)
				}
			}
			if bytes+headerRoom > 0xffff {
				t.Fatalf("%d bytes do not fit a packet", bytes)
			}
		}
	})
}
