package link

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/way/link/wire"
)

// Options are the settings that both ends of a connection have.
type Options struct {
	TLS *tls.Config // from package key; nil: no key
	// Queue is how many bytes may wait to be written. A frame that is queued when less waits may
	// exceed it.
	Queue     int
	PingEvery time.Duration    // 0: this end sends no pings
	DeadAfter time.Duration    // a peer that sends nothing for this long is gone
	Now       func() mono.Time // the clock of the pongs
}

// Endpoint is one end of a connection, from when the peer has introduced itself. One goroutine
// receives; all other methods are safe from any goroutine. Start it, and end it with Finish or
// Close and then Wait.
type Endpoint struct {
	opt  *Options
	peer string   // what the other end is, for errors
	conn net.Conn // TLS over raw, or raw itself
	raw  net.Conn
	in   wire.Reader
	out  queue
	done chan struct{} // closed when the writer has ended

	writing sync.Mutex     // one goroutine writes at a time, and whole frames
	total   *atomic.Uint64 // may be nil
}

func newEndpoint(raw net.Conn, peer string, opt *Options) *Endpoint {
	return &Endpoint{opt: opt, peer: peer, conn: raw, raw: raw, done: make(chan struct{}),
		out: queue{limit: opt.Queue, wake: make(chan struct{}, 1)}}
}

// Host returns the peer's address; it is not valid where the connection is not TCP.
func (e *Endpoint) Host() netip.Addr {
	if a, ok := e.raw.RemoteAddr().(*net.TCPAddr); ok {
		return a.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}

// TLS returns the state of the connection's TLS, which names the peer's certificate; false where
// there is no TLS.
func (e *Endpoint) TLS() (tls.ConnectionState, bool) {
	t, ok := e.conn.(*tls.Conn)
	if !ok {
		return tls.ConnectionState{}, false
	}
	return t.ConnectionState(), true
}

// CountBytes adds the bytes of all frames that are written to total. It is called before Start.
func (e *Endpoint) CountBytes(total *atomic.Uint64) { e.total = total }

// Put queues a copy of one or more frames. It does not block, and reports whether there was room.
// After Finish or Close it returns false.
func (e *Endpoint) Put(frames []byte) bool { return e.out.put(frames) }

// Start begins to write what is queued. room, if it is not nil, is called from the writer's
// goroutine when there is room again after Put has returned false.
func (e *Endpoint) Start(room func()) { go e.write(room) }

// Finish queues the last frames. Once they are written, or the peer has not accepted them within
// a second, the connection is closed.
func (e *Endpoint) Finish(frames []byte) { e.out.finish(e.conn, frames) }

// FinishBy gives the peer d from now on to accept all that will be written.
func (e *Endpoint) FinishBy(d time.Duration) {
	e.out.mu.Lock()
	defer e.out.mu.Unlock()
	e.out.hasten(e.conn, d)
}

// Close closes the connection at once. What is queued is lost.
func (e *Endpoint) Close() {
	e.out.discard()
	e.raw.Close()
}

// Wait waits until the writer has ended. The endpoint was started, and Finish or Close was called.
func (e *Endpoint) Wait() { <-e.done }

// write is the writer's goroutine. What is queued while it writes goes with its next write.
func (e *Endpoint) write(room func()) {
	defer close(e.done)
	defer e.raw.Close()
	var tick <-chan time.Time
	if e.opt.PingEvery > 0 {
		t := time.NewTicker(e.opt.PingEvery)
		defer t.Stop()
		tick = t.C
	}
	var ping wire.Ping
	for {
		select {
		case <-tick:
			ping.ID++
			e.out.encode(e.out.limit, ping.Append)
		case <-e.out.wake:
		}
		b, last, hasRoom := e.out.next()
		if hasRoom && room != nil {
			room()
		}
		if err := e.Send(b); err != nil {
			e.out.fail(err)
			return
		}
		if last {
			// This sends TLS's close_notify, for which crypto/tls would give the peer five seconds.
			late := time.AfterFunc(lastWait, func() { e.raw.Close() })
			e.conn.Close()
			late.Stop()
			return
		}
		e.out.recycle(b)
	}
}

// Send writes frames at once, before those that are queued, and returns when the kernel has taken
// them. The peer may be slow, as long as it accepts something now and then.
func (e *Endpoint) Send(frames []byte) error {
	e.writing.Lock()
	defer e.writing.Unlock()
	for part := range slices.Chunk(frames, writeAtOnce) {
		e.out.extend(e.conn)
		if _, err := e.conn.Write(part); err != nil {
			return fmt.Errorf("write: %w", err)
		}
	}
	if e.total != nil {
		e.total.Add(uint64(len(frames)))
	}
	return nil
}

// Receive returns the next frame, whose body is valid until the next call. Pings, pongs and Bye
// are handled here. The error is a *Closed after the peer's Bye, a *Silent where the peer sends
// nothing, io.EOF or net.ErrClosed where the connection was closed without a word, the writer's
// error where it has given up, or one of package wire's or the network's.
func (e *Endpoint) Receive() (wire.Frame, error) {
	for {
		f, err := e.next(e.opt.DeadAfter)
		if err != nil {
			return f, err
		}
		switch f.Type {
		case wire.TypePing:
			var p wire.Ping
			if err := p.Decode(f.Body); err != nil {
				return f, err
			}
			e.out.encode(e.out.limit, (&wire.Pong{ID: p.ID, At: e.opt.Now()}).Append)
		case wire.TypePong:
		case wire.TypeBye:
			var b wire.Bye
			if err := b.Decode(f.Body); err != nil {
				return f, err
			}
			return f, &Closed{Peer: e.peer, Reason: b.Reason, Text: b.Text}
		default:
			return f, nil
		}
	}
}

// next reads until there is a frame. The peer may be silent for patience; 0: until the deadline
// that is set.
func (e *Endpoint) next(patience time.Duration) (wire.Frame, error) {
	for {
		f, ok, err := e.in.Next()
		if err != nil || ok {
			return f, err
		}
		if patience > 0 {
			e.conn.SetReadDeadline(time.Now().Add(patience))
		}
		n, err := e.conn.Read(e.in.Space())
		e.in.Filled(n)
		if err == nil || n > 0 {
			continue
		}
		if failure := e.out.failed(); failure != nil {
			return f, failure
		}
		var timeout net.Error
		if patience > 0 && errors.As(err, &timeout) && timeout.Timeout() {
			return f, &Silent{patience}
		}
		return f, err
	}
}

// Bye returns the frame to finish with after Receive, or the handling of a frame, has failed.
func Bye(err error) []byte {
	bye := wire.Bye{Reason: wire.ByeShutdown}
	if !Orderly(err) {
		bye = wire.Bye{Reason: wire.ByeProtocol, Text: err.Error()}
	}
	return bye.Append(nil)
}

// Orderly reports whether an error of Receive says no more than that the connection was closed.
func Orderly(err error) bool {
	var closed *Closed
	return err == nil || errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) ||
		errors.As(err, &closed) && closed.Reason == wire.ByeShutdown
}

// Closed is the error of Receive after the peer's Bye.
type Closed struct {
	Peer   string // what the peer is
	Reason wire.ByeReason
	Text   string // the peer's own; may be empty
}

// Error says who closed the connection, and why.
func (e *Closed) Error() string {
	s := fmt.Sprintf("the %s closed the connection: %v", e.Peer, e.Reason)
	if e.Text != "" {
		s += ": " + e.Text
	}
	return s
}

// Silent is the error of Receive where the peer sends nothing.
type Silent struct{ For time.Duration }

// Error says for how long nothing came.
func (e *Silent) Error() string { return fmt.Sprintf("nothing received for %v", e.For) }
