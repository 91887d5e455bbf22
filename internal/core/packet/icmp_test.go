package packet

import (
	"net/netip"
	"testing"
)

func TestDecodeICMP(t *testing.T) {
	const (
		in4 = "450005dc 00004000 4006 0000" + v4addrs + ports + "00000064"
		in6 = "60000000 0514 06 40" + v6addrs + ports + "00000064"
		ip4 = "45000038 00000000 4001 0000 0a0000fe 0a000001"
		ip6 = "60000000 0040 3a 40" +
			"fd0000000000000000000000000000fe fd000000000000000000000000000001"
	)
	router4, router6 := netip.MustParseAddr("10.0.0.254"), netip.MustParseAddr("fd00::fe")
	src4, dst4 := ap("10.0.0.1:1234"), ap("10.0.0.2:80")
	src6, dst6 := ap("[fd00::1]:1234"), ap("[fd00::2]:80")
	for _, tc := range []struct {
		name string
		hex  string
		want ICMPError
		err  error
	}{
		{"fragmentation needed", ip4 + "0304 0000 0000 0578" + in4,
			ICMPError{Kind: FragNeeded, Code: 4, MTU: 1400, From: router4, Src: src4, Dst: dst4,
				Seq: 100}, nil},
		{"fragmentation needed, of an old router", ip4 + "0304 0000 0000 0000" + in4,
			ICMPError{Kind: FragNeeded, Code: 4, From: router4, Src: src4, Dst: dst4, Seq: 100},
			nil},
		{"port unreachable", ip4 + "0303 0000 0000 0000" + in4,
			ICMPError{Kind: Unreachable, Code: 3, From: router4, Src: src4, Dst: dst4, Seq: 100},
			nil},
		{"IPv6 packet too big", ip6 + "0200 0000 00000500" + in6,
			ICMPError{Kind: PacketTooBig, MTU: 1280, From: router6, Src: src6, Dst: dst6, Seq: 100},
			nil},
		{"IPv6 MTU beyond an int", ip6 + "0200 0000 ffffffff" + in6,
			ICMPError{Kind: PacketTooBig, MTU: 1<<31 - 1, From: router6, Src: src6, Dst: dst6,
				Seq: 100}, nil},
		{"IPv6 no route, quoting extension headers", ip6 + "0100 0000 00000000" +
			"60000000 0514 3c 40" + v6addrs + "0600010400000000" + ports + "00000064",
			ICMPError{Kind: Unreachable, From: router6, Src: src6, Dst: dst6, Seq: 100}, nil},
		{"quoting IP options", ip4 + "0301 0000 0000 0000" + "460005dc 00004000 4006 0000" +
			v4addrs + "94040000" + ports + "00000064",
			ICMPError{Kind: Unreachable, Code: 1, From: router4, Src: src4, Dst: dst4, Seq: 100},
			nil},

		{"echo", ip4 + "0800 0000 0000 0000" + in4, ICMPError{}, ErrNotICMPError},
		{"IPv6 echo", ip6 + "8000 0000 0000 0000" + in6, ICMPError{}, ErrNotICMPError},
		{"TCP", in4, ICMPError{}, ErrNotICMPError},
		{"about UDP", ip4 + "0303 0000 0000 0000" + "4500001c 00000000 4011 0000" + v4addrs +
			ports + "00000064", ICMPError{}, ErrNotICMPError},
		{"about a later fragment", ip4 + "0304 0000 0000 0578" + "450005dc 00000001 4006 0000" +
			v4addrs + ports + "00000064", ICMPError{}, ErrFragment},
		{"itself a fragment", "45000038 00002000 4001 0000 0a0000fe 0a000001" +
			"0304 0000 0000 0578" + in4, ICMPError{}, ErrFragment},
		{"quote cut", ip4 + "0304 0000 0000 0578" + in4[:len(in4)-2], ICMPError{}, ErrMalformed},
		{"IPv6 quote cut", ip6 + "0200 0000 00000500" + in6[:len(in6)-2], ICMPError{},
			ErrMalformed},
		{"header cut", ip4 + "0304", ICMPError{}, ErrMalformed},
		{"quote of the other family", ip4 + "0304 0000 0000 0578" + in6, ICMPError{}, ErrMalformed},
		{"empty", "", ICMPError{}, ErrMalformed},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := DecodeICMP(unhex(t, tc.hex))
			if err != tc.err {
				t.Fatalf("error %v, want %v", err, tc.err)
			}
			if err == nil && got != tc.want {
				t.Errorf("got  %+v\nwant %+v", got, tc.want)
			}
		})
	}
}
