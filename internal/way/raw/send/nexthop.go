package send

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"sync/atomic"
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
	h, err := netlink.NewHandle(netlinkRoute)
	if err != nil {
		return nil, noHop(device, dst, err)
	}
	defer h.Close()
	mac, err := resolve(h, device, dst, wait)
	if err != nil {
		return nil, noHop(device, dst, err)
	}
	return mac, nil
}

func noHop(device string, dst netip.Addr, err error) error {
	return fmt.Errorf("raw output: next hop to %v on %s: %w", dst, device, err)
}

func resolve(h *netlink.Handle, device string, dst netip.Addr, wait time.Duration) (
	net.HardwareAddr, error) {
	index, via, err := nextHop(h, device, dst)
	if err != nil {
		return nil, err
	}
	for deadline, asked := time.Now().Add(wait), false; ; {
		n, err := neighbour(h, index, via)
		if err != nil {
			return nil, err
		}
		if n != nil {
			return n.HardwareAddr, nil
		}
		if !time.Now().Before(deadline) {
			return nil, fmt.Errorf("the neighbour %v does not answer", via)
		}
		if !asked {
			asked = true
			if err := solicit(h, index, via); err != nil {
				return nil, err
			}
		}
		time.Sleep(min(resolveEvery, time.Until(deadline)))
	}
}

// nextHop returns the device's index, and the neighbour there that packets to dst go to.
func nextHop(h *netlink.Handle, device string, dst netip.Addr) (
	index int, via netip.Addr, err error) {
	l, err := h.LinkByName(device)
	if err != nil {
		return 0, via, err
	}
	index, via = l.Attrs().Index, dst.Unmap()
	routes, err := h.RouteGetWithOptions(via.AsSlice(), &netlink.RouteGetOptions{OifIndex: index})
	if err != nil {
		return 0, via, err
	}
	if len(routes) > 0 {
		if gw, ok := netip.AddrFromSlice(routes[0].Gw); ok {
			via = gw.Unmap()
		}
	}
	return index, via, nil
}

// followEvery is how often NextHops looks at the kernel's tables.
const followEvery = time.Second

// NextHops follows the link addresses of the next hops to some destinations on one device, as
// routes and neighbours change.
type NextHops struct {
	device string
	handle *netlink.Handle
	to     []netip.Addr
	now    atomic.Pointer[map[netip.Addr][6]byte]
	end    chan struct{}
	ended  chan struct{}
}

// Follow finds the next hops to the destinations, and waits at most wait for each neighbour to
// answer. Then it follows them until Close, with a goroutine. See Resolve.
func Follow(device string, to []netip.Addr, wait time.Duration) (*NextHops, error) {
	h, err := netlink.NewHandle(netlinkRoute)
	if err != nil {
		return nil, prefix(err)
	}
	f := &NextHops{device: device, handle: h, to: to, end: make(chan struct{}),
		ended: make(chan struct{})}
	all := make(map[netip.Addr][6]byte, len(to))
	for _, dst := range to {
		mac, err := resolve(h, device, dst, wait)
		if err == nil && len(mac) != 6 {
			err = badMAC(mac, device)
		}
		if err != nil {
			h.Close()
			return nil, noHop(device, dst, err)
		}
		all[dst] = [6]byte(mac)
	}
	f.now.Store(&all)
	go f.run()
	return f, nil
}

// To returns the link address that packets to a destination must have.
func (f *NextHops) To(dst netip.Addr) (mac [6]byte, ok bool) {
	mac, ok = (*f.now.Load())[dst]
	return mac, ok
}

// Close ends the goroutine.
func (f *NextHops) Close() {
	close(f.end)
	<-f.ended
}

func (f *NextHops) run() {
	defer close(f.ended)
	defer f.handle.Close()
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	for {
		select {
		case <-f.end:
			return
		case <-tick.C:
			f.look()
		}
	}
}

// look looks up the next hops again. One that is not known now stays what it was. The kernel does
// not see our frames, and forgets neighbours that nobody uses: it is asked to confirm them.
func (f *NextHops) look() {
	old := *f.now.Load()
	all := maps.Clone(old)
	for _, dst := range f.to {
		index, via, err := nextHop(f.handle, f.device, dst)
		if err != nil {
			continue
		}
		n, err := neighbour(f.handle, index, via)
		if err != nil {
			continue
		}
		if n == nil || n.State == netlink.NUD_STALE {
			_ = solicit(f.handle, index, via)
		}
		if n != nil {
			all[dst] = [6]byte(n.HardwareAddr)
		}
	}
	if !maps.Equal(all, old) {
		f.now.Store(&all)
	}
}
