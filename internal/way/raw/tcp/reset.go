package tcp

import (
	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/packet"
)

// deliverReset processes a RST whose sequence number is d after the one that is expected next. Only
// the exact number resets; another one in the window is challenged (RFC 5961 §3.2).
func (c *Conn) deliverReset(now mono.Time, s *packet.Segment, d int64) {
	switch {
	case d == 0 && c.phase == phaseSynReceived:
		c.end(CauseRefused)
	case d == 0:
		c.end(CauseReset)
	case d > 0 && d < int64(c.rcvWindow):
		c.challenge(now, s)
	}
}

// appendResets appends the RST that ends a connection. Its sequence number must be the one that the
// target expects next (RFC 5961 §3.2), which is not known while bytes are in flight. So two are
// sent: for the case that all of these have arrived, and that none has. For the cases between, see
// ResetFor. If the ACK of the handshake is still due it goes first, so that the target's server
// sees the connection.
func (c *Conn) appendResets(now mono.Time, out []packet.Segment) []packet.Segment {
	c.phase = phaseClosed
	if c.ack != ackNone {
		out = c.appendAck(now, out, c.nxt)
	}
	if c.rcvNxt == 0 { // no answer yet: the target may have our SYN
		out = append(out, packet.Segment{})
		s := &out[len(out)-1]
		s.Src, s.Dst, s.Seq, s.Flags = c.local, c.remote, c.isn+1, packet.RST
		return out
	}
	for _, pos := range [2]uint64{c.nxt, c.una} {
		out = append(out, packet.Segment{})
		s := &out[len(out)-1]
		s.Src, s.Dst, s.Seq, s.Flags = c.local, c.remote, c.seq(max(pos, 1)), packet.RST|packet.ACK
		s.Ack = c.rseq(c.rcvNxt)
		if c.una == c.nxt {
			break
		}
	}
	return out
}

// appendFree appends the RST that ends an old connection with the same addresses.
func (c *Conn) appendFree(out []packet.Segment) []packet.Segment {
	c.old = oldNone
	out = append(out, packet.Segment{})
	s := &out[len(out)-1]
	s.Src, s.Dst, s.Seq, s.Flags = c.local, c.remote, c.oldAck, packet.RST
	return out
}

// AckFor returns the acknowledgment of a segment from the target that a connection in TIME-WAIT
// would send (RFC 9293 §3.10.7.4). It is for a FIN that is retransmitted to a connection which is
// over; the owner must remember the connection's addresses. The segment must have an ACK.
func AckFor(s *packet.Segment) packet.Segment {
	r := packet.Segment{Src: s.Dst, Dst: s.Src, Seq: s.Ack, Ack: s.End(), Flags: packet.ACK,
		Window: 65535}
	if s.Opts.HasTS {
		r.Opts.HasTS, r.Opts.TSVal, r.Opts.TSEcr = true, s.Opts.TSEcr, s.Opts.TSVal
	}
	return r
}

// ResetFor returns the RST that answers a segment from the target to an aborted connection (RFC
// 9293 §3.10.7.1), such as a challenge ACK. The owner must remember the connection as aborted,
// since another copier's must not be reset. The segment must have an ACK.
func ResetFor(s *packet.Segment) packet.Segment {
	return packet.Segment{Src: s.Dst, Dst: s.Src, Seq: s.Ack, Flags: packet.RST}
}
