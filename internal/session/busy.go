package session

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
