package send

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
)

// lookup asks the kernel where packets with the mark go, for groups, which go out as frames: past
// routing and the firewall. So it finds a hop only where the frames that leave are those that the
// kernel itself would have sent, and refuses every host on which something else may happen to a
// packet on its way out.
type lookup struct {
	handle *netlink.Handle
	nft    *nftables.Conn
	mark   uint32
	checks map[int]*check // by IP version's netlink family
}

// check is the last answer to whether the host leaves packets alone.
type check struct {
	err   error
	until time.Time
}

// checkEvery is how long such an answer is believed.
const checkEvery = time.Second

// netlink protocols (linux/netlink.h).
const (
	netlinkRoute = 0
	netlinkXFRM  = 6
)

// newLookup opens connections to the kernel in the network namespace of the calling thread.
func newLookup(mark uint32) (*lookup, error) {
	handle, err := netlink.NewHandle(netlinkRoute)
	if err != nil {
		return nil, err
	}
	nft, err := nftables.New(nftables.AsLasting())
	if err != nil {
		handle.Close()
		return nil, err
	}
	return &lookup{handle: handle, nft: nft, mark: mark, checks: make(map[int]*check)}, nil
}

func (l *lookup) close() {
	l.handle.Close()
	_ = l.nft.CloseLasting()
}

// find returns the hop to dst that the kernel's routing chooses.
func (l *lookup) find(dst netip.Addr) (hop, error) {
	dst = dst.Unmap()
	family := familyOf(dst)
	if err := l.leavesAlone(family); err != nil {
		return hop{}, err
	}
	route, err := l.route(dst)
	if err != nil {
		return hop{}, err
	}
	to, err := frameDevice(l.handle, route.LinkIndex)
	if err != nil {
		return hop{}, err
	}
	if route.MTU > 0 {
		to.mtu = min(to.mtu, route.MTU)
	}
	via := dst
	if gw, ok := netip.AddrFromSlice(route.Gw); ok {
		via = gw.Unmap()
	}
	n, err := neighbour(l.handle, to.ifindex, via)
	switch {
	case err != nil:
		return hop{}, err
	case n == nil:
		return hop{}, fmt.Errorf("the neighbour %v is not known", via)
	case n.State == netlink.NUD_STALE:
		// Have the kernel confirm the neighbour, as a packet to it would.
		_ = solicit(l.handle, to.ifindex, via)
	}
	copy(to.dst[:], n.HardwareAddr)
	return to, nil
}

func familyOf(a netip.Addr) int {
	if a.Is4() {
		return netlink.FAMILY_V4
	}
	return netlink.FAMILY_V6
}

// rtnUnicast is the type of a route to elsewhere (RTN_UNICAST).
const rtnUnicast = 1

// route returns the route to dst if it is one that every packet takes.
func (l *lookup) route(dst netip.Addr) (*netlink.Route, error) {
	get := func(match bool) (*netlink.Route, error) {
		routes, err := l.handle.RouteGetWithOptions(dst.AsSlice(),
			&netlink.RouteGetOptions{Mark: l.mark, FIBMatch: match})
		if err != nil {
			return nil, err
		}
		if len(routes) != 1 {
			return nil, fmt.Errorf("%d routes to %v", len(routes), dst)
		}
		r := &routes[0]
		if r.Type != rtnUnicast || r.Encap != nil || r.Via != nil || r.MPLSDst != nil {
			return nil, errors.New("the route is not a plain one")
		}
		return r, nil
	}
	entry, err := get(true) // the table's entry: it alone shows that there are several next hops
	if err != nil {
		return nil, err
	}
	if len(entry.MultiPath) > 0 {
		return nil, errors.New("the route has several next hops")
	}
	return get(false)
}

// leavesAlone returns nil if the kernel sends packets with the mark as they are, by a route that
// depends on their destination alone.
func (l *lookup) leavesAlone(family int) error {
	now := time.Now()
	c := l.checks[family]
	if c == nil {
		c = new(check)
		l.checks[family] = c
	}
	if !now.Before(c.until) {
		c.err = errors.Join(l.checkRules(family), l.checkXFRM(family), l.checkFirewall(family))
		c.until = now.Add(checkEvery)
	}
	return c.err
}

// checkRules refuses routing rules that look at more than RTM_GETROUTE can be asked about. Those
// for a source do not matter: a raw socket's packets are routed before their source is known.
func (l *lookup) checkRules(family int) error {
	rules, err := l.handle.RuleList(family)
	if err != nil {
		return fmt.Errorf("routing rules: %w", err)
	}
	for i := range rules {
		r := &rules[i]
		if r.Tos != 0 || r.IPProto > 0 || r.Sport != nil || r.Dport != nil {
			return fmt.Errorf("routing rule %d depends on more than the destination",
				r.Priority)
		}
	}
	return nil
}

// checkXFRM refuses IPsec.
func (l *lookup) checkXFRM(family int) error {
	h, err := netlink.NewHandle(netlinkXFRM)
	if err != nil {
		return nil // the kernel has none
	}
	defer h.Close()
	policies, err := h.XfrmPolicyList(family)
	if err != nil {
		return fmt.Errorf("IPsec policies: %w", err)
	}
	if len(policies) > 0 {
		return errors.New("there are IPsec policies")
	}
	return nil
}

// frameDevice returns the part of a hop that the interface decides. It refuses an interface whose
// link header may have other than Ethernet's 14 bytes, for the kernel takes a group's IP header to
// be behind that many: they are 18 on a VLAN interface above a device without VLAN offload, and on
// whatever (bond, macvlan) is above such an interface.
func frameDevice(h *netlink.Handle, ifindex int) (hop, error) {
	link, err := h.LinkByIndex(ifindex)
	if err != nil {
		return hop{}, err
	}
	a := link.Attrs()
	const noARP = 0x80 // IFF_NOARP: the device finds the way by itself
	if a.EncapType != "ether" || a.RawFlags&noARP != 0 || len(a.HardwareAddr) != 6 {
		return hop{}, fmt.Errorf("%s is not an Ethernet interface", a.Name)
	}
	switch link.Type() {
	case "device", "veth", "bridge":
	default:
		return hop{}, fmt.Errorf("%s is an interface of type %s", a.Name, link.Type())
	}
	return hop{ifindex: ifindex, src: [6]byte(a.HardwareAddr), mtu: a.MTU}, nil
}

// usable are the states of a neighbour whose link address the kernel sends to.
const usable = netlink.NUD_REACHABLE | netlink.NUD_STALE | netlink.NUD_DELAY | netlink.NUD_PROBE |
	netlink.NUD_PERMANENT

// neighbour returns the entry of addr on the interface, or nil if its link address is not known.
func neighbour(h *netlink.Handle, ifindex int, addr netip.Addr) (*netlink.Neigh, error) {
	all, err := h.NeighList(ifindex, familyOf(addr))
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(all, func(n netlink.Neigh) bool {
		a, ok := netip.AddrFromSlice(n.IP)
		return ok && a.Unmap() == addr && n.State&usable != 0 && len(n.HardwareAddr) == 6
	})
	if i < 0 {
		return nil, nil
	}
	return &all[i], nil
}

// solicit has the kernel ask for the neighbour's link address, as a packet to it would.
func solicit(h *netlink.Handle, ifindex int, addr netip.Addr) error {
	return h.NeighSet(&netlink.Neigh{
		LinkIndex: ifindex, Family: familyOf(addr), Flags: netlink.NTF_USE, State: netlink.NUD_NONE,
		IP: addr.AsSlice(),
	})
}
