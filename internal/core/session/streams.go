package session

import (
	"cmp"
	"time"

	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/reasm"
	"tcpcopy/internal/proto"
)

// waitsByStream reports whether the protocol decides by stream what waits, and not the gate.
func (t *talk) waitsByStream() bool { return t != nil && t.streams != nil && t.script != nil }

// flowStreams is flow for a protocol whose streams wait by themselves: it hands on at once what the
// client has sent.
func (s *Session) flowStreams(now mono.Time) mono.Time {
	t := s.talk
	if wake, held := s.shutStreams(now); held {
		return wake
	}
	for {
		if t.streams.Reopens() {
			s.reopen(now)
			return mono.Never
		}
		m, ok := s.reader.Mark()
		if ok && m.Off <= s.released {
			if until, held := s.awaitServer(now, &m); held {
				return until
			}
			t.seen = m.Seen
			if t.paced != nil {
				t.paced.Turn(m.At)
			}
			s.turn = s.released
			s.reader.NextMark()
			s.env.Count.Behind.Note(now.Sub(m.At))
			continue
		}
		end := s.reader.Next()
		if ok {
			end = m.Off
		}
		if end == s.released {
			break
		}
		if s.released == s.turn {
			s.beginTurn()
		}
		if !s.handOn(now, end) {
			return mono.Never
		}
	}
	wake := mono.Never
	if t.paced != nil {
		out := s.env.scratch()
		wake = t.paced.Go(now, out)
		if !s.carryOut(now, out) {
			return mono.Never
		}
		if t.streams.Reopens() {
			s.reopen(now)
			return mono.Never
		}
	}
	if t.streams.Waits() {
		return s.awaitStreams(now, wake)
	}
	return min(wake, s.passEnd(now))
}

// awaitServer holds a turn until the server's packets were captured that its client had seen. With
// several capture rings they may come a little later. What streams wait for is known from them.
func (s *Session) awaitServer(now mono.Time, m *reasm.Mark) (until mono.Time, held bool) {
	if !s.svc.Production || !s.talk.streams.Awaits(m.Seen) {
		return mono.Never, false
	}
	until = m.At.Add(cmp.Or(s.svc.HoleGrace, holeGrace))
	return until, !until.Reached(now)
}

// awaitStreams returns when streams have waited for too long, or wake if that is earlier. When they
// have, those that wait for answers go, if the target has answered anything; otherwise the copy
// ends. If no turn is to wait, they go at once.
func (s *Session) awaitStreams(now, wake mono.Time) mono.Time {
	if out := s.env.scratch(); !s.svc.Gate.Waits() && s.talk.streams.Force(out) {
		if !s.carryOut(now, out) {
			return mono.Never
		}
		return s.flowStreams(now)
	}
	limit := s.svc.Gate.Limit()
	if until := max(s.ready, s.gate.LastAnswer()).Add(limit); !until.Reached(now) {
		return min(until, wake)
	}
	out := s.env.scratch()
	if s.gate.Answered() == 0 || !s.talk.streams.Force(out) {
		s.giveUpTarget(now, ledger.GateTimeout)
		return mono.Never
	}
	s.env.Count.GateForced++
	if !s.carryOut(now, out) {
		return mono.Never
	}
	return s.flowStreams(now) // nothing is left that can be forced
}

// reopen ends the copy's connection, on which the target takes no more streams and has answered
// all, and opens another one for what waits.
func (s *Session) reopen(now mono.Time) {
	t := s.talk
	s.deliver(t.script.upTo)
	s.taken = s.settled
	off, fed, turn, seen := t.script.upTo, s.released, s.turn, t.seen
	s.stream.Abort(now)
	t.script.close(s.env.Pool)
	waiting := waitingWhole
	if s.phase.adopted() {
		waiting = waitingAdopted
	}
	s.phase, s.turn, s.turnNote.Seen = waiting, off, 0 // its gate has let nothing pass
	s.syn = synOptions{}                               // its time stamps are of the past
	t.reopens = true
	s.start(now)
	if s.phase.copied() {
		s.released, s.turn, t.seen = fed, turn, seen
	}
}

// readAnew has a copy go on over another connection that has missed the target's first bytes: the
// protocol was recognised when they had passed. It returns false if it was done before, if
// something was asked, or if the protocol cannot do that.
func (s *Session) readAnew(now mono.Time) bool {
	t := s.talk
	if t.anew || t.streams == nil || t.script == nil || t.asked > 0 || len(t.running) > 0 ||
		t.heard != 0 || !t.streams.Renews() {
		return false
	}
	t.anew = true
	out := s.env.scratch()
	t.streams.Shut(out)
	s.carryOut(now, out)
	return true // it reopens with the client's next request, which may be there already
}

// shutWait is how long the last answers of a target may come later than the end of its direction:
// in some ways they come from where they are read. Later ones are cut off.
const shutWait = time.Second

// shutStreams tells the protocol that the target has ended its direction, once it has read all that
// came. held reports that it has not, or that there is no copy any more.
func (s *Session) shutStreams(now mono.Time) (wake mono.Time, held bool) {
	t := s.talk
	if !s.gate.Closed() || t.shut {
		return mono.Never, false
	}
	until := s.gate.LastAnswer().Add(shutWait)
	if t.streams.Heard() < s.gate.Answered() && !until.Reached(now) {
		return until, true
	}
	t.shut, t.heard = true, now
	out := s.env.scratch()
	t.streams.Shut(out)
	return mono.Never, !s.carryOut(now, out)
}

// noteStream notes what became of a request of a stream.
func (s *Session) noteStream(st *proto.Step) {
	t := s.talk
	r, timed := t.running[st.Request.Number]
	switch st.Kind {
	case proto.Begun:
		if timed && r.first == 0 {
			r.first = t.heard
			t.running[st.Request.Number] = r
		}
		return
	case proto.Answered:
		c := &s.env.Count.Requests.Answers
		class := countAnswer(c, t.protocol, &st.Answer)
		if st.Answer.Text != "" {
			s.env.Count.Requests.Texts.Note(class, st.Answer.Text)
		}
		if st.Answer.Interim {
			return
		}
		why := ledger.TargetReset
		if t.shut {
			why = ledger.TargetClosed
		}
		s.copied().receiveStream(r.stream, &st.Answer, t.heard, why)
		if timed && r.first != 0 {
			timeAnswer(c, max(r.sent, t.opened), r.first, t.heard)
		}
	case proto.Abandoned:
		s.copied().abandon(r.stream)
	}
	delete(t.running, st.Request.Number)
}
