package packet

import (
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// unhex decodes bytes in hex, and ignores blanks and newlines.
func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

const (
	v4addrs = "0a000001 0a000002"
	v6addrs = "fd000000000000000000000000000001 fd000000000000000000000000000002"
	ports   = "04d2 0050"
)

func ap(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

func TestDecode(t *testing.T) {
	src4, dst4 := ap("10.0.0.1:1234"), ap("10.0.0.2:80")
	src6, dst6 := ap("[fd00::1]:1234"), ap("[fd00::2]:80")
	plain := ports + "00000001 00000002 5018 ffff 0000 0000"
	for _, tc := range []struct {
		name string
		hex  string
		wire int // 0: as long as the packet
		want Segment
		err  error
	}{
		{
			name: "SYN as Linux sends it",
			hex: "4500003c abcd4000 4006 0000" + v4addrs +
				ports +
				"00000001 00000000 a002 faf0 0000 0000" +
				"020405b4 0402080a 00000007 00000000 01030307",
			want: Segment{Src: src4, Dst: dst4, Seq: 1, Flags: SYN, TTL: 64, Window: 64240,
				Opts: Options{MSS: 1460, SACKPermitted: true, HasTS: true, TSVal: 7,
					HasWScale: true, WScale: 7}},
		},
		{
			name: "data with timestamps",
			hex: "45000036 abcd4000 4006 0000" + v4addrs +
				ports + "00000001 00000002 8018 01f6 0000 0000 0101080a 00000007 00000008 6869",
			want: Segment{Src: src4, Dst: dst4, Seq: 1, Ack: 2, Flags: PSH | ACK, TTL: 64,
				Window: 502,
				Opts:   Options{HasTS: true, TSVal: 7, TSEcr: 8}, Payload: []byte("hi"), Len: 2},
		},
		{
			name: "Ethernet's padding is no payload",
			hex:  "45000028 00004000 4006 0000" + v4addrs + plain + "000000000000",
			want: Segment{Src: src4, Dst: dst4, Seq: 1, Ack: 2, Flags: PSH | ACK, TTL: 64,
				Window: 65535, Payload: []byte{}},
		},
		{
			name: "IP options are skipped",
			hex:  "4600002e 00004000 4006 0000" + v4addrs + "94040000" + plain + "6869",
			want: Segment{Src: src4, Dst: dst4, Seq: 1, Ack: 2, Flags: PSH | ACK, TTL: 64,
				Window: 65535, Payload: []byte("hi"), Len: 2},
		},
		{
			name: "cut by the snap length",
			hex:  "450005dc 00004000 4006 0000" + v4addrs + plain + "6869",
			wire: 1500,
			want: Segment{Src: src4, Dst: dst4, Seq: 1, Ack: 2, Flags: PSH | ACK, TTL: 64,
				Window: 65535, Payload: []byte("hi"), Len: 1460},
		},
		{
			name: "BIG TCP over IPv4: total length 0",
			hex:  "45000000 00004000 4006 0000" + v4addrs + plain + "6869",
			wire: 150_000,
			want: Segment{Src: src4, Dst: dst4, Seq: 1, Ack: 2, Flags: PSH | ACK, TTL: 64,
				Window: 65535, Payload: []byte("hi"), Len: 149_960},
		},
		{
			name: "SACK blocks, with timestamps",
			hex: "45000048 00004000 4006 0000" + v4addrs +
				ports +
				"00000001 00000002 d010 ffff 0000 0000 0101080a 00000007 00000008" +
				"01010512 0000000a 00000014 fffffffe 00000005",
			want: Segment{Src: src4, Dst: dst4, Seq: 1, Ack: 2, Flags: ACK, TTL: 64, Window: 65535,
				Opts: Options{HasTS: true, TSVal: 7, TSEcr: 8, NSACK: 2,
					SACK: [4]SACKBlock{{10, 20}, {0xfffffffe, 5}}}, Payload: []byte{}},
		},
		{
			name: "a broken option ends options, not the segment",
			hex: "45000032 00004000 4006 0000" + v4addrs +
				ports + "00000001 00000002 7018 ffff 0000 0000 020405b4 03ff0000 6869",
			want: Segment{Src: src4, Dst: dst4, Seq: 1, Ack: 2, Flags: PSH | ACK, TTL: 64,
				Window: 65535,
				Opts:   Options{MSS: 1460}, Payload: []byte("hi"), Len: 2},
		},
		{
			name: "an option of length 0 does not loop",
			hex: "4500002c 00004000 4006 0000" + v4addrs +
				ports + "00000001 00000002 6018 ffff 0000 0000 22000000",
			want: Segment{Src: src4, Dst: dst4, Seq: 1, Ack: 2, Flags: PSH | ACK, TTL: 64,
				Window: 65535, Payload: []byte{}},
		},
		{
			name: "unknown options and wrong lengths are skipped; window scale over 14 is 14",
			hex: "45000038 00004000 4006 0000" + v4addrs +
				ports +
				"00000001 00000002 9002 ffff 0000 0000 2204aabb 020305 0104020303ff 01 0000",
			want: Segment{Src: src4, Dst: dst4, Seq: 1, Ack: 2, Flags: SYN, TTL: 64, Window: 65535,
				Opts: Options{SACKPermitted: true, HasWScale: true, WScale: 14}, Payload: []byte{}},
		},
		{
			name: "end of options",
			hex: "4500002c 00004000 4006 0000" + v4addrs +
				ports + "00000001 00000002 6002 ffff 0000 0000 00020405",
			want: Segment{Src: src4, Dst: dst4, Seq: 1, Ack: 2, Flags: SYN, TTL: 64, Window: 65535,
				Payload: []byte{}},
		},
		{
			name: "IPv6",
			hex:  "60000000 0016 06 40" + v6addrs + plain + "6869",
			want: Segment{Src: src6, Dst: dst6, Seq: 1, Ack: 2, Flags: PSH | ACK, TTL: 64,
				Window: 65535, Payload: []byte("hi"), Len: 2},
		},
		{
			name: "IPv6: hop-by-hop, routing, destination options",
			hex: "60000000 0036 00 40" + v6addrs + "2b00010400000000" + "3c00040000000000" +
				"0601010c00000000 0000000000000000" + plain + "6869",
			want: Segment{Src: src6, Dst: dst6, Seq: 1, Ack: 2, Flags: PSH | ACK, TTL: 64,
				Window: 65535, Payload: []byte("hi"), Len: 2},
		},
		{
			name: "IPv6: authentication header",
			hex: "60000000 002c 33 40" + v6addrs +
				"0604000000000001 00000001 00000000 00000000 00000000" + plain,
			want: Segment{Src: src6, Dst: dst6, Seq: 1, Ack: 2, Flags: PSH | ACK, TTL: 64,
				Window: 65535, Payload: []byte{}},
		},
		{
			name: "IPv6: a fragment header around a whole packet (RFC 6946)",
			hex:  "60000000 001c 2c 40" + v6addrs + "06000000 00000001" + plain,
			want: Segment{Src: src6, Dst: dst6, Seq: 1, Ack: 2, Flags: PSH | ACK, TTL: 64,
				Window: 65535, Payload: []byte{}},
		},
		{
			name: "BIG TCP over IPv6: jumbo payload option (RFC 2675)",
			hex:  "60000000 0000 00 40" + v6addrs + "0600c204 00020000" + plain + "6869",
			wire: 40 + 0x20000,
			want: Segment{Src: src6, Dst: dst6, Seq: 1, Ack: 2, Flags: PSH | ACK, TTL: 64,
				Window:  65535,
				Payload: []byte("hi"), Len: 0x20000 - 8 - 20},
		},
		{
			name: "BIG TCP over IPv6: payload length 0, no hop-by-hop header",
			hex:  "60000000 0000 06 40" + v6addrs + plain + "6869",
			wire: 100_000,
			want: Segment{Src: src6, Dst: dst6, Seq: 1, Ack: 2, Flags: PSH | ACK, TTL: 64,
				Window:  65535,
				Payload: []byte("hi"), Len: 100_000 - 60},
		},

		{name: "empty", hex: "", err: ErrMalformed},
		{name: "UDP", hex: "4500001c 00000000 4011 0000" + v4addrs + "04d20050 00080000",
			err: ErrNotTCP},
		{name: "IPv6 UDP", hex: "60000000 0008 11 40" + v6addrs + "04d20050 00080000",
			err: ErrNotTCP},
		{name: "IPv6 ESP", hex: "60000000 0008 32 40" + v6addrs + "04d20050 00080000",
			err: ErrNotTCP},
		{name: "ARP", hex: "0001080006040001 000000000000 0a000001 000000000000 0a000002",
			err: ErrNotTCP},
		{name: "first fragment", hex: "45000028 00002000 4006 0000" + v4addrs + plain,
			err: ErrFragment},
		{name: "later fragment", hex: "45000028 00000001 4006 0000" + v4addrs + plain,
			err: ErrFragment},
		{name: "IPv6 first fragment", hex: "60000000 001c 2c 40" + v6addrs + "06000001 00000001" +
			plain, err: ErrFragment},
		{name: "IPv6 later fragment", hex: "60000000 001c 2c 40" + v6addrs + "06000008 00000001" +
			plain, err: ErrFragment},
		{name: "IPv6 fragment of UDP", hex: "60000000 0010 2c 40" + v6addrs +
			"11000008 00000001 0000000000000000", err: ErrNotTCP},
		{name: "IP header length 16", hex: "44000028 00000000 4006 0000" + v4addrs + plain,
			err: ErrMalformed},
		{name: "IP header length past the end", hex: "4f000028 00000000 4006 0000" + v4addrs +
			plain, err: ErrMalformed},
		{name: "total length over the wire's", hex: "45000029 00000000 4006 0000" + v4addrs + plain,
			err: ErrMalformed},
		{name: "total length within the headers", hex: "45000027 00000000 4006 0000" + v4addrs +
			plain, err: ErrMalformed},
		{name: "wire shorter than the capture", hex: "45000028 00000000 4006 0000" + v4addrs +
			plain, wire: 39, err: ErrMalformed},
		{name: "TCP header cut", hex: "45000028 00000000 4006 0000" + v4addrs + ports, wire: 40,
			err: ErrMalformed},
		{name: "TCP header length 16", hex: "45000028 00000000 4006 0000" + v4addrs + ports +
			"00000001 00000002 4018 ffff 0000 0000", err: ErrMalformed},
		{name: "TCP header longer than the packet", hex: "45000028 00000000 4006 0000" + v4addrs +
			ports + "00000001 00000002 f018 ffff 0000 0000", err: ErrMalformed},
		{name: "TCP options cut", hex: "45000034 00000000 4006 0000" + v4addrs + ports +
			"00000001 00000002 8018 ffff 0000 0000 0101", wire: 52, err: ErrMalformed},
		{name: "TCP options in the padding", hex: "45000028 00000000 4006 0000" + v4addrs + ports +
			"00000001 00000002 6018 ffff 0000 0000 01010101", err: ErrMalformed},
		{name: "IPv6 header cut", hex: "60000000 0014 06 40" + "fd000000000000000000000000000001",
			err: ErrMalformed},
		{name: "IPv6 length over the wire's", hex: "60000000 0015 06 40" + v6addrs + plain,
			err: ErrMalformed},
		{name: "IPv6 extension header past the end", hex: "60000000 0014 00 40" + v6addrs +
			"06ff000000000000" + plain, err: ErrMalformed},
		{name: "IPv6 extension header cut", hex: "60000000 0014 00 40" + v6addrs + "0600", wire: 60,
			err: ErrMalformed},
		{name: "IPv6 extension headers without end", hex: "60000000 0058 00 40" + v6addrs +
			strings.Repeat("0000000000000000", 11), err: ErrMalformed},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := unhex(t, tc.hex)
			wire := tc.wire
			if wire == 0 {
				wire = len(b)
			}
			// Decode must replace what s held before.
			got := Segment{Opts: Options{MSS: 1, HasTS: true, NSACK: 3}, Urgent: 9}
			err := Decode(b, wire, &got)
			if err != tc.err {
				t.Fatalf("error %v, want %v", err, tc.err)
			}
			if err != nil {
				return
			}
			if tc.want.Payload == nil {
				tc.want.Payload = []byte{}
			}
			if d := cmp.Diff(tc.want, got,
				cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); d != "" {
				t.Errorf("-want +got\n%s", d)
			}
		})
	}
}

func TestDecodeDoesNotAllocate(t *testing.T) {
	b := Append(nil, timestamped(false, 100))
	var s Segment
	buf := make([]byte, 0, 2048)
	if n := testing.AllocsPerRun(100, func() {
		if Decode(b, len(b), &s) != nil {
			t.Fail()
		}
		buf = Append(buf[:0], &s)
		buf = AppendHeaders(buf[:0], &s)
	}); n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
}

// timestamped returns a data segment with timestamps.
func timestamped(v6 bool, payload int) *Segment {
	s := &Segment{Src: ap("10.0.0.1:1234"), Dst: ap("10.0.0.2:80"), Seq: 100, Ack: 200,
		Flags: PSH | ACK,
		TTL:   64, Window: 502, Opts: Options{HasTS: true, TSVal: 1, TSEcr: 2},
		Payload: make([]byte, payload), Len: payload}
	if v6 {
		s.Src, s.Dst = ap("[fd00::1]:1234"), ap("[fd00::2]:80")
	}
	return s
}

func BenchmarkDecode(b *testing.B) {
	for _, bc := range []struct {
		name string
		v6   bool
	}{{"IPv4", false}, {"IPv6", true}} {
		b.Run(bc.name, func(b *testing.B) {
			p := Append(nil, timestamped(bc.v6, 100))
			var s Segment
			b.ReportAllocs()
			for b.Loop() {
				if Decode(p, len(p), &s) != nil {
					b.Fatal("not decoded")
				}
			}
		})
	}
}

func BenchmarkAppendHeaders(b *testing.B) {
	for _, bc := range []struct {
		name    string
		payload int
	}{{"no payload", 0}, {"1448 bytes", 1448}} {
		b.Run(bc.name, func(b *testing.B) {
			s := timestamped(false, bc.payload)
			buf := make([]byte, 0, 128)
			b.ReportAllocs()
			for b.Loop() {
				buf = AppendHeaders(buf[:0], s)
			}
		})
	}
}
