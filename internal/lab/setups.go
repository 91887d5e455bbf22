package lab

import (
	"fmt"
	"os"
	"slices"
	"strings"
)

// SetUps lists set-ups in which nothing is wrong: faults that break nothing.
func SetUps() []Fault {
	return slices.Concat(plainSetUps(), networkSetUps(), feedSetUps(), beyondSetUps())
}

func plainSetUps() []Fault {
	return []Fault{
		{Name: "plain", Help: "what the options need, and no more", Ways: allWays},
		{Name: "before", Help: "no copy runs yet", Ways: allWays, idle: true},
		{
			Name: "filter", Help: "-F names the clients' network", Ways: allWays,
			copy: adding("-F", "src net {clients} and tcp"),
		},
		{
			Name: "interface", Help: "-i names the interface of the clients", Ways: allWays,
			copy: adding("-i", "eth0"),
		},
		{
			Name: "named", Help: "-x names production's address", Ways: allWays,
			copy: replacing("80-", "{service}-"),
		},
		{
			Name: "file", Help: "the mapping is in a configuration file", Ways: allWays,
			inFile: true,
		},
		{
			Name: "balance", Help: "two targets share the sessions", Ways: allWays,
			copy: func(args []string) []string {
				return append(replacing(":8080", ":8080|{second8080}")(args), "--balance",
					"round-robin")
			},
			Make: []HostCommand{{OnTarget, "ip addr add {second} dev eth0"}},
		},
		{
			Name: "all", Help: "two targets each get all sessions", Ways: []string{Socket, Tunnel},
			copy: func(args []string) []string {
				return append(replacing(":8080", ":8080|{second8080}")(args), "--balance", "all")
			},
			Make: []HostCommand{{OnTarget, "ip addr add {second} dev eth0"}},
		},
		{
			Name: "shift", Help: "the copies' source ports are shifted",
			Ways: []string{Raw, Tunnel}, copy: adding("-f", "1000"),
		},
		{
			Name: "device", Help: "the copies are sent at the link layer", Ways: []string{Raw},
			copy: adding("-o", "eth1"),
		},
		{
			Name: "loopback", Help: "the clients are on the production host itself",
			Ways: []string{Socket}, load: localLoad,
		},
		{
			Name: "stand-in", Help: "-H stands in for clients on the production host itself",
			Ways: []string{Raw, Tunnel}, load: localLoad, copy: adding("-H", "{spare}"),
		},
	}
}

func networkSetUps() []Fault {
	pass := []string{
		`iifname "lo" accept`, "ct state established,related accept",
		"meta l4proto { icmp, ipv6-icmp } accept",
	}
	return []Fault{
		{Name: "no-offloads", Help: "interfaces have no offloads", Ways: allWays, noOffloads: true},
		{Name: "jumbo", Help: "interfaces have an MTU of 9000", Ways: allWays, mtu: 9000},
		{
			Name: "router", Help: "a router on the way has a smaller MTU, and says so",
			Ways: []string{Socket}, Make: []HostCommand{
				{OnAssistant, "sysctl -w net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 " +
					"net.ipv4.conf.all.send_redirects=0 net.ipv4.conf.eth0.send_redirects=0"},
				{OnAssistant, "ip route add {target} dev eth0 mtu lock 1400"},
				{OnProduction, "sysctl -w net.ipv6.conf.all.accept_redirects=0 " +
					"net.ipv6.conf.eth1.accept_redirects=0"},
				{OnProduction, "ip route add {target} via {assistant}"},
			},
		},
		{
			Name: "router-raw",
			Help: "a router says so where the target's answers go, too: to the assistant",
			Ways: []string{Raw}, Make: []HostCommand{
				{OnSwitch, "sysctl -w net.ipv4.ip_forward=1 net.ipv4.conf.all.send_redirects=0 " +
					"net.ipv4.conf.test.send_redirects=0 net.ipv6.conf.test.disable_ipv6=0 " +
					"net.ipv6.conf.test.accept_dad=0 net.ipv6.conf.all.forwarding=1"},
				{OnSwitch, "ip addr add {router} dev test"},
				{OnSwitch, "ip route add {assistant} dev test"},
				{OnSwitch, "ip route add {production} dev test"},
				{OnSwitch, "ip route add {clients} via {assistant}"},
				{OnSwitch, "ip route add {target} dev test mtu lock 1400"},
				{OnProduction, "sysctl -w net.ipv6.conf.all.accept_redirects=0 " +
					"net.ipv6.conf.eth1.accept_redirects=0"},
				{OnProduction, "ip route add {target} via {router}"},
			},
		},
		{
			Name: "firewalls", Help: "firewalls of nftables pass what is needed", Ways: allWays,
			Make: slices.Concat(
				chain(OnProduction, "input", "drop", append(slices.Clone(pass),
					"tcp dport { 22, 80 } accept")...),
				chain(OnTarget, "input", "drop", append(slices.Clone(pass),
					"tcp dport { 22, 8080, 36524 } accept")...)),
		},
		{
			Name: "iptables", Help: "a firewall of iptables on the target passes what is needed",
			Ways: allWays, Make: usualIPTables("-legacy", "22,8080,36524"),
		},
		{
			Name: "strict", Help: "rp_filter is strict, and routes are symmetric", Ways: allWays,
			only4: true, Make: []HostCommand{
				{OnTarget, "sysctl -w net.ipv4.conf.all.rp_filter=1"},
				{OnProduction, "sysctl -w net.ipv4.conf.all.rp_filter=1"},
			},
		},
	}
}

func feedSetUps() []Fault {
	aside := []string{Socket, Tunnel}
	return []Fault{
		{
			Name: "mirror", Help: "a mirror sends VXLAN", Ways: aside, feed: mirrorFeed,
			Make: vxlanMirror(),
		},
		{
			Name: "network", Help: "--vni names the mirror's virtual network", Ways: aside,
			feed: mirrorFeed, Make: vxlanMirror(), copy: adding("--vni", fmt.Sprint(mirrorNetwork)),
		},
		{
			Name: "agent", Help: "an agent sends packets", Ways: aside, feed: agentFeed,
			agent: slices.Clone[[]string],
		},
	}
}

// Both returns a fault that breaks what two faults do. Of the second its commands, arguments,
// server and load count, and no agent or second copier. The caller says what the doctor finds.
func Both(a, b Fault) Fault {
	f := a
	f.Name, f.Help = a.Name+"+"+b.Name, a.Help+"; "+b.Help
	f.Finds, f.Witnessed = nil, nil
	f.Make = slices.Concat(a.Make, b.Make)
	f.copy, f.intercept = after(a.copy, b.copy), after(a.intercept, b.intercept)
	f.Unmended, f.only4 = a.Unmended || b.Unmended, a.only4 || b.only4
	f.server, f.load, f.feed = max(a.server, b.server), max(a.load, b.load), max(a.feed, b.feed)
	return f
}

// after returns a function that changes arguments as one does, and then as another does. Either may
// be nil.
func after(a, b func([]string) []string) func([]string) []string {
	if a == nil || b == nil {
		if a == nil {
			return b
		}
		return a
	}
	return func(args []string) []string { return b(a(args)) }
}

// intoFile moves the mapping of the copy's arguments to a configuration file.
func (b *Broken) intoFile() error {
	i := slices.Index(b.copyArgs, "-x")
	text := "mappings:\n  - " + fmt.Sprintf("%q", b.copyArgs[i+1]) + "\n"
	b.copyArgs = slices.Concat(b.copyArgs[:i], []string{"--config", b.file("copy.yaml")},
		b.copyArgs[i+2:])
	b.Steps = append(b.Steps, strings.TrimSuffix(text, "\n"))
	if err := os.WriteFile(b.file("copy.yaml"), []byte(text), 0o600); err != nil {
		return fmt.Errorf("lab: write the configuration: %w", err)
	}
	return nil
}
