package e2e

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"tcpcopy/internal/lab/netlab"
)

// watch lists the packets to the clients' nets that the target sends to its router; it returns what
// asks for them, and ends the listing.
func (s *stand) watch() func() string {
	s.t.Helper()
	p := start(s.t, s.net.Assistant, "tcpdump", find(s.t, "tcpdump"), "-n", "-l", "-i",
		netlab.Device,
		"tcp and (dst net 10.77.1.0/24 or dst net fd77:1::/64)")
	p.awaitOutput("listening on")
	return func() string {
		p.stop(syscall.SIGINT)
		var seen []string
		for line := range strings.Lines(p.output()) {
			if strings.Contains(line, " > ") {
				seen = append(seen, line)
			}
		}
		return strings.Join(seen, "")
	}
}

// dropOthers is a firewall that drops what belongs to no connection, except a copier's.
const dropOthers = `add table inet wall
add chain inet wall in { type filter hook input priority 0; policy drop; }
add rule inet wall in iif lo accept
add rule inet wall in ct state established,related accept
add rule inet wall in tcp dport 36524 accept
add rule inet wall in icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept
`

// tunnelHosts are hosts that make the tunnel's target side difficult.
var tunnelHosts = []struct {
	name, listen string
	ipv6         bool
	sysctls      []string
	firewall     string
	args         []string
}{
	{name: "all addresses", listen: ":8080"},
	{name: "one address", listen: "10.77.2.2:8080"},
	{name: "loopback", listen: "127.0.0.1:8080", args: []string{"--allow", "loopback:8080"}},
	{name: "all addresses, by mark", listen: ":8080", args: []string{"--reach", "mark"}},
	{name: "any port", listen: ":8080", args: []string{"--allow", "9,10,8080"}},
	{name: "IPv6, all addresses", listen: ":8080", ipv6: true},
	{name: "IPv6, one address", listen: "[fd77:2::2]:8080", ipv6: true},
	{name: "IPv6, loopback", listen: "[::1]:8080", ipv6: true,
		args: []string{"--allow", "any,loopback:8080"}},
	{name: "rp_filter 1", listen: ":8080", sysctls: []string{"ipv4/conf/all/rp_filter=1",
		"ipv4/conf/lo/rp_filter=1"}},
	{name: "rp_filter 1, one address", listen: "10.77.2.2:8080",
		sysctls: []string{"ipv4/conf/all/rp_filter=1", "ipv4/conf/lo/rp_filter=1"}},
	{name: "rp_filter 2, one address", listen: "10.77.2.2:8080",
		sysctls: []string{"ipv4/conf/all/rp_filter=2"}},
	{name: "forwarding", listen: ":8080", sysctls: []string{"ipv4/ip_forward=1",
		"ipv6/conf/all/forwarding=1"}},
	{name: "forwarding, one address", listen: "10.77.2.2:8080",
		sysctls: []string{"ipv4/ip_forward=1"}},
	{name: "firewall", listen: ":8080", firewall: dropOthers},
	{name: "firewall, one address", listen: "10.77.2.2:8080", firewall: dropOthers},
	{name: "firewall, IPv6, one address", listen: "[fd77:2::2]:8080", ipv6: true,
		firewall: dropOthers},
	{name: "no timestamps", listen: ":8080", sysctls: []string{"ipv4/tcp_timestamps=0"}},
	{name: "SYN cookies", listen: ":8080", sysctls: []string{"ipv4/tcp_syncookies=2"}},
	{name: "SYN cookies, one address", listen: "10.77.2.2:8080",
		sysctls: []string{"ipv4/tcp_syncookies=2"}},
}

// TestTunnelHosts tries the tunnel with various settings of the target's host. The server must see
// the clients' addresses, no packet may reach the clients, and the host must be as before in the
// end.
func TestTunnelHosts(t *testing.T) {
	t.Parallel()
	for _, tc := range tunnelHosts {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := newStand(t, setting{way: tunnel, ipv6: tc.ipv6,
				net: netlab.Config{ViaAssistant: true}})
			for _, v := range tc.sysctls {
				name, value, _ := strings.Cut(v, "=")
				set(t, s.net.Target, name, value)
			}
			if tc.firewall != "" {
				cmd := s.net.Target.Command(t.Context(), find(t, "nft"), "-f", "-")
				cmd.Stdin = strings.NewReader(tc.firewall)
				if out, err := cmd.CombinedOutput(); err != nil {
					t.Fatalf("nft: %v\n%s", err, out)
				}
			}
			p := pair{s.serve(s.net.Production, productionPort),
				serveAt(t, s.net.Target, tc.listen)}
			before := hostState(t, s.net.Target)
			leaked := s.watch()
			i := s.onTarget(tc.args...)
			c := s.copyPair()
			s.talk(productionPort, "first", 40, 20)
			s.talk(productionPort, "second", 20, 5)
			p.caughtUp(t)
			c.end()
			p.expectSame(t)
			expectSame(t, "clients that the target sees", p.target.clients(),
				p.production.clients())
			if code := i.stop(syscall.SIGTERM); code != 0 {
				t.Errorf("the intercept ended with exit code %d", code)
			}
			expectLeft(t, s.net.Target, before)
			if l := leaked(); l != "" {
				t.Errorf("the target sent to the clients:\n%s", l)
			}
		})
	}
}

// TestTunnelKilled kills an intercept on the target. The rules that keep answers from real clients
// must stay, and the next intercept, or --cleanup, must remove them.
func TestTunnelKilled(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ name, reach, listen string }{
		{"loopback", "auto", ":8080"}, {"mark", "mark", ":8080"}, {"mark, one address", "auto",
			"10.77.2.2:8080"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newStand(t, setting{way: tunnel, net: netlab.Config{ViaAssistant: true}})
			p := pair{s.serve(s.net.Production, productionPort),
				serveAt(t, s.net.Target, tc.listen)}
			before := hostState(t, s.net.Target)
			leaked := s.watch()
			i := s.onTarget("--reach", tc.reach, "--allow", "8080")
			c := s.copyPair()
			ch := s.chat(20)
			eventually(t, "lines reach the target",
				func() bool { return p.target.lineCount() > 200 })
			i.kill()
			again := s.onTarget("--reach", tc.reach, "--allow", "8080")
			if !strings.Contains(again.output(), "earlier run was killed") {
				t.Errorf("the next one says nothing of it:\n%s", again.output())
			}
			had := p.target.lineCount()
			eventually(t, "the copier goes on",
				func() bool { return p.target.lineCount() > had+200 })
			again.kill()
			ch.end()
			c.end()
			clean := start(t, s.net.Target, "intercept", binary, "intercept", "--cleanup")
			if code := clean.wait(); code != 0 || !strings.Contains(clean.output(), "ip rule del") {
				t.Errorf("cleanup: exit code %d\n%s", code, clean.output())
			}
			expectLeft(t, s.net.Target, before)
			if l := leaked(); l != "" {
				t.Errorf("the target sent to the clients:\n%s", l)
			}
		})
	}
}

// TestTunnelLeaves stops an intercept on the target under load. It must leave nothing behind, and
// no packet may reach the clients.
func TestTunnelLeaves(t *testing.T) {
	t.Parallel()
	for _, reach := range []string{"loopback", "mark"} {
		t.Run(reach, func(t *testing.T) {
			s := newStand(t, setting{way: tunnel, net: netlab.Config{ViaAssistant: true}})
			p := s.pair()
			before := hostState(t, s.net.Target)
			leaked := s.watch()
			i := s.onTarget("--reach", reach)
			c := s.copyPair()
			ch := s.chat(50)
			eventually(t, "lines reach the target",
				func() bool { return p.target.lineCount() > 500 })
			if code := i.stop(syscall.SIGTERM); code != 0 {
				t.Errorf("the intercept ended with exit code %d", code)
			}
			expectLeft(t, s.net.Target, before)
			ch.end()
			c.end()
			prefixOf(t, p)
			if l := leaked(); l != "" {
				t.Errorf("the target sent to the clients:\n%s", l)
			}
		})
	}
}

// TestTunnelBesideOthers checks that other clients of the target are served on the same port.
func TestTunnelBesideOthers(t *testing.T) {
	t.Parallel()
	for _, reach := range []string{"loopback", "mark"} {
		t.Run(reach, func(t *testing.T) {
			s := newStand(t, setting{way: tunnel})
			p := s.pair()
			s.onTarget("--reach", reach)
			c := s.copyPair()
			var stop atomic.Bool
			other := make(chan error, 1)
			asked := 0
			go func() {
				var err error
				for i := 0; !stop.Load() && err == nil; i++ {
					var conn *client
					if conn, err = tryDial(s.net.Assistant, netip.Addr{},
						netip.AddrPortFrom(s.target, targetPort)); err == nil {
						for range 5 {
							if err == nil {
								err = conn.ask("another's")
								asked++
							}
						}
						conn.finish()
					}
				}
				other <- err
			}()
			s.talk(productionPort, "copied", 100, 20)
			eventually(t, "all lines", func() bool {
				return strings.Count(strings.Join(p.target.said(), ""), "copied") == 2000
			})
			stop.Store(true)
			if err := <-other; err != nil || asked == 0 {
				t.Errorf("another client of the target, after %d answers: %v", asked, err)
			}
			c.end()
		})
	}
}

// TestTunnelBesideRedirected checks that clients that the target's firewall redirects to 127.0.0.1
// keep their answers, even if the server listens there alone.
func TestTunnelBesideRedirected(t *testing.T) {
	t.Parallel()
	for _, listen := range []string{":8080", "127.0.0.1:8080"} {
		t.Run(listen, func(t *testing.T) {
			s := newStand(t, setting{way: tunnel})
			set(t, s.net.Target, "ipv4/conf/all/route_localnet", "1")
			cmd := s.net.Target.Command(t.Context(), find(t, "nft"), "-f", "-")
			cmd.Stdin = strings.NewReader(`add table ip public
add chain ip public in { type nat hook prerouting priority dstnat; }
add rule ip public in tcp dport 9090 dnat to 127.0.0.1:8080
`)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("nft: %v\n%s", err, out)
			}
			p := pair{s.serve(s.net.Production, productionPort),
				serveAt(t, s.net.Target, listen)}
			s.onTarget("--allow", "loopback:8080")
			c := s.copyPair()
			s.talk(productionPort, "copied", 20, 5)
			p.caughtUp(t)
			other, err := tryDial(s.net.Assistant, netip.Addr{}, netip.AddrPortFrom(s.target, 9090))
			if err != nil {
				t.Fatal("a client of the published port:", err)
			}
			for range 3 {
				if err := other.ask("another's"); err != nil {
					t.Fatal("a client of the published port:", err)
				}
			}
			other.finish()
			c.end()
		})
	}
}

// TestTunnelStandsIn checks that a client on production itself has the address of -H at the target.
func TestTunnelStandsIn(t *testing.T) {
	s := newStand(t, setting{way: tunnel})
	p := s.pair()
	c := s.copyPair("-H", "198.18.9.9",
		"--connect-timeout", "5s")
	local, err := tryDial(s.net.Production, netip.Addr{},
		netip.MustParseAddrPort(fmt.Sprintf("127.0.0.1:%d", productionPort)))
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if err := local.ask("from here"); err != nil {
			t.Fatal(err)
		}
	}
	local.finish()
	p.caughtUp(t)
	c.end()
	p.expectSame(t)
	if who := p.target.clients(); len(who) != 1 || !strings.HasPrefix(who[0], "198.18.9.9") {
		t.Errorf("the target sees %q, wanted 198.18.9.9", who)
	}
}

// TestTunnelRefuses checks that a copier reaches no other port, host or way, and none without the
// key.
func TestTunnelRefuses(t *testing.T) {
	t.Parallel()
	s := newStand(t, setting{way: tunnel})
	s.serve(s.net.Production, productionPort)
	atTarget := s.serve(s.net.Target, targetPort)
	elsewhere := s.serve(s.net.Assistant, targetPort)
	forbidden := serveAt(t, s.net.Target, ":8081")
	i := s.onTarget("--allow", "8080")
	for _, tc := range []struct{ name, target, reason string }{
		{"another port", "10.77.2.2:8081", "target_forbidden"},
		{"another host", "10.77.2.3:8080", "target_forbidden"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := s.copy("-x", fmt.Sprintf("%d-%s", productionPort, tc.target))
			s.talk(productionPort, "forbidden", 5, 3)
			r := c.end()
			if r.Sessions.Delivered != 0 || r.Sessions.Dropped[tc.reason] == 0 {
				t.Errorf("sessions %+v, wanted all dropped for %s", r.Sessions, tc.reason)
			}
			if n := strings.Count(c.output(), "sessions for other targets are dropped"); n != 1 {
				t.Errorf("%d lines about the target at the start, wanted 1", n)
			}
		})
	}
	t.Run("raw", func(t *testing.T) {
		for _, args := range [][]string{{"--via", "raw"}, {"-M", "1400"}} {
			c := start(t, s.net.Production, "copy", binary,
				append([]string{"copy", "-x", s.mapping(productionPort, targetPort), "-s",
					s.intercepts[0].String(), "--key", s.key()}, args...)...)
			if code := c.wait(); code == 0 || !strings.Contains(c.output(),
				"runs on the target") {
				t.Errorf("%q: exit code %d\n%s", args, code, c.output())
			}
		}
	})
	t.Run("another key", func(t *testing.T) {
		wrong := filepath.Join(t.TempDir(), "wrong")
		out, err := s.net.Production.Command(t.Context(), binary, "keygen").Output()
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(wrong, out, 0o600); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			c := start(t, s.net.Production, "copy", binary, "copy", "-x", s.mapping(productionPort,
				targetPort), "-s", s.intercepts[0].String(), "--key", wrong)
			if code := c.wait(); code == 0 || !strings.Contains(c.output(), "another key") {
				t.Errorf("exit code %d\n%s", code, c.output())
			}
		}
		if n := strings.Count(i.output(), "did not prove"); n != 1 {
			t.Errorf("%d lines about it at the intercept, wanted 1\n%s", n, i.output())
		}
	})
	for name, sv := range map[string]*lineServer{"target": atTarget, "elsewhere": elsewhere,
		"forbidden": forbidden} {
		if opened, _, _ := sv.counts(); opened != 0 {
			t.Errorf("%d connections %s, wanted none", opened, name)
		}
	}
}

// TestTunnelTwoCopiers checks that a connection that two copiers see belongs to the first.
func TestTunnelTwoCopiers(t *testing.T) {
	t.Parallel()
	s := newStand(t, setting{way: tunnel})
	p := s.pair()
	first := s.copyPair()
	second := s.copyPair()
	s.talk(productionPort, "claimed twice", 20, 10)
	p.caughtUp(t)
	a, b := first.end(), second.end()
	p.expectSame(t)
	delivered := a.Sessions.Delivered + b.Sessions.Delivered
	taken := a.Sessions.Dropped["tuple_taken"] + b.Sessions.Dropped["tuple_taken"]
	if delivered != 20 || taken < 20 { // each of a refused client's turns is tried anew
		t.Errorf("%d delivered and %d taken by the other, wanted 20, and 20 or more: %+v %+v",
			delivered, taken, a.Sessions, b.Sessions)
	}
}

// TestTunnelContainer runs the intercept outside of the container in which the server listens.
func TestTunnelContainer(t *testing.T) {
	t.Parallel()
	s := newStand(t, setting{way: tunnel})
	// The "container" is the assistant's namespace; the intercept runs on the target's host and
	// listens there.
	inside := start(t, s.net.Assistant, "sleep", find(t, "sleep"), "600")
	p := pair{s.serve(s.net.Production, productionPort),
		s.serve(s.net.Assistant, targetPort)}
	host, container := hostState(t, s.net.Target), hostState(t, s.net.Assistant)
	i := s.onTarget("--netns", fmt.Sprint(inside.cmd.Process.Pid), "--allow", "8080")
	c := s.copy("-x", fmt.Sprintf("%d-%s", productionPort, netip.AddrPortFrom(s.assistant,
		targetPort)))
	s.talk(productionPort, "into a container", 20, 10)
	p.caughtUp(t)
	c.end()
	p.expectSame(t)
	expectSame(t, "clients that the container sees", p.target.clients(), p.production.clients())
	i.stop(syscall.SIGTERM)
	expectLeft(t, s.net.Target, host)
	expectLeft(t, s.net.Assistant, container)
}

// TestTunnelUnreachableServer checks that a server that cannot be reached from clients' addresses
// is named in the log.
func TestTunnelUnreachableServer(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		option func(fd uintptr) error
		word   string
	}{
		{"bound to a device", func(fd uintptr) error {
			return syscall.BindToDevice(int(fd),
				netlab.Device)
		}, "bound to one interface"},
		{"with its own mark", func(fd uintptr) error {
			return syscall.SetsockoptInt(int(fd),
				syscall.SOL_SOCKET, syscall.SO_MARK, 5)
		}, "mark of its own"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newStand(t, setting{way: tunnel})
			s.serve(s.net.Production, productionPort)
			target := serveAt(t, s.net.Target, "10.77.2.2:8080")
			raw, err := target.l.(syscall.Conn).SyscallConn()
			if err != nil {
				t.Fatal(err)
			}
			if e := raw.Control(func(fd uintptr) { err = tc.option(fd) }); e != nil || err != nil {
				t.Fatal(e, err)
			}
			i := s.onTarget("--allow", "8080")
			c := s.copyPair()
			s.talk(productionPort, "unheard", 3, 2)
			r := c.end()
			if r.Sessions.Dropped["target_unreachable"] == 0 {
				t.Errorf("sessions %+v, wanted them dropped for target_unreachable", r.Sessions)
			}
			i.awaitOutput(tc.word)
		})
	}
}

// TestTunnelAnswersStay checks that next to nothing goes back to production for large answers.
func TestTunnelAnswersStay(t *testing.T) {
	t.Parallel()
	s := newStand(t, setting{way: tunnel})
	atProduction := startNginx(t, s.net.Production, productionPort, "")
	atTarget := startNginx(t, s.net.Target, targetPort, "")
	c := s.copyPair()
	sent := func() int64 {
		var out string
		err := s.net.Target.Try(func() error {
			b, err := os.ReadFile("/proc/thread-self/net/dev")
			out = string(b)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(out) {
			if f := strings.Fields(line); len(f) > 9 && f[0] == netlab.Device+":" {
				var n int64
				if _, err := fmt.Sscan(f[9], &n); err != nil {
					t.Fatal(err)
				}
				return n
			}
		}
		t.Fatalf("no %s in %s", netlab.Device, out)
		return 0
	}
	before := sent()
	const size = 65_536 // file 6
	for range 8 {
		s.curl(slices.Repeat([]string{s.url("/6"), "-o", os.DevNull}, 50)...)
	}
	eventually(t, "all requests", func() bool { return len(atTarget.requests()) == 400 })
	c.end()
	back := sent() - before
	atProduction.end()
	answers := int64(size * 400)
	t.Logf("%d bytes sent by the target for %d bytes of answers: %.2f %%", back, answers,
		100*float64(back)/float64(answers))
	if back > answers/100 {
		t.Errorf("%d bytes left the target for %d bytes of answers, wanted less than 1 %%", back,
			answers)
	}
}
