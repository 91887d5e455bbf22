package link

import (
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// maxStrangers bounds the connections of a Server that have not introduced themselves.
const maxStrangers = 64

// strangers are the connections that have not introduced themselves, the oldest first. Where there
// are too many the oldest is closed, not the newest: a real peer introduces itself at once, so that
// connections that say nothing keep none out. The Server's lock guards it.
type strangers []net.Conn

// add adds a connection. It returns the one that must be closed for it, if any.
func (s *strangers) add(c net.Conn) (oldest net.Conn) {
	if len(*s) >= maxStrangers {
		oldest = (*s)[0]
		*s = slices.Delete(*s, 0, 1)
	}
	*s = append(*s, c)
	return oldest
}

func (s *strangers) remove(c net.Conn) {
	if i := slices.Index(*s, c); i >= 0 {
		*s = slices.Delete(*s, i, i+1)
	}
}

const (
	// complainEvery is how often a complaint about one address is repeated.
	complainEvery = 10 * time.Minute
	// maxComplaints bounds the complaints that are remembered.
	maxComplaints = 1024
)

// complaints is a log that strangers cannot fill: one line in complainEvery for each address and
// message, and none for further addresses where too many were logged.
type complaints struct {
	log *slog.Logger

	mu   sync.Mutex
	last map[complaint]time.Time
}

type complaint struct {
	from netip.Addr
	msg  string
}

func (l *complaints) warn(from netip.Addr, msg string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if t, ok := l.last[complaint{from, msg}]; ok && now.Sub(t) < complainEvery {
		return
	}
	if l.last == nil {
		l.last = make(map[complaint]time.Time)
	}
	if len(l.last) >= maxComplaints {
		maps.DeleteFunc(l.last, func(_ complaint, at time.Time) bool {
			return now.Sub(at) >= complainEvery
		})
		if len(l.last) >= maxComplaints {
			return
		}
	}
	l.last[complaint{from, msg}] = now
	l.log.Warn(msg, args...)
}
