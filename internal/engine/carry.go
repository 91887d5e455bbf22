package engine

import (
	"fmt"
	"math"
	"net/netip"
	"os"

	"tcpcopy/internal/config"
)

// portRange is where the kernel says from which ports it connects.
const portRange = "/proc/sys/net/ipv4/ip_local_port_range"

// checkPorts refuses more copies of one session than there are ports to connect from: the copies of a
// single connection would not fit.
func checkPorts(c *config.Copy) error {
	if c.Via != config.ViaSocket {
		return nil // no fewer than 64,512 ports, which is more copies than may be asked for
	}
	text, err := os.ReadFile(portRange)
	if err != nil {
		return nil // then it is counted when it happens
	}
	var low, high int
	if _, err := fmt.Sscan(string(text), &low, &high); err != nil || high < low {
		return nil
	}
	for i, m := range c.Mappings {
		for _, t := range m.Targets {
			from := 1
			if len(c.Bind) > 0 {
				from = ofFamily(c.Bind, t.Addr.Addr())
			}
			n := int(math.Ceil(c.Of(i).Copies))
			if room := from * (high - low + 1); n > room {
				return &config.Problem{
					Flag: "-n", Value: fmt.Sprint(c.Of(i).Copies),
					What: fmt.Sprintf("has more copies of one session than there are addresses and ports to connect to %s from: wanted at most %d", t.Addr, room),
					Hint: "more addresses of this host with --bind, or more ports in " + portRange,
				}
			}
		}
	}
	return nil
}

func ofFamily(all []netip.Addr, a netip.Addr) (n int) {
	for _, b := range all {
		if b.Is4() == a.Is4() {
			n++
		}
	}
	return n
}
