package sys_test

import (
	"errors"
	"net/netip"
	"os"
	"strings"
	"testing"

	"tcpcopy/internal/sys"
	"tcpcopy/internal/test/testnet"
)

func TestCapabilities(t *testing.T) {
	testnet.Enter(t)
	if !sys.HasNetRaw() || !sys.HasNetAdmin() {
		t.Errorf("in a namespace of our own: raw %v, admin %v", sys.HasNetRaw(), sys.HasNetAdmin())
	}
	testnet.DropCapabilities(t)
	if sys.HasNetRaw() || sys.HasNetAdmin() {
		t.Errorf("without capabilities: raw %v, admin %v", sys.HasNetRaw(), sys.HasNetAdmin())
	}
	for _, tt := range []struct {
		want string
		open func() (*sys.SendSocket, error)
	}{
		{"open raw IPv4 socket: operation not permitted (needs CAP_NET_RAW)",
			func() (*sys.SendSocket, error) { return sys.OpenRawIPv4(sys.SendConfig{}) }},
		{"open raw IPv6 socket: operation not permitted (needs CAP_NET_RAW)",
			func() (*sys.SendSocket, error) { return sys.OpenRawIPv6(sys.SendConfig{}) }},
		{"open packet socket: operation not permitted (needs CAP_NET_RAW)",
			func() (*sys.SendSocket, error) { return sys.OpenPacketSender(sys.SendConfig{}) }},
	} {
		_, err := tt.open()
		var missing *sys.CapabilityError
		if !errors.Is(err, os.ErrPermission) || !errors.As(err, &missing) ||
			err.Error() != tt.want {
			t.Errorf("got %v, want %s", err, tt.want)
		}
	}
	_, err := sys.PathMTU(netip.MustParseAddr("127.0.0.1"), 7)
	if !errors.Is(err, os.ErrPermission) || !strings.Contains(err.Error(), "CAP_NET_ADMIN") {
		t.Errorf("mark without capability: %v", err)
	}
}

func TestForwardingIsTheNamespaces(t *testing.T) {
	testnet.Enter(t)
	forwards := func() [2]bool {
		t.Helper()
		v4, v6, err := sys.Forwarding()
		if err != nil {
			t.Fatal(err)
		}
		return [2]bool{v4, v6}
	}
	set := func(name, value string) {
		t.Helper()
		if err := os.WriteFile("/proc/sys/"+name, []byte(value), 0); err != nil {
			t.Fatal(err)
		}
	}
	set("net/ipv4/ip_forward", "0")
	set("net/ipv6/conf/all/forwarding", "0")
	if got := forwards(); got != [2]bool{false, false} {
		t.Errorf("off, off: %v", got)
	}
	set("net/ipv4/ip_forward", "1")
	if got := forwards(); got != [2]bool{true, false} {
		t.Errorf("on, off: %v", got)
	}
	set("net/ipv6/conf/all/forwarding", "1")
	if got := forwards(); got != [2]bool{true, true} {
		t.Errorf("on, on: %v", got)
	}
	if name, err := sys.CongestionControl(); err != nil || name == "" {
		t.Errorf("the congestion control is %q, %v", name, err)
	}
	if _, err := sys.Sysctl("net.ipv4.no_such"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("unknown name: %v", err)
	}
}

func TestPathMTU(t *testing.T) {
	testnet.Enter(t)
	ns := testnet.New(t)
	testnet.Veth(t, "a", "10.6.0.1/24", ns, "b", "10.6.0.2/24")
	testnet.Address(t, "a", "fd06::1/64")
	testnet.RouteMTU(t, "a", "10.66.0.0/16", "10.6.0.2", 1300)
	testnet.RouteMTU(t, "a", "fd66::/64", "fd06::2", 1290)
	for _, tt := range []struct {
		dst  string
		want int // 0: an error
	}{
		{"10.6.0.2", 1500}, {"fd06::2", 1500}, {"::ffff:10.6.0.2", 1500},
		{"10.66.1.1", 1300}, {"fd66::1", 1290}, {"127.0.0.1", 65535}, {"10.99.0.1", 0},
		{"fd99::1", 0},
	} {
		got, err := sys.PathMTU(netip.MustParseAddr(tt.dst), 9)
		if got != tt.want || (err == nil) != (tt.want > 0) {
			t.Errorf("%s: %d, %v; want %d", tt.dst, got, err, tt.want)
		}
	}
}
