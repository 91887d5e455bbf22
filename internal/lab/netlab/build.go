package netlab

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"

	"tcpcopy/internal/sys"
)

// port is a cable: from a bridge of the switch to a device of a host.
type port struct {
	bridge string
	name   string // at the switch
	host   *Namespace
	device string // at the host
	addrs  []netip.Prefix
}

// The switch's bridges and the ports where packets are lost.
const (
	clientsBridge  = "clients"
	testBridge     = "test"
	productionPort = "c-production"
	targetPort     = "t-target"
)

// iflaGroup is the attribute IFLA_GROUP of rtnetlink(7), by which a request names all devices of a
// group. switchGroup is the group of the switch's devices.
const (
	iflaGroup   = 27
	switchGroup = 1
)

// settle is how long New waits for a device to carry packets.
const settle = 5 * time.Second

// sysctls of every host, below /proc/sys/net. Addresses are there at once, nothing is remembered
// between connections, and nobody forwards.
var sysctls = []struct{ name, value string }{
	{"ipv4/ip_forward", "0"},
	{"ipv6/conf/all/forwarding", "0"},
	{"ipv6/conf/all/disable_ipv6", "0"},
	{"ipv6/conf/default/accept_dad", "0"},
	{"ipv6/conf/all/accept_dad", "0"},
	{"ipv6/conf/default/accept_ra", "0"},
	{"ipv6/conf/default/router_solicitations", "0"},
	{"ipv4/conf/all/rp_filter", "0"},
	{"ipv4/conf/default/rp_filter", "0"},
	{"ipv4/tcp_no_metrics_save", "1"},
	{"ipv4/ip_local_port_range", "1024 65000"},
}

func (n *Net) build() error {
	for _, ns := range n.hosts() {
		if err := ns.Try(func() error { return setUpHost() }); err != nil {
			return fmt.Errorf("set up %s: %w", ns.Name, err)
		}
	}
	if err := n.lan.Try(n.setUpSwitch); err != nil {
		return fmt.Errorf("set up switch: %w", err)
	}
	for _, p := range n.ports() {
		plug := n.plug
		if n.isPath(p) {
			plug = n.plugRelay
		}
		if err := n.lan.Try(func() error { return plug(p) }); err != nil {
			return fmt.Errorf("connect %s to the net %q: %w", p.host.Name, p.bridge, err)
		}
		if err := p.host.Try(func() error { return n.setUpDevice(p) }); err != nil {
			return fmt.Errorf("set up %s of %s: %w", p.device, p.host.Name, err)
		}
	}
	if n.config.ViaAssistant {
		for _, target := range n.Targets {
			if err := target.Try(n.routeViaAssistants); err != nil {
				return fmt.Errorf("set up %s: %w", target.Name, err)
			}
		}
	}
	if n.config.Crowd {
		return n.crowd()
	}
	return nil
}

// crowd has all of a net be the client's own, and the production hosts know the way there.
func (n *Net) crowd() error {
	err := n.Client.Try(func() error {
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return fmt.Errorf("find device: %w", err)
		}
		own := &netlink.Route{Dst: ipNet(crowdNet), LinkIndex: lo.Attrs().Index,
			Type: syscall.RTN_LOCAL, Scope: netlink.SCOPE_HOST}
		return netlink.RouteAdd(own)
	})
	if err != nil {
		return fmt.Errorf("set up client: add %s: %w", crowdNet, err)
	}
	for _, production := range n.Productions {
		err := production.Try(func() error {
			return netlink.RouteAdd(&netlink.Route{Dst: ipNet(crowdNet),
				Gw: ClientAddr(0, false).AsSlice()})
		})
		if err != nil {
			return fmt.Errorf("set up %s: add route to %s: %w", production.Name, crowdNet, err)
		}
	}
	return nil
}

func (n *Net) ports() []port {
	var clients []netip.Prefix
	for i := range n.config.Clients {
		clients = append(clients, netip.PrefixFrom(ClientAddr(i, false), 24),
			netip.PrefixFrom(ClientAddr(i, true), 64))
	}
	both := func(v4, v6 netip.Addr) []netip.Prefix {
		return []netip.Prefix{netip.PrefixFrom(v4, 24), netip.PrefixFrom(v6, 64)}
	}
	all := []port{{clientsBridge, "c-client", n.Client, Device, clients}}
	for i, production := range n.Productions {
		all = append(all,
			port{clientsBridge, numbered(productionPort, i), production, ProductionClientDevice,
				both(ProductionAddr(i, false), ProductionAddr(i, true))},
			port{testBridge, numbered("t-production", i), production, ProductionTestDevice,
				both(productionTest(i, false), productionTest(i, true))})
	}
	for i, target := range n.Targets {
		all = append(all, port{testBridge, numbered(targetPort, i), target, Device,
			both(TargetAddr(i, false), TargetAddr(i, true))})
	}
	all = append(all, port{testBridge, "t-assistant", n.Assistant, Device,
		both(AssistantAddr4, AssistantAddr6)})
	if n.Second != nil {
		all = append(all, port{testBridge, "t-second", n.Second, Device,
			both(SecondAddr4, SecondAddr6)})
	}
	return all
}

// setUpHost prepares the namespace of the calling thread.
func setUpHost() error {
	for _, s := range sysctls {
		// Not every kernel has every one; what is needed of them shows soon enough.
		err := os.WriteFile(filepath.Join("/proc/sys/net", s.name), []byte(s.value), 0)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("set sysctl: %w", err)
		}
	}
	return linkUp("lo")
}

func (n *Net) setUpSwitch() error {
	// The bridges need no addresses of their own; these would only chatter.
	os.WriteFile("/proc/sys/net/ipv6/conf/default/disable_ipv6", []byte("1"), 0)
	for _, name := range []string{clientsBridge, testBridge} {
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.MTU, attrs.Group = name, n.config.MTU, switchGroup
		snooping := false
		if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs,
			MulticastSnooping: &snooping}); err != nil {
			return fmt.Errorf("add bridge %s: %w", name, err)
		}
		if err := linkUp(name); err != nil {
			return err
		}
	}
	return nil
}

// plug makes the cable, seen from the switch.
func (n *Net) plug(p port) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.Group = p.name, n.config.MTU, switchGroup
	veth := &netlink.Veth{LinkAttrs: attrs, PeerName: p.device, PeerMTU: uint32(n.config.MTU),
		PeerNamespace: netlink.NsFd(p.host.handle)}
	if err := netlink.LinkAdd(veth); err != nil {
		return fmt.Errorf("add veth %s: %w", p.name, err)
	}
	bridge, err := netlink.LinkByName(p.bridge)
	if err != nil {
		return fmt.Errorf("find bridge %s: %w", p.bridge, err)
	}
	if err := netlink.LinkSetMaster(veth, bridge); err != nil {
		return fmt.Errorf("add %s to bridge: %w", p.name, err)
	}
	if n.config.NoOffloads {
		if err := sys.SetOffloads(p.name, false); err != nil {
			return err
		}
	}
	return linkUp(p.name)
}

// isPath reports whether the cable is the target's path, whose devices have no offloads.
func (n *Net) isPath(p port) bool { return p.name == targetPort && n.config.TargetPath != (Path{}) }

// setUpDevice prepares the host's end of the cable.
func (n *Net) setUpDevice(p port) error {
	if n.config.NoOffloads && !n.isPath(p) {
		if err := sys.SetOffloads(p.device, false); err != nil {
			return err
		}
	}
	if err := linkUp(p.device); err != nil {
		return err
	}
	link, err := netlink.LinkByName(p.device)
	if err != nil {
		return fmt.Errorf("find device: %w", err)
	}
	for _, a := range p.addrs {
		addr := &netlink.Addr{IPNet: ipNet(a)}
		if a.Addr().Is6() {
			addr.Flags = syscall.IFA_F_NODAD
		}
		if err := netlink.AddrAdd(link, addr); err != nil {
			return fmt.Errorf("add address %s: %w", a, err)
		}
	}
	return waitRunning(p.device)
}

// routeViaAssistants sends a target's answers to clients to the assistant, or to both.
func (n *Net) routeViaAssistants() error {
	for _, ipv6 := range []bool{false, true} {
		first, second, family := AssistantAddr4, SecondAddr4, "ipv4"
		if ipv6 {
			first, second, family = AssistantAddr6, SecondAddr6, "ipv6"
		}
		routes := []netlink.Route{{Dst: ipNet(ClientNet(ipv6)), Gw: first.AsSlice()}}
		switch n.config.Spread {
		case ByAddress:
			for i := 1; i < n.config.Clients; i += 2 {
				a := ClientAddr(i, ipv6)
				routes = append(routes, netlink.Route{Dst: ipNet(netip.PrefixFrom(a, a.BitLen())),
					Gw: second.AsSlice()})
			}
		case ByFlow:
			if err := os.WriteFile("/proc/sys/net/"+family+"/fib_multipath_hash_policy",
				[]byte("1"), 0); err != nil {
				return fmt.Errorf("spread flows: %w", err)
			}
			routes[0].Gw = nil
			routes[0].MultiPath = []*netlink.NexthopInfo{{Gw: first.AsSlice()},
				{Gw: second.AsSlice()}}
		}
		if n.config.Crowd && !ipv6 {
			routes = append(routes, netlink.Route{Dst: ipNet(crowdNet), Gw: first.AsSlice()})
		}
		for _, r := range routes {
			if err := netlink.RouteAdd(&r); err != nil {
				return fmt.Errorf("add route %v: %w", r, err)
			}
		}
	}
	return nil
}

func linkUp(name string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find device %s: %w", name, err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("set device %s up: %w", name, err)
	}
	return nil
}

// waitRunning waits until the device's other end is up too: a packet sent before is lost.
func waitRunning(name string) error {
	for deadline := time.Now().Add(settle); ; time.Sleep(time.Millisecond) {
		link, err := netlink.LinkByName(name)
		if err != nil {
			return fmt.Errorf("find device %s: %w", name, err)
		}
		if state := link.Attrs().OperState; state == netlink.OperUp ||
			state == netlink.OperUnknown {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("wait for device %s: %s after %v, wanted up", name,
				link.Attrs().OperState, settle)
		}
	}
}

// removeDevices deletes the switch's devices, and with a cable's one end goes the other. All go by
// one request: for each the kernel would wait until no processor uses the device.
func (n *Net) removeDevices() error {
	return n.lan.Try(func() error {
		request := nl.NewNetlinkRequest(syscall.RTM_DELLINK, syscall.NLM_F_ACK)
		request.AddData(nl.NewIfInfomsg(syscall.AF_UNSPEC))
		request.AddData(nl.NewRtAttr(iflaGroup, nl.Uint32Attr(switchGroup)))
		_, err := request.Execute(syscall.NETLINK_ROUTE, 0)
		if err != nil && !errors.Is(err, syscall.ENODEV) { // there is none yet
			return fmt.Errorf("take lab net down: delete the switch's devices: %w", err)
		}
		return nil
	})
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
