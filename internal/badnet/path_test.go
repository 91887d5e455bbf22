package badnet

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"tcpcopy/internal/lab"
	"tcpcopy/internal/netlab"
)

// sh runs commands on a host, one a line, with the words separated by blanks.
func sh(host *netlab.Namespace, lines string) error {
	for line := range strings.Lines(lines) {
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		if out, err := host.Command(context.Background(), words[0], words[1:]...).CombinedOutput(); err != nil {
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

// TestFirewallOfProduction copies out of hosts whose firewall tracks connections. To it a raw copy is half
// a connection.
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
	for _, test := range []struct {
		name, rules string
	}{
		{"ct state invalid drop", invalid},
		{"masquerade", masquerade},
		{"both", invalid + masquerade},
	} {
		t.Run(test.name, func(t *testing.T) {
			need(t, "nft")
			for _, via := range []string{lab.Raw, lab.Socket} {
				t.Run(via, func(t *testing.T) {
					if test.name != "both" {
						notShort(t)
					}
					t.Parallel()
					perfect(t, play(t, lab.Options{Via: via, Load: keepalive(20, 20, 3000), Loss: 1, Setup: func(n *netlab.Net) error {
						return sh(n.Online, test.rules)
					}}))
				})
			}
		})
	}
}

// router makes the switch a router between production and the target, which the target's answers do not
// pass. toClients is its own way to the clients' net, which is where an ICMP error about a raw copy goes.
func router(mtu int, toClients string) func(*netlab.Net) error {
	return func(n *netlab.Net) error {
		hosts := n.Namespaces()
		lan := hosts[len(hosts)-1]
		if err := sh(lan, fmt.Sprintf(`
			ip address add 10.77.2.254/24 dev test
			ip route add %s
			ip route add 10.77.2.2/32 dev test mtu lock %d`, toClients, mtu)); err != nil {
			return err
		}
		if err := set(lan, sysctl{"ipv4/ip_forward", "1"}, sysctl{"ipv4/conf/all/send_redirects", "0"}, sysctl{"ipv4/conf/test/send_redirects", "0"},
			sysctl{"ipv4/conf/all/rp_filter", "0"}, sysctl{"ipv4/conf/test/rp_filter", "0"}, sysctl{"ipv4/icmp_ratelimit", "0"}); err != nil {
			return err
		}
		return sh(n.Online, `ip route add 10.77.2.2/32 via 10.77.2.254`)
	}
}

// TestNarrowPath copies over paths that take less than the target's own network does.
func TestNarrowPath(t *testing.T) {
	narrower := func(ctx context.Context, s *lab.Stage) error {
		s.Wait(ctx, 500*time.Millisecond)
		return sh(s.Net().Online, `ip route add 10.77.2.2/32 dev eth1 mtu lock 1200`)
	}
	for _, test := range []struct {
		name    string
		short   bool
		ways    []string
		options lab.Options
	}{
		{"a router says so to the clients' net", true, []string{lab.Raw}, lab.Options{Setup: router(1300, "10.77.1.0/24 via 10.77.2.3")}},
		{"a router says so to production", false, []string{lab.Socket}, lab.Options{Setup: router(1300, "10.77.1.0/24 via 10.77.2.3")}},
		{"a router says nothing", false, []string{lab.Raw}, lab.Options{Setup: router(1300, "blackhole 10.77.1.0/24")}},
		{"production's own route", false, []string{lab.Raw, lab.Socket}, lab.Options{Disturb: narrower}},
	} {
		t.Run(test.name, func(t *testing.T) {
			need(t, "ip")
			if !test.short {
				notShort(t)
			}
			for _, via := range test.ways {
				t.Run(via, func(t *testing.T) {
					t.Parallel()
					o := test.options
					o.Via, o.Load = via, keepalive(10, 40, 20_000)
					o.Load.Think = 30 * time.Millisecond
					r := play(t, o)
					perfect(t, r)
					if r.Target.Opened != r.Online.Opened {
						t.Errorf("%d connections at the target for %d at production", r.Target.Opened, r.Online.Opened)
					}
				})
			}
		})
	}
}
