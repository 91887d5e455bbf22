package session

import (
	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/core/reasm"
	"tcpcopy/internal/core/seqnum"
)

// FromClient takes a captured segment of the client, which was captured at the time at. Payload
// that is kept is copied.
func (s *Session) FromClient(now mono.Time, seg *packet.Segment, at mono.Time, ifindex int32) {
	first := s.previous == fingerprint{}
	if s.isDuplicate(seg, ifindex) {
		s.env.Count.Packets.Twice++
		return
	}
	s.last = max(s.last, at)
	if seg.Flags.Has(packet.SYN) {
		if s.phase == watchingNew { // the session's own first packet
			s.syn = synOptionsOf(seg)
			s.await(waitingWhole, reasm.Mark{Note: reasm.Note{At: at}})
		}
		if seg.Len == 0 {
			return
		}
		data := *seg // the bytes of a SYN (RFC 7413) follow its sequence number
		data.Seq, data.Flags = seg.Seq+1, seg.Flags&^packet.SYN
		seg = &data
	}
	note := s.noteOf(seg, at)
	switch {
	case seg.Cut():
		s.missCut(seg)
	case seg.Len > 0:
		s.insert(now, seg, note, first)
	}
	if s.turns != nil && seg.Flags.Any(packet.FIN) {
		s.turns.ends.client(seg.Flags.Has(packet.ACK) && s.serverSide == serverEnded &&
			seg.Ack == s.serverBase.Add(int(uint32(s.serverEnd))+1))
	}
	switch {
	case seg.Flags.Any(packet.RST):
		// RFC 5961 §3.2: the production server ignores a reset outside its window, such as one of
		// an earlier connection from the same port.
		ahead := int64(s.reader.OffsetOf(seg.Seq) - s.reader.Next())
		if ahead >= 0 && ahead < 1<<20 {
			s.reader.SetEnd(reasm.Reset, seg.Seq, note)
			s.reset = true
		}
	case seg.Flags.Any(packet.FIN):
		s.reader.SetEnd(reasm.Closed, seg.Seq.Add(seg.Len), note)
	}
	s.noteHole(at)
}

// missCut treats a segment whose payload was not captured whole (a mirror that cuts packets, an
// agent that sheds load) as missing: its captured part would be the start of a request without the
// end. The bytes are found if the client sends them again.
func (s *Session) missCut(seg *packet.Segment) {
	s.noteAcked(s.reader.OffsetOf(seg.Seq) + uint64(seg.Len))
}

// noteAcked notes that the client has sent the bytes below the offset off. It reports whether that
// is new and plausible.
func (s *Session) noteAcked(off uint64) bool {
	if int64(off) <= int64(s.acked) || off >= s.reader.Next()+1<<30 {
		return false
	}
	s.acked = off
	return true
}

// insert keeps the payload of a segment. first reports that it is the client's first packet.
//
// A single byte may be a keepalive probe (RFC 9293 §3.8.4) where there is no copy and the byte is
// the first of a connection found under way, or was captured before. Such a byte neither enters the
// session in the account nor begins a turn.
func (s *Session) insert(now mono.Time, seg *packet.Segment, note reasm.Note, first bool) {
	if st := s.State(); st == Watching || st == Refused {
		off := s.reader.OffsetOf(seg.Seq)
		if off == 1 && s.reader.Next() == 0 {
			s.skip(1) // the first packet was a keepalive probe, one below the next byte
		}
		if seg.Len > 1 || !first && int64(off) >= int64(s.reader.End()) {
			s.openAccount()
			// The connection's first bytes begin a turn, whatever the client has seen.
			begins := s.phase == watchingLost && s.reader.Next() == 0
			if s.State() == Watching && (begins || note.At.Sub(s.spoke) >= Lull) {
				s.resume(seg, note)
			}
		}
	}
	before := s.reader.Next()
	verdict := s.reader.Insert(seg.Seq, seg.Payload, note)
	s.env.Count.Bytes.Captured += s.reader.Next() - before
	s.readRequests(note.At)
	if before < firstMost {
		s.foresee()
	}
	s.turns.fromClient(&s.reader)
	s.weigh()
	if verdict != reasm.OutOfWindow && (seg.Len > 1 || verdict != reasm.Known) {
		s.spoke = note.At
	}
	if verdict == reasm.TooMuch {
		s.gap(now)
	}
	if s.State() == Refused {
		s.discard()
	} else if s.Held() > s.svc.MaxBytes {
		s.Refuse(now, ledger.OverSession)
	}
}

// resume marks the segment as the start of a turn, so that the next copy can begin with it. The
// connection was silent for long, and so is between two turns unless bytes are missing.
func (s *Session) resume(seg *packet.Segment, note reasm.Note) {
	off := s.reader.OffsetOf(seg.Seq)
	if off != s.reader.Next() || s.missing() {
		return // a retransmission, or the turn began earlier
	}
	if _, ok := s.reader.Mark(); ok {
		return // a turn has begun, with a single byte
	}
	s.drop(off, s.reason)
	s.reader.StartTurn(note)
}

// skip continues at the offset off, past bytes that were not captured.
func (s *Session) skip(off uint64) {
	s.stopProduction(true)
	s.turns.lose(Gap)
	s.drop(s.reader.Next(), ledger.CaptureGap)
	lost := s.reader.SkipTo(off)
	s.settled = off
	got := s.reader.Next() - off
	s.env.Count.Bytes.Captured += got + uint64(lost)
	s.env.Count.Bytes.Drop(ledger.CaptureGap, uint64(lost))
	s.holeSince = mono.Never
	s.noteHole(s.last)
}

// noteHole keeps holeSince current. at is the time of the packet that may have opened or closed a
// hole.
func (s *Session) noteHole(at mono.Time) {
	switch {
	case !s.missing():
		s.holeSince = mono.Never
	case s.holeSince == mono.Never:
		s.holeSince = at
	}
}

// missing reports whether the client has sent bytes that were not captured: later bytes have come,
// or the server has acknowledged them.
func (s *Session) missing() bool {
	return s.reader.Hole() || s.acked > s.reader.Next() && !s.clientEndAcked()
}

// gap gives up on missing bytes of the client: those before the next that were captured, or those
// that the server has acknowledged.
func (s *Session) gap(now mono.Time) {
	if s.stream != nil || s.State() == Waiting {
		s.lose(now, ledger.CaptureGap)
	}
	next := s.reader.Next()
	off := max(s.acked, next)
	if end, ok := s.reader.EndOff(); ok {
		off = min(off, end) // the FIN was acknowledged as well
	}
	if first, ok := s.reader.FirstAhead(); ok && (first < off || off <= next) {
		off = first
	}
	if off <= next { // the server has acknowledged more than the client can have sent
		s.acked, s.holeSince = next, mono.Never
		return
	}
	s.skip(off)
}

// FromServer takes a captured segment of the production server: its header, and as much of its
// payload as was captured.
func (s *Session) FromServer(seg *packet.Segment, at mono.Time) {
	if s.ofEarlierConnection(seg) {
		return
	}
	s.last = max(s.last, at)
	s.heard = true
	if seg.Flags.Has(packet.SYN) {
		s.serverBase, s.serverSide = seg.Seq+1, max(s.serverSide, serverOpen)
		return
	}
	s.learnServerBase(seg.Seq)
	end := seqnum.Unwrap(seg.Seq.Add(seg.Len), s.serverBase, s.sent)
	if s.talk != nil && len(seg.Payload) > 0 {
		s.talk.server(end-uint64(seg.Len), seg.Payload, s.phase.adopted(), s.svc.Production)
	}
	s.readAnswers(seg, at)
	s.turns.fromServer(s.env, s.serverBase, seg, at)
	s.weigh()
	if end > s.sent && end < s.sent+1<<31 {
		s.sent = end
	}
	s.noteServerEnd(seg)
	if seg.Flags.Any(packet.FIN) && s.serverSide != serverEnded {
		s.serverSide, s.serverEnd = serverEnded, end
	}
	if seg.Flags.Has(packet.ACK) && s.noteAcked(s.reader.OffsetOf(seg.Ack)) {
		s.noteHole(at)
	}
	if seg.Flags.Any(packet.RST) {
		// The client falls silent; the copy ends as if the client had reset.
		s.reset = true
		s.reader.SetEnd(reasm.Reset, s.reader.NextSeq(), s.lastNote())
	}
}

// noteServerEnd tells the comparison of turns that production's server ends the connection.
func (s *Session) noteServerEnd(seg *packet.Segment) {
	reset := seg.Flags.Any(packet.RST)
	if s.turns == nil || !reset && (!seg.Flags.Any(packet.FIN) || s.serverSide == serverEnded) {
		return
	}
	client := reasm.Open
	end, ok := s.reader.EndOff()
	switch {
	case ok:
		client = reasm.Closed
	case s.reader.HasEnd():
		client = reasm.Reset
	}
	s.turns.ends.server(reset, client, seg.Flags.Has(packet.ACK) &&
		s.reader.OffsetOf(seg.Ack) == end+1)
}

// ofEarlierConnection reports whether a segment of the server belongs to an earlier connection from
// the same port: it acknowledges less than this connection's SYN. For a connection found under way,
// that cannot be known.
func (s *Session) ofEarlierConnection(seg *packet.Segment) bool {
	return seg.Flags.Has(packet.ACK) && s.reader.OffsetOf(s.isn+1) == 0 &&
		int64(s.reader.OffsetOf(seg.Ack)) < 0
}

// noteOf returns what the client had seen of the server's bytes when it sent the segment. For a
// reset without an acknowledgment, that is the most that it can have seen.
func (s *Session) noteOf(seg *packet.Segment, at mono.Time) reasm.Note {
	n := reasm.Note{Seen: s.seen, At: at}
	if seg.Flags.Has(packet.ACK) {
		s.learnServerBase(seg.Ack)
		seen := seqnum.Unwrap(seg.Ack, s.serverBase, s.seen)
		if s.serverSide == serverEnded {
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

// learnServerBase takes seq as the start of the server's direction unless the start is known. It is
// exact for a new connection; for one found under way it is where the capture began.
func (s *Session) learnServerBase(seq seqnum.Value) {
	if s.serverSide == serverUnknown {
		s.serverBase, s.serverSide = seq, serverOpen
	}
}

// isDuplicate reports whether the segment is the previous one, captured on another interface.
func (s *Session) isDuplicate(seg *packet.Segment, ifindex int32) bool {
	f := fingerprint{seq: seg.Seq, ack: seg.Ack, ts: seg.Opts.TSVal, length: int32(seg.Len),
		window: seg.Window, flags: seg.Flags, ifindex: ifindex}
	old := s.previous
	s.previous = f
	same := f
	same.ifindex = old.ifindex
	if same == old && ifindex != old.ifindex {
		s.previous = old
		return true
	}
	return false
}
