package lab

import (
	"fmt"
	"slices"
	"strings"
)

// Hosts of a broken lab.
const (
	OnProduction = "production"
	OnTarget     = "target"
	OnAssistant  = "assistant"
	OnSwitch     = "switch"
)

// Fault is one thing that can be wrong with a set-up, made on purpose.
type Fault struct {
	Name string
	Help string
	Ways []string // that it breaks, or that its doctor knows it in
	// Finds are the codes that the doctor reports, by the host on which it runs.
	Finds map[string][]string
	// Suspects are codes of which it reports that nothing is known, by the host on which it runs.
	Suspects map[string][]string
	// Witnessed are the codes that the doctor on production reports in the raw way if there is a
	// witness on the target. nil: there is none.
	Witnessed []string
	// Make are shell commands that make the fault, each on a host. Broken.fill has the words in
	// braces.
	Make []HostCommand
	// Unmended reports that no command mends it.
	Unmended bool
	// Elsewhere reports that the printed fix is not all, since a mapping must change, too, or that
	// it cannot be run in a namespace.
	Elsewhere bool
	// Alone reports that servers in other network namespaces of this machine, as of other labs,
	// show in the doctor's report.
	Alone bool

	// copy and intercept change the arguments of the copier and the intercept. If intercept returns
	// nil, none is started.
	copy, intercept func(args []string) []string

	// agent makes the arguments of an agent on production. nil: there is none.
	agent func(args []string) []string
	feed  feed

	tracks   bool   // the target's table of tracked connections is full
	stalls   bool   // the copier stands still for a while
	stranger bool   // another server listens where the intercept is
	contain  string // a host whose server is in a container there; empty: none

	wrap   []string // a command that runs copier and doctor
	twin   bool     // two copiers run
	server serverFault
	load   loadFault
	only4  bool
	idle   bool // no copy runs beside the doctor
	inFile bool // the mapping is in a configuration file
	// of all interfaces
	noOffloads bool
	mtu        int // 0: the usual one
}

// HostCommand is a shell command on a host.
type HostCommand struct{ Host, Command string }

type serverFault uint8

const (
	listensWell serverFault = iota
	listensNowhere
	listensOnLoopback
	listensOnDevice
	listensInContainer
	acceptsNothing
	answersNothing
	closesAtOnce
	refusesLogins
)

type loadFault uint8

const (
	plainLoad loadFault = iota
	tlsLoad
	localLoad
	sqlLoad
	busyLoad
)

var allWays = []string{Socket, Raw, Tunnel}

// FindFault returns the fault of a name, or an error that lists all.
func FindFault(name string) (Fault, error) {
	all := Faults()
	var names []string
	for _, f := range all {
		if f.Name == name {
			return f, nil
		}
		names = append(names, f.Name)
	}
	return Fault{}, fmt.Errorf("lab: there is no fault %q, wanted %s", name, strings.Join(names,
		", "))
}

// FaultNames lists the names of the faults.
func FaultNames() (names []string) {
	for _, f := range Faults() {
		names = append(names, f.Name)
	}
	return names
}

// Faults lists the faults that the lab can make.
func Faults() []Fault {
	return slices.Concat(captureFaults(), feedFaults(), forwardFaults(), pathFaults(),
		targetFaults(), targetFirewallFaults(), returnFaults(), linkFaults(),
		beyondFaults(), rareFaults())
}

// adding returns a function that adds arguments.
func adding(more ...string) func([]string) []string {
	return func(args []string) []string { return append(slices.Clone(args), more...) }
}

// replacing returns a function that replaces one argument.
func replacing(old, with string) func([]string) []string {
	return func(args []string) []string {
		out := slices.Clone(args)
		for i := range out {
			out[i] = strings.ReplaceAll(out[i], old, with)
		}
		return out
	}
}

func notStarted([]string) []string { return nil }

func found(host string, codes ...string) map[string][]string {
	return map[string][]string{host: codes}
}

// both returns the same code on two hosts.
func both(host, other, code string) map[string][]string {
	return map[string][]string{host: {code}, other: {code}}
}

func captureFaults() []Fault {
	return []Fault{
		{
			Name: "capability", Help: "the copier may not open packet sockets",
			Ways: allWays, Finds: found(OnProduction, "TC0101"),
			wrap: []string{"setpriv", "--bounding-set", "-net_raw", "--inh-caps", "-net_raw"},
		},
		{
			Name: "interface-down", Help: "-i names an interface that is down",
			Ways: allWays, Finds: found(OnProduction, "TC0102", "TC0103"),
			Make: []HostCommand{{OnProduction, "ip link add dummy0 type veth peer name dummy1"}},
			copy: adding("-i", "dummy0"),
		},
		{
			Name: "interface", Help: "-i names an interface on which no client's packet comes in",
			Ways: allWays, Finds: found(OnProduction, "TC0103"), copy: adding("-i", "eth1"),
		},
		{
			Name: "filter", Help: "-F matches no packet of the mapping",
			Ways: allWays, Finds: found(OnProduction, "TC0104"), copy: adding("-F", "port 81"),
		},
		{
			Name: "filter-clients", Help: "-F matches other clients than there are",
			Ways: allWays, Finds: found(OnProduction, "TC0104"),
			copy: adding("-F", "src host 192.0.2.1 or src host 2001:db8::1"),
		},
		{
			Name: "unquoted", Help: "the expression of -F is not quoted",
			Ways: allWays, Finds: found(OnProduction, "TC0109"),
			copy: adding("-F", "tcp", "and", "port", "80"),
		},
		{
			Name: "port", Help: "-x names another port than clients connect to",
			Ways: allWays, Finds: found(OnProduction, "TC0105"), copy: replacing("80-", "81-"),
		},
		{
			Name: "loopback", Help: "the clients are on the production host itself",
			Ways: []string{Raw, Tunnel}, Unmended: true,
			Finds: found(OnProduction, "TC0106"), load: localLoad,
		},
		{
			Name: "tls", Help: "the clients speak TLS",
			Ways: allWays, Unmended: true, Finds: found(OnProduction, "TC0107"), load: tlsLoad,
		},
	}
}

// nft returns commands that make a chain with some rules.
func nft(host, hook string, rules ...string) []HostCommand {
	return chain(host, hook, "accept", rules...)
}

// chain returns commands that make a chain with a policy and some rules.
func chain(host, hook, policy string, rules ...string) []HostCommand {
	base := fmt.Sprintf("nft 'add chain inet lab %s { type filter hook %s priority 0; "+
		"policy %s; }'", hook, hook, policy)
	all := []HostCommand{{host, "nft add table inet lab"}, {host, base}}
	for _, r := range rules {
		all = append(all, HostCommand{host, "nft add rule inet lab " + hook + " " + r})
	}
	return all
}

func forwardFaults() []Fault {
	direct := []string{Socket, Raw}
	return []Fault{
		{
			Name: "output-drop", Help: "a firewall on production drops packets to the target",
			Ways: direct, Finds: found(OnProduction, "TC0205"),
			Make: nft(OnProduction, "output", "{ip} daddr {target} tcp dport 8080 counter drop"),
		},
		{
			Name: "output-reject", Help: "a firewall on production rejects packets to the target",
			Ways: direct, Finds: found(OnProduction, "TC0205"),
			Make: nft(OnProduction, "output", "{ip} daddr {target} reject"),
		},
		{
			Name: "output-stateful",
			Help: "a firewall on production passes what conntrack knows: raw is not tracked",
			Ways: []string{Raw}, Finds: found(OnProduction, "TC0205"),
			Make: chain(OnProduction, "output", "drop", `oifname != "eth1" accept`,
				"meta l4proto { icmp, ipv6-icmp } accept",
				"ct state new,established,related accept"),
		},
		{
			Name: "answers-dropped", Help: "a firewall on production drops the target's answers",
			Ways: []string{Socket}, Finds: found(OnProduction, "TC0205"),
			Make: nft(OnProduction, "input", "{ip} saddr {target} tcp sport 8080 drop"),
		},
		{
			Name: "no-route", Help: "production has no route to the target",
			Ways: direct, Finds: found(OnProduction, "TC0203"),
			Make: []HostCommand{{OnProduction, "ip route add unreachable {target}"}},
		},
		{
			Name: "no-host", Help: "the target's address is nobody's",
			Ways: direct, Unmended: true, Finds: found(OnProduction, "TC0203"),
			copy: func(args []string) []string {
				return replacing("fd77:2::2", "fd77:2::99")(replacing("10.77.2.2:",
					"10.77.2.99:")(args))
			},
		},
		{
			Name: "mtu-hole", Help: "packets above 1400 bytes vanish on the way",
			Ways: direct, Finds: found(OnProduction, "TC0401"),
			Make: []HostCommand{{OnSwitch, "ip link set t-target mtu 1400"}},
		},
	}
}

func targetFaults() []Fault {
	direct := []string{Socket, Raw}
	at := func(production, target string) map[string][]string {
		return map[string][]string{OnProduction: {production}, OnTarget: {target}}
	}
	return []Fault{
		{
			Name: "closed", Help: "no server listens on the target",
			Ways: direct, Unmended: true,
			Finds: at("TC0201", "TC0208"), Witnessed: []string{"TC0208"}, server: listensNowhere,
			Alone: true,
		},
		{
			Name: "closed-on-target", Help: "no server listens on the target",
			Ways: []string{Tunnel}, Unmended: true,
			Finds: at("TC0208", "TC0208"), server: listensNowhere,
			Alone: true,
		},
		{
			Name: "loopback-server", Help: "the test server listens on loopback only",
			Ways: direct, Unmended: true,
			Finds: at("TC0201", "TC0209"), Witnessed: []string{"TC0209"}, server: listensOnLoopback,
		},
		{
			Name: "device-server", Help: "the test server is bound to an interface",
			Ways: []string{Tunnel}, Unmended: true,
			Finds: at("TC0210", "TC0210"), server: listensOnDevice,
		},
		{
			Name: "container", Help: "the test server is in another network namespace",
			Ways: []string{Tunnel}, Finds: at("TC0208", "TC0211"), server: listensInContainer,
			Elsewhere: true, Alone: true,
		},
		{
			Name: "unpublished", Help: "the test server is in a container that publishes no port",
			Ways: direct, Unmended: true,
			Finds: at("TC0201", "TC0211"), Witnessed: []string{"TC0211"},
			server: listensInContainer, Alone: true,
		},
		{
			Name: "backlog", Help: "the test server accepts no connection",
			Ways: []string{Socket}, Unmended: true,
			Finds: found(OnTarget, "TC0212"), server: acceptsNothing,
			Make: []HostCommand{{OnTarget, "sysctl -w net.core.somaxconn=2"}},
		},
		{
			Name: "syn-cookies", Help: "the target answers every SYN with a cookie",
			Ways: direct, Finds: found(OnTarget, "TC0217"), Witnessed: []string{"TC0217"},
			Make: []HostCommand{{OnTarget, "sysctl -w net.ipv4.tcp_syncookies=2"}},
		},
		{
			Name: "unanswered", Help: "the test server takes requests and never answers",
			Ways: allWays, Unmended: true, Finds: found(OnProduction, "TC0602"),
			server: answersNothing, copy: adding("--gate-limit", "1s"),
		},
		{
			Name: "closes", Help: "the test server closes each connection at once",
			Ways: direct, Unmended: true,
			Finds: found(OnProduction, "TC0601"), server: closesAtOnce,
		},
	}
}

// targetFirewallFaults are firewalls on the target.
func targetFirewallFaults() []Fault {
	direct := []string{Socket, Raw}
	at := func(production, target string) map[string][]string {
		return map[string][]string{OnProduction: {production}, OnTarget: {target}}
	}
	return []Fault{
		{
			Name: "input-drop", Help: "a firewall on the target drops what comes to the port",
			Ways: direct, Finds: at("TC0202", "TC0205"), Witnessed: []string{"TC0205"},
			Make: nft(OnTarget, "input", "tcp dport 8080 counter drop"),
		},
		{
			Name: "input-set", Help: "a firewall on the target drops a set of ports",
			Ways: direct, Finds: at("TC0202", "TC0205"), Witnessed: []string{"TC0205"},
			Make: nft(OnTarget, "input", "tcp dport { 8000-8100, 9000 } drop"),
		},
		{
			Name: "input-policy", Help: "a firewall on the target accepts other ports only",
			Ways: direct, Finds: at("TC0202", "TC0205"), Witnessed: []string{"TC0205"},
			Make: chain(OnTarget, "input", "drop", "ct state established,related accept",
				"meta l4proto { icmp, ipv6-icmp } accept", "tcp dport { 22, 443 } accept"),
		},
		{
			Name: "input-reject", Help: "a firewall on the target rejects with ICMP",
			Ways: direct, Finds: at("TC0207", "TC0205"), Witnessed: []string{"TC0205"},
			Make: nft(OnTarget, "input", "tcp dport 8080 reject"),
		},
		{
			Name: "input-reset", Help: "a firewall on the target rejects with a reset",
			Ways: direct, Finds: at("TC0201", "TC0205"), Witnessed: []string{"TC0205"},
			Make: nft(OnTarget, "input", "tcp dport 8080 reject with tcp reset"),
		},
		{
			Name: "input-iptables",
			Help: "the usual firewall of iptables on the target, which passes SSH only",
			Ways: direct, Finds: at("TC0207", "TC0205"), Witnessed: []string{"TC0205"},
			Make: usualIPTables("", "22,443"),
		},
		{
			Name: "input-legacy", Help: "the same, in iptables' own tables",
			Ways: direct, Finds: at("TC0207", "TC0205"), Witnessed: []string{"TC0205"},
			Make: usualIPTables("-legacy", "22,443"),
		},
		{
			Name: "answers-blocked", Help: "a firewall on the target drops the server's answers",
			Ways: direct, Finds: at("TC0202", "TC0205"), Witnessed: []string{"TC0205"},
			Make: nft(OnTarget, "output", "tcp sport 8080 drop"),
		},
		{
			Name: "local-drop",
			Help: "a firewall on the target drops what comes to the port, on loopback, too",
			Ways: []string{Tunnel}, Finds: at("TC0205", "TC0205"),
			Make: nft(OnTarget, "input", "tcp dport 8080 counter drop"),
		},
		{
			Name: "local-clients",
			Help: "a firewall on the target drops the clients' addresses, on loopback, too",
			Ways: []string{Tunnel}, Finds: found(OnProduction, "TC0205"),
			Make: nft(OnTarget, "input", "{ip} saddr {clients} drop"),
		},
		{
			Name: "clients-blocked", Help: "a firewall on the target drops the clients' addresses",
			Ways: []string{Raw}, Finds: at("TC0215", "TC0205"), Witnessed: []string{"TC0205"},
			Make: nft(OnTarget, "input", "{ip} saddr {clients} drop"),
		},
	}
}

// usualIPTables returns commands that make on the target the rules that distributions install, by
// iptables or by the older kind of it. They pass some ports.
func usualIPTables(kind, ports string) (all []HostCommand) {
	for _, r := range []string{
		"-i lo -j ACCEPT", "-m state --state ESTABLISHED,RELATED -j ACCEPT",
		"-p {icmp} -j ACCEPT", "-p tcp -m multiport --dports " + ports + " -j ACCEPT", "-j REJECT",
	} {
		all = append(all, HostCommand{OnTarget, "{iptables}" + kind + " -w -A INPUT " + r})
	}
	return all
}

func returnFaults() []Fault {
	raw := []string{Raw}
	at := func(production, target []string) map[string][]string {
		return map[string][]string{OnProduction: production, OnTarget: target}
	}
	return []Fault{
		{
			Name: "reverse-path",
			Help: "the target's route to clients leads elsewhere, rp_filter=1",
			Ways: raw, Finds: at([]string{"TC0215"}, []string{"TC0204", "TC0304"}),
			Witnessed: []string{"TC0204", "TC0304"}, only4: true,
			Make: []HostCommand{
				{OnTarget, "ip link add other type veth peer name other1"},
				{OnTarget, "ip link set other up; ip link set other1 up"},
				{OnTarget, "ip route replace {clients} dev other"},
				{OnTarget, "sysctl -w net.ipv4.conf.eth0.rp_filter=1"},
			},
		},
		{
			Name: "return-route", Help: "the target has no route to the clients",
			Ways: raw, Finds: at([]string{"TC0215"}, []string{"TC0304"}),
			Witnessed: []string{"TC0304"},
			Make:      []HostCommand{{OnTarget, "ip route del {clients}"}},
		},
		{
			Name: "return-elsewhere", Help: "a more specific route leads past the assistant",
			Ways: raw, Finds: at(nil, []string{"TC0304"}),
			Witnessed: []string{"TC0304"},
			Make:      []HostCommand{{OnTarget, "ip route add {client} dev eth0"}},
		},
		{
			Name: "forwarding", Help: "the assistant forwards packets",
			Ways: raw, Finds: found(OnAssistant, "TC0301"), only4: true,
			Make: []HostCommand{{OnAssistant, "sysctl -w net.ipv4.ip_forward=1"}},
		},
		{
			Name: "forwarding6", Help: "the assistant forwards IPv6 packets",
			Ways: raw, Finds: found(OnAssistant, "TC0301"),
			Make: []HostCommand{{OnAssistant, "sysctl -w net.ipv6.conf.all.forwarding=1"}},
		},
		{
			Name: "answer-filter", Help: "the intercept's -F names the wrong direction",
			Ways: raw, Finds: both(OnProduction, OnAssistant, "TC0302"),
			intercept: replacing("src port", "dst port"),
		},
		{
			Name: "answer-interface", Help: "the intercept's -i names another interface",
			Ways: raw, Finds: both(OnProduction, OnAssistant, "TC0305"),
			intercept: replacing("eth0", "lo"),
		},
		{
			Name: "own-address", Help: "-c names an address of this host",
			Ways: raw, Unmended: true, Finds: found(OnProduction, "TC0303"),
			copy: adding("-c", "10.77.2.1,fd77:2::1"),
		},
	}
}

// pathFaults are those of the network between production, the target and the assistant: the switch
// does to the clients' packets what a cloud or a router does.
func pathFaults() []Fault {
	raw := []string{Raw}
	onSwitch := func(rules ...string) []HostCommand {
		all := []HostCommand{
			{OnSwitch, "nft add table bridge lab"},
			{OnSwitch, "nft 'add chain bridge lab forward { type filter hook forward " +
				"priority 10; }'"},
		}
		for _, r := range rules {
			all = append(all, HostCommand{OnSwitch, "nft add rule bridge lab forward " + r})
		}
		return all
	}
	return []Fault{
		{
			Name: "foreign-dropped", Help: "production's port passes its own addresses only",
			Ways: raw, Finds: found(OnProduction, "TC0214"), Witnessed: []string{"TC0214"},
			Suspects: found(OnTarget, "TC0213"),
			Unmended: true,
			Make:     onSwitch("iifname t-production {ip} saddr {clients} drop"),
		},
		{
			Name: "foreign-blocked", Help: "the target's port passes no client's address",
			Ways: raw, Finds: found(OnProduction, "TC0215"), Witnessed: []string{"TC0214"},
			Unmended: true,
			Make:     onSwitch("oifname t-target {ip} saddr {clients} drop"),
		},
		{
			Name: "answers-lost", Help: "the network delivers no answer to the assistant",
			Ways: raw, Finds: found(OnProduction, "TC0215"), Witnessed: []string{"TC0306"},
			Unmended: true,
			Make:     onSwitch("iifname t-target {ip} daddr {clients} drop"),
		},
		{
			Name: "masquerade", Help: "a router gives the clients' packets an address of its own",
			Ways: raw, Finds: found(OnProduction, "TC0214"), Witnessed: []string{"TC0218"},
			Unmended: true,
			Make: onSwitch("iifname t-production {ip} saddr {clients} tcp dport 8080 " +
				"{ip} saddr set {nobody}"),
		},
		{
			Name: "dnat", Help: "a router passes the clients' packets on to another address",
			Ways: raw, Finds: found(OnProduction, "TC0218"),
			Make: append(onSwitch("iifname t-production {ip} saddr {clients} {ip} daddr {target} "+
				"tcp dport 8080 {ip} daddr set {second}"),
				HostCommand{OnTarget, "ip addr add {second} dev eth0"}),
		},
		{
			Name: "stateful-path",
			Help: "a stateful firewall sees one direction: it passes the SYN, and nothing else",
			Ways: raw, Finds: found(OnProduction, "TC0219"), Unmended: true,
			copy: adding("-t", "1"),
			Make: onSwitch("iifname t-production {ip} saddr {clients} " +
				"'tcp flags & (syn | rst) == 0 drop'"),
		},
		{
			Name: "twin", Help: "another copier copies the same clients to the same target",
			Ways: []string{Raw, Tunnel}, Finds: found(OnProduction, "TC0216"), Unmended: true,
			twin: true,
		},
	}
}

func linkFaults() []Fault {
	linked := []string{Raw, Tunnel}
	return []Fault{
		{
			Name: "no-intercept", Help: "no intercept runs",
			Ways: linked, Finds: found(OnProduction, "TC0501"), intercept: notStarted,
		},
		{
			Name: "link-blocked", Help: "a firewall drops packets to the assistant's intercept",
			Ways: []string{Raw}, Make: nft(OnAssistant, "input", "tcp dport 36524 drop"),
			Finds: map[string][]string{OnProduction: {"TC0502"}, OnAssistant: {"TC0205"}},
		},
		{
			Name: "link-blocked-on-target",
			Help: "a firewall drops packets to the target's intercept",
			Ways: []string{Tunnel}, Make: nft(OnTarget, "input", "tcp dport 36524 drop"),
			Finds: map[string][]string{OnProduction: {"TC0502"}, OnTarget: {"TC0205"}},
		},
		{
			Name: "link-blocked-here", Help: "a firewall on production drops the link's packets",
			Ways: linked, Finds: found(OnProduction, "TC0205"),
			Make: nft(OnProduction, "output", "tcp dport 36524 drop"),
		},
		{
			Name: "link-slow", Help: "the link is slower than the target's answers come",
			Ways: []string{Raw}, Unmended: true,
			Finds: both(OnProduction, OnAssistant, "TC0506"),
			Make: []HostCommand{{OnAssistant,
				"tc qdisc add dev eth0 root tbf rate 16kbit burst 2kb limit 1mb"}},
		},
		{
			Name: "wrong-key", Help: "copier and intercept have different keys",
			Ways: linked, Unmended: true,
			Finds: found(OnProduction, "TC0503"), copy: replacing("/key", "/other"),
		},
		{
			Name: "no-key", Help: "the copier has no key",
			Ways: linked, Finds: found(OnProduction, "TC0503"),
			copy: func(args []string) []string {
				i := slices.Index(args, "--key")
				return slices.Delete(slices.Clone(args), i, i+2)
			},
		},
		{
			Name: "not-allowed", Help: "the intercept's --allow leaves the port out",
			Ways: []string{Tunnel}, Finds: found(OnProduction, "TC0505"),
			intercept: replacing("8080", "8081"),
		},
	}
}

// Only4 reports whether the fault exists with IPv4 only.
func (f *Fault) Only4() bool { return f.only4 }
