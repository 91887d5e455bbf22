package send_test

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"tcpcopy/internal/test/testnet"
	"tcpcopy/internal/way/raw/send"
)

// TestNextHopsFollow: a router that is replaced by another one, with another link address, is
// followed; also where the kernel has forgotten it, because nothing of its own goes there.
func TestNextHopsFollow(t *testing.T) {
	testnet.Enter(t)
	ns := testnet.New(t)
	testnet.Veth(t, "a", "10.7.0.1/24", ns, "b", "10.7.0.2/24")
	testnet.Route(t, "a", "10.99.0.0/16", "10.7.0.2")
	direct, far := netip.MustParseAddr("10.7.0.2"), netip.MustParseAddr("10.99.0.1")
	f, err := send.Follow("a", []netip.Addr{direct, far}, deadline)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	is := func(want net.HardwareAddr) {
		t.Helper()
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for end := time.Now().Add(deadline); ; <-tick.C {
			one, ok1 := f.To(direct)
			two, ok2 := f.To(far)
			if ok1 && ok2 && one == [6]byte(want) && two == one {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("the next hops are %x and %x, want %v", one, two, want)
			}
		}
	}
	attrs := func(name string) *netlink.LinkAttrs {
		l, err := netlink.LinkByName(name)
		if err != nil {
			t.Fatal(err)
		}
		return l.Attrs()
	}
	var first net.HardwareAddr
	ns.Do(func() { first = attrs("b").HardwareAddr })
	is(first)
	if _, ok := f.To(netip.MustParseAddr("10.98.0.1")); ok {
		t.Error("a hop of another destination is known")
	}
	second := net.HardwareAddr{2, 0, 0, 0, 0, 9}
	ns.Do(func() {
		l, err := netlink.LinkByName("b")
		if err == nil {
			err = netlink.LinkSetHardwareAddr(l, second)
		}
		if err != nil {
			t.Error(err)
		}
	})
	at := attrs("a").Index
	entry := &netlink.Neigh{LinkIndex: at, IP: direct.AsSlice()}
	if err := netlink.NeighDel(entry); err != nil {
		t.Fatal(err)
	}
	is(second)
	third := net.HardwareAddr{2, 0, 0, 0, 0, 10}
	entry.HardwareAddr, entry.State = third, netlink.NUD_PERMANENT
	if err := netlink.NeighSet(entry); err != nil {
		t.Fatal(err)
	}
	is(third)
	testnet.Down(t, "a")
	if _, ok := f.To(far); !ok {
		t.Error("the last hop that was known is forgotten")
	}
}
