package session

import (
	"tcpcopy/internal/ledger"
	"tcpcopy/internal/mono"
)

// Handle takes an event of the session's stream.
func (s *Session) Handle(now mono.Time, ev *Event) {
	if s.stream == nil {
		return // of a copy that has ended
	}
	switch ev.Kind {
	case Opened:
		s.ready, s.opened = now, true
		if s.state == Opening {
			s.state = Flowing
			if s.adopted {
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
		s.take(now, s.released-s.base)
		s.finish()
	case ResetByPeer:
		s.broken(ev, ledger.TargetReset)
	case Failed:
		s.broken(ev, ev.Reason)
	}
}

// take accounts for the stream's bytes below the offset n as delivered.
func (s *Session) take(now mono.Time, n uint64) {
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
	acked := min(s.base+ev.N, s.released)
	s.take(s.ready, ev.N)
	s.disown(acked, r)
	if s.clientShut && acked == s.released {
		s.finish() // the target closed with a reset, after it had everything
		return
	}
	s.lost(r)
}

// disown takes back that what lies beyond the offset acked was delivered: the stream took it, and the
// target never acknowledged it.
func (s *Session) disown(acked uint64, r ledger.Reason) {
	if s.taken > acked {
		n := s.taken - acked
		s.taken = acked
		s.env.Count.Bytes.Delivered -= n
		s.env.Count.Bytes.Drop(r, n)
	}
}

// giveUpTarget ends the copy because the target has not answered, or taken anything, for too long.
func (s *Session) giveUpTarget(now mono.Time, r ledger.Reason) {
	if m, ok := s.stream.(Meter); ok {
		s.disown(s.base+m.Acked(), r)
	}
	s.lose(now, r)
}
