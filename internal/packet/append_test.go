package packet

import (
	"bytes"
	"net/netip"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"tcpcopy/internal/seqnum"
)

func drawSegment(t *rapid.T, maxPayload int) *Segment {
	v4 := rapid.Bool().Draw(t, "v4")
	addr := func(name string) netip.Addr {
		if v4 {
			return netip.AddrFrom4([4]byte(rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, name)))
		}
		return netip.AddrFrom16([16]byte(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, name)))
	}
	s := &Segment{
		Src:     netip.AddrPortFrom(addr("src"), rapid.Uint16().Draw(t, "sport")),
		Dst:     netip.AddrPortFrom(addr("dst"), rapid.Uint16().Draw(t, "dport")),
		Seq:     seqnum.Value(rapid.Uint32().Draw(t, "seq")),
		Ack:     seqnum.Value(rapid.Uint32().Draw(t, "ack")),
		Flags:   Flags(rapid.Byte().Draw(t, "flags")),
		TTL:     rapid.Uint8Min(1).Draw(t, "ttl"),
		Window:  rapid.Uint16().Draw(t, "window"),
		Urgent:  rapid.Uint16().Draw(t, "urgent"),
		Payload: rapid.SliceOfN(rapid.Byte(), 0, maxPayload).Draw(t, "payload"),
	}
	s.Len = len(s.Payload)
	if rapid.Bool().Draw(t, "mss?") {
		s.Opts.MSS = rapid.Uint16().Draw(t, "mss")
	}
	s.Opts.SACKPermitted = rapid.Bool().Draw(t, "sackok")
	if s.Opts.HasTS = rapid.Bool().Draw(t, "ts?"); s.Opts.HasTS {
		s.Opts.TSVal = rapid.Uint32().Draw(t, "tsval")
		s.Opts.TSEcr = rapid.Uint32().Draw(t, "tsecr")
	}
	if s.Opts.HasWScale = rapid.Bool().Draw(t, "ws?"); s.Opts.HasWScale {
		s.Opts.WScale = rapid.Uint8Max(14).Draw(t, "ws")
	}
	_, fit := optionsLen(&Options{MSS: s.Opts.MSS, HasTS: s.Opts.HasTS, HasWScale: s.Opts.HasWScale,
		SACKPermitted: s.Opts.SACKPermitted, NSACK: MaxSACKBlocks})
	s.Opts.NSACK = uint8(rapid.IntRange(0, fit).Draw(t, "nsack"))
	for i := range s.Opts.NSACK {
		s.Opts.SACK[i] = SACKBlock{
			seqnum.Value(rapid.Uint32().Draw(t, "first")), seqnum.Value(rapid.Uint32().Draw(t, "end"))}
	}
	return s
}

func requireSame(t interface{ Fatalf(string, ...any) }, got, want *Segment) {
	g, w := *got, *want
	g.Payload, w.Payload = nil, nil
	if g.String() != w.String() || g.Opts != w.Opts || g.Src != w.Src || g.Dst != w.Dst || g.TTL != w.TTL ||
		g.Urgent != w.Urgent || g.Ack != w.Ack || g.Len != w.Len {
		t.Fatalf("got  %v\nwant %v", got, want)
	}
	if !bytes.Equal(got.Payload, want.Payload) {
		t.Fatalf("payload: got %x\nwant %x", got.Payload, want.Payload)
	}
}

func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := drawSegment(t, 300)
		prefix := rapid.SliceOfN(rapid.Byte(), 0, 5).Draw(t, "prefix")
		b := Append(slices.Clone(prefix), want)
		if !bytes.HasPrefix(b, prefix) {
			t.Fatalf("Append changed what it was handed: %x", b[:len(prefix)])
		}
		b = b[len(prefix):]
		if len(b) != HeaderLen(want)+len(want.Payload) {
			t.Fatalf("length %d, HeaderLen %d + payload %d", len(b), HeaderLen(want), len(want.Payload))
		}
		if h := AppendHeaders(nil, want); !bytes.Equal(h, b[:len(h)]) || len(h) != HeaderLen(want) {
			t.Fatalf("AppendHeaders differs from Append:\n%x\n%x", h, b)
		}
		var got Segment
		if err := Decode(b, len(b), &got); err != nil {
			t.Fatalf("Decode: %v", err)
		}
		requireSame(t, &got, want)
		if !ChecksumOK(b) {
			t.Fatalf("checksum wrong: %x", b)
		}
	})
}
