package tcp

import (
	"time"

	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/packet"
)

// synRTO is the first timeout of a SYN (RFC 6298 §2). lateRTO is the timeout of the first data
// after a SYN that was retransmitted and gave no sample of the round trip (RFC 6298 §5.7).
const (
	synRTO  = time.Second
	lateRTO = 3 * time.Second
)

// pollSyn runs the timers of the handshake.
func (c *Conn) pollSyn(now mono.Time) {
	if c.connectTimeout > 0 && now.Sub(c.opened) >= c.connectTimeout {
		c.kill(CauseConnectTimeout)
		return
	}
	if c.syn != synSent || !c.rtoAt.Reached(now) {
		return
	}
	if c.synSends > c.synRetries {
		c.kill(CauseConnectTimeout)
		return
	}
	c.dueSyn()
	c.retrans++
}

// dueSyn makes a SYN, or SYN-ACK, due. A SYN may have to wait for Leave.
func (c *Conn) dueSyn() {
	c.syn = synDue
	if c.phase == phaseSynSent && c.leaveFrom > 0 && c.synSends+1 >= c.leaveFrom {
		c.syn = synHeld
	}
}

// Leave permits the SYN that waits (Status.SynWaits) to be sent by the next Poll. If none waits, it
// does nothing.
func (c *Conn) Leave() {
	if c.syn == synHeld {
		c.syn = synDue
	}
}

// appendSyn appends the SYN, or the SYN-ACK of a simultaneous open, and sets its timer.
func (c *Conn) appendSyn(now mono.Time, out []packet.Segment) []packet.Segment {
	out = append(out, packet.Segment{})
	s := &out[len(out)-1]
	s.Src, s.Dst = c.local, c.remote
	s.Seq = c.isn
	s.Flags = packet.SYN
	s.Window = c.synWindow
	s.Opts.MSS = c.synMSS
	s.Opts.WScale, s.Opts.HasWScale = c.synShift, c.synHasShift
	s.Opts.SACKPermitted = c.synSACK
	if c.synTS {
		s.Opts.HasTS = true
		s.Opts.TSVal = c.tsAt(now)
	}
	if c.phase == phaseSynReceived {
		s.Flags |= packet.ACK
		s.Ack = c.rseq(c.rcvNxt)
		s.Opts.HasWScale = c.synHasShift && c.sndShift != noShift
		s.Opts.SACKPermitted = c.sackOK
		s.Opts.HasTS = c.tsOK
		if c.tsOK {
			s.Opts.TSEcr = c.tsRecent
		} else {
			s.Opts.TSVal = 0
		}
	}
	c.syn = synSent
	c.lastSend = now
	c.rtoAt = now.Add(min(synRTO<<c.synSends, maxRTO))
	c.synSends++
	return out
}

// noShift is sndShift if no window scaling was agreed in a simultaneous open. establish replaces
// it.
const noShift = 0xff

// deliverSynSent processes a segment in SYN-SENT (RFC 9293 §3.10.7.3), except that nothing is
// answered by a RST: an unacceptable ACK may be for another copier's SYN, or for an old
// connection's bytes.
func (c *Conn) deliverSynSent(now mono.Time, s *packet.Segment) {
	ours := s.Flags.Has(packet.ACK) && s.Ack == c.isn+1
	switch {
	case s.Flags.Has(packet.RST):
		if ours && c.synSends > 0 {
			c.end(CauseRefused)
		}
	case s.Flags.Has(packet.SYN | packet.ACK):
		if ours && c.synSends > 0 {
			c.learn(now, s)
			c.establish(now, s)
			c.ack = ackAlone
		}
	case s.Flags.Has(packet.SYN): // simultaneous open (RFC 9293 §3.5)
		c.learn(now, s)
		c.phase, c.old = phaseSynReceived, oldNone
		c.dueSyn()
	case s.Flags.Has(packet.ACK) && !ours && s.Len == 0 && c.old != oldFreed:
		c.old, c.oldAck = oldAnswered, s.Ack
	}
}

// learn stores the target's initial sequence number and options from its SYN.
func (c *Conn) learn(now mono.Time, s *packet.Segment) {
	c.irs = s.Seq
	c.rcvNxt = 1
	c.lastAck = 1
	c.peerMSS = s.Opts.MSS
	if c.peerMSS == 0 {
		c.peerMSS = uint16(c.minSegment()) // RFC 9293 §3.7.1: the default
	}
	c.tsOK = c.synTS && s.Opts.HasTS
	if c.tsOK {
		c.tsRecent, c.tsRecentAt = s.Opts.TSVal, now
	}
	c.sackOK = c.synSACK && s.Opts.SACKPermitted
	if c.synHasShift && s.Opts.HasWScale {
		c.sndShift, c.rcvShift = min(s.Opts.WScale, 14), c.synShift
	} else if c.phase == phaseSynSent && !s.Flags.Has(packet.ACK) {
		c.sndShift = noShift
	}
	c.rcvWindow = min(c.rcvWindow>>c.rcvShift, 65535) << c.rcvShift
	c.wnd = uint32(s.Window) // the window of a SYN is never scaled
	c.maxWnd = c.wnd
	c.wl1 = s.Seq
	c.setMSS()
}

// establish completes the handshake: our SYN is acknowledged.
func (c *Conn) establish(now mono.Time, s *packet.Segment) {
	if c.sndShift == noShift {
		c.sndShift = 0
	}
	c.phase = phaseEstablished
	c.una, c.nxt = 1, 1
	c.wl2 = 1
	c.rttEnd = 1
	c.syn, c.old = synSent, oldNone
	c.progressAt = now
	c.rtoAt = mono.Never
	// A sample as long as the target's own timeout measures a SYN-ACK that was lost, not the path.
	if rtt := now.Sub(c.lastSend); rtt < synRTO &&
		(c.retrans == 0 || c.tsOK && int32(s.Opts.TSEcr-c.tsAt(c.lastSend)) >= 0) {
		c.sampleRTT(now, rtt)
	}
	c.initCongestion()
}

// FreeOldConnection has the next Poll reset an old connection with the same addresses, which has
// answered our SYN with an ACK (Status.OldAck), and send the SYN again. The owner calls it once it
// knows that the old connection is nobody's. It does nothing without an OldAck.
func (c *Conn) FreeOldConnection(now mono.Time) {
	if c.old == oldAnswered {
		c.old, c.syn, c.synSends = oldFreed, synDue, 0
	}
}
