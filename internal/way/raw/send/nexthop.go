package send

import (
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

// PathMTU returns the MTU, in bytes with the IP header, of the path to dst that packets with the
// mark take: the least that interface, route and ICMP messages so far allow.
func PathMTU(dst netip.Addr, mark uint32) (int, error) {
	n, err := sys.PathMTU(dst, mark)
	if err != nil {
		return 0, prefix(err)
	}
	return n, nil
}

// resolveEvery is how often Resolve checks whether the neighbour has answered.
const resolveEvery = 20 * time.Millisecond

// Resolve returns the link address that packets to dst must have on the device: that of the route's
// gateway, or of dst itself. It waits at most wait for the neighbour to answer. It works in the
// network namespace of the calling thread, and needs CAP_NET_ADMIN unless the kernel knows the
// address already.
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
	via := dst
	if len(routes) > 0 {
		if gw, ok := netip.AddrFromSlice(routes[0].Gw); ok {
			via = gw.Unmap()
		}
	}
	for deadline, asked := time.Now().Add(wait), false; ; {
		n, err := neighbour(h, index, via)
		if err != nil {
			return fail(err)
		}
		if n != nil {
			return n.HardwareAddr, nil
		}
		if !time.Now().Before(deadline) {
			return fail(fmt.Errorf("the neighbour %v does not answer", via))
		}
		if !asked {
			asked = true
			if err := solicit(h, index, via); err != nil {
				return fail(err)
			}
		}
		time.Sleep(min(resolveEvery, time.Until(deadline)))
	}
}
