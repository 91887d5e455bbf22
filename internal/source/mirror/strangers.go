package mirror

import (
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/sys"
)

const (
	// lookEvery is how often the strangers' socket is looked at, so that it has room for one whose
	// address can be logged.
	lookEvery = time.Second
	// complainEvery is how often a line about strangers is logged.
	complainEvery = time.Minute
)

// strangers counts what senders that are not accepted send, and says so once in a while. A nil
// *strangers has none.
type strangers struct {
	socket *sys.UDPSocket
	log    *slog.Logger

	mu      sync.Mutex
	closed  bool
	n       uint64 // datagrams
	lastCnt uint32 // last value of the kernel's counter of drops, which wraps
	looked  mono.Time
	last    netip.Addr // the last sender of which one was received
	said    uint64     // n when a line was logged
	saidAt  mono.Time
}

// watch counts, and logs a line if one is due.
func (s *strangers) watch(now mono.Time) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.looked != 0 && now.Sub(s.looked) < lookEvery {
		return
	}
	s.looked = now
	s.read()
	if s.n > s.said && (s.said == 0 || now.Sub(s.saidAt) >= complainEvery) {
		s.log.Warn("mirror: datagrams from senders that are none of --from-peers were dropped",
			"times", s.n-s.said, "from", s.last)
		s.said, s.saidAt = s.n, now
	}
}

// read takes what is queued, and the kernel's count of what it has dropped. The lock is held.
func (s *strangers) read() {
	for range sys.ReceiveBatchSize { // there is room for one or two
		from, ok := s.socket.Sender()
		if !ok {
			break
		}
		s.n++
		s.last = from
	}
	if n, err := s.socket.Drops(); err == nil {
		s.n += uint64(n - s.lastCnt)
		s.lastCnt = n
	}
}

// count returns how many datagrams there were.
func (s *strangers) count() uint64 {
	if s == nil {
		return 0
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.read()
	}
	return s.n
}

func (s *strangers) close() error {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.read()
	s.closed = true
	return s.socket.Close()
}
