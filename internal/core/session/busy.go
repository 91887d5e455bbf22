package session

import (
	"time"

	"tcpcopy/internal/core/mono"
)

// behindAfter is how long a turn must have waited for an answer for its copy to count as behind.
const behindAfter = 10 * time.Millisecond

// Behind reports whether the copy has fallen behind its client: the client's next turn, sent a
// while ago, waits for the target to answer the previous one.
func (s *Session) Behind(now mono.Time) bool {
	if s.State() != Flowing || s.talk.unrecognised() {
		return false
	}
	if s.talk.waitsByStream() {
		return s.talk.streams.Waits() && now.Sub(s.spoke) > behindAfter
	}
	m, ok := s.reader.Mark()
	return ok && m.Off <= s.released && now.Sub(m.At) > behindAfter
}

// Held returns how many bytes the session holds of its shard's pool.
func (s *Session) Held() int {
	return s.reader.Kept() + s.talk.kept() + s.server.kept() + s.turns.kept() +
		s.weight
}

// weigh charges the pool with what the readers of protocols hold.
func (s *Session) weigh() {
	if n := s.talk.size() + s.server.size() + s.turns.size(); n != s.weight {
		s.env.Pool.Charge(n - s.weight)
		s.weight = n
	}
}

// Busy reports whether the session has work left with what was captured of its client: bytes that
// the target has not taken, or a connection to open or to close. A source that hands in recorded
// packets as fast as possible waits for busy sessions. It need not wait for others, which wait for
// packets.
func (s *Session) Busy() bool {
	switch s.State() {
	case Waiting, Opening, Greeting, Closing:
		return true
	case Flowing:
		return s.taken < s.reader.Next() || s.ClientEnded()
	default:
		return false
	}
}
