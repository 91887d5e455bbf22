// Package testnet puts a test into a network namespace of its own, with the links that it wants.
//
// For tests only. Nothing it makes outlives the test: a namespace goes with the last thread and
// handle in it, and its links go with it.
package testnet

import (
	"errors"
	"net"
	"os"
	"runtime"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"tcpcopy/internal/sys"
)

// Enter moves the calling goroutine into a new network namespace, lo up, for the rest of its life:
// its thread is locked to it and ends with it. Goroutines that it starts are not in the namespace;
// sockets opened here are. The test is skipped where namespaces are not permitted.
func Enter(t testing.TB) {
	t.Helper()
	runtime.LockOSThread() // never unlocked: the thread must not serve others afterwards
	h, err := netns.New()
	if errors.Is(err, os.ErrPermission) {
		t.Skipf("new network namespace: %v (needs CAP_SYS_ADMIN)", err)
	}
	if err != nil {
		t.Fatalf("new network namespace: %v", err)
	}
	t.Cleanup(func() { h.Close() })
	settle(t)
}

// settle makes a new namespace usable at once: lo is up, and IPv6 addresses are not probed for
// duplicates.
func settle(t testing.TB) {
	t.Helper()
	up(t, "lo")
	err := os.WriteFile("/proc/sys/net/ipv6/conf/default/accept_dad", []byte("0"), 0)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Logf("duplicate address detection stays on: %v", err)
	}
}

// NS is a further namespace beside the one that the test has entered.
type NS struct {
	t      testing.TB
	handle netns.NsHandle
}

// New makes a further namespace, lo up.
func New(t testing.TB) *NS {
	t.Helper()
	n := &NS{t: t}
	var err error
	onThread(func() {
		if n.handle, err = netns.New(); err == nil {
			settle(t)
		}
	})
	if errors.Is(err, os.ErrPermission) {
		t.Skipf("new network namespace: %v (needs CAP_SYS_ADMIN)", err)
	}
	if err != nil {
		t.Fatalf("new network namespace: %v", err)
	}
	t.Cleanup(func() { n.handle.Close() })
	return n
}

// Do runs f on a thread within the namespace and returns when it is done.
func (n *NS) Do(f func()) {
	n.t.Helper()
	var err error
	onThread(func() {
		if err = netns.Set(n.handle); err == nil {
			f()
		}
	})
	if err != nil {
		n.t.Fatalf("enter network namespace: %v", err)
	}
}

// onThread runs f on a thread that ends with it.
func onThread(f func()) {
	done := make(chan struct{})
	go func() {
		runtime.LockOSThread()
		defer close(done)
		f()
	}()
	<-done
}

// Veth makes a pair of Ethernet interfaces in the calling thread's namespace, up, with the
// addresses given in CIDR notation, and moves the second into peer unless that is nil.
func Veth(t testing.TB, name, address string, peer *NS, peerName, peerAddress string) {
	t.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: peerName}); err != nil {
		t.Fatalf("add veth %s %s: %v", name, peerName, err)
	}
	Address(t, name, address)
	if peer == nil {
		Address(t, peerName, peerAddress)
		up(t, peerName)
	} else {
		if err := netlink.LinkSetNsFd(link(t, peerName), int(peer.handle)); err != nil {
			t.Fatalf("move %s: %v", peerName, err)
		}
		peer.Do(func() {
			Address(t, peerName, peerAddress)
			up(t, peerName)
		})
	}
	up(t, name)
}

// Address gives an interface an address in CIDR notation, valid at once; an empty one is left out.
func Address(t testing.TB, name, address string) {
	t.Helper()
	if address == "" {
		return
	}
	addr, err := netlink.ParseAddr(address)
	if err != nil {
		t.Fatalf("address %q: %v", address, err)
	}
	if addr.IP.To4() == nil {
		const noDAD = 0x02 // IFA_F_NODAD: usable without waiting for duplicate address detection
		addr.Flags |= noDAD
	}
	if err := netlink.AddrAdd(link(t, name), addr); err != nil {
		t.Fatalf("add %s to %s: %v", address, name, err)
	}
}

// Route adds a route to a network in CIDR notation, through a gateway, or on link where that is
// empty.
func Route(t testing.TB, name, network, gateway string) {
	t.Helper()
	RouteMTU(t, name, network, gateway, 0)
}

// RouteMTU is Route with the MTU that the path is known to have; 0: the interface's.
func RouteMTU(t testing.TB, name, network, gateway string, mtu int) {
	t.Helper()
	_, dst, err := net.ParseCIDR(network)
	if err != nil {
		t.Fatalf("network %q: %v", network, err)
	}
	r := &netlink.Route{LinkIndex: link(t, name).Attrs().Index, Dst: dst, Gw: net.ParseIP(gateway),
		MTU: mtu}
	if err := netlink.RouteAdd(r); err != nil {
		t.Fatalf("route %s by %s on %s: %v", network, gateway, name, err)
	}
}

func link(t testing.TB, name string) netlink.Link {
	t.Helper()
	l, err := netlink.LinkByName(name)
	if err != nil {
		t.Fatalf("interface %s: %v", name, err)
	}
	return l
}

func up(t testing.TB, name string) {
	t.Helper()
	if err := netlink.LinkSetUp(link(t, name)); err != nil {
		t.Fatalf("set %s up: %v", name, err)
	}
}

// Delete removes an interface, and its peer with it.
func Delete(t testing.TB, name string) {
	t.Helper()
	if err := netlink.LinkDel(link(t, name)); err != nil {
		t.Fatalf("delete %s: %v", name, err)
	}
}

// Down takes an interface down; Up brings it up.
func Down(t testing.TB, name string) {
	t.Helper()
	if err := netlink.LinkSetDown(link(t, name)); err != nil {
		t.Fatalf("set %s down: %v", name, err)
	}
}

// Up brings an interface up.
func Up(t testing.TB, name string) { t.Helper(); up(t, name) }

// GSOMaxSize lets the interface's stack make packets of up to n bytes before they are cut, for BIG
// TCP.
func GSOMaxSize(t testing.TB, name string, n int) {
	t.Helper()
	l := link(t, name)
	if err := netlink.LinkSetGSOMaxSize(l, n); err != nil {
		t.Fatalf("set GSO size of %s to %d: %v", name, n, err)
	}
	if err := netlink.LinkSetGROMaxSize(l, n); err != nil {
		t.Fatalf("set GRO size of %s to %d: %v", name, n, err)
	}
}

// DropCapabilities takes all capabilities from the calling goroutine's thread, which Enter has
// locked to it, for good.
func DropCapabilities(t testing.TB) {
	t.Helper()
	if err := sys.DropThreadCapabilities(); err != nil {
		t.Fatal(err)
	}
}
