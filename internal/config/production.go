package config

import (
	"net/netip"
	"slices"
	"strconv"

	"tcpcopy/internal/source/filter"
)

// setProduction parses the ports, or addresses with ports, of production servers.
func setProduction(dst *[]netip.AddrPort) func(string) error {
	return func(s string) error {
		parts, err := list(s)
		if err != nil {
			return err
		}
		for _, p := range parts {
			var at netip.AddrPort
			if n, err := strconv.ParseUint(p, 10, 16); err == nil && n > 0 {
				at = netip.AddrPortFrom(netip.Addr{}, uint16(n))
			} else {
				a, port, err := endpoint(p)
				if err != nil || port == 0 {
					return wanted("wanted ports, or addresses with ports, such as 80 or " +
						"10.0.0.1:80, with commas")
				}
				if a.IsUnspecified() {
					a = netip.Addr{}
				}
				at = netip.AddrPortFrom(a, uint16(port))
			}
			if slices.Contains(*dst, at) {
				return wanted("is given twice: wanted each once")
			}
			if len(*dst) == filter.MaxCapturePorts {
				return wanted("is one too many: wanted %d at most", filter.MaxCapturePorts)
			}
			*dst = append(*dst, at)
		}
		return nil
	}
}
