package engine

import (
	"fmt"
	"net/netip"

	"tcpcopy/internal/config"
)

// checkStandIns refuses addresses in the clients' place that this host or a target has: that host's own
// kernel would receive the answers, and reset the copies. The intercept looks after its host's.
func checkStandIns(c *config.Copy, local []netip.Addr) error {
	for _, t := range c.Targets() {
		if err := standIn(c, t.Addr(), "the target's own"); err != nil {
			return err
		}
	}
	for _, a := range local {
		if err := standIn(c, a, "an address of this host"); err != nil {
			return err
		}
	}
	return nil
}

func standIn(c *config.Copy, a netip.Addr, whose string) error {
	flag := ""
	switch {
	case c.Clients != nil && c.Clients.Contains(a):
		flag = "-c"
	case c.LocalhostAs.IsValid() && c.LocalhostAs == a:
		flag = "-H"
	default:
		return nil
	}
	return &config.Problem{
		Flag: flag, Value: a.String(), What: fmt.Sprintf("is %s, which would reset the copies: wanted addresses that no host has", whose),
	}
}
