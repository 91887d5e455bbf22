package afpacket

import (
	"encoding/hex"
	"strings"
	"testing"

	"tcpcopy/internal/sys"
)

func TestUntag(t *testing.T) {
	const (
		ip4 = "45000014 00004000 40060000 0a000001 0a000002"
		ip6 = "60000000 00000640" +
			"fd000000000000000000000000000001 fd000000000000000000000000000002"
		// ip48 is of 2,048 bytes, and its ID looks like a header.
		ip48 = "45000800 40004000 40060000 0a000001 0a000002"
	)
	for _, tc := range []struct {
		name     string
		protocol uint16
		hex      string
		more     int    // bytes that the capture has cut
		want     string // hex; empty: none
	}{
		{"IPv4", 0x0800, ip4, 0, ip4},
		{"IPv6", 0x86dd, ip6, 0, ip6},
		{"a tag left", 0x8100, "0005 0800" + ip4, 0, ip4},
		{"two tags left", 0x88a8, "0005 8100 0006 86dd" + ip6, 0, ip6},
		{"a tag left, the protocol's from behind it", 0x0800, "0005 0800" + ip4, 0, ip4},
		{"a tag that looks like an IPv4 header, likewise", 0x0800, "4500 0800" + ip4, 0, ip4},
		{"a tag left, IPv6, likewise", 0x86dd, "6005 86dd" + ip6, 0, ip6},
		{"a header that looks like a tag", 0x0800, ip48, 2028, ip48},
		{"ARP", 0x0806, "0001 0800 0604", 0, ""},
		{"nothing", 0x0800, "", 0, ""},
		{"a tag and nothing", 0x8100, "0005", 0, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b, err := hex.DecodeString(strings.ReplaceAll(tc.hex, " ", ""))
			if err != nil {
				t.Fatal(err)
			}
			f := sys.RingFrame{Protocol: tc.protocol, Data: b, Wire: len(b) + tc.more}
			ok := untag(&f)
			want := strings.ReplaceAll(tc.want, " ", "")
			if ok != (want != "") ||
				ok && (hex.EncodeToString(f.Data) != want || f.Wire != len(f.Data)+tc.more) {
				t.Errorf("%v, %x, %d of %d bytes; want %s", ok, f.Data, len(f.Data), f.Wire, want)
			}
		})
	}
}
