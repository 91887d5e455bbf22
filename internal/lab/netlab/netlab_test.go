package netlab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// userNamespaceProbe makes the test binary stand in for a program that was started without
// privileges.
const userNamespaceProbe = "NETLAB_TEST_PROBE"

func TestMain(m *testing.M) {
	if os.Getenv(userNamespaceProbe) != "" {
		os.Exit(probe())
	}
	os.Exit(m.Run())
}

func probe() int {
	err := Permitted()
	var denied *PermissionError
	if errors.As(err, &denied) {
		code, err := EnterUserNamespace()
		if err != nil {
			fmt.Println("cannot enter:", err)
			return 90
		}
		return code
	}
	if err != nil {
		fmt.Println(err)
		return 91
	}
	n, err := New(Config{})
	if err != nil {
		fmt.Println(err)
		return 92
	}
	defer n.Close()
	if err := exchange(n.Client, n.Production, ProductionAddr4); err != nil {
		fmt.Println(err)
		return 93
	}
	return 42
}

// lab makes a net for the test, or skips where the permission is verified absent.
func lab(t testing.TB, config Config) *Net {
	t.Helper()
	n, err := New(config)
	if denied := (*PermissionError)(nil); errors.As(err, &denied) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	return n
}

// exchange sends a line from one host to another and back.
func exchange(from, to *Namespace, addr netip.Addr) error {
	return exchangeFrom(from, netip.Addr{}, to, addr, []byte("over the wire and back"))
}

func exchangeFrom(from *Namespace, source netip.Addr, to *Namespace, addr netip.Addr,
	data []byte) error {
	l, err := to.Listen("tcp", netip.AddrPortFrom(addr, 7).String())
	if err != nil {
		return err
	}
	defer l.Close()
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		io.Copy(c, c)
	}()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	d := &net.Dialer{}
	if source.IsValid() {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(source, 0))
	}
	c, err := from.Dial(ctx, d, "tcp", l.Addr().String())
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	go c.Write(data)
	got := make([]byte, len(data))
	if _, err := io.ReadFull(c, got); err != nil {
		return err
	}
	if string(got) != string(data) {
		return errors.New("the echo differs")
	}
	return nil
}

func TestHostsReachEachOther(t *testing.T) {
	n := lab(t, Config{Clients: MaxClients})
	for _, test := range []struct {
		name     string
		from, to *Namespace
		source   netip.Addr
		addr     netip.Addr
	}{
		{"client to production", n.Client, n.Production, netip.Addr{}, ProductionAddr4},
		{"client to production, IPv6", n.Client, n.Production, netip.Addr{}, ProductionAddr6},
		{"last client address", n.Client, n.Production, ClientAddr(MaxClients-1, false),
			ProductionAddr4},
		{"last client address, IPv6", n.Client, n.Production, ClientAddr(MaxClients-1, true),
			ProductionAddr6},
		{"production to target", n.Production, n.Target, netip.Addr{}, TargetAddr4},
		{"production to target, IPv6", n.Production, n.Target, netip.Addr{}, TargetAddr6},
		{"production to assistant", n.Production, n.Assistant, netip.Addr{}, AssistantAddr4},
		{"production to assistant, IPv6", n.Production, n.Assistant, netip.Addr{}, AssistantAddr6},
		{"target to assistant", n.Target, n.Assistant, netip.Addr{}, AssistantAddr4},
	} {
		t.Run(test.name, func(t *testing.T) {
			if err := exchangeFrom(test.from, test.source, test.to, test.addr,
				[]byte("hello")); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestMoreHosts(t *testing.T) {
	n := lab(t, Config{Productions: MaxHosts, Targets: MaxHosts, ViaAssistant: true, Crowd: true})
	last := MaxHosts - 1
	for _, test := range []struct {
		name     string
		from, to *Namespace
		source   netip.Addr
		addr     netip.Addr
	}{
		{"client to the last production host", n.Client, n.Productions[last], netip.Addr{},
			ProductionAddr(last, false)},
		{"the same, IPv6", n.Client, n.Productions[last], ClientAddr(3, true),
			ProductionAddr(last, true)},
		{"the last production host to the last target", n.Productions[last], n.Targets[last],
			netip.Addr{}, TargetAddr(last, false)},
		{"the same, IPv6", n.Productions[last], n.Targets[last], netip.Addr{},
			TargetAddr(last, true)},
		{"one of the crowd", n.Client, n.Production, CrowdAddr(0), ProductionAddr4},
		{"the last of the crowd to the last production host", n.Client, n.Productions[last],
			CrowdAddr(65535), ProductionAddr(last, false)},
	} {
		t.Run(test.name, func(t *testing.T) {
			if err := exchangeFrom(test.from, test.source, test.to, test.addr,
				[]byte("hello")); err != nil {
				t.Fatal(err)
			}
		})
	}
	for _, target := range n.Targets {
		for _, client := range []netip.Addr{ClientAddr(0, false), ClientAddr(0, true),
			CrowdAddr(777)} {
			err := target.Try(func() error {
				routes, err := netlink.RouteGet(client.AsSlice())
				if err == nil && !routes[0].Gw.Equal(AssistantAddr4.AsSlice()) &&
					!routes[0].Gw.Equal(AssistantAddr6.AsSlice()) {
					err = fmt.Errorf("via %s", routes[0].Gw)
				}
				return err
			})
			if err != nil {
				t.Errorf("the way of %s to %s: %v", target.Name, client, err)
			}
		}
	}
}

func TestRouteToTheClients(t *testing.T) {
	for _, via := range []bool{false, true} {
		n := lab(t, Config{ViaAssistant: via})
		for _, ipv6 := range []bool{false, true} {
			err := n.Target.Try(func() error {
				routes, err := netlink.RouteGet(ClientAddr(0, ipv6).AsSlice())
				if !via {
					if err == nil {
						return fmt.Errorf("the target knows a route to the clients: %v", routes)
					}
					return nil
				}
				if err != nil {
					return err
				}
				want := AssistantAddr4
				if ipv6 {
					want = AssistantAddr6
				}
				if got := routes[0].Gw.String(); got != want.String() {
					return fmt.Errorf("the target's way to the clients is %s, wanted %s", got, want)
				}
				return nil
			})
			if err != nil {
				t.Errorf("ViaAssistant %v, IPv6 %v: %v", via, ipv6, err)
			}
		}
	}
}

func TestNobodyForwards(t *testing.T) {
	n := lab(t, Config{ViaAssistant: true})
	for _, ns := range n.Namespaces() {
		if ns == n.lan {
			continue
		}
		for _, name := range []string{"/proc/sys/net/ipv4/ip_forward",
			"/proc/sys/net/ipv6/conf/all/forwarding"} {
			var value []byte
			if err := ns.Try(func() (err error) {
				value,
					err = os.ReadFile(name)
				return err
			}); err != nil {
				t.Fatal(err)
			}
			if strings.TrimSpace(string(value)) != "0" {
				t.Errorf("%s: %s is %q, wanted 0", ns.Name, name, value)
			}
		}
	}
}

func TestCommandRunsInside(t *testing.T) {
	n := lab(t, Config{})
	var want string
	if err := n.Target.Try(func() (err error) {
		want,
			err = os.Readlink("/proc/thread-self/ns/net")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	out, err := n.Target.Command(t.Context(), "readlink", "/proc/self/ns/net").Output()
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.TrimSpace(string(out)); got != want {
		t.Errorf("the command stands in %s, wanted %s", got, want)
	}
	here, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	if here == want {
		t.Error("this process itself has moved into the namespace")
	}
}

func TestCloseEndsCommands(t *testing.T) {
	n := lab(t, Config{})
	c := n.Client.Command(context.Background(), "sleep", "1000")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	var exit *exec.ExitError
	if err := c.Wait(); !errors.As(err, &exit) ||
		exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Errorf("the command ended with %v, wanted it killed", err)
	}
	if err := n.Client.Do(func() {}); err == nil {
		t.Error("Do after Close succeeded")
	}
	if err := n.Client.Command(context.Background(), "true").Start(); err == nil {
		t.Error("Start after Close succeeded")
	}
	if err := n.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
}

func TestCloseLeavesNothing(t *testing.T) {
	threadsGone(t, 1) // those of earlier tests
	before := devices(t)
	threads := threadNamespaces(t)
	n := lab(t, Config{})
	inside := threadNamespaces(t)
	if len(inside) <= len(threads) {
		t.Fatalf("the threads stand in %d namespaces with the net up, wanted more than %d",
			len(inside), len(threads))
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	threadsGone(t, len(threads))
	if after := devices(t); after != before {
		t.Errorf("devices of the host: %s, before %s", after, before)
	}
}

func devices(t *testing.T) string {
	links, err := netlink.LinkList()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, l := range links {
		names = append(names, l.Attrs().Name)
	}
	return strings.Join(names, " ")
}

// threadNamespaces lists the network namespaces in which threads of this process stand.
func threadNamespaces(t *testing.T) map[string]bool {
	tasks, err := filepath.Glob("/proc/self/task/*/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, task := range tasks {
		if ns, err := os.Readlink(task); err == nil { // else the thread has just ended
			found[ns] = true
		}
	}
	return found
}

func TestOffloadsAndMTU(t *testing.T) {
	data := make([]byte, 200_000)
	for i := range data {
		data[i] = byte(i * 7)
	}
	for _, config := range []Config{{}, {NoOffloads: true}, {MTU: 9000},
		{MTU: 1280, NoOffloads: true}} {
		t.Run(fmt.Sprintf("MTU %d, offloads off %v", config.MTU, config.NoOffloads),
			func(t *testing.T) {
				n := lab(t, config)
				for _, addr := range []netip.Addr{ProductionAddr4, ProductionAddr6} {
					if err := exchangeFrom(n.Client, netip.Addr{}, n.Production, addr,
						data); err != nil {
						t.Error(err)
					}
				}
				err := n.Production.Try(func() error {
					l, err := netlink.LinkByName(ProductionTestDevice)
					if err != nil {
						return err
					}
					if want := max(config.MTU, 1280); config.MTU != 0 && l.Attrs().MTU != want {
						return fmt.Errorf("MTU %d, wanted %d", l.Attrs().MTU, want)
					}
					return nil
				})
				if err != nil {
					t.Error(err)
				}
			})
	}
}

func TestOffloadsAreOff(t *testing.T) {
	if _, err := exec.LookPath("ethtool"); err != nil {
		t.Skip("ethtool, the independent witness, is not installed")
	}
	n := lab(t, Config{NoOffloads: true})
	out, err := n.Production.Command(t.Context(), "ethtool", "-k", ProductionTestDevice).Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, feature := range []string{"tx-checksumming", "tx-tcp-segmentation",
		"tx-tcp6-segmentation", "generic-segmentation-offload", "generic-receive-offload"} {
		if !strings.Contains(string(out), feature+": off") {
			t.Errorf("%s is not off:\n%s", feature, out)
		}
	}
}

func TestLoss(t *testing.T) {
	for _, test := range []struct {
		name     string
		loss     Loss
		from, to func(*Net) *Namespace
		addr     netip.Addr
	}{
		{"to target", Loss{ToTarget: 10}, productionHost, targetHost, TargetAddr4},
		{"from target", Loss{FromTarget: 10}, productionHost, targetHost, TargetAddr6},
		{"to production", Loss{ToProduction: 10}, clientHost, productionHost, ProductionAddr4},
		{"from production", Loss{FromProduction: 10}, clientHost, productionHost, ProductionAddr6},
	} {
		t.Run(test.name, func(t *testing.T) {
			n := lab(t, Config{NoOffloads: true})
			if lost, err := n.Lost(); err != nil || lost != 0 {
				t.Fatalf("lost %d (%v) before any loss, wanted 0", lost, err)
			}
			if err := n.SetLoss(test.loss); err != nil {
				t.Fatal(err)
			}
			if err := exchangeFrom(test.from(n), netip.Addr{}, test.to(n), test.addr,
				make([]byte, 300_000)); err != nil {
				t.Fatal(err)
			}
			lost, err := n.Lost()
			if err != nil {
				t.Fatal(err)
			}
			// 300 kB are at least 200 segments one way, and some tens of ACKs the other.
			if lost < 2 || lost > 150 {
				t.Errorf("lost %d packets at 10 %%", lost)
			}
		})
	}
}

func clientHost(n *Net) *Namespace     { return n.Client }
func productionHost(n *Net) *Namespace { return n.Production }
func targetHost(n *Net) *Namespace     { return n.Target }

func TestRefusedConfigs(t *testing.T) {
	for _, test := range []struct {
		config Config
		want   string
	}{
		{Config{Clients: 201}, "make lab net: 201 client addresses, wanted 1 to 200"},
		{Config{Productions: MaxHosts + 1},
			"make lab net: 9 production hosts or targets, wanted 1 to 8"},
		{Config{MTU: 600}, "make lab net: MTU 600, wanted 1280 to 65535"},
		{Config{Loss: Loss{ToTarget: 101}}, "set loss: 101 %, wanted 0 to 100"},
	} {
		if _, err := New(test.config); err == nil || err.Error() != test.want {
			t.Errorf("New(%+v): %v, wanted %q", test.config, err, test.want)
		}
	}
}

func TestFailureInTheMiddleLeavesNothing(t *testing.T) {
	threads := threadNamespaces(t)
	n := lab(t, Config{})
	// A second net's first port is already there: the cable to it cannot be made.
	half := &Net{Client: n.Client, Productions: n.Productions, Targets: n.Targets,
		Assistant: n.Assistant, lan: n.lan, config: n.config}
	if err := half.build(); err == nil {
		t.Fatal("built the same net twice")
	}
	if err := half.Close(); err != nil {
		t.Fatal(err)
	}
	threadsGone(t, len(threads))
}

// threadsGone waits until the threads stand in no more than n namespaces: they end after Close has
// told them to.
func threadsGone(t *testing.T, n int) {
	t.Helper()
	look := time.NewTicker(time.Millisecond)
	defer look.Stop()
	for deadline := time.Now().Add(10 * time.Second); len(threadNamespaces(t)) > n; <-look.C {
		if time.Now().After(deadline) {
			t.Fatalf("threads still stand in %v, wanted %d namespaces", threadNamespaces(t), n)
		}
	}
}

// TestWithoutRoot runs this test binary as nobody.
func TestWithoutRoot(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("not root: the other tests show it")
	}
	// The binary must be readable by nobody, and go test's directory is not.
	dir, err := os.MkdirTemp("/tmp", "netlab")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(dir, "probe")
	if err := os.WriteFile(binary, self, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary)
	cmd.Env = []string{userNamespaceProbe + "=1"}
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, _ := cmd.CombinedOutput()
	switch code := cmd.ProcessState.ExitCode(); code {
	case 42:
	case 90:
		if !strings.Contains(string(out), "missing CAP_SYS_ADMIN") {
			t.Errorf("refused without naming the permission: %s", out)
		}
		t.Skipf("user namespaces are forbidden: %s", out)
	default:
		t.Errorf("exit code %d, wanted 42: %s", code, out)
	}
}

func TestDoStandsInside(t *testing.T) {
	n := lab(t, Config{})
	here, err := netns.Get()
	if err != nil {
		t.Fatal(err)
	}
	defer here.Close()
	for range 3 * maxIdle {
		go n.Client.Do(func() {})
	}
	var inside netns.NsHandle
	if err := n.Client.Try(func() (err error) {
		inside,
			err = netns.Get()
		return err
	}); err != nil {
		t.Fatal(err)
	}
	defer inside.Close()
	if !inside.Equal(n.Client.handle) || inside.Equal(here) {
		t.Errorf("Do stood in %s, wanted %s", inside.UniqueId(), n.Client.handle.UniqueId())
	}
}
