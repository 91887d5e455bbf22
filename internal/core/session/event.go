package session

import (
	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/core/mono"
)

// Handle processes an event of the session's stream.
func (s *Session) Handle(now mono.Time, ev *Event) {
	if s.stream == nil {
		return // the event of a copy that has ended
	}
	defer s.weigh()
	switch ev.Kind {
	case Opened:
		s.open(now)
	case Taken:
		s.noteTaken(now, ev.N)
	case Received:
		if before := s.gate.Answered(); ev.N > before {
			s.env.Count.AnswerBytes += ev.N - before
		}
		s.last = max(s.last, now)
		s.gate.Received(now, ev.N, ev.Hole)
	case Shut:
		s.gate.Shut()
		s.turns.copyEnds(false, s.State() == Closing)
	case Finished:
		s.turns.copyEnds(false, true)
		s.noteTaken(now, s.handed())
		s.finish()
	case AnswerEnd, AnswerBytes, AnswersLost:
		s.handleAnswer(now, ev)
	case ResetByPeer:
		s.turns.copyEnds(true, s.State() == Closing)
		s.broken(ev, ledger.TargetReset)
	case Failed:
		s.broken(ev, ev.Reason)
	}
}

// open notes that the connection to the target is open.
func (s *Session) open(now mono.Time) {
	s.ready = now
	if s.talk != nil {
		s.talk.opened = now
	}
	switch s.phase {
	case openingWhole:
		s.phase = flowingWhole
	case openingAdopted:
		s.phase = greeting
		if s.talk.edits() { // its protocol reads the greeting itself
			s.phase = flowingAdopted
		}
	case closingUnopened:
		s.phase = closingWhole
	}
}

// noteTaken accounts for the stream's first n bytes as delivered.
func (s *Session) noteTaken(now mono.Time, n uint64) {
	if s.talk.edits() {
		if n > s.talk.script.taken {
			s.account(n)
			s.ready = now
		}
		return
	}
	off := min(s.base+n, s.released)
	if off <= s.taken {
		return
	}
	s.env.Count.Bytes.Delivered += off - max(s.taken, s.settled)
	s.taken, s.settled = off, off
	s.reader.Take(off)
	s.ready = now
}

// broken ends a copy whose connection is gone. Bytes that the stream took and the target did not
// acknowledge were not delivered.
func (s *Session) broken(ev *Event, r ledger.Reason) {
	if s.phase.unopened() {
		wait := retryAfter
		if r == ledger.TargetRefused || r == ledger.LinkDown {
			wait = retryAfterRefusal
		}
		s.notBefore = ev.At.Add(wait)
	}
	if s.gate.Closed() && r == ledger.TargetReset {
		r = ledger.TargetClosed
	}
	if s.hold(ev, r) {
		return
	}
	s.noteTaken(s.ready, ev.N)
	s.disown(ev.N, r)
	if s.State() == Closing && ev.N >= s.handed() {
		s.finish() // the target closed by a reset, after it had received everything
		return
	}
	s.lost(r)
}

// hold has the copy whose connection is gone begin again, once the target is back, and reports
// whether it does: not if the target may have any of the turn already, or if the turn has waited
// for Service.Hold.
func (s *Session) hold(ev *Event, r ledger.Reason) bool {
	switch {
	case s.svc.Hold <= 0 || s.HeldUntil().Reached(ev.At):
		return false
	case s.phase.unopened() && ev.Kind == Failed:
		if !away(r) {
			return false
		}
	case ev.Kind != ResetByPeer || s.State() == Closing && s.phase != closingUnopened ||
		s.talk.edits() || s.reader.Next() == s.turn || max(s.taken, s.base+ev.N) > s.turn:
		return false
	}
	if s.phase.unopened() {
		s.turn = s.base
	}
	s.noteTaken(s.ready, ev.N)
	s.disown(ev.N, r)
	s.drop(s.turn, r) // earlier turns that the target does not have
	s.endTalk()
	s.stream = nil
	s.reason = r
	if s.phase.adopted() || s.turn > 0 {
		s.phase = waitingAdopted
	} else {
		s.phase = waitingWhole
	}
	return true
}

// away reports whether a copy that could not open for the reason r may open once the target, or the
// way to it, is back.
func away(r ledger.Reason) bool {
	switch r {
	case ledger.TargetRefused, ledger.ConnectTimeout, ledger.TargetUnreachable, ledger.TargetOut,
		ledger.LinkDown:
		return true
	}
	return false
}

// disown revokes that the copy's bytes beyond the first n were delivered: the stream took them, and
// the target never acknowledged them.
func (s *Session) disown(n uint64, r ledger.Reason) {
	var back uint64
	if s.talk.edits() {
		// Which of the client's bytes these stand for is no longer known; revoke as many.
		x := s.talk.script
		back = min(x.taken-min(n, x.taken), x.delivered)
		x.delivered -= back
	} else if acked := min(s.base+n, s.released); s.taken > acked {
		back = s.taken - acked
		s.taken = acked
	}
	s.env.Count.Bytes.Delivered -= back
	s.env.Count.Bytes.Drop(r, back)
}

// giveUpTarget ends the copy because the target has not answered, or taken bytes, for too long.
func (s *Session) giveUpTarget(now mono.Time, r ledger.Reason) {
	if m, ok := s.stream.(Meter); ok {
		s.disown(m.Acked(), r)
	}
	s.lose(now, r)
}
