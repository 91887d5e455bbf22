package session

import (
	"cmp"
	"time"

	"tcpcopy/internal/core/gate"
	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/reasm"
)

// recogniseWait is how long a turn is held while too few of its bytes have come to recognise its
// protocol, or TLS.
const recogniseWait = time.Second

// Advance does everything that is due at now, and returns when it must be called again if nothing
// else happens before. That is later than now, and a second call at now changes nothing.
func (s *Session) Advance(now mono.Time) mono.Time {
	s.expire(now)
	for {
		was := s.State()
		wake := s.act(now)
		s.weigh()
		switch s.State() {
		case Gone:
			return mono.Never
		case was:
			return min(wake, s.idleAt(), s.stallAt(), s.gapLimit())
		}
	}
}

// act does what is due in the session's phase, which may change the phase.
func (s *Session) act(now mono.Time) mono.Time {
	switch s.phase {
	case watchingFound, watchingMidTurn, watchingLost:
		s.seekTurn(now)
	case waitingWhole, waitingAdopted:
		return s.awaitTarget(now)
	case openingWhole:
		// The first bytes may travel with the handshake; the stream holds them until it is open.
		return s.flow(now)
	case greeting:
		s.recognise(now)
		if s.phase != greeting {
			return mono.Never
		}
		// A protocol that was recognised by the client's bytes sends no greeting.
		if until := s.greeted(); !s.talk.known() && !until.Reached(now) {
			return until
		}
		s.phase = flowingAdopted
		s.rebase(now)
	case flowingWhole, flowingAdopted:
		return s.flow(now)
	case closingUnopened, closingWhole, closingAdopted:
		return s.passEnd(now) // a reset may follow the FIN
	case refusedFound, refusedMidTurn, refused:
		s.discard()
		s.endIfClientEnded()
	}
	return mono.Never
}

// expire ends what has waited too long: for missing bytes, for the target to take bytes or to
// close, or for anything to happen.
func (s *Session) expire(now mono.Time) {
	for s.phase != gone {
		switch stalled := s.stallAt().Reached(now); {
		case s.gapLimit().Reached(now):
			s.giveUpHole(now)
		case stalled && s.unsent():
			s.giveUpTarget(now, ledger.SendTimeout) // then bytes may count as missing
		case stalled:
			s.stream.Abort(now) // everything has arrived; only the target's FIN has not come
			s.finish()
		case s.idleAt().Reached(now):
			s.idle(now)
		default:
			return
		}
	}
}

// giveUpHole gives up on missing bytes that will not come any more.
func (s *Session) giveUpHole(now mono.Time) {
	if s.acked == s.reader.Next()+1 && !s.reader.Hole() && s.serverSide == serverEnded &&
		!s.reader.HasEnd() {
		// One more than was captured is acknowledged, and the connection is over: the FIN is
		// missing.
		s.reader.SetEnd(reasm.Closed, s.reader.NextSeq(), s.lastNote())
		s.noteHole(now)
		return
	}
	s.gap(now)
}

// gapLimit returns when missing bytes count as lost. Once the server has acknowledged them, the
// client does not send them again.
func (s *Session) gapLimit() mono.Time {
	switch st := s.State(); {
	case s.holeSince == mono.Never || st == Closing || st == Gone:
		return mono.Never
	case s.acked > s.reader.Next() && !s.clientEndAcked():
		return s.holeSince.Add(cmp.Or(s.svc.HoleGrace, holeGrace))
	default:
		return s.holeSince.Add(holeLimit)
	}
}

// idleAt returns when the session ends if neither side sends anything.
func (s *Session) idleAt() mono.Time { return s.last.Add(s.svc.Idle) }

// stallAt returns when the target will have made no progress for too long.
func (s *Session) stallAt() mono.Time {
	switch {
	case s.stream == nil:
		return mono.Never
	case s.unsent():
		return max(s.ready, s.spoke).Add(s.svc.Stall)
	case s.State() == Closing:
		return max(s.ready, s.shutAt).Add(s.svc.Stall)
	default:
		return mono.Never
	}
}

// clientEndAcked reports whether the client's FIN is all that the server has acknowledged beyond
// the bytes in order.
func (s *Session) clientEndAcked() bool {
	end, ok := s.reader.EndOff()
	return ok && end == s.reader.Next() && s.acked == end+1
}

// awaitTarget opens the copy that waits as soon as the Opener lets it. While the target is away it
// waits for Service.Hold at most.
func (s *Session) awaitTarget(now mono.Time) mono.Time {
	ready, away := s.env.Opener.Ready(s.id, s.turnNote.At)
	switch {
	case ready:
		s.start(now)
	case away != ledger.None:
		if until := s.HeldUntil(); !until.Reached(now) {
			return until
		}
		s.lost(away)
	}
	return mono.Never
}

// seekTurn has a copy begin at the client's next turn.
func (s *Session) seekTurn(now mono.Time) {
	m, ok := s.reader.Mark()
	for ok && !s.notBefore.Reached(now) {
		s.reader.NextMark()
		m, ok = s.reader.Mark()
	}
	if !ok {
		s.drop(s.reader.Next(), s.reason)
		s.endIfClientEnded()
		return
	}
	s.drop(m.Off, s.reason)
	if s.reader.Next()-m.Off <= 1 { // a window probe, or more is to come
		s.endIfClientEnded()
		return
	}
	s.reader.NextMark()
	s.env.Count.Adopted++
	s.await(waitingAdopted, m)
}

// endIfClientEnded ends a session without a copy if its client has ended the connection.
func (s *Session) endIfClientEnded() {
	if s.ClientEnded() {
		s.drop(s.reader.Next(), s.reason)
		s.dropAhead()
		s.closeAccount(s.reason)
		s.phase = gone
	}
}

// greeted returns when the target's greeting counts as received, or as not coming.
func (s *Session) greeted() mono.Time {
	wait, quiet := s.svc.Gate.Greeting()
	if s.gate.Answered() > 0 {
		return s.gate.LastAnswer().Add(quiet)
	}
	return s.ready.Add(wait)
}

// rebase has the gate count answers from the end of the greeting.
func (s *Session) rebase(now mono.Time) {
	s.svc.Gate.Greeted(s.gate.Answered() > 0)
	s.gate.Rebase(now)
}

// flow releases turns as far as the gate permits, and then the end of the client's direction.
func (s *Session) flow(now mono.Time) mono.Time {
	if wake, held := s.recognise(now); held {
		return wake
	}
	if s.talk.waitsByStream() {
		return s.flowStreams(now)
	}
	for {
		m, ok := s.reader.Mark()
		if ok && m.Off <= s.released {
			if wake, open := s.pass(now, m.Note, false); !open {
				return wake
			}
			if s.gate.Closed() && s.serverSide != serverEnded {
				// Production would have answered this turn: it gets a connection of its own.
				s.lose(now, ledger.TargetClosed)
				return mono.Never
			}
			s.turn, s.turnNote = s.released, m.Note
			s.turns.pass(s.turn, s.gate.Answered())
			if s.talk != nil {
				s.talk.seen = m.Seen
			}
			s.reader.NextMark()
			continue
		}
		end := s.reader.Next()
		if ok {
			end = m.Off
		}
		if end == s.released {
			return s.passEnd(now)
		}
		if s.talk.holds() {
			return s.held(now)
		}
		if s.released == s.turn && !s.talk.handedBack() {
			if wake, held := s.checkTLS(now); held {
				return wake
			}
			s.beginTurn()
			s.turns.sending(now)
		}
		if !s.handOn(now, end) {
			return mono.Never
		}
	}
}

// held returns when a protocol that holds the copy back has done so for too long. At that time it
// ends the copy.
func (s *Session) held(now mono.Time) mono.Time {
	until := s.ready.Add(s.svc.Gate.Limit())
	if until.Reached(now) {
		s.giveUpTarget(now, ledger.GateTimeout)
		return mono.Never
	}
	return until
}

// beginTurn counts a turn. The first turn of a connection tells whether the service greets: its
// client had seen bytes of the server by then, or had not.
func (s *Session) beginTurn() {
	s.env.Count.Turns++
	if !s.phase.adopted() && s.released == 0 {
		s.svc.Gate.Greeted(s.gate.Seen() > 0)
	}
}

// pass asks the gate whether the turn sent at n may go or, if end is set, the client's end. If the
// gate is not open, wake is when to ask again.
func (s *Session) pass(now mono.Time, n reasm.Note, end bool) (wake mono.Time, open bool) {
	check, release := s.gate.Check, s.gate.Release
	if end {
		check, release = s.gate.CheckEnd, s.gate.ReleaseEnd
	}
	var answer gate.Answer
	answered, known := s.talk.checkKnown(n)
	if known && (s.svc.Gate.Parses() || s.talk.edits()) {
		answer, wake = s.gate.CheckKnown(now, n, s.ready, answered)
	} else {
		answer, wake = check(now, n, s.ready)
	}
	switch answer {
	case gate.Wait:
		s.hurry()
		return wake, false
	case gate.TimedOut:
		s.giveUpTarget(now, ledger.GateTimeout)
		s.reader.NextMark() // the turn that waited is lost; the next one opens another copy
		return mono.Never, false
	case gate.Known:
		s.env.Count.GateKnown++
	case gate.Predicted:
		s.env.Count.GatePredicted++
	case gate.Silence:
		s.env.Count.GateQuiet++
	case gate.Finished:
		s.env.Count.GateClosed++
	case gate.Forced:
		s.env.Count.GateForced++
	}
	s.talk.passed(n)
	s.server.pass(n.Seen)
	if !s.talk.waitsByStream() { // else the gate has not followed the turns
		release(now, n, answer)
	}
	if !end {
		s.env.Count.Behind.Note(now.Sub(n.At))
	}
	return mono.Never, true
}

// hurry has the target's bytes acknowledged at once, since a turn waits for the rest of the answer.
func (s *Session) hurry() {
	if n := s.gate.Answered(); n > s.hurried {
		s.hurried = n
		if a, ok := s.stream.(Acknowledger); ok {
			a.Acknowledge()
		}
	}
}

// passEnd ends the copy's direction as the client ended its own, once the gate permits.
func (s *Session) passEnd(now mono.Time) mono.Time {
	how, note := s.reader.Ended()
	closing := s.State() == Closing
	if how == reasm.Open || !s.phase.copied() || closing && how == reasm.Closed {
		return mono.Never
	}
	if how == reasm.Reset && (s.unsent() || s.State() == Opening) {
		return mono.Never // a reset would discard bytes under way, or the connection itself
	}
	if !closing {
		if s.talk.holds() {
			return s.held(now)
		}
		if wake, open := s.pass(now, note, true); !open {
			return wake
		}
	}
	if how == reasm.Reset {
		s.stream.Abort(now)
		s.finish()
		return mono.Never
	}
	s.shutAt = now
	switch s.phase {
	case openingWhole:
		s.phase = closingUnopened
	case flowingWhole:
		s.phase = closingWhole
	case flowingAdopted:
		s.phase = closingAdopted
	}
	s.stream.CloseWrite(now)
	return mono.Never
}

// checkTLS refuses the session if the turn that begins is a TLS record. held reports that the
// session was refused, or that too few bytes have come to tell.
func (s *Session) checkTLS(now mono.Time) (wake mono.Time, held bool) {
	midway := s.phase.adopted() && s.released == s.base
	if s.talk.edits() && !midway {
		return mono.Never, false // the protocol recognises what it cannot read
	}
	var first [6]byte
	n := s.reader.Peek(s.released, first[:])
	switch looksLikeTLS(first[:n], midway) {
	case tlsYes:
		s.dropTurns()
		s.Refuse(now, ledger.TLS)
		return mono.Never, true
	case tlsMaybe:
		until := s.spoke.Add(recogniseWait)
		return until, !until.Reached(now)
	default:
		return mono.Never, false
	}
}

// idle ends a session that was silent for too long: with success if nothing was left to do.
func (s *Session) idle(now mono.Time) {
	if s.stream != nil && s.taken == s.reader.Next() {
		s.stream.Abort(now)
		s.finish()
		return
	}
	s.End(now, ledger.IdleTimeout)
}
