package tcp

// renoReduced returns ssthresh after a loss with so many bytes in flight (RFC 5681 §3.1 equation
// 4).
func renoReduced(flight, mss uint32) uint32 { return max(flight/2, 2*mss) }

// renoGrowth returns by how many bytes congestion avoidance increases a window of cwnd bytes: by
// one segment for each window of acknowledged bytes (RFC 5681 §3.1 equation 3, counting bytes as
// RFC 3465).
func renoGrowth(cwnd, acked, mss uint32) uint32 {
	return max(uint32(uint64(mss)*uint64(min(acked, cwnd))/uint64(max(cwnd, 1))), 1)
}
