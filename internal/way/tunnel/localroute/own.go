package localroute

import (
	"net"
	"net/netip"
)

var broadcast = netip.AddrFrom4([4]byte{255, 255, 255, 255})

// addresses returns this host's addresses, in the calling thread's namespace, and the broadcast
// addresses of its networks.
func addresses() (own, casts map[netip.Addr]bool) {
	own, casts = map[netip.Addr]bool{}, map[netip.Addr]bool{}
	all, err := net.InterfaceAddrs()
	if err != nil {
		return own, casts
	}
	for _, a := range all {
		n, ok := a.(*net.IPNet)
		if !ok {
			continue
		}
		ip, ok := netip.AddrFromSlice(n.IP)
		if !ok {
			continue
		}
		ip = ip.Unmap()
		own[ip] = true
		// A /31 has no broadcast address (RFC 3021).
		if ones, bits := n.Mask.Size(); ip.Is4() && bits == 32 && ones < 31 {
			last := ip.As4()
			for i := range last {
				last[i] |= ^n.Mask[i]
			}
			casts[netip.AddrFrom4(last)] = true
		}
	}
	return own, casts
}
