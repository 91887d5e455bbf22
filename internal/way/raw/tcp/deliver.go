package tcp

import (
	"time"

	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/packet"
)

// challengeEvery is the minimum time between two challenge ACKs. It bounds what an attacker can
// make us send (RFC 5961 §7), and breaks loops of ACKs that answer ACKs.
const challengeEvery = 500 * time.Millisecond

// pawsIdle is how long a timestamp of the target remains valid for comparison (RFC 7323 §5.5).
const pawsIdle = 24 * 24 * time.Hour

// Deliver processes a segment from the target: its header, in which Len is the number of bytes that
// it carried. The next Poll sends what follows from it; the owner calls that at once, or after the
// other segments of a batch. Deliver does not keep s.
func (c *Conn) Deliver(now mono.Time, s *packet.Segment) {
	if s.Len < 0 {
		return
	}
	switch {
	case c.phase >= phaseSynReceived:
		c.deliverSynchronized(now, s)
	case c.phase == phaseSynSent:
		c.deliverSynSent(now, s)
	}
}

// DeliverLate is Deliver for a segment that arrived at an unknown time before now, as when the
// owner has to catch up. It gives no sample of the round trip or of the delivery rate.
func (c *Conn) DeliverLate(now mono.Time, s *packet.Segment) {
	c.untimed = true
	c.Deliver(now, s)
	c.untimed = false
}

// elapsed returns the time from the transmission of r to the segment that acknowledges it. If that
// segment's time is not known, it is a round trip at least.
func (c *Conn) elapsed(now mono.Time, r *sent) time.Duration {
	if c.untimed {
		return max(now.Sub(r.at), c.srtt)
	}
	return now.Sub(r.at)
}

// deliverSynchronized processes a segment in SYN-RECEIVED and later, in the order of RFC 9293
// §3.10.7.4.
func (c *Conn) deliverSynchronized(now mono.Time, s *packet.Segment) {
	rst := s.Flags.Has(packet.RST)
	if c.phase == phaseSynReceived && s.Flags.Has(packet.SYN) && !rst && s.Seq == c.irs {
		// The target's SYN again, perhaps with the acknowledgment of ours (RFC 9293 §3.5 figure 7).
		if s.Flags.Has(packet.ACK) && s.Ack == c.isn+1 {
			c.establish(now, s)
			c.dueAck()
		} else {
			c.dueSyn()
		}
		return
	}
	stamped := c.tsOK && s.Opts.HasTS
	// PAWS (RFC 7323 §5.3). A segment without the option is accepted, as Linux does: some
	// middleboxes remove it.
	if stamped && !rst && int32(s.Opts.TSVal-c.tsRecent) < 0 {
		if now.Sub(c.tsRecentAt) < pawsIdle {
			c.challenge(now, s)
			return
		}
		c.tsRecent, c.tsRecentAt = s.Opts.TSVal, now
	}

	first := int64(c.rcvNxt) + int64(s.Seq.Sub(c.rseq(c.rcvNxt)))
	end := first + int64(s.SeqLen())
	next := int64(c.rcvNxt)
	edge := next + int64(c.rcvWindow)
	if rst {
		c.deliverReset(now, s, first-next)
		return
	}
	switch {
	case first >= next && first < edge: // begins in the window
	case end > next && first < next: // ends in or after it
	case first == end && first < next && first >= int64(c.lastAck):
		// A pure ACK that data overtook which we have not acknowledged yet.
	case s.Len > 0 && end <= next && s.Flags&packet.SYN == 0:
		c.duplicate(first, end)
		return
	default:
		c.challenge(now, s)
		return
	}
	if s.Flags.Has(packet.SYN) { // RFC 5961 §4
		c.challenge(now, s)
		return
	}
	if !s.Flags.Has(packet.ACK) {
		return
	}
	if stamped && first <= int64(c.lastAck) { // RFC 7323 §4.3
		c.tsRecent, c.tsRecentAt = s.Opts.TSVal, now
	}
	if c.phase == phaseSynReceived {
		if s.Ack != c.isn+1 {
			return
		}
		c.establish(now, s)
	}
	if !c.processAck(now, s) {
		return
	}
	if end > first {
		c.receive(first, end, s.Flags.Has(packet.FIN))
	}
	if c.finAt != 0 || c.rcvFin != 0 {
		c.settle()
	}
}

// dueAck makes an ACK due, which may travel with data.
func (c *Conn) dueAck() { c.ack = max(c.ack, ackDue) }

// challenge makes an ACK due that tells the target our state, in answer to s. It does so not more
// often than challengeEvery unless s carries data, which shows that our last ACK was lost.
func (c *Conn) challenge(now mono.Time, s *packet.Segment) {
	if s.Len == 0 || s.Flags.Any(packet.SYN|packet.RST) {
		if now.Sub(c.challenged) < challengeEvery {
			return
		}
		c.challenged = now
	}
	c.dueAck()
}
