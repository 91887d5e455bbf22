package socket

import (
	"syscall"

	"tcpcopy/internal/sys"
)

// handle handles what has happened to a connection, and leaves one note about it.
func (p *poller) handle(c *conn, ev *sys.EpollEvent) {
	s := &c.polled
	if s.unread { // readAgain handles it
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
	case stateLingering:
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
	from := len(p.batch.found)
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

// connected ends an attempt to connect, and reports whether the connection has opened. If it has
// not, the shard gets a note, or the attempt goes on.
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
		p.finish(c, noteOpened, errno, sys.TCPStatus{}, len(p.batch.found))
		return false
	case !ev.Writable():
		return false
	}
	if local := sys.LocalAddr(s.fd); local.Port() == s.target.Port() &&
		local.Addr().Unmap() == s.target.Addr().Unmap() {
		// No server listens, and the kernel has chosen the target's port to connect from: the
		// connection is one with itself (simultaneous open, RFC 9293 §3.5).
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

// sendHeader sends the PROXY protocol header, before the shard may write, and reports whether it
// could. It fits the empty buffer of a new connection.
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

// read reads and counts what the target has answered. It returns the socket's error, and reports
// whether everything was read: a target that answers without end is read further in readAgain.
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
			p.feedEnd(c)
			return 0, true
		}
		s.received += uint64(n)
		// Less than was asked for is all there was, and epoll reports later bytes. But a read also
		// stops at urgent data, and the end of the stream takes a read of its own.
		if n < most && !ev.Urgent() && !ev.PeerShut() {
			drained = true
			break
		}
	}
	return 0, drained
}

// readAgain reads further from the connections that had more to read than readsAtOnce allowed.
func (p *poller) readAgain() {
	p.unread, p.again = p.again[:0], p.unread
	for _, tag := range p.again {
		if c := p.lookup(tag); c != nil {
			c.polled.unread = false
			p.handle(c, &c.polled.ready)
		}
	}
}

// finish leaves a note that a connection is over. The shard has to ask for its descriptor to be
// closed.
func (p *poller) finish(c *conn, what uint8, errno syscall.Errno, status sys.TCPStatus, from int) {
	s := &c.polled
	s.state = stateOver
	n := p.noteFrom(c, what|noteOver, from)
	n.err = errno
	n.acked = s.acked(status)
}

// acked returns how many bytes of the record the target has acknowledged, perhaps with one for our
// FIN.
func (s *polled) acked(status sys.TCPStatus) uint64 {
	before := 1 + uint64(s.headerLen) // the SYN and the header
	return max(status.Acked, before) - before
}
