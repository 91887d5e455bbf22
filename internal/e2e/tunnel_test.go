package e2e

import (
	"fmt"
	"net/netip"
)

// onTarget starts an intercept on the target. Copiers started later use it.
func (s *stand) onTarget(args ...string) *process {
	s.t.Helper()
	args = append([]string{"intercept", "--on-target", "-p", fmt.Sprint(interceptPort), "--key", s.key()}, args...)
	p := start(s.t, s.net.Target, "intercept", binary, args...)
	p.awaitOutput("tcpcopy: ready")
	s.intercepts = []netip.AddrPort{netip.AddrPortFrom(s.target, interceptPort)}
	return p
}
