package session

import (
	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/core/reasm"
	"tcpcopy/internal/core/seqnum"
)

// FromClient takes a captured segment of the client. Its payload is copied where it is kept.
func (s *Session) FromClient(now mono.Time, seg *packet.Segment, at mono.Time, ifindex int32) {
	if s.twice(seg, ifindex) {
		s.env.Count.Packets.Twice++
		return
	}
	s.last = max(s.last, at)
	if seg.Flags.Has(packet.SYN) {
		if s.state == Watching && !s.adopted { // the session's own first packet
			s.start(now, 0, 0, seg)
		}
		if seg.Len == 0 {
			return
		}
		data := *seg // bytes in a SYN (RFC 7413) come after it
		data.Seq, data.Flags = seg.Seq+1, seg.Flags&^packet.SYN
		seg = &data
	}
	note := s.note(seg, at)
	switch {
	case seg.Cut():
		s.cut(seg)
	case seg.Len > 0:
		s.insert(now, seg, note)
	}
	switch {
	case seg.Flags.Any(packet.RST):
		// RFC 5961 §3.2: the production server would not have believed a reset from outside the window, one
		// of an earlier connection from the same port among them.
		if ahead := int64(s.reader.OffsetOf(seg.Seq) - s.reader.Next()); ahead >= 0 && ahead < 1<<20 {
			s.reader.SetEnd(reasm.Reset, seg.Seq, note)
		}
	case seg.Flags.Any(packet.FIN):
		s.reader.SetEnd(reasm.Closed, seg.Seq.Add(seg.Len), note)
	}
	s.met = true
	s.noteHole(at)
}

// cut takes note of a segment whose payload was not captured whole (a mirror that cuts, an agent that sheds).
// What there is of it would be the start of a request without its end: it counts as lost, unless it comes
// again.
func (s *Session) cut(seg *packet.Segment) {
	off := s.reader.OffsetOf(seg.Seq) + uint64(seg.Len)
	if int64(off) > int64(s.took) && off < s.reader.Next()+1<<30 {
		s.took = off
	}
}

// insert keeps the payload of a segment. A single byte that is the first of a connection found under way,
// or is repeated there, may be a keepalive probe's (RFC 9293 §3.8.4): it neither makes a session of the
// connection nor begins a turn.
func (s *Session) insert(now mono.Time, seg *packet.Segment, note reasm.Note) {
	copied := s.state != Watching && s.state != Refused
	probe := !copied && seg.Len == 1 && (!s.met || int64(s.reader.OffsetOf(seg.Seq)) < int64(s.reader.End()))
	if !copied && s.reader.OffsetOf(seg.Seq) == 1 && s.reader.Next() == 0 {
		s.skip(1) // the first packet was a keepalive probe, one below the next byte
	}
	if !copied && !probe {
		if s.reason == ledger.NoSYN {
			s.openAccount()
		}
		if s.state == Watching && note.At.Sub(s.spoke) >= Lull {
			s.resume(seg, note)
		}
	}
	before := s.reader.Next()
	verdict := s.reader.Insert(seg.Seq, seg.Payload, note)
	s.env.Count.Bytes.Captured += s.reader.Next() - before
	s.overhear(note.At)
	if verdict != reasm.Astray && (seg.Len > 1 || verdict != reasm.Known) {
		s.spoke = note.At
	}
	if verdict == reasm.TooMuch {
		s.gap(now)
	}
	if s.state == Refused {
		s.discard()
	} else if s.reader.Kept()+s.talk.kept()+s.server.kept() > s.svc.MaxBytes {
		s.Refuse(now, ledger.OverSession)
	}
}

// resume lets the next copy begin with a segment that comes after a long silence: a connection that has
// been silent is between two turns, if nothing that we know of is missing since.
func (s *Session) resume(seg *packet.Segment, note reasm.Note) {
	off := s.reader.OffsetOf(seg.Seq)
	if off != s.reader.Next() || s.missing() {
		return // a retransmission, or the turn has begun before it
	}
	if _, ok := s.reader.Mark(); ok {
		return // a turn has begun, with a single byte
	}
	s.drop(off, s.reason)
	s.reader.StartTurn(note)
}

// skip moves on to the offset off, over bytes that were not captured.
func (s *Session) skip(off uint64) {
	s.stopProduction(true)
	s.drop(s.reader.Next(), ledger.CaptureGap)
	lost := s.reader.SkipTo(off)
	s.settled = off
	got := s.reader.Next() - off
	s.env.Count.Bytes.Captured += got + uint64(lost)
	s.env.Count.Bytes.Drop(ledger.CaptureGap, uint64(lost))
	s.holed = mono.Never
	s.noteHole(s.last)
}

// noteHole keeps the time since when bytes of the client are missing.
func (s *Session) noteHole(at mono.Time) {
	switch {
	case !s.missing():
		s.holed = mono.Never
	case s.holed == mono.Never:
		s.holed = at
	}
}

// missing says whether the client has sent bytes that we do not have: later ones have come, or the
// server has acknowledged them.
func (s *Session) missing() bool {
	return s.reader.Hole() || s.took > s.reader.Next() && !s.clientEndAcked()
}

// gap gives up on bytes of the client that were lost on the way to us: those before the next that wait,
// or those that the server has acknowledged.
func (s *Session) gap(now mono.Time) {
	if s.stream != nil {
		s.lose(now, ledger.CaptureGap)
	}
	next := s.reader.Next()
	off := max(s.took, next)
	if end, ok := s.reader.EndOff(); ok {
		off = min(off, end) // the FIN was acknowledged as well
	}
	if first, ok := s.reader.FirstAhead(); ok && (first < off || off <= next) {
		off = first
	}
	if off <= next { // more was acknowledged than the client can have sent
		s.took, s.holed = next, mono.Never
		return
	}
	s.skip(off)
}

// FromServer takes a captured segment of the production server: its header, and as much of its payload as there
// is, for a protocol that is known.
func (s *Session) FromServer(seg *packet.Segment, at mono.Time) {
	if s.earlier(seg) {
		return
	}
	s.last = max(s.last, at)
	if seg.Flags.Has(packet.SYN) {
		s.serverBase, s.serverKnown = seg.Seq+1, true
		return
	}
	s.knowServer(seg.Seq)
	end := seqnum.Unwrap(seg.Seq.Add(seg.Len), s.serverBase, s.sent)
	if s.talk != nil && len(seg.Payload) > 0 {
		s.talk.server(end-uint64(seg.Len), seg.Payload, s.adopted)
	}
	s.overhearServer(seg, at)
	if end > s.sent && end < s.sent+1<<31 {
		s.sent = end
	}
	if seg.Flags.Any(packet.FIN) && !s.serverFIN {
		s.serverFIN, s.serverEnd = true, end
	}
	if seg.Flags.Has(packet.ACK) {
		if off := s.reader.OffsetOf(seg.Ack); int64(off) > int64(s.took) && off < s.reader.Next()+1<<30 {
			s.took = off
			s.noteHole(at)
		}
	}
	if seg.Flags.Any(packet.RST) {
		// The client learns of it without a word of its own; for the copy it is as if it had reset.
		s.reader.SetEnd(reasm.Reset, s.reader.NextSeq(), s.lastNote())
	}
}

// earlier says whether a segment of the server acknowledges less than the SYN of this connection: it is of
// an earlier one from the same port. Of a connection found under way nobody can say.
func (s *Session) earlier(seg *packet.Segment) bool {
	return seg.Flags.Has(packet.ACK) && s.reader.OffsetOf(s.isn+1) == 0 && int64(s.reader.OffsetOf(seg.Ack)) < 0
}

// note says what the client had seen of the server when it sent the segment (gate's cause): for a reset
// without an acknowledgment, what it had seen at the most.
func (s *Session) note(seg *packet.Segment, at mono.Time) reasm.Note {
	n := reasm.Note{Seen: s.seen, At: at}
	if seg.Flags.Has(packet.ACK) {
		s.knowServer(seg.Ack)
		seen := seqnum.Unwrap(seg.Ack, s.serverBase, s.seen)
		if s.serverFIN {
			seen = min(seen, s.serverEnd) // a FIN is acknowledged like a byte
		}
		if int64(seen) < 0 || seen > s.seen+1<<31 {
			seen = s.seen
		}
		n.Seen = seen
		if seen > s.seen {
			s.seen = seen
		}
	}
	n.Sent = max(n.Seen, s.sent)
	return n
}

// knowServer takes a sequence number of the server as the start of its direction, if none is known:
// for a new connection that is exact, for one found under way it is where we began to look.
func (s *Session) knowServer(seq seqnum.Value) {
	if !s.serverKnown {
		s.serverBase, s.serverKnown = seq, true
	}
}

// twice says whether the segment is the last one, seen again on another interface.
func (s *Session) twice(seg *packet.Segment, ifindex int32) bool {
	f := fingerprint{seq: seg.Seq, ack: seg.Ack, ts: seg.Opts.TSVal, length: int32(seg.Len), window: seg.Window,
		flags: seg.Flags, ifindex: ifindex}
	old := s.seenPkt
	s.seenPkt = f
	same := f
	same.ifindex = old.ifindex
	if same == old && ifindex != old.ifindex {
		s.seenPkt = old
		return true
	}
	return false
}
