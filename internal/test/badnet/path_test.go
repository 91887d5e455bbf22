package badnet

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"tcpcopy/internal/lab"
	"tcpcopy/internal/lab/netlab"
)

// sh runs commands on a host, one a line, with the words separated by blanks.
func sh(host *netlab.Namespace, lines string) error {
	for line := range strings.Lines(lines) {
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		if out, err := host.Command(context.Background(), words[0],
			words[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %s: %w: %s", host.Name, strings.TrimSpace(line), err, out)
		}
	}
	return nil
}

// need skips the test where a program is not installed.
func need(t *testing.T, program string) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		t.Skipf("%s is not installed", program)
	}
}

// TestFirewallOfProduction copies out of hosts whose firewall tracks connections. To it a raw copy
// is half a connection.
func TestFirewallOfProduction(t *testing.T) {
	const invalid = `
		nft add table inet fw
		nft add chain inet fw out { type filter hook output priority 0 ; policy drop ; }
		nft add rule inet fw out ct state invalid counter drop
		nft add rule inet fw out ct state new,established,related,untracked accept`
	const masquerade = `
		nft add table inet nat
		nft add chain inet nat post { type nat hook postrouting priority 100 ; }
		nft add rule inet nat post oifname eth1 counter masquerade`
	t.Parallel()
	for _, test := range []struct {
		name, rules string
	}{
		{"ct state invalid drop", invalid},
		{"masquerade", masquerade},
		{"both", invalid + masquerade},
	} {
		if left(test.name == "both") {
			continue
		}
		t.Run(test.name, func(t *testing.T) {
			need(t, "nft")
			t.Parallel()
			for _, via := range []string{lab.Raw, lab.Socket} {
				t.Run(via, func(t *testing.T) {
					t.Parallel()
					perfect(t, play(t, lab.Options{Via: via, Load: keepalive(20, 20, 3000), Loss: 1,
						Setup: func(n *netlab.Net) error {
							return sh(n.Production, test.rules)
						}}))
				})
			}
		})
	}
}

// family is the addresses that narrow paths are made of.
type family struct {
	name         string
	ip           string // the command that sets them
	router       string // beside the hosts of the test network
	target       string
	toClients    string // their way through the assistant
	clientsBlack string // no way to them
	narrow       int    // bytes of a path's MTU
	narrower     int
	// of the router: it forwards and redirects nobody
	sysctls []sysctl
}

var families = []family{
	{
		name: "IPv4", ip: "ip", router: "10.77.2.254/24", target: "10.77.2.2/32",
		toClients: "10.77.1.0/24 via 10.77.2.3", clientsBlack: "blackhole 10.77.1.0/24",
		narrow: 1300, narrower: 1200,
		sysctls: []sysctl{{"ipv4/ip_forward", "1"}, {"ipv4/conf/all/send_redirects", "0"},
			{"ipv4/conf/test/send_redirects", "0"},
			{"ipv4/conf/all/rp_filter", "0"}, {"ipv4/conf/test/rp_filter", "0"}},
	},
	{
		name: "IPv6", ip: "ip -6", router: "fd77:2::254/64 nodad", target: "fd77:2::2/128",
		toClients: "fd77:1::/64 via fd77:2::3", clientsBlack: "blackhole fd77:1::/64", narrow: 1400,
		narrower: 1300,
		sysctls: []sysctl{{"ipv6/conf/test/accept_dad", "0"}, {"ipv6/conf/test/disable_ipv6", "0"},
			{"ipv6/conf/all/forwarding", "1"}},
	},
}

// through makes the switch a router between production and the target, which the target's answers
// do not pass. clients is its own way to the clients' net, which is where an ICMP error about a raw
// copy goes.
func (f *family) through(clients string) func(*netlab.Net) error {
	return func(n *netlab.Net) error {
		hosts := n.Namespaces()
		lan := hosts[len(hosts)-1]
		if err := set(lan, f.sysctls...); err != nil {
			return err
		}
		if err := sh(lan, fmt.Sprintf(`
			%[1]s address add %[2]s dev test
			%[1]s route add %[3]s
			%[1]s route add %[4]s dev test mtu lock %[5]d`,
			f.ip, f.router, clients, f.target, f.narrow)); err != nil {
			return err
		}
		// IPv6 routers cannot be told to redirect nobody.
		if err := set(n.Production, sysctl{"ipv6/conf/all/accept_redirects", "0"},
			sysctl{"ipv6/conf/eth1/accept_redirects", "0"}); err != nil {
			return err
		}
		gateway, _, _ := strings.Cut(f.router, "/")
		return sh(n.Production, fmt.Sprintf(`%s route add %s via %s`, f.ip, f.target, gateway))
	}
}

// narrowsLater has production's own route take less once the load has begun.
func (f *family) narrowsLater(ctx context.Context, s *lab.Stage) error {
	s.Wait(ctx, 500*time.Millisecond)
	return sh(s.Net().Production, fmt.Sprintf(`%s route add %s dev eth1 mtu lock %d`, f.ip,
		f.target, f.narrower))
}

// TestNarrowPath copies over paths that take less than the target's own network does.
func TestNarrowPath(t *testing.T) {
	t.Parallel()
	for i := range families {
		f := &families[i]
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			f.narrowPaths(t)
		})
	}
}

func (f *family) narrowPaths(t *testing.T) {
	for _, test := range []struct {
		name    string
		short   bool
		ways    []string
		options lab.Options
	}{
		{"a router says so to the clients' net", true, []string{lab.Raw},
			lab.Options{Setup: f.through(f.toClients)}},
		{"a router says so to production", false, []string{lab.Socket},
			lab.Options{Setup: f.through(f.toClients)}},
		{"a router says nothing", false, []string{lab.Raw},
			lab.Options{Setup: f.through(f.clientsBlack)}},
		{"production's own route", false, []string{lab.Raw, lab.Socket},
			lab.Options{Disturb: f.narrowsLater}},
	} {
		if left(test.short) {
			continue
		}
		t.Run(test.name, func(t *testing.T) {
			need(t, "ip")
			t.Parallel()
			for _, via := range test.ways {
				t.Run(via, func(t *testing.T) {
					t.Parallel()
					o := test.options
					o.Via, o.IPv6, o.Load = via, f.name == "IPv6", keepalive(10, 40, 20_000)
					o.Load.Think = 30 * time.Millisecond
					r := play(t, o)
					perfect(t, r)
					if r.Target.Opened != r.Production.Opened {
						t.Errorf("%d connections at the target for %d at production",
							r.Target.Opened, r.Production.Opened)
					}
				})
			}
		})
	}
}
