package tcp

import (
	"time"

	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/packet"
)

// challengeEvery is the least time between two ACKs that answer segments which carry nothing new: it
// bounds what a forger can make us send (RFC 5961 §7), and breaks loops of ACKs answering ACKs.
const challengeEvery = 500 * time.Millisecond

// pawsIdle is how long a timestamp of the target is worth comparing with (RFC 7323 §5.5).
const pawsIdle = 24 * 24 * time.Hour

// Deliver takes a segment from the target: its header; Len says how many bytes it carried. What follows
// from it is sent by the next Poll, which should come at once or after the other segments of a batch.
// s is not kept.
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

// DeliverLate is Deliver for a segment that came some time after now, as when the owner has to catch up: no round
// trip or rate is measured by it.
func (c *Conn) DeliverLate(now mono.Time, s *packet.Segment) {
	c.untimed = true
	c.Deliver(now, s)
	c.untimed = false
}

// took is how long it took to hear that r has arrived; at least, where the time is not known.
func (c *Conn) took(now mono.Time, r *sent) time.Duration {
	if c.untimed {
		return max(now.Sub(r.at), c.srtt)
	}
	return now.Sub(r.at)
}

// deliverSynchronized checks a segment in the order of RFC 9293 §3.10.7.4.
func (c *Conn) deliverSynchronized(now mono.Time, s *packet.Segment) {
	rst := s.Flags.Has(packet.RST)
	if c.phase == phaseSynReceived && s.Flags.Has(packet.SYN) && !rst && s.Seq == c.irs {
		// Theirs again, or with the acknowledgment of ours (RFC 9293 §3.5 figure 7).
		if s.Flags.Has(packet.ACK) && s.Ack == c.isn+1 {
			c.establish(now, s)
			c.dueAck()
		} else {
			c.dueSyn()
		}
		return
	}
	stamped := c.tsOK && s.Opts.HasTS
	// PAWS (RFC 7323 §5.3). A segment without the option is let through, as Linux does: there are
	// middleboxes that take it off.
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
		// A bare ACK overtaken by data that we have not acknowledged yet.
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
	c.settle()
}

// dueAck makes an ACK due, which may travel with data.
func (c *Conn) dueAck() { c.ack = max(c.ack, ackDue) }

// challenge has the segment s answered by an ACK that says where we stand: not more often than
// challengeEvery, but always where s carries data, for then our last ACK was lost.
func (c *Conn) challenge(now mono.Time, s *packet.Segment) {
	if s.Len == 0 || s.Flags.Any(packet.SYN|packet.RST) {
		if now.Sub(c.challenged) < challengeEvery {
			return
		}
		c.challenged = now
	}
	c.dueAck()
}
