package tcp

import (
	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/packet"
)

// processSACK marks the segments in flight that the SACK blocks of s cover entirely (RFC 2018 §5).
// Blocks that report a duplicate (RFC 2883 §4), or lie outside what is in flight, mark nothing.
func (c *Conn) processSACK(now mono.Time, s *packet.Segment, got *delivery) {
	n := min(int(s.Opts.NSACK), packet.MaxSACKBlocks)
	if n == 0 {
		return
	}
	una := c.seq(c.una)
	flying := int(c.nxt - c.una)
	for i := 0; i < n; i++ {
		b := s.Opts.SACK[i]
		first, end := b.First.Sub(una), b.End.Sub(una)
		if i == 0 && c.isDuplicate(s, first, end) {
			got.twice = true
			got.probeDup = c.probeEnd != 0 && b.End == c.seq(c.probeEnd)
			continue
		}
		if first < 0 || end > flying || first >= end {
			continue
		}
		c.markSacked(now, s, c.una+uint64(first), c.una+uint64(end), got)
	}
}

// isDuplicate reports whether the first block of s reports a segment that arrived twice: the block
// is acknowledged already, or lies in the second block. first and end are relative to una.
func (c *Conn) isDuplicate(s *packet.Segment, first, end int) bool {
	if end <= first || -first > 1<<30 {
		return false
	}
	if end <= 0 {
		return true
	}
	if s.Opts.NSACK < 2 {
		return false
	}
	a, b := s.Opts.SACK[0], s.Opts.SACK[1]
	return b.First.LessEq(a.First) && a.End.LessEq(b.End)
}

// markSacked marks the segments that lie in the positions [first, end) as arrived.
func (c *Conn) markSacked(now mono.Time, s *packet.Segment, first, end uint64, got *delivery) {
	i := c.flight.find(first, c.una)
	if i >= c.flight.len() {
		return
	}
	start := c.flight.start(i, c.una)
	recs := c.flight.recs[c.flight.head+i:]
	for i := range recs {
		r := &recs[i]
		n := uint32(r.end - start)
		start = r.end
		if r.end > end {
			return
		}
		if r.flags&segSacked != 0 {
			continue
		}
		if r.flags&segLost != 0 {
			c.lost -= n
		}
		r.flags = r.flags&^segLost | segSacked
		c.sacked += n
		c.nsacked++
		got.bytes += n
		got.sacked += n
		if r.flags&segResent == 0 {
			got.sackedAt = max(got.sackedAt, r.at)
		}
		c.rackDelivered(now, s, r)
		if c.bbr != nil {
			c.arrived(now, r)
		}
	}
}

// forgetSACK forgets all SACK blocks: the target has discarded what it had reported (RFC 2018 §8).
func (c *Conn) forgetSACK() {
	for i := 0; i < c.flight.len(); i++ {
		c.flight.at(i).flags &^= segSacked
	}
	c.sacked, c.nsacked = 0, 0
}

// dupAck counts a duplicate ACK, without SACK, as the arrival of one segment (RFC 5681 §3.2, RFC
// 6582).
func (c *Conn) dupAck(got *delivery) {
	if int(c.dupAcks) >= c.flight.len() {
		return
	}
	c.dupAcks++
	got.bytes += uint32(c.mss)
	c.countDupAcks()
}

// countDupAcks sets sacked to the bytes that the duplicate ACKs stand for, and no more than can
// have arrived.
func (c *Conn) countDupAcks() {
	c.sacked = min(c.dupAcks*uint32(c.mss), uint32(c.nxt-c.una)-c.lost)
}

// forgetDupAcks removes the duplicate ACKs of segments that are now acknowledged cumulatively: one
// of these had been missing, the others were counted when they arrived.
func (c *Conn) forgetDupAcks(got *delivery) {
	n := uint32(max(got.segs-1, 0))
	n = min(n, c.dupAcks)
	c.dupAcks -= n
	got.bytes -= min(n*uint32(c.mss), got.bytes)
	if c.una >= c.recoverTo && c.recovery != recoveryOpen {
		c.dupAcks = 0
	}
	if c.recovery == recoveryOpen {
		c.dupAcks = 0 // RFC 5681: they count from the last new acknowledgment on
	}
	c.countDupAcks()
}
