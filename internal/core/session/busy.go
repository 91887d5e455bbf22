package session

import (
	"time"

	"tcpcopy/internal/core/mono"
)

// behindAfter is how long ago a client sent a turn that still waits for an answer, where its copy counts as behind.
const behindAfter = 10 * time.Millisecond

// Behind says whether the copy has fallen behind its client: the next turn, sent a while ago, waits for the target
// to answer the one before.
func (s *Session) Behind(now mono.Time) bool {
	if !s.waiting || s.state != Flowing {
		return false
	}
	m, ok := s.reader.Mark()
	return ok && now.Sub(m.At) > behindAfter
}

// Busy says whether the session has something left to do with what was captured of its client so far: bytes that
// the target has not taken, or a connection to open or to close. Whoever hands in recorded packets as fast as
// can be waits for busy sessions; for others he need not, for they wait for him.
func (s *Session) Busy() bool {
	switch s.state {
	case Opening, Greeting, Closing:
		return true
	case Flowing:
		return s.taken < s.reader.Next() || s.ClientEnded()
	default:
		return false
	}
}
