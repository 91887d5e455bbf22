package tunnel

import (
	"net/netip"
	"slices"
	"testing"

	"tcpcopy/internal/way/link"
)

// TestForbiddenTargets: a target is out of reach where all intercepts that are up say so.
func TestForbiddenTargets(t *testing.T) {
	a, b := netip.MustParseAddrPort("10.0.0.1:80"), netip.MustParseAddrPort("10.0.0.2:80")
	up := func(list ...netip.AddrPort) link.State { return link.State{Up: true, Forbidden: list} }
	for _, tc := range []struct {
		name   string
		states []link.State
		want   []netip.AddrPort
	}{
		{"no link", nil, nil},
		{"a link that is down", []link.State{{Forbidden: []netip.AddrPort{a}}}, nil},
		{"one link", []link.State{up(a, b)}, []netip.AddrPort{a, b}},
		{"each has the other's", []link.State{up(a), up(b)}, nil},
		{"both", []link.State{up(a, b), up(b)}, []netip.AddrPort{b}},
		{"the one that would is down", []link.State{up(a), {}}, []netip.AddrPort{a}},
	} {
		if got := forbidden(tc.states); !slices.Equal(got, tc.want) {
			t.Errorf("%s: %v, want %v", tc.name, got, tc.want)
		}
	}
}
