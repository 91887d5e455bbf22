package tcp

// renoReduced is what RFC 5681 §3.1 equation 4 makes of the bytes in flight when one is lost.
func renoReduced(flight, mss uint32) uint32 { return max(flight/2, 2*mss) }

// renoGrowth is by how much congestion avoidance widens a window of cwnd bytes: by one segment for each
// window of acknowledged bytes (RFC 5681 §3.1 equation 3, with RFC 3465's counting of bytes).
func renoGrowth(cwnd, acked, mss uint32) uint32 {
	return max(uint32(uint64(mss)*uint64(min(acked, cwnd))/uint64(max(cwnd, 1))), 1)
}
