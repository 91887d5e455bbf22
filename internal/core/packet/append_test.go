package packet

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"pgregory.net/rapid"

	"tcpcopy/internal/core/seqnum"
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
			seqnum.Value(rapid.Uint32().Draw(t, "first")),
			seqnum.Value(rapid.Uint32().Draw(t, "end"))}
	}
	return s
}

func requireSame(t interface{ Fatalf(string, ...any) }, got, want *Segment) {
	g, w := *got, *want
	g.Payload, w.Payload = nil, nil
	if g.String() != w.String() || g.Opts != w.Opts || g.Src != w.Src || g.Dst != w.Dst ||
		g.TTL != w.TTL ||
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
			t.Fatalf("length %d, HeaderLen %d + payload %d", len(b), HeaderLen(want),
				len(want.Payload))
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

// TestAppendAgainstGopacket compares packets with those of an independent encoder.
func TestAppendAgainstGopacket(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawSegment(t, 100)
		if b, want := Append(nil, s), gopacketBytes(t, s); !bytes.Equal(b, want) {
			t.Fatalf("%v\ngot  %x\nwant %x", s, b, want)
		}
	})
}

func gopacketBytes(t *rapid.T, s *Segment) []byte {
	var opts []layers.TCPOption
	add := func(kind layers.TCPOptionKind, data []byte) {
		n := uint8(2 + len(data))
		if kind == layers.TCPOptionKindNop {
			n = 1
		}
		opts = append(opts, layers.TCPOption{OptionType: kind, OptionLength: n, OptionData: data})
	}
	nop := func() { add(layers.TCPOptionKindNop, nil) }
	be := binary.BigEndian
	o := &s.Opts
	if o.MSS != 0 {
		add(layers.TCPOptionKindMSS, be.AppendUint16(nil, o.MSS))
	}
	if o.SACKPermitted {
		if !o.HasTS {
			nop()
			nop()
		}
		add(layers.TCPOptionKindSACKPermitted, nil)
	}
	if o.HasTS {
		if !o.SACKPermitted {
			nop()
			nop()
		}
		add(layers.TCPOptionKindTimestamps, be.AppendUint32(be.AppendUint32(nil, o.TSVal), o.TSEcr))
	}
	if o.HasWScale {
		nop()
		add(layers.TCPOptionKindWindowScale, []byte{o.WScale})
	}
	if o.NSACK > 0 {
		var blocks []byte
		for _, b := range o.SACKBlocks() {
			blocks = be.AppendUint32(be.AppendUint32(blocks, uint32(b.First)), uint32(b.End))
		}
		nop()
		nop()
		add(layers.TCPOptionKindSACK, blocks)
	}

	tcp := &layers.TCP{
		SrcPort: layers.TCPPort(s.Src.Port()), DstPort: layers.TCPPort(s.Dst.Port()),
		Seq: uint32(s.Seq), Ack: uint32(s.Ack), Window: s.Window, Urgent: s.Urgent,
		FIN: s.Flags.Has(FIN), SYN: s.Flags.Has(SYN), RST: s.Flags.Has(RST), PSH: s.Flags.Has(PSH),
		ACK: s.Flags.Has(ACK), URG: s.Flags.Has(URG), ECE: s.Flags.Has(ECE), CWR: s.Flags.Has(CWR),
		Options: opts,
	}
	var ip interface {
		gopacket.NetworkLayer
		gopacket.SerializableLayer
	}
	if s.Dst.Addr().Is4() {
		ip = &layers.IPv4{Version: 4, TTL: s.TTL, Flags: layers.IPv4DontFragment,
			Protocol: layers.IPProtocolTCP,
			SrcIP:    s.Src.Addr().AsSlice(), DstIP: s.Dst.Addr().AsSlice()}
	} else {
		ip = &layers.IPv6{Version: 6, HopLimit: s.TTL, NextHeader: layers.IPProtocolTCP,
			SrcIP: s.Src.Addr().AsSlice(), DstIP: s.Dst.Addr().AsSlice()}
	}
	if err := tcp.SetNetworkLayerForChecksum(ip); err != nil {
		t.Fatalf("%v", err)
	}
	buf := gopacket.NewSerializeBuffer()
	err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true,
		ComputeChecksums: true},
		ip, tcp, gopacket.Payload(s.Payload))
	if err != nil {
		t.Fatalf("%v", err)
	}
	return buf.Bytes()
}

func TestAppendLimits(t *testing.T) {
	t.Run("blocks that do not fit are left out", func(t *testing.T) {
		for _, tc := range []struct {
			name string
			opts Options
			want uint8
		}{
			{"alone", Options{NSACK: 4}, 4},
			{"with timestamps", Options{NSACK: 4, HasTS: true}, 3},
			{"with all else", Options{NSACK: 4, HasTS: true, MSS: 1, HasWScale: true,
				SACKPermitted: true}, 2},
			{"NSACK out of range", Options{NSACK: 200}, 4},
		} {
			s := timestamped(false, 0)
			s.Opts = tc.opts
			b := Append(nil, s)
			var got Segment
			if err := Decode(b, len(b), &got); err != nil || got.Opts.NSACK != tc.want {
				t.Errorf("%s: %d blocks, error %v; want %d", tc.name, got.Opts.NSACK, err, tc.want)
			}
		}
	})
	t.Run("no TTL is 64", func(t *testing.T) {
		s := timestamped(true, 0)
		s.TTL = 0
		b := Append(nil, s)
		var got Segment
		if err := Decode(b, len(b), &got); err != nil || got.TTL != 64 {
			t.Errorf("TTL %d, error %v", got.TTL, err)
		}
	})
	for _, v6 := range []bool{false, true} {
		t.Run(fmt.Sprintf("over 64 KB, IPv6 %v", v6), func(t *testing.T) {
			s := timestamped(v6, 100_000)
			b := Append(nil, s)
			var got Segment
			if err := Decode(b, len(b), &got); err != nil {
				t.Fatal(err)
			}
			requireSame(t, &got, s)
			if !ChecksumOK(b) {
				t.Error("checksum is wrong")
			}
		})
	}
}

// TestRenewChecksum changes payloads, and has the checksums follow.
func TestRenewChecksum(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		b := append(Append(nil, timestamped(v6, 33)), 0, 0) // padded
		var s Segment
		if err := Decode(b, len(b), &s); err != nil {
			t.Fatal(err)
		}
		s.Payload[2] ^= 1
		if ChecksumOK(b) {
			t.Errorf("IPv6 %v: the checksum does not cover the payload", v6)
		}
		if RenewChecksum(b, &s); !ChecksumOK(b) {
			t.Errorf("IPv6 %v: the checksum is wrong", v6)
		}
	}
}

func TestChecksumOK(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		b := Append(nil, timestamped(v6, 33))
		if !ChecksumOK(b) {
			t.Errorf("IPv6 %v: right checksum refused", v6)
		}
		if !ChecksumOK(append(slices.Clone(b), 1, 2, 3)) {
			t.Errorf("IPv6 %v: padding counted", v6)
		}
		for i := range b {
			c := slices.Clone(b)
			c[i] ^= 0x10
			// Fields of IPv6 that no checksum covers: version and class, flow label, hop limit.
			if ChecksumOK(c) && !(v6 && (i < 4 || i == 7)) {
				t.Errorf("IPv6 %v: byte %d changed, still right", v6, i)
			}
		}
	}
	if ChecksumOK(nil) {
		t.Error("nothing has no checksum")
	}
}

// TestSum compares with the definition in RFC 1071 §1, two bytes at a time.
func TestSum(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := rapid.SliceOfN(rapid.Byte(), 0, 200).Draw(t, "b")
		cut := rapid.IntRange(0, len(b)/2).Draw(t, "cut") * 2
		var want uint32
		for i, x := range b {
			if i%2 == 0 {
				want += uint32(x) << 8
			} else {
				want += uint32(x)
			}
		}
		for want>>16 != 0 {
			want = want>>16 + want&0xffff
		}
		if got := finish(sum(sum(0, b[:cut]), b[cut:])); got != ^uint16(want) {
			t.Fatalf("got %04x, want %04x", got, ^uint16(want))
		}
	})
}

func BenchmarkSum1448(b *testing.B) {
	p := make([]byte, 1448)
	b.SetBytes(1448)
	b.ReportAllocs()
	for b.Loop() {
		sum(0, p)
	}
}
