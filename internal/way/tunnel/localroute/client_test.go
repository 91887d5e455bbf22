package localroute

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"tcpcopy/internal/test/testnet"
)

// TestWhoMayBeAClient: addresses that mean this host, or more than one, are no clients'.
func TestWhoMayBeAClient(t *testing.T) {
	testnet.Enter(t)
	testnet.Address(t, "lo", "10.77.2.2/24")
	testnet.Address(t, "lo", "fd77:2::2/64")
	bridges(t)
	routed(t)
	h, err := Stand(Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Leave()
	for a, want := range map[string][2]bool{ // client, own
		"203.0.113.9":        {true, false},
		"10.77.2.7":          {true, false}, // on the same network
		"::ffff:203.0.113.9": {true, false},
		"10.77.2.2":          {false, true},
		"::ffff:10.77.2.2":   {false, true},
		"10.77.2.255":        {false, false},
		"172.17.0.1":         {false, true},  // the containers' bridge
		"172.17.0.9":         {false, false}, // a container
		"::ffff:172.17.0.9":  {false, false},
		"::ffff:10.77.2.255": {false, false},
		"10.88.0.5":          {false, false}, // a container without a bridge
		"fd88::5":            {false, false},
		"10.88.0.6":          {true, false},
		"10.88.0.1":          {true, false}, // a gateway
		"127.0.0.1":          {false, true},
		"127.9.9.9":          {false, true},
		"::ffff:127.0.0.1":   {false, true},
		"0.0.0.0":            {false, false},
		"0.1.2.3":            {false, false},
		"::ffff:0.0.0.0":     {false, false},
		"255.255.255.255":    {false, false},
		"224.0.0.1":          {false, false},
		"fd00::9":            {true, false},
		"fd77:2::2":          {false, true},
		"::1":                {false, true},
		"::":                 {false, false},
		"fe80::1":            {false, false},
		"fe80::1%lo":         {false, false},
		"ff02::1":            {false, false},
		"fd77:2::2%lo":       {false, true},
		"::1%lo":             {false, true},
	} {
		addr := netip.MustParseAddr(a)
		if got := [2]bool{h.Client(addr), h.Owns(addr)}; got != want {
			t.Errorf("%s: client %v, own %v, want %v, %v", a, got[0], got[1], want[0], want[1])
		}
	}
	if (*Host).Client(h, netip.Addr{}) || h.Owns(netip.Addr{}) {
		t.Error("no address is one")
	}
}

// bridges adds a bridge of containers.
func bridges(t *testing.T) {
	t.Helper()
	bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "docker0"}}
	port := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "vethc"}, PeerName: "inside"}
	for _, l := range []netlink.Link{bridge, port} {
		if err := netlink.LinkAdd(l); err != nil {
			t.Fatalf("add %s: %v", l.Attrs().Name, err)
		}
	}
	if err := netlink.LinkSetMaster(port, bridge); err != nil {
		t.Fatal(err)
	}
	testnet.Address(t, "docker0", "172.17.0.1/16")
}

// routed adds containers without a bridge, each with a route of its own, and a gateway that has
// such a route too.
func routed(t *testing.T) {
	t.Helper()
	link := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "cali1"}, PeerName: "pod"}
	if err := netlink.LinkAdd(link); err != nil {
		t.Fatal(err)
	}
	for _, l := range []string{"cali1", "pod"} {
		testnet.Up(t, l)
	}
	for _, dst := range []string{"10.88.0.5/32", "fd88::5/128", "10.88.0.1/32"} {
		to, err := netlink.ParseIPNet(dst)
		if err != nil {
			t.Fatal(err)
		}
		r := netlink.Route{LinkIndex: link.Attrs().Index, Dst: to, Scope: netlink.SCOPE_LINK}
		if err := netlink.RouteAdd(&r); err != nil {
			t.Fatalf("route to %s: %v", dst, err)
		}
	}
	to, _ := netlink.ParseIPNet("10.99.0.0/16")
	r := netlink.Route{LinkIndex: link.Attrs().Index, Dst: to, Gw: net.IP{10, 88, 0, 1}}
	if err := netlink.RouteAdd(&r); err != nil {
		t.Fatal(err)
	}
}

// TestBridgesOfContainers: a bridge with a port that leads out of the host is none.
func TestBridgesOfContainers(t *testing.T) {
	at := func(name string, index, master int) netlink.LinkAttrs {
		return netlink.LinkAttrs{Name: name, Index: index, MasterIndex: master}
	}
	var names []string
	for _, l := range inner([]netlink.Link{
		&netlink.Device{LinkAttrs: at("eth0", 2, 0)},
		&netlink.Bridge{LinkAttrs: at("docker0", 3, 0)},
		&netlink.Veth{LinkAttrs: at("veth1", 4, 3)},
		&netlink.Tuntap{LinkAttrs: at("tap1", 5, 3)},
		&netlink.Bridge{LinkAttrs: at("br0", 6, 0)},
		&netlink.Device{LinkAttrs: at("eth1", 7, 6)},
		&netlink.Veth{LinkAttrs: at("veth2", 8, 6)},
		&netlink.Bridge{LinkAttrs: at("empty0", 9, 0)},
		&netlink.Veth{LinkAttrs: at("eth2", 10, 0)},
	}) {
		names = append(names, l.Attrs().Name)
	}
	if !slices.Equal(names, []string{"docker0", "empty0"}) {
		t.Errorf("bridges of containers: %q", names)
	}
}

// TestServersOnLoopbackAlone: they are reached only by those who named them so, and nothing of the
// host changes for the others.
func TestServersOnLoopbackAlone(t *testing.T) {
	for _, allowed := range []bool{false, true} {
		host(t)
		server(t, "tcp4", "127.0.0.1:8080")
		server(t, "tcp6", "[::1]:8080")
		server(t, "tcp4", ":8081")
		cfg := Config{Dir: t.TempDir(), Ports: []uint16{8080, 8081}}
		if allowed {
			cfg.Loopback = []uint16{8080}
		}
		h, err := Stand(cfg)
		if err != nil {
			t.Fatal(err)
		}
		plan := h.Plan()
		for target, want := range map[string]bool{
			"10.77.2.2:8080": allowed, "127.0.0.1:8080": allowed, "[fd77:2::2]:8080": allowed,
			"[::1]:8080": allowed, "10.77.2.2:8081": true, "127.0.0.1:8081": false,
			"127.0.0.1:9": false,
		} {
			_, _, err := h.Way(netip.MustParseAddrPort(target))
			if (err == nil) != want || err != nil && !errors.Is(err, ErrPrivate) {
				t.Errorf("loopback allowed %v: %s: %v", allowed, target, err)
			}
		}
		if now := h.Plan(); !allowed && len(now.Changes) != len(plan.Changes) {
			t.Errorf("the host was changed:\n%s\nbefore\n%s", now.String(), plan.String())
		}
		if err := h.Leave(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestRunsOfTwoUsers: a second intercept on a target does not start, wherever its user has the
// journals, and touches nothing.
func TestRunsOfTwoUsers(t *testing.T) {
	host(t)
	h, err := Stand(Config{Ports: []uint16{8080}, Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	with := state(t)
	other := Config{Ports: []uint16{8080}, Dir: t.TempDir()}
	for _, f := range []func() error{
		func() error { _, err := Stand(other); return err },
		func() error { _, err := Cleanup(other); return err },
	} {
		if err := f(); !errors.Is(err, ErrBusy) || !strings.Contains(err.Error(),
			fmt.Sprintf("process %d of user %d", os.Getpid(), os.Getuid())) {
			t.Errorf("error %v, want that another one runs, and which", err)
		}
	}
	if now := state(t); now != with {
		t.Errorf("now\n%s\nbefore\n%s", now, with)
	}
	if err := h.Leave(); err != nil {
		t.Fatal(err)
	}
	second, err := Stand(other)
	if err != nil {
		t.Fatal("after the first has left:", err)
	}
	if err := second.Leave(); err != nil {
		t.Fatal(err)
	}
}

// TestCleanupOfAllUsers: the changes of a killed run whose user has the journals elsewhere are
// undone by a cleanup that has them in the usual place.
func TestCleanupOfAllUsers(t *testing.T) {
	host(t)
	before := state(t)
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	dir := filepath.Join(tmp, "tcpcopy-4711")
	h, err := Stand(Config{Ports: []uint16{8080}, Dir: dir, Reach: MarkOnly})
	if err != nil {
		t.Fatal(err)
	}
	h.journal.lock.Close() // it goes with the process; the rest stays
	inode, err := namespaceInode()
	if err != nil {
		t.Fatal(err)
	}
	// Another user's nonsense is in nobody's way.
	bad := filepath.Join(tmp, "tcpcopy-4712")
	if err := os.Mkdir(bad, 0o755); err != nil {
		t.Fatal(err)
	}
	nonsense := filepath.Join(bad, fmt.Sprintf("target-%d", inode))
	if err := os.WriteFile(nonsense, []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	elsewhere := filepath.Join(dir, "target-4026538888")
	if err := os.WriteFile(elsewhere, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if all, err := Elsewhere(Config{}); err != nil || !slices.Contains(all, elsewhere) {
		t.Errorf("journals of other namespaces: %q, %v", all, err)
	}
	done, err := Cleanup(Config{})
	if err != nil || len(done) == 0 {
		t.Fatalf("cleanup: %q, %v", done, err)
	}
	if after := state(t); after != before {
		t.Errorf("after\n%s\nbefore\n%s", after, before)
	}
	if done, err := Cleanup(Config{}); err != nil || len(done) != 0 {
		t.Errorf("second cleanup: %q, %v", done, err)
	}
}
