package lab

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"tcpcopy/internal/lab/netlab"
)

// OnContainer is the host that a Fault has with contain.
const OnContainer = "container"

// containerPort is the port of the server in a container, which its host publishes as another.
const containerPort = 8081

// contained returns the address and port of the server in the container.
func (b *Broken) contained() netip.AddrPort {
	if b.options.IPv6 {
		return netip.AddrPortFrom(netlab.ContainerAddr6, containerPort)
	}
	return netip.AddrPortFrom(netlab.ContainerAddr4, containerPort)
}

// containerPID returns the id of a process in the container; empty if there is none.
func (b *Broken) containerPID() string {
	if b.options.Fault.contain == "" || b.holder == nil {
		return ""
	}
	return fmt.Sprint(b.holder.cmd.Process.Pid)
}

// makeContainer makes the container of the fault, with a process that does nothing: by processes
// others find a namespace.
func (b *Broken) makeContainer(ctx context.Context) (err error) {
	if b.container, err = b.net.Contain(b.Host(b.options.Fault.contain)); err != nil {
		return err
	}
	b.holder, err = startChild(ctx, b.container, b.dir, "sleep", "holder", "", "600")
	return err
}

// serverAt returns where a host's server listens: on the host, or in the container there.
func (b *Broken) serverAt(host *netlab.Namespace, port int) (*netlab.Namespace, int) {
	if b.options.Fault.contain == host.Name {
		return b.container, containerPort
	}
	return host, port
}

// subInterface returns a command that moves a host's addresses from an interface to one on it,
// which shares its packets, as a VLAN's does.
func subInterface(host, device string) HostCommand {
	return HostCommand{host, fmt.Sprintf("ip link add link %[1]s name %[1]s.10 type macvlan "+
		"mode passthru; ip link set %[1]s.10 up; all=$(ip -o addr show dev %[1]s scope global | "+
		"while read -r _ _ _ a _; do echo $a; done); ip addr flush dev %[1]s scope global; "+
		"for a in $all; do ip addr add $a dev %[1]s.10; done", device)}
}

// clientsBelow has clients reach production on a sub-interface.
func clientsBelow() []HostCommand {
	return []HostCommand{subInterface(OnProduction, netlab.ProductionClientDevice)}
}

// publish returns commands by which a host publishes the port of its container, as Docker does, by
// nft. The rules of forward follow.
func publish(host string, port int, forward ...string) []HostCommand {
	all := []HostCommand{{host, "sysctl -w net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1"}}
	for _, c := range slices.Concat([]string{
		"add table inet docker",
		"'add chain inet docker prerouting { type nat hook prerouting priority dstnat; }'",
		"'add chain inet docker postrouting { type nat hook postrouting priority srcnat; }'",
		"'add chain inet docker forward { type filter hook forward priority filter; " +
			"policy drop; }'",
		fmt.Sprintf("add rule inet docker prerouting fib daddr type local tcp dport %d "+
			"dnat {ip} to {container}", port),
		"add rule inet docker postrouting {ip} saddr {containers} oifname != docker0 masquerade",
		"add rule inet docker forward ct state established,related accept",
		"add rule inet docker forward iifname docker0 oifname != docker0 accept",
	}, forward) {
		all = append(all, HostCommand{host, "nft " + c})
	}
	return all
}

// passes is the rule by which a host lets the published port through to its container.
const passes = "add rule inet docker forward oifname docker0 tcp dport 8081 accept"

// publishLegacy is publish by iptables.
func publishLegacy(host string, port int) []HostCommand {
	all := []HostCommand{{host, "sysctl -w net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1"}}
	for _, r := range []string{
		"-t nat -N DOCKER", "-t nat -A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER",
		"-t nat -A POSTROUTING -s {containers} ! -o docker0 -j MASQUERADE",
		fmt.Sprintf("-t nat -A DOCKER ! -i docker0 -p tcp --dport %d -j DNAT "+
			"--to-destination {container}", port),
		"-P FORWARD DROP",
		"-A FORWARD -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT",
		"-A FORWARD -i docker0 ! -o docker0 -j ACCEPT",
		"-A FORWARD -o docker0 -p tcp --dport 8081 -j ACCEPT",
	} {
		all = append(all, HostCommand{host, "{iptables}-legacy -w " + r})
	}
	return all
}

// inContainer changes a copy's or an intercept's arguments so that the intercept acts in the
// target's container.
func inContainer() (copier, intercept func([]string) []string) {
	copier = func(args []string) []string {
		out := slices.Clone(args)
		i := slices.Index(out, "-x")
		out[i+1] = fmt.Sprintf("%d-{container}", productionPort)
		return out
	}
	port := replacing("8080", fmt.Sprint(containerPort))
	return copier, func(args []string) []string {
		return append(port(args), "--netns", "{pid}")
	}
}

// beyondSetUps are set-ups with sub-interfaces and containers.
func beyondSetUps() []Fault {
	toContainer, netns := inContainer()
	return []Fault{
		{
			Name: "sub-interface", Help: "clients come in on a sub-interface, as of a VLAN",
			Ways: allWays, Make: clientsBelow(),
		},
		{
			Name: "sub-interface-named", Help: "-i names that sub-interface", Ways: allWays,
			Make: clientsBelow(), copy: adding("-i", "eth0.10"),
		},
		{
			Name: "sub-interface-parent", Help: "-i names the interface that it is on",
			Ways: allWays, Make: clientsBelow(), copy: adding("-i", "eth0"),
		},
		{
			Name: "sub-interface-answers",
			Help: "target and assistant have sub-interfaces, and rp_filter is strict",
			Ways: []string{Raw}, intercept: replacing("eth0", "eth0.10"),
			Make: []HostCommand{
				subInterface(OnTarget, netlab.Device), subInterface(OnAssistant, netlab.Device),
				{OnTarget, "ip route replace {clients} via {assistant}"},
				{OnTarget, "sysctl -w net.ipv4.conf.all.rp_filter=1"},
			},
		},
		{
			Name: "published", Help: "production is in a container that publishes its port",
			Ways: allWays, contain: OnProduction,
			Make: publish(OnProduction, productionPort, passes),
		},
		{
			Name: "published-iptables", Help: "the same, by rules of iptables", Ways: allWays,
			contain: OnProduction, Make: publishLegacy(OnProduction, productionPort),
		},
		{
			Name: "container-address", Help: "-x names the address of production's container",
			Ways: allWays, contain: OnProduction,
			Make: publish(OnProduction, productionPort, passes),
			copy: replacing("80-", "{container}-"),
		},
		{
			Name: "container-bridge",
			Help: "-x names the address of production's container, and -i its bridge",
			Ways: allWays, contain: OnProduction,
			Make: publish(OnProduction, productionPort, passes),
			copy: after(replacing("80-", "{container}-"), adding("-i", "docker0")),
		},
		{
			Name: "published-target", Help: "the target is in a container that publishes its port",
			Ways: []string{Socket, Raw}, contain: OnTarget,
			Make: publish(OnTarget, targetPort, passes),
		},
		{
			Name: "published-target-iptables", Help: "the same, by rules of iptables",
			Ways: []string{Socket, Raw}, contain: OnTarget,
			Make: publishLegacy(OnTarget, targetPort),
		},
		{
			Name: "target-container", Help: "--netns names the target's container",
			Ways: []string{Tunnel}, contain: OnTarget, copy: toContainer, intercept: netns,
		},
	}
}

// beyondFaults are faults of sub-interfaces and containers.
func beyondFaults() []Fault {
	direct := []string{Socket, Raw}
	at := func(production, target string) map[string][]string {
		return map[string][]string{OnProduction: {production}, OnTarget: {target}}
	}
	return []Fault{
		{
			Name: "sub-interface-other", Help: "-i names another sub-interface than the clients'",
			Ways: allWays, Finds: found(OnProduction, "TC0103"), copy: adding("-i", "eth0.20"),
			Make: append(clientsBelow(), HostCommand{OnProduction,
				"ip link add eth0.20 type veth peer name other; ip link set eth0.20 up; " +
					"ip link set other up"}),
		},
		{
			Name: "published-port",
			Help: "-x names the port in production's container, which is published as another",
			Ways: allWays, Finds: found(OnProduction, "TC0105"), contain: OnProduction,
			Make: publish(OnProduction, productionPort, passes), copy: replacing("80-", "8081-"),
		},
		{
			Name: "published-bridge",
			Help: "-x names the published port, and -i the bridge behind which it is another",
			Ways: allWays, Finds: found(OnProduction, "TC0103"), contain: OnProduction,
			Make: publish(OnProduction, productionPort, passes), copy: adding("-i", "docker0"),
		},
		{
			Name: "published-address",
			Help: "-x names the container's address, and -i the interface before the translation",
			Ways: allWays, Finds: found(OnProduction, "TC0103"), contain: OnProduction,
			Make: publishLegacy(OnProduction, productionPort),
			copy: after(replacing("80-", "{container}-"), adding("-i", "eth0")),
		},
		{
			Name: "published-closed", Help: "no server listens in the target's container",
			Ways: direct, Unmended: true, Alone: true, contain: OnTarget, server: listensNowhere,
			Finds: at("TC0201", "TC0208"), Witnessed: []string{"TC0208"},
			Make: publish(OnTarget, targetPort, passes),
		},
		{
			Name: "published-loopback",
			Help: "the server in the target's container listens on loopback only",
			Ways: direct, Unmended: true, Alone: true, contain: OnTarget, server: listensOnLoopback,
			Finds: at("TC0201", "TC0209"), Witnessed: []string{"TC0209"},
			Make: publishLegacy(OnTarget, targetPort),
		},
		{
			Name: "published-dropped",
			Help: "the target publishes a port, and a firewall does not let it through",
			Ways: direct, contain: OnTarget,
			Finds: at("TC0202", "TC0205"), Witnessed: []string{"TC0205"},
			Make: publish(OnTarget, targetPort),
		},
		{
			Name: "not-forwarding", Help: "the target publishes a port, and does not forward",
			Ways: direct, contain: OnTarget,
			Finds: at("TC0202", "TC0220"), Witnessed: []string{"TC0220"},
			Make: append(publish(OnTarget, targetPort, passes), HostCommand{OnTarget,
				"sysctl -w net.ipv4.ip_forward=0 net.ipv6.conf.all.forwarding=0"}),
		},
		{
			Name: "published-tunnel",
			Help: "an intercept on the target, and a server in a container that publishes its port",
			Ways: []string{Tunnel}, contain: OnTarget, Elsewhere: true, Alone: true,
			Finds: at("TC0208", "TC0211"), Make: publish(OnTarget, targetPort, passes),
		},
	}
}
