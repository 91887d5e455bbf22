package netlab

import (
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"github.com/vishvananda/netlink"
)

// ContainerBridge is the bridge that a container is behind on its host, with Docker's name for it.
const ContainerBridge = "docker0"

// The address of a container, and of its host towards it.
var (
	ContainerAddr4 = netip.MustParseAddr("172.17.0.2")
	ContainerAddr6 = netip.MustParseAddr("fd17::2")

	bridgeAddr4 = netip.MustParseAddr("172.17.0.1")
	bridgeAddr6 = netip.MustParseAddr("fd17::1")
)

// ContainerNet is the net of a host's containers.
func ContainerNet(ipv6 bool) netip.Prefix {
	if ipv6 {
		return netip.PrefixFrom(ContainerAddr6, 64).Masked()
	}
	return netip.PrefixFrom(ContainerAddr4, 16).Masked()
}

// Contain makes a container on a host, called "container": a namespace behind a bridge, whose
// default route is the host. The host forwards nothing, and publishes no port.
func (n *Net) Contain(host *Namespace) (*Namespace, error) {
	ns, err := newNamespace("container")
	if err != nil {
		return nil, err
	}
	n.containers = append(n.containers, ns)
	if err := ns.Try(setUpHost); err != nil {
		return nil, fmt.Errorf("set up container: %w", err)
	}
	if err := host.Try(func() error { return n.addBridge(ns) }); err != nil {
		return nil, fmt.Errorf("connect a container to %s: %w", host.Name, err)
	}
	err = ns.Try(func() error {
		if err := n.setUpDevice(port{device: Device, addrs: []netip.Prefix{
			netip.PrefixFrom(ContainerAddr4, 16), netip.PrefixFrom(ContainerAddr6, 64),
		}}); err != nil {
			return err
		}
		for _, gateway := range []netip.Addr{bridgeAddr4, bridgeAddr6} {
			all := &net.IPNet{IP: make(net.IP, gateway.BitLen()/8),
				Mask: net.CIDRMask(0, gateway.BitLen())}
			route := &netlink.Route{Dst: all, Gw: gateway.AsSlice()}
			if err := netlink.RouteAdd(route); err != nil {
				return fmt.Errorf("add route through %s: %w", gateway, err)
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("set up container: %w", err)
	}
	return ns, nil
}

// addBridge makes the bridge in the thread's namespace, with a cable to the container.
func (n *Net) addBridge(container *Namespace) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = ContainerBridge, n.config.MTU
	snooping := false
	bridge := &netlink.Bridge{LinkAttrs: attrs, MulticastSnooping: &snooping}
	if err := netlink.LinkAdd(bridge); err != nil {
		return fmt.Errorf("add bridge: %w", err)
	}
	attrs.Name = "veth0"
	veth := &netlink.Veth{LinkAttrs: attrs, PeerName: Device, PeerMTU: uint32(n.config.MTU),
		PeerNamespace: netlink.NsFd(container.handle)}
	if err := netlink.LinkAdd(veth); err != nil {
		return fmt.Errorf("add veth: %w", err)
	}
	if err := netlink.LinkSetMaster(veth, bridge); err != nil {
		return fmt.Errorf("add veth to bridge: %w", err)
	}
	for _, name := range []string{attrs.Name, ContainerBridge} {
		if err := linkUp(name); err != nil {
			return err
		}
	}
	for _, a := range []netip.Prefix{
		netip.PrefixFrom(bridgeAddr4, 16), netip.PrefixFrom(bridgeAddr6, 64),
	} {
		addr := &netlink.Addr{IPNet: ipNet(a)}
		if a.Addr().Is6() {
			addr.Flags = syscall.IFA_F_NODAD
		}
		if err := netlink.AddrAdd(bridge, addr); err != nil {
			return fmt.Errorf("add address %s: %w", a, err)
		}
	}
	return nil
}
