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
// calling thread's namespace: those of bridges without a port that leads out of the host, and the
// addresses that have a route of their own to one. On failure the networks are not known, and it
// returns the ones that it found.
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
	ends := farEnds(links)
	if len(ends) == 0 {
		return all // a host may have very many routes
	}
	routes, err := netlink.RouteList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return all
	}
	return append(all, single(ends, routes)...)
}

// farEnds returns the interfaces whose other end is on this host, but not the ports of bridges.
func farEnds(links []netlink.Link) map[int]bool {
	ends := map[int]bool{}
	for _, l := range links {
		if t := l.Type(); (t == "veth" || t == "tuntap") && l.Attrs().MasterIndex == 0 {
			ends[l.Attrs().Index] = true
		}
	}
	return ends
}

// single returns the addresses that are each routed to one of these interfaces: networks without a
// bridge do so, as Calico's does. What is a gateway leads out of the host: it is one end of such a
// link where the host is a container itself.
func single(ends map[int]bool, routes []netlink.Route) (all []netip.Prefix) {
	gateways := map[netip.Addr]bool{}
	for i := range routes {
		r := &routes[i]
		hops := []*netlink.NexthopInfo{{Gw: r.Gw, Via: r.Via}}
		for _, hop := range append(hops, r.MultiPath...) {
			if a, ok := netip.AddrFromSlice(hop.Gw); ok {
				gateways[a.Unmap()] = true
			}
			if via, ok := hop.Via.(*netlink.Via); ok {
				if a, ok := netip.AddrFromSlice(via.Addr); ok {
					gateways[a.Unmap()] = true
				}
			}
		}
	}
	for i := range routes {
		r := &routes[i]
		p, ok := prefix(r.Dst)
		if ok && p.IsSingleIP() && ends[r.LinkIndex] && r.Gw == nil && r.Via == nil &&
			!p.Addr().IsLinkLocalUnicast() && !gateways[p.Addr()] {
			all = append(all, p)
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
