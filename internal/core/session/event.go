package session

import (
	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/core/mono"
)

// Handle takes an event of the session's stream.
func (s *Session) Handle(now mono.Time, ev *Event) {
	if s.stream == nil {
		return // of a copy that has ended
	}
	switch ev.Kind {
	case Opened:
		s.ready, s.opened = now, true
		if s.talk != nil {
			s.talk.opened = now
		}
		if s.state == Opening {
			s.state = Flowing
			if s.adopted && !s.talk.edits() {
				s.state = Greeting
			}
		}
	case Taken:
		s.take(now, ev.N)
	case Received:
		if before := s.gate.Answered(); ev.N > before {
			s.env.Count.AnswerBytes += ev.N - before
		}
		s.last = max(s.last, now)
		s.gate.Received(now, ev.N, ev.Hole)
	case Shut:
		s.targetShut = true
		s.gate.Closed()
	case Finished:
		s.take(now, s.handed())
		s.finish()
	case AnswerEnd, AnswerBytes, AnswersLost:
		s.hear(now, ev)
	case ResetByPeer:
		s.broken(ev, ledger.TargetReset)
	case Failed:
		s.broken(ev, ev.Reason)
	}
}

// take accounts for the stream's bytes below the offset n as delivered.
func (s *Session) take(now mono.Time, n uint64) {
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

// broken ends a copy whose connection has gone. What the stream took, but the target never
// acknowledged, was not delivered.
func (s *Session) broken(ev *Event, r ledger.Reason) {
	if !s.opened {
		s.notBefore = ev.At.Add(retryAfter)
	}
	if s.targetShut && r == ledger.TargetReset {
		r = ledger.TargetClosed
	}
	s.take(s.ready, ev.N)
	s.disown(ev.N, r)
	if s.clientShut && ev.N >= s.handed() {
		s.finish() // the target closed with a reset, after it had everything
		return
	}
	s.lost(r)
}

// disown takes back that what lies beyond the copy's first n bytes was delivered: the stream took it, and
// the target never acknowledged it.
func (s *Session) disown(n uint64, r ledger.Reason) {
	var back uint64
	if s.talk.edits() {
		// What the last bytes stand for is no longer known: as many of the client's.
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

// giveUpTarget ends the copy because the target has not answered, or taken anything, for too long.
func (s *Session) giveUpTarget(now mono.Time, r ledger.Reason) {
	if m, ok := s.stream.(Meter); ok {
		s.disown(m.Acked(), r)
	}
	s.lose(now, r)
}
