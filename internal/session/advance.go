package session

import (
	"time"

	"tcpcopy/internal/gate"
	"tcpcopy/internal/ledger"
	"tcpcopy/internal/mono"
	"tcpcopy/internal/packet"
	"tcpcopy/internal/reasm"
)

// tlsWait is how long a turn that begins like a TLS record is held until enough of it has come to tell.
const tlsWait = time.Second

// Advance does everything that is due at now and returns when it wants to be called again, if nothing
// else happens before.
func (s *Session) Advance(now mono.Time) mono.Time {
	s.checkGap(now)
	if s.state == Watching {
		s.seekTurn(now)
	}
	wake := mono.Never
	switch s.state {
	case Opening:
		// The first bytes may travel with the handshake: the stream holds them until it has opened. An
		// adopted copy waits to hear whether the target greets.
		if !s.adopted {
			wake = s.flow(now)
		}
	case Greeting:
		if until := s.greeted(); until.Reached(now) {
			s.state = Flowing
			s.rebase(now)
			wake = s.flow(now)
		} else {
			wake = until
		}
	case Flowing:
		wake = s.flow(now)
	case Closing:
		wake = s.passEnd(now) // a reset may follow the FIN
	case Refused:
		s.drop(s.reader.Next(), s.reason)
		s.leave()
	}
	if s.state == Gone {
		return mono.Never
	}
	return min(wake, s.timers(now))
}

// checkGap gives up on missing bytes that will not come any more.
func (s *Session) checkGap(now mono.Time) {
	if !s.gapLimit().Reached(now) {
		return
	}
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
		return s.holed.Add(holeGrace)
	default:
		return s.holed.Add(holeLimit)
	}
}

// clientEndAcked says whether what the server has acknowledged beyond the bytes in order is just the
// client's FIN.
func (s *Session) clientEndAcked() bool {
	how, _ := s.reader.Ended()
	return how != reasm.Open && s.took == s.reader.Next()+1
}

// seekTurn begins a copy at the client's next turn, or, for a connection seen from its SYN on that has
// no copy yet, does nothing: its SYN begins it.
func (s *Session) seekTurn(now mono.Time) {
	if !s.adopted {
		return
	}
	m, ok := s.reader.Mark()
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
	for {
		m, ok := s.reader.Mark()
		if ok && m.Off <= s.released {
			if wake, open := s.pass(now, m.Note, (*gate.Gate).Check); !open {
				return wake
			}
			if s.targetShut && !s.serverFIN {
				// Production would have answered this turn: it gets a connection of its own.
				s.lose(now, ledger.TargetClosed)
				return now
			}
			s.reader.NextMark()
			s.env.Count.Turns++
			continue
		}
		end := s.reader.Next()
		if ok {
			end = m.Off
		}
		if end > s.released {
			if wake, held := s.checkTLS(now); held {
				return wake
			}
			if s.stream == nil {
				return mono.Never
			}
			if s.released == s.base {
				s.firstBytes()
			}
			s.released = end
			s.stream.Release(now, end-s.base)
			continue
		}
		return s.passEnd(now)
	}
}

// firstBytes counts the turn that nothing precedes, and learns whether the service greets.
func (s *Session) firstBytes() {
	if !s.adopted {
		s.env.Count.Turns++
		s.svc.Gate.Greeted(s.reader.Seen() > 0)
	}
}

// pass asks the gate, through check, for the turn that was sent at n.
func (s *Session) pass(now mono.Time, n reasm.Note, check gateCheck) (wake mono.Time, open bool) {
	answer, wake := check(&s.gate, now, n, s.ready)
	switch answer {
	case gate.Wait:
		return wake, false
	case gate.TimedOut:
		s.lose(now, ledger.GateTimeout)
		s.reader.NextMark() // the turn that waited is lost with it; the next one begins anew
		return now, false
	case gate.Predicted:
		s.env.Count.GatePredicted++
	case gate.Silence:
		s.env.Count.GateQuiet++
	case gate.Finished:
		s.env.Count.GateClosed++
	case gate.Forced:
		s.env.Count.GateForced++
	}
	s.gate.Release(now, n, answer)
	return mono.Never, true
}

// gateCheck is Check or CheckEnd of a gate.
type gateCheck func(g *gate.Gate, now mono.Time, n reasm.Note, ready mono.Time) (gate.Answer, mono.Time)

// passEnd ends the copy's direction as the client ended its own, once the gate lets it.
func (s *Session) passEnd(now mono.Time) mono.Time {
	how, note := s.reader.Ended()
	if how == reasm.Open || s.clientShut && how == reasm.Closed || s.stream == nil {
		return mono.Never
	}
	if how == reasm.Closed || !s.clientShut {
		if wake, open := s.pass(now, note, (*gate.Gate).CheckEnd); !open {
			return wake
		}
	}
	if how == reasm.Closed {
		s.clientShut, s.shutAt = true, now
		s.state = Closing
		s.stream.CloseWrite(now)
		return mono.Never
	}
	if s.taken < s.released {
		return mono.Never // a reset discards what is under way: it waits until that has arrived
	}
	s.stream.Abort(now)
	s.finish()
	return mono.Never
}

// checkTLS refuses the session if the next turn is a TLS record; held says that it is too early to tell.
func (s *Session) checkTLS(now mono.Time) (wake mono.Time, held bool) {
	switch looksLikeTLS(s.reader.View(s.released, 6), s.adopted && s.released == s.base) {
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

// timers ends a session that nothing happens in, and says when that will be.
func (s *Session) timers(now mono.Time) mono.Time {
	idle := s.last.Add(s.svc.Idle)
	stall := mono.Never
	if s.stream != nil {
		switch {
		case s.released > s.taken:
			stall = max(s.ready, s.spoke).Add(s.svc.Stall)
		case s.clientShut:
			stall = max(s.ready, s.shutAt).Add(s.svc.Stall)
		}
	}
	switch {
	case stall.Reached(now) && s.released > s.taken:
		s.lose(now, ledger.SendTimeout)
		return s.last.Add(s.svc.Idle)
	case stall.Reached(now):
		s.stream.Abort(now) // all has arrived; the target just does not close
		s.finish()
		return mono.Never
	case idle.Reached(now):
		s.idle(now)
		return mono.Never
	}
	return min(idle, stall, s.gapLimit())
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
