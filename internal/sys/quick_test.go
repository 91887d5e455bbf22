package sys

import (
	"net/netip"
	"testing"
)

// TestName: an address that was put into a name is the one that the name has.
func TestName(t *testing.T) {
	var n name
	if a := n.address(); a.IsValid() {
		t.Errorf("an empty name is %v", a)
	}
	for _, s := range []string{"[2001:db8::1]:65535", "192.0.2.1:80", "[::ffff:192.0.2.1]:1",
		"127.0.0.1:0"} {
		a := netip.MustParseAddrPort(s)
		n.put(a, 7)
		if got := n.address(); got != a {
			t.Errorf("%v became %v", a, got)
		}
	}
}

// TestBindTo: a socket has the address that it was bound to, of either IP version.
func TestBindTo(t *testing.T) {
	for _, s := range []string{"127.0.0.1", "::1"} {
		ip := netip.MustParseAddr(s)
		fd, err := OpenTCP(ip.Is6())
		if err != nil {
			t.Fatal(err)
		}
		defer ResetTCP(fd)
		if err := bindTo(fd, netip.MustParseAddrPort("192.0.2.77:1"), 0); err == nil {
			t.Error("bound to an address of no interface")
		}
		if err := bindTo(fd, netip.AddrPortFrom(ip, 0), 0); err != nil {
			t.Fatal(err)
		}
		if got := LocalAddr(fd); got.Addr() != ip || got.Port() == 0 {
			t.Errorf("bound to %v, it has %v", ip, got)
		}
	}
	if got := LocalAddr(-1); got.IsValid() {
		t.Errorf("no socket has %v", got)
	}
}
