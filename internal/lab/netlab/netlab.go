// Package netlab makes a small network out of network namespaces on this machine: a client, a
// production host, a test host and an assistant host, with the routes of TCPCopy's classic layout.
//
//	client ──┐ 10.77.1.0/24, fd77:1::/64
//	         ├── production ──┐ 10.77.2.0/24, fd77:2::/64
//	                      ├── target
//	                      └── assistant (there may be a second one)
//
// There can be more production hosts, and more targets, each with an address of its own on the same
// nets.
//
// Both nets are bridges in one more namespace, the switch, where packets can be lost on purpose.
// Everything is anonymous: no name, no file, no firewall rule outside; it is gone when Close has
// returned and the sockets made in it are closed, or when the process dies.
//
// It knows nothing of copying. The lab (tcpcopy lab) and end-to-end tests call it.
package netlab

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
)

// MaxClients is how many addresses the client can have.
const MaxClients = 200

// MaxHosts is how many production hosts there can be, and how many targets.
const MaxHosts = 8

// Loss is the percentage of TCP packets that are lost on the way to a host or from it.
type Loss struct {
	ToTarget, FromTarget float64 // on the test net
	// on the client net: lost before production, and so before a capture there
	ToProduction, FromProduction float64
}

// Config describes a net. Its zero value is the classic layout without loss and with offloads.
type Config struct {
	Clients     int  // client addresses of each family; 0 means 4
	MTU         int  // of every device, in bytes; 0 means 1500
	NoOffloads  bool // no checksum or segmentation offload, no GRO: packets as on a wire
	Loss        Loss
	TargetPath  Path // between the switch and the target; its zero value is a plain cable
	Productions int  // production hosts; 0 means 1. Loss is that of the first alone
	Targets     int  // targets; 0 means 1. Loss and TargetPath are those of the first alone
	Crowd       bool // the client has all of CrowdAddr besides

	// ViaAssistant gives the target its route to the client net through the assistant, as the raw
	// way needs it. Without it the target knows no way to the clients.
	ViaAssistant bool
	// Spread, with ViaAssistant, makes a second assistant host, and says which of the target's
	// answers go there.
	Spread Spread
}

// Spread selects how the target's answers are spread over two assistants.
type Spread uint8

// The ways to spread answers.
const (
	NoSpread  Spread = iota // there is one assistant
	ByAddress               // those to clients with an odd number go to the second
	ByFlow                  // of equal routes each flow takes one, by a hash of addresses and ports
)

// Net is a network of namespaces. Close removes it.
type Net struct {
	Client, Production, Target, Assistant *Namespace
	// all production hosts; the first is Production
	Productions []*Namespace
	Targets     []*Namespace // all targets; the first is Target
	Second      *Namespace   // assistant; nil without Config.Spread

	lan        *Namespace // the switch
	relay      *relay     // nil: there is none
	containers []*Namespace
	config     Config
}

// The devices inside the hosts: eth0 is the client net's at client and production, and the test
// net's at target and assistant.
const (
	ProductionClientDevice = "eth0" // of the production host, towards the clients
	ProductionTestDevice   = "eth1" // of the production host, towards target and assistant
	Device                 = "eth0" // of every other host
)

// The addresses of the hosts.
var (
	ProductionAddr4 = netip.MustParseAddr("10.77.1.1") // where the clients reach production
	ProductionAddr6 = netip.MustParseAddr("fd77:1::1")
	ProductionTest4 = netip.MustParseAddr("10.77.2.1") // production on the test net
	ProductionTest6 = netip.MustParseAddr("fd77:2::1")
	TargetAddr4     = netip.MustParseAddr("10.77.2.2")
	TargetAddr6     = netip.MustParseAddr("fd77:2::2")
	AssistantAddr4  = netip.MustParseAddr("10.77.2.3")
	AssistantAddr6  = netip.MustParseAddr("fd77:2::3")
	SecondAddr4     = netip.MustParseAddr("10.77.2.4") // the second assistant
	SecondAddr6     = netip.MustParseAddr("fd77:2::4")

	clientNet4 = netip.MustParsePrefix("10.77.1.0/24")
	clientNet6 = netip.MustParsePrefix("fd77:1::/64")
	crowdNet   = netip.MustParsePrefix("10.78.0.0/16")
)

// ProductionAddr is where the clients reach the i-th production host, from 0 to below
// Config.Productions.
func ProductionAddr(i int, ipv6 bool) netip.Addr {
	return nth(ProductionAddr4, ProductionAddr6, i, ipv6)
}

// TargetAddr is the i-th target's, from 0 to below Config.Targets.
func TargetAddr(i int, ipv6 bool) netip.Addr {
	if i > 0 {
		i += 18 // the nearer ones are others'
	}
	return nth(TargetAddr4, TargetAddr6, i, ipv6)
}

// productionTest is the i-th production host's on the test net.
func productionTest(i int, ipv6 bool) netip.Addr {
	if i > 0 {
		i += 9
	}
	return nth(ProductionTest4, ProductionTest6, i, ipv6)
}

// CrowdAddr is the i-th of a crowd of clients, from 0 to below 65,536: addresses that the client
// has with Config.Crowd without a line for each. They are IPv4 alone.
func CrowdAddr(i int) netip.Addr {
	a := crowdNet.Addr().As4()
	a[2], a[3] = byte(i>>8), byte(i)
	return netip.AddrFrom4(a)
}

// nth is the address i after the first of its family.
func nth(first4, first6 netip.Addr, i int, ipv6 bool) netip.Addr {
	if ipv6 {
		a := first6.As16()
		a[15] += byte(i)
		return netip.AddrFrom16(a)
	}
	a := first4.As4()
	a[3] += byte(i)
	return netip.AddrFrom4(a)
}

// ClientNet is the net of the clients.
func ClientNet(ipv6 bool) netip.Prefix {
	if ipv6 {
		return clientNet6
	}
	return clientNet4
}

// ClientAddr is the client's i-th address, from 0 to below Config.Clients.
func ClientAddr(i int, ipv6 bool) netip.Addr {
	if ipv6 {
		a := clientNet6.Addr().As16()
		a[15] = byte(10 + i)
		return netip.AddrFrom16(a)
	}
	a := clientNet4.Addr().As4()
	a[3] = byte(10 + i)
	return netip.AddrFrom4(a)
}

// New makes the net. If it fails, nothing is left of it. If a permission is missing, the error is a
// *PermissionError.
func New(config Config) (n *Net, err error) {
	if config.Clients == 0 {
		config.Clients = 4
	}
	if config.MTU == 0 {
		config.MTU = 1500
	}
	if config.Clients < 1 || config.Clients > MaxClients {
		return nil, fmt.Errorf("make lab net: %d client addresses, wanted 1 to %d", config.Clients,
			MaxClients)
	}
	if config.MTU < 1280 || config.MTU > 65535 {
		return nil, fmt.Errorf("make lab net: MTU %d, wanted 1280 to 65535", config.MTU)
	}
	for _, hosts := range []*int{&config.Productions, &config.Targets} {
		if *hosts == 0 {
			*hosts = 1
		}
		if *hosts < 1 || *hosts > MaxHosts {
			return nil, fmt.Errorf("make lab net: %d production hosts or targets, wanted 1 to %d",
				*hosts, MaxHosts)
		}
	}
	if err := config.Loss.check(); err != nil {
		return nil, err
	}
	if err := config.TargetPath.check(); err != nil {
		return nil, err
	}
	if err := Permitted(); err != nil {
		return nil, err
	}
	n = &Net{config: config}
	defer func() {
		if err != nil {
			err = errors.Join(err, n.Close())
			n = nil
		}
	}()
	n.Productions, n.Targets = make([]*Namespace, config.Productions), make([]*Namespace,
		config.Targets)
	type host struct {
		ns   **Namespace
		name string
	}
	hosts := []host{{&n.lan, "switch"}, {&n.Client, "client"}, {&n.Assistant, "assistant"}}
	for i := range n.Productions {
		hosts = append(hosts, host{&n.Productions[i], numbered("production", i)})
	}
	for i := range n.Targets {
		hosts = append(hosts, host{&n.Targets[i], numbered("target", i)})
	}
	for _, h := range hosts {
		if *h.ns, err = newNamespace(h.name); err != nil {
			return n, err
		}
	}
	n.Production, n.Target = n.Productions[0], n.Targets[0]
	if config.Spread != NoSpread {
		if n.Second, err = newNamespace("second"); err != nil {
			return n, err
		}
	}
	if err := n.build(); err != nil {
		return n, err
	}
	return n, n.SetLoss(config.Loss)
}

// numbered is the name of the i-th host of its kind.
func numbered(name string, i int) string {
	if i == 0 {
		return name
	}
	return fmt.Sprint(name, i+1)
}

// Namespaces lists the hosts, with containers and the switch last.
func (n *Net) Namespaces() []*Namespace {
	return append(append(n.hosts(), n.containers...), n.lan)
}

func (n *Net) hosts() []*Namespace {
	all := slices.Concat([]*Namespace{n.Client}, n.Productions, n.Targets,
		[]*Namespace{n.Assistant})
	if n.Second != nil {
		all = append(all, n.Second)
	}
	return all
}

// Close kills the commands that still run in the net and removes it. It may be called more than
// once.
func (n *Net) Close() error {
	var failed error
	if n.relay != nil {
		n.relay.close()
		n.relay = nil
	}
	// The devices go first: a namespace itself stands for as long as a socket in it is open.
	if n.lan != nil && !n.lan.isClosed() {
		failed = n.removeDevices()
	}
	for _, ns := range n.Namespaces() {
		if ns != nil {
			ns.close()
		}
	}
	return failed
}
