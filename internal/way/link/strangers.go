package link

import (
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

const (
	// maxStrangers bounds the connections of a Server that have not introduced themselves, and
	// maxStrangersEach those from one address.
	maxStrangers     = 64
	maxStrangersEach = maxStrangers / 2
	// maxKnown bounds the addresses of peers that are remembered.
	maxKnown = 1024
)

// strangers are the connections that have not introduced themselves, the oldest first. Where there
// are too many one of them is closed, and not the newest: a real peer introduces itself at once, so
// that connections that say nothing keep none out. The Server's lock guards it.
type strangers struct {
	list []stranger
	// known are the addresses of peers that were admitted. They give way to each other only.
	known map[netip.Addr]struct{}
}

type stranger struct {
	conn net.Conn
	from netip.Addr
}

// holderOf returns what stands for all addresses that one host may have: an IPv6 host has a network
// of 64 bits (RFC 4291 §2.5.1).
func holderOf(a netip.Addr) netip.Addr {
	if a = a.Unmap(); a.Is4() {
		return a
	}
	p, _ := a.WithZone("").Prefix(64)
	return p.Addr()
}

// add adds a connection. It returns the one that must be closed for it, if any: the oldest one from
// the same address, if there are many of these; else the oldest one of an address that is not
// known, if there is one.
func (s *strangers) add(c net.Conn, from netip.Addr) (closed net.Conn) {
	from = holderOf(from)
	same := func(o stranger) bool { return o.from == from }
	unknown := func(o stranger) bool { _, ok := s.known[o.from]; return !ok }
	each := 0
	for _, o := range s.list {
		if same(o) {
			each++
		}
	}
	give := -1
	if each >= maxStrangersEach {
		give = slices.IndexFunc(s.list, same)
	} else if len(s.list) >= maxStrangers {
		give = max(0, slices.IndexFunc(s.list, unknown))
	}
	if give >= 0 {
		closed = s.list[give].conn
		s.list = slices.Delete(s.list, give, give+1)
	}
	s.list = append(s.list, stranger{c, from})
	return closed
}

func (s *strangers) remove(c net.Conn) {
	if i := slices.IndexFunc(s.list, func(o stranger) bool { return o.conn == c }); i >= 0 {
		s.list = slices.Delete(s.list, i, i+1)
	}
}

// know remembers the address of a peer that was admitted.
func (s *strangers) know(from netip.Addr) {
	if s.known == nil {
		s.known = make(map[netip.Addr]struct{})
	}
	if len(s.known) >= maxKnown {
		for a := range s.known { // any
			delete(s.known, a)
			break
		}
	}
	s.known[holderOf(from)] = struct{}{}
}

// complainEvery is how often the same complaint is logged.
const complainEvery = time.Minute

// complaints is a log that strangers cannot fill: of complaints with the same message one is logged
// at once, and then one line in each complainEvery, with the last one and how many there were.
type complaints struct {
	log *slog.Logger

	mu     sync.Mutex
	recent map[string]*complaint // by message; the program has few
	closed bool
}

// complaint is a message that was logged less than complainEvery ago.
type complaint struct {
	more  int   // complaints since then
	args  []any // of the last one
	timer *time.Timer
}

// warn logs a warning, or counts it. The message must not depend on what a stranger sends.
func (l *complaints) warn(msg string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c := l.recent[msg]; c != nil {
		c.more++
		c.args = args
		return
	}
	l.log.Warn(msg, args...)
	if l.closed {
		return
	}
	if l.recent == nil {
		l.recent = make(map[string]*complaint)
	}
	l.recent[msg] = &complaint{timer: time.AfterFunc(complainEvery, func() { l.repeat(msg) })}
}

// repeat logs the complaints that have come since the message was last logged.
func (l *complaints) repeat(msg string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.recent[msg]
	if l.closed || c == nil {
		return
	}
	if !l.sum(msg, c) {
		delete(l.recent, msg)
		return
	}
	c.timer.Reset(complainEvery)
}

// sum logs what a complaint has counted, and reports whether that was anything. The lock is held.
func (l *complaints) sum(msg string, c *complaint) bool {
	if c.more == 0 {
		return false
	}
	l.log.Warn(msg, append(slices.Clone(c.args), "times", c.more)...)
	c.more, c.args = 0, nil
	return true
}

// close logs what was counted, and counts nothing more.
func (l *complaints) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	l.closed = true
	for msg, c := range l.recent {
		c.timer.Stop()
		l.sum(msg, c)
	}
	l.recent = nil
}
