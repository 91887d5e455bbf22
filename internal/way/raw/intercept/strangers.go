package intercept

import (
	"net"
	"slices"
	"sync"
)

// strangers are the connections that have not introduced themselves, the oldest first. Where there
// are too many the oldest goes, not the newest: who means it is done in a moment, so that those who
// connect and say nothing keep nobody out.
type strangers struct {
	mu    sync.Mutex
	conns []net.Conn
}

// enter adds a connection. It returns the one that has to go for it, if any.
func (s *strangers) enter(c net.Conn) (oldest net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.conns) >= maxStrangers {
		oldest = s.conns[0]
		s.conns = slices.Delete(s.conns, 0, 1)
	}
	s.conns = append(s.conns, c)
	return oldest
}

func (s *strangers) leave(c net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := slices.Index(s.conns, c); i >= 0 {
		s.conns = slices.Delete(s.conns, i, i+1)
	}
}
