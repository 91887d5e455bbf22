package localroute

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"tcpcopy/internal/sys"
	"tcpcopy/internal/test/testnet"
)

// state is everything that a Host could have changed, as the kernel lists it.
func state(t *testing.T) string {
	t.Helper()
	k, err := openKernel()
	if err != nil {
		t.Fatal(err)
	}
	defer k.close()
	var b strings.Builder
	for _, family := range []byte{syscall.AF_INET, syscall.AF_INET6} {
		for _, kind := range []uint16{getRule, getRoute} {
			all, err := k.dump(netlinkType(kind), family)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range all {
				if kind == getRoute && family == syscall.AF_INET6 {
					m.Data = withoutCacheInfo(m.Data)
				}
				b.WriteString(string(m.Data) + "\n")
			}
		}
	}
	for _, name := range []string{tcpAccept, reflect4, reflect6, "net.ipv4.ip_forward",
		"net.ipv4.conf.all.rp_filter", "net.ipv4.conf.lo.route_localnet"} {
		v, err := readSysctl(name)
		if err != nil {
			t.Fatal(err)
		}
		b.WriteString(name + "=" + v + "\n")
	}
	for _, args := range [][]string{{"nft", "list", "ruleset"}, {"ip", "rule"},
		{"ip", "-6", "rule"}, {"ip", "route", "show", "table", "all"}, {"ip", "-6", "route", "show",
			"table", "all"}} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err == nil {
			b.WriteString(string(out))
		}
	}
	return b.String()
}

func host(t *testing.T) {
	t.Helper()
	testnet.Enter(t)
	// On lo, where nothing changes by itself between two looks.
	testnet.Address(t, "lo", "10.77.2.2/32")
	testnet.Address(t, "lo", "fd77:2::2/128")
	settled(t, netip.MustParseAddr("fd77:2::2"))
}

// settled waits for the route that makes an IPv6 address local: the kernel adds it a little later.
func settled(t *testing.T, a netip.Addr) {
	t.Helper()
	k, err := openKernel()
	if err != nil {
		t.Fatal(err)
	}
	defer k.close()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); <-tick.C {
		all, err := k.dump(getRoute, syscall.AF_INET6)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range all {
			if m.Data[7] == rtnLocal && strings.Contains(string(m.Data), string(a.AsSlice())) {
				return
			}
		}
	}
	t.Fatalf("no local route of %s", a)
}

func server(t *testing.T, network, address string) net.Listener {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func TestStandAndLeave(t *testing.T) {
	for _, tc := range []struct {
		name   string
		listen []string
		cfg    Config
		marked bool
	}{
		{"server on all addresses", []string{":8080"}, Config{Ports: []uint16{8080}}, false},
		{"any port", []string{":8080"}, Config{}, false},
		{"many ports", []string{":8080"}, Config{Ports: []uint16{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11,
			12, 13, 14, 15, 16, 17, 8080}}, false},
		{"server on one address", []string{"10.77.2.2:8080"}, Config{Ports: []uint16{8080}}, true},
		{"two servers", []string{"10.77.2.2:8080", "127.0.0.1:8080"}, Config{Ports: []uint16{8080}},
			true},
		{"no server yet", nil, Config{Ports: []uint16{8080}}, false},
		{"mark wanted", []string{":8080"}, Config{Ports: []uint16{8080}, Reach: MarkOnly}, true},
		{"mark not wanted", []string{"10.77.2.2:8080"},
			Config{Ports: []uint16{8080}, Reach: LoopbackOnly}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			host(t)
			for _, a := range tc.listen {
				server(t, "tcp", a)
			}
			tc.cfg.Dir = t.TempDir()
			before := state(t)
			draft, err := Draft(tc.cfg)
			if err != nil {
				t.Fatal(err)
			}
			h, err := Stand(tc.cfg)
			if err != nil {
				t.Fatal(err)
			}
			if p := h.Plan(); p.String() != draft.String() || p.Marked != tc.marked {
				t.Errorf("plan\n%sdraft\n%smarked %v, want %v", p.String(), draft.String(),
					p.Marked, tc.marked)
			}
			t.Logf("\n%s", draft.String())
			if state(t) == before {
				t.Error("nothing has changed")
			}
			if _, err := Stand(tc.cfg); !errors.Is(err, ErrBusy) {
				t.Errorf("a second Stand: %v, want ErrBusy", err)
			}
			if err := h.Leave(); err != nil {
				t.Fatal(err)
			}
			if after := state(t); after != before {
				t.Errorf("after\n%s\nbefore\n%s", after, before)
			}
		})
	}
}

func TestLaterServerNeedsTheMark(t *testing.T) {
	host(t)
	before := state(t)
	h, err := Stand(Config{Ports: []uint16{8080}, Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	server(t, "tcp", "10.77.2.2:8080")
	target := netip.MustParseAddrPort("10.77.2.2:8080")
	dest, mark, err := h.Way(target)
	if err != nil || dest != target || mark == 0 {
		t.Fatalf("Way: %v %#x %v, want the target itself and a mark", dest, mark, err)
	}
	if v, _ := readSysctl(tcpAccept); v != "1" {
		t.Errorf("%s is %s", tcpAccept, v)
	}
	if err := h.Leave(); err != nil {
		t.Fatal(err)
	}
	if after := state(t); after != before {
		t.Errorf("after\n%s\nbefore\n%s", after, before)
	}
}

// TestKilled drops a Host as a killed process does, with connections open at both ends.
func TestKilled(t *testing.T) {
	for _, reach := range []Reach{LoopbackOnly, MarkOnly} {
		host(t)
		l := server(t, "tcp4", ":8080")
		before := state(t)
		cfg := Config{Ports: []uint16{8080}, Dir: t.TempDir(), Reach: reach}
		h, err := Stand(cfg)
		if err != nil {
			t.Fatal(err)
		}
		dest, mark, err := h.Way(netip.MustParseAddrPort("10.77.2.2:8080"))
		if err != nil {
			t.Fatal(err)
		}
		fd := connectFrom(t, netip.MustParseAddrPort("203.0.113.9:40000"), dest, mark)
		accepted, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if got := accepted.RemoteAddr().String(); got != "203.0.113.9:40000" {
			t.Errorf("the server sees %s", got)
		}
		sys.ResetTCP(fd)
		fd = connectFrom(t, netip.MustParseAddrPort("203.0.113.9:40001"), dest, mark)
		second, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		h.journal.lock.Close() // it goes with the process; the rest stays
		done, err := Cleanup(cfg)
		if err != nil || len(done) == 0 {
			t.Fatalf("cleanup: %q, %v", done, err)
		}
		t.Logf("%q", done)
		if after := state(t); after != before {
			t.Errorf("after\n%s\nbefore\n%s", after, before)
		}
		if _, err := second.Read(make([]byte, 1)); err == nil {
			t.Error("the server's connection lives on")
		}
		sys.ResetTCP(fd)
		if done, err := Cleanup(cfg); err != nil || len(done) != 0 {
			t.Errorf("second cleanup: %q, %v", done, err)
		}
	}
}

func TestRestoresOnlyWhatIsOurs(t *testing.T) {
	host(t)
	h, err := Stand(Config{Ports: []uint16{8080}, Dir: t.TempDir(), Reach: MarkOnly})
	if err != nil {
		t.Fatal(err)
	}
	if err := writeSysctl(reflect4, "0"); err != nil { // somebody else decides about it
		t.Fatal(err)
	}
	r := netlink.NewRule()
	r.Priority, r.Table, r.Mark, r.Family = 777, 42, 5, netlink.FAMILY_V4
	if err := netlink.RuleAdd(r); err != nil {
		t.Fatal(err)
	}
	if err := h.Leave(); err != nil {
		t.Fatal(err)
	}
	k, err := openKernel()
	if err != nil {
		t.Fatal(err)
	}
	defer k.close()
	rules, err := k.rules()
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(rules, func(r rule) bool { return r.priority == 777 && r.mark == 5 }) {
		t.Error("another's rule is gone")
	}
	if slices.ContainsFunc(rules, func(r rule) bool { return r.protocol == protocol }) {
		t.Error("a rule of ours is left")
	}
}

func TestUnwritableJournal(t *testing.T) {
	host(t)
	before := state(t)
	file := t.TempDir() + "/file"
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Stand(Config{Dir: file + "/sub"}); err == nil {
		t.Fatal("stands without a journal")
	}
	if state(t) != before {
		t.Error("something has changed")
	}
}

func connectFrom(t *testing.T, client, dest netip.AddrPort, mark uint32) int {
	t.Helper()
	fd, err := sys.OpenTCP(dest.Addr().Is6())
	if err != nil {
		t.Fatal(err)
	}
	if mark != 0 {
		if err := sys.SetMark(fd, mark); err != nil {
			t.Fatal(err)
		}
	}
	if err := sys.BindTransparent(fd, client); err != nil {
		t.Fatal(err)
	}
	if err := sys.ConnectTCP(fd, dest, 0); err != nil {
		t.Fatal(err)
	}
	return fd
}
