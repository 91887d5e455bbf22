package socket

import (
	"syscall"

	"tcpcopy/internal/sys"
)

// wakened looks at a connection to which something has happened, and leaves one note about it.
func (p *poller) wakened(c *conn, ev *sys.EpollEvent) {
	s := &c.polled
	if s.unread { // its turn comes
		s.ready.Merge(ev)
		return
	}
	var what uint8
	switch s.state {
	case stateConnecting:
		if !p.connected(c, ev) {
			return
		}
		what = noteOpened
	case stateOpen:
	case stateLeaving:
		if ev.HungUp() {
			p.release(c)
		}
		return
	default:
		return
	}
	if ev.Writable() {
		what |= noteWritable
	}
	var errno syscall.Errno
	from := len(p.batch.told)
	if !s.shut && (ev.Readable() || ev.PeerShut()) {
		var drained bool
		if errno, drained = p.read(c, ev); !drained {
			s.ready, s.unread = *ev, true
			p.unread = append(p.unread, ev.Tag())
			p.noteFrom(c, what, from)
			return
		}
	}
	if s.shut {
		what |= noteShut
	}
	if ev.HungUp() || ev.Failed() || errno != 0 {
		if errno == 0 {
			errno = sys.TakeError(s.fd)
		}
		if status := sys.StatusTCP(s.fd); status.Over || errno != 0 {
			p.finish(c, what, errno, status, from)
			return
		}
	}
	p.noteFrom(c, what, from)
}

// connected ends an attempt to connect. It says whether the connection has opened: if not, the shard
// has been told, or the attempt goes on.
func (p *poller) connected(c *conn, ev *sys.EpollEvent) bool {
	s := &c.polled
	switch {
	case ev.Failed() || ev.HungUp():
		errno := sys.TakeError(s.fd)
		if errno != syscall.ECONNRESET && errno != syscall.EPIPE {
			if errno == 0 {
				errno = syscall.ECONNREFUSED
			}
			p.fail(c, errno)
			return false
		}
		// Accepted, and reset before we looked.
		p.delist(c)
		s.state = stateOpen
		p.finish(c, noteOpened, errno, sys.TCPStatus{}, len(p.batch.told))
		return false
	case !ev.Writable():
		return false
	}
	if local := sys.LocalAddr(s.fd); local.Port() == s.target.Port() && local.Addr().Unmap() == s.target.Addr().Unmap() {
		// Nobody listens, and the kernel chose the target's own port to connect from: we are talking to
		// ourselves (simultaneous open, RFC 9293 §3.5).
		p.fail(c, syscall.ECONNREFUSED)
		return false
	}
	if len(s.header) > 0 && !p.sendHeader(c) {
		return false
	}
	p.delist(c)
	s.state = stateOpen
	return true
}

// sendHeader puts the PROXY protocol header in front of all that the shard will write. It fits the empty
// buffer of a new connection.
func (p *poller) sendHeader(c *conn) bool {
	s := &c.polled
	var g sys.Gather
	g.Add(s.header)
	n, errno := g.Send(s.fd)
	if errno == 0 && n < len(s.header) {
		errno = syscall.ENOBUFS
	}
	if errno != 0 {
		p.fail(c, errno)
		return false
	}
	s.headerLen = uint16(len(s.header))
	s.header = nil
	return true
}

// read reads what the target has answered, and counts it. It returns an error that the socket held, and
// whether all was read: one that answers without end goes on after the others have had their turn.
func (p *poller) read(c *conn, ev *sys.EpollEvent) (errno syscall.Errno, drained bool) {
	s := &c.polled
	for range readsAtOnce {
		n, most, errno := p.receive(c)
		if errno == syscall.EAGAIN {
			drained = true
			break
		}
		if errno != 0 {
			return errno, true
		}
		if n == 0 {
			s.shut = true
			p.hearEnd(c)
			return 0, true
		}
		s.received += uint64(n)
		// Less than asked for is all there was, and a later byte is a new event; but a read stops short
		// at urgent data, and the end of the stream is a read of its own.
		if n < most && !ev.Urgent() && !ev.PeerShut() {
			drained = true
			break
		}
	}
	return 0, drained
}

// readAgain goes on with those that had more to read than their turn allowed.
func (p *poller) readAgain() {
	p.unread, p.again = p.again[:0], p.unread
	for _, tag := range p.again {
		if c := p.lookup(tag); c != nil {
			c.polled.unread = false
			p.wakened(c, &c.polled.ready)
		}
	}
}

// finish tells the shard that a connection is over; it still has to ask for the descriptor to be closed.
func (p *poller) finish(c *conn, what uint8, errno syscall.Errno, status sys.TCPStatus, from int) {
	s := &c.polled
	s.state = stateOver
	n := p.noteFrom(c, what|noteOver, from)
	n.err = errno
	n.acked = s.acked(status)
}

// acked is how many bytes of the record the target has acknowledged, and perhaps one for our FIN.
func (s *polled) acked(status sys.TCPStatus) uint64 {
	before := 1 + uint64(s.headerLen) // the SYN and the header
	return max(status.Acked, before) - before
}
