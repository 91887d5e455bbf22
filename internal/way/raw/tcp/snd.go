package tcp

import (
	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/packet"
)

// maxBurst bounds the segments that one Poll returns. If there are more, Poll asks to be called at
// once.
const maxBurst = 256

// Poll runs the timers that are due and appends the segments to out that are to be sent now. Their
// payloads are views of the Source, valid until the next call of any method. Poll returns when it
// must be called again if nothing happens before: now if there is more to send, mono.Never if no
// timer runs. When nothing is due it changes nothing.
func (c *Conn) Poll(now mono.Time, out []packet.Segment) ([]packet.Segment, mono.Time) {
	switch {
	case c.phase.synchronized():
		tailProbe, windowProbe := c.timers(now)
		if !c.phase.alive() {
			break
		}
		limit := len(out) + maxBurst
		if c.bbr != nil {
			c.openPacing(now)
		}
		out = c.appendAcks(now, out)
		out = c.appendLost(now, out, limit)
		if tailProbe {
			out = c.appendProbe(now, out)
		}
		out = c.appendNew(now, out, limit)
		out = c.appendPersist(now, out, windowProbe)
		c.polled = c.pipe()
		if len(out) >= limit {
			return out, now
		}
	case c.phase.alive():
		c.pollSyn(now)
		if c.old == oldFreed {
			out = c.appendFree(out)
		}
		if c.syn == synDue {
			out = c.appendSyn(now, out)
		}
	}
	if c.phase == phaseReset {
		out = c.appendResets(now, out)
	}
	if c.ack != ackNone {
		out = c.appendAck(now, out, c.nxt)
	}
	return out, c.next()
}

// appendAcks appends the ACKs that must be segments of their own: that of the handshake, since a
// target with SYN cookies takes the first segment that arrives for it, and resets the connection if
// another was sent before; those that report ranges, which would take room from data; and as many
// duplicates as a target without SACK must count (RFC 5681 §4.2).
func (c *Conn) appendAcks(now mono.Time, out []packet.Segment) []packet.Segment {
	if c.ack == ackNone || len(c.ooo) == 0 && c.dsack.empty() && c.ack != ackAlone {
		c.dupAckOut = 0
		return out
	}
	n := uint8(1)
	if !c.sackOK {
		n = min(max(c.dupAckOut, 1), dupThresh+1)
	}
	for ; n > 0; n-- {
		out = c.appendAck(now, out, c.nxt)
	}
	c.dupAckOut = 0
	return out
}

// appendLost retransmits the segments that are marked as lost, oldest first.
func (c *Conn) appendLost(now mono.Time, out []packet.Segment, limit int) []packet.Segment {
	for i := 0; c.lost > 0 && i < c.flight.len() && len(out) < limit; i++ {
		r := c.flight.at(i)
		if r.flags&segLost == 0 {
			continue
		}
		if !(i == 0 && c.forceHead) {
			n := min(uint32(r.end-c.flight.start(i, c.una)), uint32(c.mss))
			if pipe := c.pipe(); pipe > 0 && pipe+n > c.cwnd {
				break
			}
			if i > 0 && r.end > c.una+uint64(c.wnd) {
				break // the window has shrunk; the first segment alone probes it
			}
			if !c.paced() {
				break
			}
		}
		var ok bool
		if out, ok = c.resend(now, out, i); ok && i == 0 {
			c.forceHead = false
			c.rtoAt = now.Add(c.timeout())
		}
	}
	return out
}

// resend retransmits the segment i in flight, and splits it if segments must be smaller now. It
// returns false if the source no longer has its bytes.
func (c *Conn) resend(now mono.Time, out []packet.Segment, i int) ([]packet.Segment, bool) {
	start := c.flight.start(i, c.una)
	end := c.flight.at(i).end
	fin := end > c.released
	dataEnd := end
	if fin {
		dataEnd--
	}
	var payload []byte
	flags := packet.ACK
	if dataEnd > start {
		v, last := c.view(start, int(min(dataEnd-start, uint64(c.mss))))
		if len(v) == 0 {
			return out, false
		}
		payload = v
		if last {
			flags |= packet.PSH
		}
		if cut := start + uint64(len(v)); cut < dataEnd {
			c.flight.split(i, cut)
			end, fin = cut, false
		}
	}
	if fin {
		flags |= packet.FIN
	}
	r := c.flight.at(i)
	n := uint32(end - start)
	if c.bbr != nil {
		c.stamp(now, r)
		c.bbr.pace.spend(n)
	}
	if r.flags&segLost != 0 {
		c.lost -= n
	}
	r.flags = r.flags&^segLost | segResent
	r.at = now
	c.prrOut += n
	c.retrans++
	if c.recovery != recoveryOpen {
		c.noteResent(c.tsAt(now))
	}
	c.lastSend = now
	return c.appendSegment(now, out, start, payload, flags), true
}

// view returns the source's bytes from a position on, at most max. last reports whether one of the
// client's segments ends with these.
func (c *Conn) view(pos uint64, max int) (v []byte, last bool) {
	room := c.released - pos
	v = c.src.View(pos-1, int(min(uint64(max)+1, room)))
	if len(v) > max {
		return v[:max], false
	}
	return v, true
}

// appendNew sends new bytes, and the FIN, as far as the windows permit.
func (c *Conn) appendNew(now mono.Time, out []packet.Segment, limit int) []packet.Segment {
	c.limit = limitNone
	if c.nxt < c.released {
		c.restart(now)
	}
	for c.nxt < c.released && len(out) < limit {
		var sent bool
		if out, sent = c.appendOne(now, out, false); !sent {
			return out
		}
	}
	if c.nxt == c.finAt && len(out) < limit {
		if c.usable() == 0 {
			c.limit = limitWindow
			return out
		}
		out = c.appendSegment(now, out, c.nxt, nil, packet.ACK|packet.FIN)
		c.sentFIN()
		c.noteSent(now, 1)
	}
	return out
}

// usable returns how many more bytes the target's window permits.
func (c *Conn) usable() uint64 {
	edge := c.una + uint64(c.wnd)
	if edge <= c.nxt {
		return 0
	}
	return edge - c.nxt
}

// appendOne sends one segment of new bytes if the windows permit or, with force, if the target's
// window permits any byte. It reports whether it did.
func (c *Conn) appendOne(now mono.Time, out []packet.Segment, force bool) ([]packet.Segment, bool) {
	if c.flight.len() >= maxFlight {
		c.limit = limitCwnd
		return out, false
	}
	v, last := c.view(c.nxt, int(c.mss))
	n := uint64(len(v))
	if n == 0 {
		return out, false
	}
	if usable := c.usable(); n > usable {
		// Silly window syndrome avoidance (RFC 9293 §3.8.6.2.1): a part is sent if it is large, or
		// when the persist timer expires.
		if usable == 0 || !force && usable < uint64(c.maxWnd)/2 {
			c.limit = limitWindow
			return out, false
		}
		n, last = usable, false
		v = v[:n]
	}
	if pipe := c.pipe(); !force && pipe > 0 && pipe+uint32(n) > c.cwnd {
		c.limit = limitCwnd
		c.needModel(now)
		return out, false
	}
	if !force && !c.paced() {
		return out, false
	}
	flags := packet.ACK
	if last {
		flags |= packet.PSH
	}
	start := c.nxt
	fin := start+n == c.finAt && c.usable() > n
	if fin {
		flags |= packet.FIN
		n++
	}
	out = c.appendSegment(now, out, start, v, flags)
	if fin {
		c.sentFIN()
	}
	c.noteSent(now, n)
	return out, true
}

// noteSent notes that n positions from nxt on were sent.
func (c *Conn) noteSent(now mono.Time, n uint64) {
	r := sent{end: c.nxt + n, at: now}
	if c.bbr != nil {
		c.stamp(now, &r)
		c.bbr.pace.spend(uint32(n))
	}
	c.nxt += n
	c.flight.push(r)
	c.prrOut += uint32(n)
	c.lastSend = now
	if c.rtoAt == mono.Never {
		c.rtoAt = now.Add(c.timeout())
	}
	c.armProbe(now)
}

// appendProbe sends a tail loss probe: new bytes if there are any, or the last segment again (RFC
// 8985 §7.3).
func (c *Conn) appendProbe(now mono.Time, out []packet.Segment) []packet.Segment {
	if c.flight.len() == 0 {
		return out
	}
	var ok bool
	if c.nxt < c.released {
		if out, ok = c.appendOne(now, out, true); ok {
			c.probeEnd, c.probeResent = c.nxt, false
			c.probeAt = mono.Never
			return out
		}
	}
	if out, ok = c.resend(now, out, c.flight.len()-1); ok {
		c.probeEnd, c.probeResent = c.nxt, true
	}
	return out
}

// appendPersist probes a window that is closed while nothing is in flight, if that is due, and sets
// the persist timer (RFC 9293 §3.8.6.1). As in Linux the probe carries an old sequence number and
// no byte: the target answers it as well, and the client's segments are not split.
func (c *Conn) appendPersist(now mono.Time, out []packet.Segment, due bool) []packet.Segment {
	if c.limit != limitWindow || c.una != c.nxt {
		c.persistAt = mono.Never
		c.persistBackoff = 0
		return out
	}
	if due {
		var ok bool
		if c.nxt < c.released && c.usable() > 0 {
			if out, ok = c.appendOne(now, out, true); ok {
				return out
			}
		}
		out = c.appendAck(now, out, c.una-1)
		c.persistBackoff = min(c.persistBackoff+1, 10)
	}
	if c.persistAt == mono.Never {
		c.persistAt = now.Add(min(c.rto()<<c.persistBackoff, maxPersist))
	}
	return out
}

// appendAck appends a segment with the acknowledgment alone, and the ranges that arrived out of
// order.
func (c *Conn) appendAck(now mono.Time, out []packet.Segment, pos uint64) []packet.Segment {
	out = c.appendSegment(now, out, pos, nil, packet.ACK)
	if c.sackOK {
		c.putSACK(&out[len(out)-1].Opts)
	}
	return out
}

// appendSegment appends a segment of a synchronized connection that begins at the position pos. It
// acknowledges everything that has arrived in order.
func (c *Conn) appendSegment(now mono.Time, out []packet.Segment, pos uint64, payload []byte,
	flags packet.Flags) []packet.Segment {
	out = append(out, packet.Segment{})
	s := &out[len(out)-1]
	s.Src, s.Dst = c.local, c.remote
	s.Seq, s.Ack = c.seq(pos), c.rseq(c.rcvNxt)
	s.Flags = flags
	s.Window = uint16(c.rcvWindow >> c.rcvShift)
	s.Payload, s.Len = payload, len(payload)
	if c.tsOK {
		s.Opts.HasTS = true
		s.Opts.TSVal, s.Opts.TSEcr = c.tsAt(now), c.tsRecent
	}
	if c.urgent > pos {
		if d := c.urgent - pos; d <= 0xffff && flags&packet.RST == 0 {
			s.Flags |= packet.URG
			s.Urgent = uint16(d)
		}
	}
	c.lastAck = c.rcvNxt
	c.ack = ackNone
	return out
}
