package socket

import (
	"syscall"

	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/session"
	"tcpcopy/internal/sys"
)

// maxView bounds the view that is asked of a record at once, in bytes.
const maxView = 1 << 20

// conn is one connection to the target. Its own fields belong to the shard's goroutine, those in
// polled to the poller. The shard reads the descriptor in there while it may use it (see the
// package comment); the poller does not change it then.
type conn struct {
	out      *Output
	record   session.Record
	id       session.ID
	released uint64 // the record's bytes below it may be sent
	sent     uint64 // the kernel has taken those below it
	received uint64 // as reported to the session

	open       bool // the descriptor may be used
	blocked    bool // the kernel takes no more, until a note has noteWritable
	closing    bool // CloseWrite was called
	finished   bool // and carried out
	shut       bool // the target has ended its direction, and the session knows
	unreported bool // sent has grown since the last Taken event: the connection is in out.taken
	gone       bool // the last event was reported, or Abort was called
	err        syscall.Errno

	polled polled
}

// Release implements session.Stream.
func (c *conn) Release(_ mono.Time, end uint64) {
	if end > c.released {
		c.released = end
		c.write()
	}
}

// CloseWrite implements session.Stream.
func (c *conn) CloseWrite(mono.Time) {
	c.closing = true
	c.write()
}

// Sent implements Stream.
func (c *conn) Sent() uint64 { return c.sent }

// Abort implements session.Stream. What the kernel has taken is delivered before the reset, for at
// most lingerLimit: the session has counted it as delivered.
func (c *conn) Abort(mono.Time) {
	if !c.gone && !c.out.closed {
		c.giveBack()
	}
}

// Acknowledge implements session.Acknowledger. An ACK for every answer was a third of a copier's
// CPU; most travel with the next request.
func (c *conn) Acknowledge() {
	if c.open && !c.out.closed {
		sys.AckNow(c.polled.fd)
	}
}

// Acked implements session.Meter.
func (c *conn) Acked() uint64 {
	if !c.open || c.out.closed {
		return 0
	}
	return c.polled.acked(sys.StatusTCP(c.polled.fd))
}

// giveBack gives the descriptor back to the poller. Nothing happens to the connection after it.
func (c *conn) giveBack() {
	c.gone, c.open = true, false
	c.record = nil
	c.out.poller.ask(request{conn: c, kind: askClose})
}

// write sends what is released, as far as the kernel takes it, and then our FIN, if it is wanted.
func (c *conn) write() {
	if !c.open || c.blocked || c.err != 0 || c.out.closed {
		return
	}
	for c.sent < c.released {
		g := &c.out.gather
		want := 0
		for off := c.sent; off < c.released; {
			view := c.record.View(off, int(min(c.released-off, maxView)))
			if len(view) == 0 || !g.Add(view) {
				break
			}
			off += uint64(len(view))
			want += len(view)
		}
		if want == 0 {
			return // released, but not in the record: there is nothing to send
		}
		n, errno := g.Send(c.polled.fd)
		if errno == syscall.EAGAIN {
			c.blocked = true
			return
		}
		if errno != 0 {
			// The poller finds out how the connection ended, and how much was acknowledged.
			c.err = errno
			c.out.poller.ask(request{conn: c, kind: askCheck})
			return
		}
		c.sent += uint64(n)
		if !c.unreported {
			c.unreported = true
			c.out.taken = append(c.out.taken, c)
		}
	}
	if c.closing && !c.finished {
		c.finished = true
		sys.ShutdownWrite(c.polled.fd)
	}
}

// apply takes in a note of the poller, and reports its events.
func (c *conn) apply(now, at mono.Time, b *Batch, n *note) {
	if c.gone {
		return // aborted while the note was under way
	}
	if n.what&noteOpened != 0 {
		c.open = true
		c.out.report(c, session.Opened, 0, at)
	}
	if n.received != c.received {
		c.received = n.received
		c.out.report(c, session.Received, c.received, at)
	}
	if n.to > n.from || n.what&noteLost != 0 {
		c.reportAnswers(b, n)
	}
	// after a reset reads end, too
	if n.what&noteShut != 0 && !c.shut && (n.what&noteOver == 0 || c.err == 0) {
		c.shut = true
		c.out.report(c, session.Shut, 0, at)
	}
	if n.what&noteOver != 0 {
		c.end(now, at, n)
		return
	}
	if n.what&noteOpened != 0 {
		c.write()
	} else if n.what&noteWritable != 0 && c.blocked {
		c.blocked = false
		c.write()
	}
}

// end reports how the connection ended.
func (c *conn) end(now, at mono.Time, n *note) {
	err := n.err
	if err == 0 {
		err = c.err // a write of ours got the error first
	}
	ev := session.Event{ID: c.id, N: min(n.acked, c.sent), At: at}
	switch {
	case err == 0 && c.finished:
		if c.unreported {
			c.out.report(c, session.Taken, c.sent, now)
		}
		ev.Kind, ev.N = session.Finished, c.sent
	case err == 0:
		// It was neither reset nor closed: it was destroyed on this host.
		ev.Kind, ev.Reason = session.Failed, ledger.LinkError
	case err == syscall.ECONNRESET || err == syscall.EPIPE:
		ev.Kind = session.ResetByPeer
	default:
		ev.Kind, ev.Reason = session.Failed, reason(err, c.open)
		if c.polled.from.IsValid() {
			ev.Reason = reasonFrom(err, ev.Reason)
		}
	}
	c.out.events = append(c.out.events, ev)
	c.unreported = false
	c.giveBack()
}

// reasonFrom returns the reason for err on a connection from a client's own address, or otherwise.
func reasonFrom(err syscall.Errno, otherwise ledger.Reason) ledger.Reason {
	switch err {
	case syscall.EADDRNOTAVAIL, syscall.EADDRINUSE:
		return ledger.TupleTaken
	case syscall.EINVAL, syscall.EAFNOSUPPORT:
		return ledger.BadClientAddress
	}
	return otherwise
}

// reason returns the ledger's reason for an error of the kernel's; opened reports whether the
// connection had opened.
func reason(err syscall.Errno, opened bool) ledger.Reason {
	switch err {
	case syscall.ECONNREFUSED:
		return ledger.TargetRefused
	case syscall.ETIMEDOUT, syscall.EHOSTUNREACH, syscall.ENETUNREACH, syscall.EHOSTDOWN,
		syscall.ENETDOWN:
		if opened {
			return ledger.SendTimeout
		}
		return ledger.ConnectTimeout
	case syscall.EADDRNOTAVAIL, syscall.EADDRINUSE:
		return ledger.NoSourceAddress
	case syscall.EMFILE, syscall.ENFILE, syscall.ENOSPC: // ENOSPC: max_user_watches of epoll
		return ledger.OverSessions
	case syscall.ENOBUFS, syscall.ENOMEM:
		return ledger.OverMemory
	default: // EPERM of a firewall, ECONNABORTED of ss -K …
		return ledger.LinkError
	}
}
