package session

import (
	"cmp"
	"time"

	"tcpcopy/internal/core/gate"
	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/core/reasm"
)

// tlsWait is how long a turn that begins like a TLS record is held until enough of it has come to tell.
const tlsWait = time.Second

// Advance does everything that is due at now and returns when it wants to be called again, if nothing
// else happens before. That is later than now, and to ask again at now changes nothing.
func (s *Session) Advance(now mono.Time) mono.Time {
	s.expire(now)
	for {
		was := s.state
		wake := s.act(now)
		switch s.state {
		case Gone:
			return mono.Never
		case was:
			return min(wake, s.idleAt(), s.stallAt(), s.gapLimit())
		}
	}
}

// act does what the session's state asks for, which may be a change of the state.
func (s *Session) act(now mono.Time) mono.Time {
	switch s.state {
	case Watching:
		s.seekTurn(now)
	case Opening:
		// The first bytes may travel with the handshake: the stream holds them until it has opened. An
		// adopted copy waits to hear whether the target greets.
		if !s.adopted {
			return s.flow(now)
		}
	case Greeting:
		s.recognise(now)
		if s.state != Greeting {
			return mono.Never
		}
		if until := s.greeted(); !s.talk.known() && !until.Reached(now) {
			return until // a protocol that is known by the client's bytes has no greeting
		}
		s.state = Flowing
		s.rebase(now)
	case Flowing:
		return s.flow(now)
	case Closing:
		return s.passEnd(now) // a reset may follow the FIN
	case Refused:
		s.discard()
		s.leave()
	}
	return mono.Never
}

// expire ends what has waited for too long: for bytes that were not captured, for the target to take
// bytes or to close, for anything to happen.
func (s *Session) expire(now mono.Time) {
	for s.gapLimit().Reached(now) {
		s.giveUp(now)
	}
	switch {
	case s.state == Gone:
	case s.stallAt().Reached(now) && s.unsent():
		s.giveUpTarget(now, ledger.SendTimeout)
	case s.stallAt().Reached(now):
		s.stream.Abort(now) // all has arrived; the target just does not close
		s.finish()
	case s.idleAt().Reached(now):
		s.idle(now)
	}
}

// giveUp gives up on missing bytes that will not come any more.
func (s *Session) giveUp(now mono.Time) {
	if s.took == s.reader.Next()+1 && !s.reader.Hole() && s.serverFIN && !s.reader.HasEnd() {
		// One more than we have was acknowledged, and the connection is over: we missed the FIN.
		s.reader.SetEnd(reasm.Closed, s.reader.NextSeq(), s.lastNote())
		s.noteHole(now)
		return
	}
	s.gap(now)
}

// gapLimit is when missing bytes count as lost. Once the server has acknowledged them, nobody will send
// them again.
func (s *Session) gapLimit() mono.Time {
	switch {
	case s.holed == mono.Never || s.state == Closing || s.state == Gone:
		return mono.Never
	case s.took > s.reader.Next() && !s.clientEndAcked():
		return s.holed.Add(cmp.Or(s.svc.HoleGrace, holeGrace))
	default:
		return s.holed.Add(holeLimit)
	}
}

// idleAt is when the session ends if neither side says anything.
func (s *Session) idleAt() mono.Time { return s.last.Add(s.svc.Idle) }

// stallAt is when the target has not moved for too long.
func (s *Session) stallAt() mono.Time {
	switch {
	case s.stream == nil:
		return mono.Never
	case s.unsent():
		return max(s.ready, s.spoke).Add(s.svc.Stall)
	case s.clientShut:
		return max(s.ready, s.shutAt).Add(s.svc.Stall)
	default:
		return mono.Never
	}
}

// clientEndAcked says whether what the server has acknowledged beyond the bytes in order is just the
// client's FIN.
func (s *Session) clientEndAcked() bool {
	end, ok := s.reader.EndOff()
	return ok && end == s.reader.Next() && s.took == end+1
}

// seekTurn begins a copy at the client's next turn, or, for a connection seen from its SYN on that has
// no copy yet, does nothing: its SYN begins it.
func (s *Session) seekTurn(now mono.Time) {
	if !s.adopted {
		return
	}
	m, ok := s.reader.Mark()
	for ok && !s.notBefore.Reached(now) {
		s.reader.NextMark()
		m, ok = s.reader.Mark()
	}
	if !ok {
		s.drop(s.reader.Next(), s.reason)
		s.leave()
		return
	}
	s.drop(m.Off, s.reason)
	if s.reader.Next()-m.Off <= 1 { // a window probe; or more is to come
		s.leave()
		return
	}
	s.reader.NextMark()
	s.env.Count.Adopted++
	s.start(now, m.Off, m.Seen, &packet.Segment{})
}

// leave ends a session without a copy when its client has gone.
func (s *Session) leave() {
	if how, _ := s.reader.Ended(); how != reasm.Open {
		s.drop(s.reader.Next(), s.reason)
		s.dropAhead()
		s.closeAccount(s.reason)
		s.state = Gone
	}
}

// greeted is when an adopted copy has heard the target's greeting, or need not wait for one.
func (s *Session) greeted() mono.Time {
	wait, quiet := s.svc.Gate.Greeting()
	if s.gate.Answered() > 0 {
		return s.gate.LastAnswer().Add(quiet)
	}
	return s.ready.Add(wait)
}

// rebase makes the gate count from after the greeting.
func (s *Session) rebase(now mono.Time) {
	s.svc.Gate.Greeted(s.gate.Answered() > 0)
	s.gate.Rebase(now)
}

// flow releases turns as far as the gate lets it, and then the end of the client's direction.
func (s *Session) flow(now mono.Time) mono.Time {
	s.waiting = false
	if wake, held := s.recognise(now); held {
		return wake
	}
	for {
		m, ok := s.reader.Mark()
		if ok && m.Off <= s.released {
			if wake, open := s.pass(now, m.Note, false); !open {
				s.waiting = true
				return wake
			}
			if s.targetShut && !s.serverFIN {
				// Production would have answered this turn: it gets a connection of its own.
				s.lose(now, ledger.TargetClosed)
				return mono.Never
			}
			s.serverFirst = m.Off == 0
			s.turn = s.released
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
		}
		if !s.handOn(now, end) {
			return mono.Never
		}
	}
}

// held is when a copy has been busy on its own account for too long.
func (s *Session) held(now mono.Time) mono.Time {
	until := s.ready.Add(s.svc.Gate.Limit())
	if until.Reached(now) {
		s.giveUpTarget(now, ledger.GateTimeout)
		return mono.Never
	}
	return until
}

// beginTurn counts a turn, and learns from a connection's first whether the service greets.
func (s *Session) beginTurn() {
	s.env.Count.Turns++
	if !s.adopted && s.released == 0 {
		s.svc.Gate.Greeted(s.serverFirst)
	}
}

// pass asks the gate for the turn, or the client's end, that was sent at n.
func (s *Session) pass(now mono.Time, n reasm.Note, end bool) (wake mono.Time, open bool) {
	check, release := s.gate.Check, s.gate.Release
	if end {
		check, release = s.gate.CheckEnd, s.gate.ReleaseEnd
	}
	var answer gate.Answer
	if answered, known := s.talk.checkKnown(n); known && (s.svc.Gate.Parses() || s.talk.edits()) {
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
		s.reader.NextMark() // the turn that waited is lost with it; the next one begins anew
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
	release(now, n, answer)
	if !end {
		s.env.Count.Behind.Note(now.Sub(n.At))
	}
	return mono.Never, true
}

// hurry has what the target has answered so far acknowledged, since a turn waits for the rest of it.
func (s *Session) hurry() {
	if n := s.gate.Answered(); n > s.hurried {
		s.hurried = n
		if a, ok := s.stream.(Acknowledger); ok {
			a.Acknowledge()
		}
	}
}

// passEnd ends the copy's direction as the client ended its own, once the gate lets it.
func (s *Session) passEnd(now mono.Time) mono.Time {
	how, note := s.reader.Ended()
	if how == reasm.Open || s.stream == nil || s.clientShut && how == reasm.Closed {
		return mono.Never
	}
	if how == reasm.Reset && (s.unsent() || s.state == Opening) {
		return mono.Never // it would discard what is under way, or what the target is to see of the copy
	}
	if !s.clientShut {
		if s.talk.holds() {
			return s.held(now)
		}
		if wake, open := s.pass(now, note, true); !open {
			return wake
		}
	}
	if how == reasm.Closed {
		s.clientShut, s.shutAt = true, now
		s.state = Closing
		s.stream.CloseWrite(now)
		return mono.Never
	}
	s.stream.Abort(now)
	s.finish()
	return mono.Never
}

// checkTLS refuses the session if the turn that begins is a TLS record; held says that it is refused, or
// that it is too early to tell.
func (s *Session) checkTLS(now mono.Time) (wake mono.Time, held bool) {
	midway := s.adopted && s.released == s.base
	if s.talk.edits() && !midway {
		return mono.Never, false // the protocol says itself what it cannot read
	}
	var first [6]byte
	n := s.reader.Peek(s.released, first[:])
	switch looksLikeTLS(first[:n], midway) {
	case tlsYes:
		s.Refuse(now, ledger.TLS)
		return mono.Never, true
	case tlsMaybe:
		until := s.spoke.Add(tlsWait)
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
