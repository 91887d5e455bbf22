package localroute

import (
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
)

// containersEvery is how long a list of the containers' networks is used.
const containersEvery = 10 * time.Second

// containerNetworks returns the networks of this host's own containers and virtual machines, in the
// calling thread's namespace: those of bridges without a port that leads out of the host. On
// failure the networks are not known, and it returns the ones that it found.
func containerNetworks() (all []netip.Prefix) {
	links, err := netlink.LinkList()
	if err != nil {
		return nil
	}
	for _, bridge := range inner(links) {
		addrs, err := netlink.AddrList(bridge, netlink.FAMILY_ALL)
		if err != nil {
			continue
		}
		for _, a := range addrs {
			if p, ok := prefix(a.IPNet); ok && !p.Addr().IsLinkLocalUnicast() {
				all = append(all, p)
			}
		}
	}
	return all
}

// inner returns the bridges that connect nothing but containers and virtual machines with the host.
func inner(links []netlink.Link) (all []netlink.Link) {
	outer := map[int]bool{} // bridges with another port
	for _, l := range links {
		if t := l.Type(); t != "veth" && t != "tuntap" {
			outer[l.Attrs().MasterIndex] = true
		}
	}
	for _, l := range links {
		if l.Type() == "bridge" && !outer[l.Attrs().Index] {
			all = append(all, l)
		}
	}
	return all
}

func prefix(n *net.IPNet) (netip.Prefix, bool) {
	if n == nil {
		return netip.Prefix{}, false
	}
	a, ok := netip.AddrFromSlice(n.IP)
	ones, bits := n.Mask.Size()
	if !ok || bits == 0 {
		return netip.Prefix{}, false
	}
	return netip.PrefixFrom(a.Unmap(), ones).Masked(), true
}

// contained reports whether an address is one of the host's own containers. The lock is held.
func (h *Host) contained(a netip.Addr) bool {
	return slices.ContainsFunc(h.containers, func(p netip.Prefix) bool { return p.Contains(a) })
}
