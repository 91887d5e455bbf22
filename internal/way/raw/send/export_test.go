package send

import "net/netip"

// Refused returns how often in a row a hop to dst has been looked up for groups, and there was
// none. It returns all if there is one.
func Refused(s *Sender, dst netip.Addr, all int) (n int) {
	h := s.groups.hops
	h.mu.Lock()
	defer h.mu.Unlock()
	k := h.known[dst]
	if k == nil {
		return 0
	}
	if k.ok {
		return all
	}
	for wait := retryHop; wait <= k.wait; wait *= 2 {
		n++
	}
	return n
}
