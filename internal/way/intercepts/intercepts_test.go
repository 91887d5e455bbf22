package intercepts

import (
	"net/netip"
	"strings"
	"testing"

	"tcpcopy/internal/core/mapping"
	"tcpcopy/internal/way"
)

func TestCheckAddresses(t *testing.T) {
	local := []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1")}
	targets := []way.Target{{Addr: netip.MustParseAddrPort("10.0.0.2:8080"), Copies: 1}}
	for _, test := range []struct{ clients, localhost, want string }{
		{"10.1.0.0/24", "", ""},
		{"10.0.0.7", "10.0.0.8", ""},
		{"10.0.0.1", "", `-c "10.0.0.1"`},
		{"fd00::/120", "", `-c "fd00::1"`},
		{"10.0.0.2", "", `-c "10.0.0.2"`},
		{"", "10.0.0.1", `-H "10.0.0.1"`},
		{"", "", ""},
	} {
		s := &way.Settings{}
		if test.clients != "" {
			p, err := mapping.ParsePool(test.clients)
			if err != nil {
				t.Fatal(err)
			}
			s.Clients = &p
		}
		if test.localhost != "" {
			s.LocalhostAs = netip.MustParseAddr(test.localhost)
		}
		err := CheckAddresses(s, targets, local)
		if (err == nil) != (test.want == "") ||
			err != nil && !strings.HasPrefix(err.Error(), test.want) {
			t.Errorf("-c %q -H %q: %v, wanted %q", test.clients, test.localhost, err, test.want)
		}
	}
}
