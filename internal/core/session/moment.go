package session

import (
	"time"

	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/core/mono"
)

// Wait is what a session waits for.
type Wait uint8

// What a session waits for.
const (
	// WaitClient: the client's next turn, or its end.
	WaitClient Wait = iota
	// WaitCapture: bytes of the client that were not captured yet.
	WaitCapture
	// WaitConnect: the target's acceptance of the connection.
	WaitConnect
	// WaitGreeting: the greeting of the target, if it sends one.
	WaitGreeting
	// WaitAnswer: the target's answer to the turn that it was given.
	WaitAnswer
	// WaitSend: the target's acknowledgment of bytes that it was given.
	WaitSend
	// WaitClose: the target's end of the connection.
	WaitClose
	numWaits
)

var waitNames = [numWaits]string{
	"client", "capture", "connect", "greeting", "answer", "send", "close",
}

// String returns a word for w.
func (w Wait) String() string { return waitNames[w] }

// WaitNamed returns the Wait with a name. ok is false if there is none.
func WaitNamed(name string) (w Wait, ok bool) {
	for i, s := range waitNames {
		if s == name {
			return Wait(i), true
		}
	}
	return 0, false
}

// Moment is what a session is at one moment. It has none of the client's bytes.
type Moment struct {
	Phase  string        // as in the table of phases
	Wait   Wait          // what it waits for
	Since  mono.Time     // since when
	Reason ledger.Reason // why there is no copy; None: there is one, or is to be one

	// Lag is how long the oldest turn has waited that the target has not been given whole.
	Lag     time.Duration
	Held    int    // bytes of the shard's pool
	Waiting uint64 // bytes of the client that the target has not taken
}

// Moment returns what the session is at now.
func (s *Session) Moment(now mono.Time) Moment {
	m := Moment{Phase: s.phase.String(), Lag: s.lag(now), Held: s.Held()}
	m.Wait, m.Since = s.wait()
	if s.phase.copied() {
		m.Waiting = s.reader.Next() - s.taken
	} else {
		m.Reason = s.reason
	}
	return m
}

// wait returns what the session waits for, and since when.
func (s *Session) wait() (w Wait, since mono.Time) {
	st := s.State()
	if s.holeSince != mono.Never && st != Closing && st != Gone {
		return WaitCapture, s.holeSince
	}
	switch st {
	case Opening:
		return WaitConnect, s.ready
	case Greeting:
		return WaitGreeting, s.ready
	case Closing:
		if s.unsent() {
			return WaitSend, max(s.ready, s.spoke)
		}
		return WaitClose, max(s.ready, s.shutAt)
	case Flowing:
		if m, ok := s.reader.Mark(); ok && m.Off <= s.released {
			return WaitAnswer, m.At
		}
		if s.unsent() {
			return WaitSend, max(s.ready, s.spoke)
		}
		if s.released > s.base && !s.answered() {
			return WaitAnswer, max(s.ready, s.spoke)
		}
	}
	return WaitClient, s.last
}

// answered reports whether the target seems to have answered what it was given. Of a protocol that
// is not known, the answer's beginning must do.
func (s *Session) answered() bool {
	if s.talk.known() {
		return s.Content()
	}
	return s.Content() || s.gate.Answered() > 0 && s.gate.LastAnswer() >= s.ready
}

// lag returns for how long bytes of the client have waited for the target; 0 if none do.
func (s *Session) lag(now mono.Time) time.Duration {
	if !s.phase.copied() {
		return 0
	}
	if m, ok := s.reader.Mark(); ok {
		return max(0, now.Sub(m.At))
	}
	if s.taken < s.reader.Next() {
		return max(0, now.Sub(s.spoke))
	}
	return 0
}
