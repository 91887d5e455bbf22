package collect

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/vishvananda/netlink"

	"tcpcopy/internal/doctor"
	"tcpcopy/internal/way/raw/intercept"
)

const procSys = "/proc/sys"

// interfaces lists the interfaces of this namespace.
func interfaces() (all []doctor.Interface) {
	links, err := netlink.LinkList()
	if err != nil {
		return nil
	}
	names, over := map[int]string{}, map[string][]string{}
	for _, l := range links {
		names[l.Attrs().Index] = l.Attrs().Name
	}
	for _, l := range links {
		a := l.Attrs()
		if above := names[a.MasterIndex]; a.MasterIndex != 0 && above != "" {
			over[above] = append(over[above], a.Name)
		}
		// What veth has there is an index in another namespace.
		below := names[a.ParentIndex]
		if a.ParentIndex != 0 && below != "" && l.Type() != "veth" {
			over[a.Name] = append(over[a.Name], below)
		}
	}
	every := number("net/ipv4/conf/all/rp_filter")
	for _, l := range links {
		a := l.Attrs()
		running := a.OperState == netlink.OperUp || a.OperState == netlink.OperUnknown
		all = append(all, doctor.Interface{
			Name: a.Name, Up: a.Flags&net.FlagUp != 0 && running,
			Loopback: a.Flags&net.FlagLoopback != 0, MTU: a.MTU,
			ReversePath: max(every, number(filepath.Join("net/ipv4/conf", a.Name, "rp_filter"))),
			Over:        over[a.Name],
		})
	}
	return all
}

// number reads a sysctl by its path below /proc/sys; 0 if there is none.
func number(path string) int {
	b, err := os.ReadFile(filepath.Join(procSys, path))
	if err != nil {
		return 0
	}
	n, _ := strconv.Atoi(strings.TrimSpace(string(b)))
	return n
}

// conntrack returns how full the connection tracking table is, or nil if there is none.
func conntrack() *doctor.Conntrack {
	most := number("net/netfilter/nf_conntrack_max")
	if most == 0 {
		return nil
	}
	return &doctor.Conntrack{Count: number("net/netfilter/nf_conntrack_count"), Max: most}
}

// noForwarding returns the sysctls that keep this host from passing packets on.
func noForwarding() (all []string) {
	for _, path := range []string{"net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"} {
		if number(path) == 0 {
			all = append(all, strings.ReplaceAll(path, "/", "."))
		}
	}
	return all
}

// forwarding returns the sysctls that have this host forward what comes in on the devices.
func forwarding(devices []string) (on []string, failed string) {
	err := intercept.CheckForwarding(procSys, devices)
	var forwards *intercept.ForwardingError
	switch {
	case errors.As(err, &forwards):
		return []string{forwards.Sysctl}, ""
	case err != nil:
		return nil, err.Error()
	}
	return nil, ""
}

// route asks the kernel how packets leave for an address.
func route(to netip.Addr) (r doctor.Route) {
	if !to.IsValid() {
		return doctor.Route{Err: "no address"}
	}
	r.Refuses = refusingRoute(to)
	found, err := netlink.RouteGet(to.AsSlice())
	if err != nil {
		r.Err = err.Error()
		return r
	}
	if len(found) == 0 {
		return doctor.Route{Err: "no route"}
	}
	if l, err := netlink.LinkByIndex(found[0].LinkIndex); err == nil {
		r.Device = l.Attrs().Name
	}
	if a, ok := netip.AddrFromSlice(found[0].Gw); ok {
		r.Gateway = a.Unmap()
	}
	if a, ok := netip.AddrFromSlice(found[0].Src); ok {
		r.Source = a.Unmap()
	}
	return r
}

// refusals are the types of routes that refuse packets, as ip names them.
var refusals = map[int]string{
	syscall.RTN_UNREACHABLE: "unreachable", syscall.RTN_BLACKHOLE: "blackhole",
	syscall.RTN_PROHIBIT: "prohibit",
}

// refusingRoute returns the route that refuses packets to an address, as ip names it; empty if the
// most specific route does not. Routes to everywhere are left out: IPv6 has one of its own.
func refusingRoute(to netip.Addr) string {
	family := netlink.FAMILY_V4
	if to.Is6() {
		family = netlink.FAMILY_V6
	}
	all, err := netlink.RouteListFiltered(family, &netlink.Route{Table: syscall.RT_TABLE_MAIN},
		netlink.RT_FILTER_TABLE)
	if err != nil {
		return ""
	}
	longest, refuses := 0, ""
	for i := range all {
		r := &all[i]
		if r.Dst == nil || !r.Dst.Contains(to.AsSlice()) {
			continue
		}
		bits, of := r.Dst.Mask.Size()
		if bits <= longest {
			continue
		}
		longest, refuses = bits, ""
		if word, known := refusals[r.Type]; known {
			refuses = word + " " + r.Dst.String()
			if bits == of {
				refuses = word + " " + r.Dst.IP.String()
			}
		}
	}
	return refuses
}

// neighbour returns the state of the next hop's link address: failed, reachable, or empty if the
// kernel knows none.
func neighbour(t *doctor.TargetFacts) string {
	hop := t.Addr.Addr()
	if t.Route.Gateway.IsValid() {
		hop = t.Route.Gateway
	}
	l, err := netlink.LinkByName(t.Route.Device)
	if err != nil {
		return ""
	}
	family := netlink.FAMILY_V4
	if hop.Is6() {
		family = netlink.FAMILY_V6
	}
	all, err := netlink.NeighList(l.Attrs().Index, family)
	if err != nil {
		return ""
	}
	for _, n := range all {
		a, _ := netip.AddrFromSlice(n.IP)
		switch {
		case a.Unmap() != hop:
		case n.State&(netlink.NUD_FAILED|netlink.NUD_INCOMPLETE) != 0:
			return "failed"
		default:
			return "reachable"
		}
	}
	return ""
}

// returnPaths returns the routes of answers to clients.
func (c *collector) returnPaths(clients []netip.Addr) (all []doctor.ReturnPath) {
	if c.Role != doctor.Target || len(c.Ports) == 0 {
		return nil
	}
	for _, a := range clients {
		all = append(all, doctor.ReturnPath{
			Client: a, Port: c.Ports[0], Route: route(a), Assistant: c.Assistant,
		})
	}
	return all
}
