package socket

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"

	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/core/session"
	"tcpcopy/internal/sys"
)

// namespaceVar is set in the test's own process when it runs again inside a network namespace.
const namespaceVar = "TCPCOPY_SOCKET_TEST_NAMESPACE"

// inNamespace prepares the namespace, when this process is the one that was started in it.
func inNamespace(m *testing.M) bool {
	if os.Getenv(namespaceVar) == "" {
		return false
	}
	lo, err := netlink.LinkByName("lo")
	if err == nil {
		err = netlink.LinkSetUp(lo)
	}
	if err != nil {
		panic(err)
	}
	os.Exit(m.Run())
	return true
}

// enterNamespace runs the calling test again, alone, in a network namespace that is gone
// afterwards. It reports whether this is that run.
func enterNamespace(t *testing.T) bool {
	t.Helper()
	if os.Getenv(namespaceVar) != "" {
		return true
	}
	cmd := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), namespaceVar+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET,
		Pdeathsig: syscall.SIGKILL}
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(),
			Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(),
			Size: 1}}
	}
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Skipf("no network namespace: %v", err)
	}
	if err != nil {
		t.Fatalf("in the namespace: %v\n%s", err, out)
	}
	t.Logf("in the namespace:\n%s", out)
	return false
}

func sysctl(t *testing.T, path, value string) {
	t.Helper()
	if err := os.WriteFile("/proc/sys/"+path, []byte(value), 0); err != nil {
		t.Fatal(err)
	}
}

// TestOneLocalPort leaves the kernel one port to connect from, so that what is rare elsewhere
// happens at once.
func TestOneLocalPort(t *testing.T) {
	if !enterNamespace(t) {
		return
	}
	target := serve(t, "127.0.0.1", echo)
	sysctl(t, "net/ipv4/ip_local_port_range", "44000 44000")

	p := play(t, Config{})
	self := p.open(1, netip.MustParseAddrPort("127.0.0.1:44000"), pattern(5), 0)
	self.release(5)
	if ev := self.last(); ev.Kind != session.Failed || ev.Reason != ledger.TargetRefused ||
		len(self.all()) != 1 {
		t.Errorf("connected to itself: events %+v, wanted target_refused", self.all())
	}

	p.open(2, target, nil, 0).wait(session.Opened)
	second := p.open(3, target, nil, 0)
	if ev := second.last(); ev.Kind != session.Failed || ev.Reason != ledger.NoSourceAddress {
		t.Errorf("ended with %v %v, wanted failed no_source_address", kindName(ev.Kind), ev.Reason)
	}

	// With a pool there is one port for each address, and a full address is passed over.
	q := play(t, Config{Bind: []netip.Addr{
		netip.MustParseAddr("127.0.0.2"), netip.MustParseAddr("127.0.0.3"), netip.MustParseAddr(
			"127.0.0.4"),
	}})
	for id := range session.ID(3) {
		q.open(id, target, nil, 0).wait(session.Opened)
	}
	if ev := q.open(4, target, nil, 0).last(); ev.Reason != ledger.NoSourceAddress {
		t.Errorf("ended with %v %v, wanted failed no_source_address", kindName(ev.Kind), ev.Reason)
	}
}

// A pool of addresses has as many connections to one target as they have ports together: what one
// address has, 28,232, is 100 here.
func TestPoolOfPorts(t *testing.T) {
	if !enterNamespace(t) {
		return
	}
	const ports, addrs = 100, 40
	sysctl(t, "net/ipv4/ip_local_port_range", "30000 30999") // where the server gets its port
	target := serve(t, "127.0.0.1", echo)
	sysctl(t, "net/ipv4/ip_local_port_range", "44000 44099")
	var pool []netip.Addr
	for i := range addrs {
		pool = append(pool, netip.AddrFrom4([4]byte{127, 0, 1, byte(i + 1)}))
	}
	p := play(t, Config{Bind: pool})
	var all []*played
	for id := range session.ID(ports * addrs) {
		all = append(all, p.open(id, target, nil, 0))
	}
	for _, c := range all {
		c.wait(session.Opened)
	}
	for id := range session.ID(10) {
		if ev := p.open(100000+id, target, nil, 0).last(); ev.Reason != ledger.NoSourceAddress {
			t.Fatalf("ended with %v %v, wanted failed no_source_address", kindName(ev.Kind),
				ev.Reason)
		}
	}
}

// The kernel finds a port in few looks, however many are taken: it is given one window after the
// other.
func TestPortsInWindows(t *testing.T) {
	if !enterNamespace(t) {
		return
	}
	const low, windows = 44000, 4
	seen := make(chan int, 1)
	sysctl(t, "net/ipv4/ip_local_port_range", "30000 30999") // where the server gets its port
	target := serve(t, "127.0.0.1", func(c *net.TCPConn) {
		seen <- int(c.RemoteAddr().(*net.TCPAddr).AddrPort().Port())
		echo(c)
	})
	sysctl(t, "net/ipv4/ip_local_port_range", "44000 44255")
	p := play(t, Config{})
	var order []int
	for id := range session.ID(windows * windowSize) {
		p.open(id, target, nil, 0).wait(session.Opened)
		order = append(order, (<-seen-low)/windowSize)
	}
	fd, err := sys.OpenTCP(false)
	if err != nil {
		t.Fatal(err)
	}
	defer sys.ResetTCP(fd)
	// before 6.3: all are found, in whichever order
	old := errors.Is(sys.SetPortRange(fd, low, low+windowSize-1), syscall.ENOPROTOOPT)
	for i, w := range order {
		if old {
			break
		}
		if want := (order[0] + i/windowSize) % windows; w != want {
			t.Fatalf("connection %d has a port of window %d, wanted %d", i, w, want)
		}
	}
	if ev := p.open(1000, target, nil, 0).last(); ev.Reason != ledger.NoSourceAddress {
		t.Errorf("ended with %v %v, wanted failed no_source_address", kindName(ev.Kind), ev.Reason)
	}
}

func TestUnansweredSYN(t *testing.T) {
	if !enterNamespace(t) {
		return
	}
	// Packets to this network come back from lo and belong to nobody.
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	_, dst, err := net.ParseCIDR("10.99.0.0/16")
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.RouteAdd(&netlink.Route{LinkIndex: lo.Attrs().Index, Dst: dst}); err != nil {
		t.Fatal(err)
	}
	p := play(t, Config{ConnectTimeout: 30_000_000})
	var all []*played
	for id := range session.ID(200) {
		all = append(all, p.open(id, netip.MustParseAddrPort("10.99.0.1:80"), nil, 0))
	}
	for i, c := range all {
		if i%3 == 0 {
			c.abort()
		}
	}
	for i, c := range all {
		if i%3 == 0 {
			continue
		}
		if ev := c.last(); ev.Kind != session.Failed || ev.Reason != ledger.ConnectTimeout {
			t.Errorf("session %d ended with %v %v, wanted failed connect_timeout", i,
				kindName(ev.Kind), ev.Reason)
		}
	}
	unreachable := p.open(1000, netip.MustParseAddrPort("203.0.113.1:80"), nil, 0)
	if ev := unreachable.last(); ev.Reason != ledger.ConnectTimeout {
		t.Errorf("no route: ended with %v %v, wanted failed connect_timeout", kindName(ev.Kind),
			ev.Reason)
	}
}

func TestMarkNeedsCapability(t *testing.T) {
	if os.Geteuid() != 0 {
		if _, err := New(Config{Now: now, Mark: 1}); err == nil {
			t.Skip("this user may set marks: there is no refusal to see")
		}
	}
	type result struct {
		out *Output
		err error
	}
	got := make(chan result)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends without its rights
		if os.Geteuid() == 0 {
			const nobody = 65534
			if _, _, errno := syscall.RawSyscall(syscall.SYS_SETRESUID, nobody, nobody,
				nobody); errno != 0 {
				got <- result{err: errno}
				return
			}
		}
		out, err := New(Config{Now: now, Mark: 0x7c})
		got <- result{out, err}
	}()
	r := <-got
	if r.out != nil {
		r.out.Close()
		t.Fatal("a mark was set without a capability")
	}
	const want = "socket output: set SO_MARK 0x7c: operation not permitted " +
		"(needs CAP_NET_ADMIN, or since Linux 5.17 CAP_NET_RAW)"
	if r.err.Error() != want || !errors.Is(r.err, os.ErrPermission) {
		t.Errorf("error %q, wanted %q", r.err, want)
	}
}

func TestMark(t *testing.T) {
	if !enterNamespace(t) {
		return
	}
	// Only marked packets find the way.
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	_, dst, err := net.ParseCIDR("10.98.0.0/16")
	if err != nil {
		t.Fatal(err)
	}
	const table, mark = 77, 0x5a
	if err := netlink.RouteAdd(&netlink.Route{LinkIndex: lo.Attrs().Index, Dst: dst,
		Table: table}); err != nil {
		t.Fatal(err)
	}
	rule := netlink.NewRule()
	rule.Mark, rule.Table, rule.Family = mark, table, netlink.FAMILY_V4
	if err := netlink.RuleAdd(rule); err != nil {
		t.Fatal(err)
	}
	to := netip.MustParseAddrPort("10.98.0.1:80")
	for _, tc := range []struct {
		name string
		mark uint32
		want bool // a SYN goes out
	}{{"with the mark", mark, true}, {"without", 0, false}} {
		t.Run(tc.name, func(t *testing.T) {
			p := play(t, Config{Mark: tc.mark, ConnectTimeout: 50_000_000})
			c := p.open(1, to, nil, 0)
			begun := now()
			ev := c.last()
			if waited := ev.At.Sub(begun) > 25_000_000; waited != tc.want {
				t.Errorf("ended with %+v after %v", ev, ev.At.Sub(begun))
			}
		})
	}
}
