package send

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"

	"tcpcopy/internal/sys"
)

func prefix(err error) error { return fmt.Errorf("raw output: %w", err) }

func badMAC(mac net.HardwareAddr, device string) error {
	return fmt.Errorf("raw output: link address %q on %s, wanted six bytes", mac, device)
}

func badDevice(name string, err error) error {
	return fmt.Errorf("raw output: interface %q: %w", name, err)
}

// PathMTU returns the MTU, in bytes with the IP header, of the way to dst that packets with the mark
// take. It knows what the interface, the route and ICMP messages so far have said.
func PathMTU(dst netip.Addr, mark uint32) (int, error) {
	n, err := sys.PathMTU(dst, mark)
	if err != nil {
		return 0, prefix(err)
	}
	return n, nil
}

// resolveEvery is how often Resolve looks whether the neighbour has answered.
const resolveEvery = 20 * time.Millisecond

// Resolve finds the link address that packets to dst must have on the device: the gateway's of the route
// there, or dst's own. It waits for at most wait for the neighbour to answer. It works in the network
// namespace of the calling thread, and needs CAP_NET_ADMIN unless the kernel knows the address already.
func Resolve(device string, dst netip.Addr, wait time.Duration) (net.HardwareAddr, error) {
	fail := func(err error) (net.HardwareAddr, error) {
		return nil, fmt.Errorf("raw output: next hop to %v on %s: %w", dst, device, err)
	}
	h, err := netlink.NewHandle()
	if err != nil {
		return fail(err)
	}
	defer h.Close()
	l, err := h.LinkByName(device)
	if err != nil {
		return fail(err)
	}
	index := l.Attrs().Index
	dst = dst.Unmap()
	routes, err := h.RouteGetWithOptions(dst.AsSlice(), &netlink.RouteGetOptions{OifIndex: index})
	if err != nil {
		return fail(err)
	}
	hop := dst
	if len(routes) > 0 {
		if gw, ok := netip.AddrFromSlice(routes[0].Gw); ok {
			hop = gw.Unmap()
		}
	}
	family := netlink.FAMILY_V6
	if hop.Is4() {
		family = netlink.FAMILY_V4
	}
	for deadline, asked := time.Now().Add(wait), false; ; {
		neighbours, err := h.NeighList(index, family)
		if err != nil {
			return fail(err)
		}
		for i := range neighbours {
			n := &neighbours[i]
			const usable = netlink.NUD_REACHABLE | netlink.NUD_STALE | netlink.NUD_DELAY | netlink.NUD_PROBE |
				netlink.NUD_PERMANENT
			if a, ok := netip.AddrFromSlice(n.IP); ok && a.Unmap() == hop && n.State&usable != 0 && len(n.HardwareAddr) == 6 {
				return n.HardwareAddr, nil
			}
		}
		if !time.Now().Before(deadline) {
			return fail(errors.New("the neighbour " + hop.String() + " does not answer"))
		}
		if !asked { // let the kernel ask for it, as a packet to it would
			asked = true
			err := h.NeighSet(&netlink.Neigh{
				LinkIndex: index, Family: family, Flags: netlink.NTF_USE, State: netlink.NUD_NONE, IP: hop.AsSlice(),
			})
			if err != nil {
				return fail(err)
			}
		}
		time.Sleep(min(resolveEvery, time.Until(deadline)))
	}
}
