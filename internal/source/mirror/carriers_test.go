package mirror

import (
	"net/netip"
	"testing"
)

// TestCarriers: packets in GRE are accepted from peers only, and plain ones where nothing comes in
// GRE.
func TestCarriers(t *testing.T) {
	v4 := make([]byte, 20)
	v4[0] = 0x45
	copy(v4[12:], []byte{10, 0, 0, 7})
	v6 := make([]byte, 40)
	v6[0] = 0x60
	from6 := netip.MustParseAddr("fd00::7").As16()
	copy(v6[8:], from6[:])
	nets := func(all ...string) (out []netip.Prefix) {
		for _, s := range all {
			out = append(out, netip.MustParsePrefix(s))
		}
		return out
	}
	for _, tc := range []struct {
		c       Carriers
		b       []byte
		carried bool
		want    bool
	}{
		{Carriers{}, v4, false, true},
		{Carriers{}, v4, true, false},
		{Carriers{All: true}, v4, true, true},
		{Carriers{All: true}, v4, false, true},
		{Carriers{Peers: nets("10.0.0.0/29")}, v4, true, true},
		{Carriers{Peers: nets("10.0.0.0/29")}, v4, false, false},
		{Carriers{Peers: nets("10.0.0.8/29", "fd00::/64")}, v4, true, false},
		{Carriers{Peers: nets("10.0.0.8/29", "fd00::/64")}, v6, true, true},
		{Carriers{Peers: nets("10.0.0.0/29")}, v6[:39], true, false},
		{Carriers{Peers: nets("0.0.0.0/0"), All: true}, v6, true, false},
	} {
		if got := tc.c.accept(tc.carried, tc.b); got != tc.want {
			t.Errorf("%+v: %x, carried %v: %v", tc.c, tc.b, tc.carried, got)
		}
	}
}
