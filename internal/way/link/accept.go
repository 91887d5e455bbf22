package link

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"tcpcopy/internal/sys"
	"tcpcopy/internal/way/link/wire"
)

// ServerConfig is what a Server needs.
type ServerConfig struct {
	Options
	Listeners []net.Listener // the Server's from now on
	Hello     wire.Type      // what peers introduce themselves with
	// Admit decides on a peer that has introduced itself in this version, by the body of its hello,
	// which is valid until Admit returns. It either puts its welcome into the endpoint and returns
	// the function that serves it, on the connection's own goroutine, or returns why not. After
	// serve has returned, with the reason, the server sends a Bye and closes the connection.
	Admit func(e *Endpoint, hello []byte) (serve func() error, refuse *wire.Refuse)
	Log   *slog.Logger
	// Peers are the networks that connections are accepted from; none: all.
	Peers []netip.Prefix

	// What messages say. Prefix begins each line of log. Self is what this end is: "intercept".
	// Peer is what is to connect: "copier".
	Prefix, Self, Peer string
	Software           string // of this end
}

// AcceptStats count the connections to a Server.
type AcceptStats struct {
	Accepted     uint64
	Unlisted     uint64 // closed at once: their address is none of the peers'
	AcceptErrors uint64
	Welcomed     uint64
	Refused      uint64 // for their version, or by Admit
	WrongKey     uint64 // handshakes that did not prove the key
	NeedsKey     uint64 // no key where one is required
	NoKey        uint64 // a key where there is none
	Garbage      uint64 // not this protocol
	Malformed    uint64 // this protocol, with a message that cannot be read
	Silent       uint64 // sent nothing at all
	Crowded      uint64 // closed before they had introduced themselves: too many strangers
	Dead         uint64 // introduced, and then silent for too long
}

// Server makes the ends of connections that are accepted, and has them served. Each connection has
// two goroutines: one serves it, one writes.
type Server struct {
	cfg        ServerConfig
	complaints complaints
	wg         sync.WaitGroup

	mu        sync.Mutex
	closing   bool
	strangers strangers
	admitted  map[*Endpoint]struct{}
	stats     AcceptStats
}

// NewServer returns a server, which accepts nothing until Start.
func NewServer(cfg ServerConfig) *Server {
	return &Server{cfg: cfg, complaints: complaints{log: cfg.Log},
		admitted: make(map[*Endpoint]struct{})}
}

// Start begins to accept. It is followed by Close.
func (s *Server) Start() {
	for _, ln := range s.cfg.Listeners {
		s.wg.Go(func() { s.accept(ln) })
	}
}

// Close closes the listeners, sends a Bye to every peer that was admitted, and waits until all
// goroutines have ended: at most a second for peers that read nothing.
func (s *Server) Close() {
	s.mu.Lock()
	s.closing = true
	for _, ln := range s.cfg.Listeners {
		ln.Close()
	}
	for _, c := range s.strangers.list {
		c.conn.Close()
	}
	for e := range s.admitted {
		e.Finish(Bye(nil))
	}
	s.mu.Unlock()
	s.wg.Wait()
	s.complaints.close()
}

// Closing reports whether Close was called.
func (s *Server) Closing() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closing
}

// Addrs returns where the server listens.
func (s *Server) Addrs() []netip.AddrPort {
	var all []netip.AddrPort
	for _, ln := range s.cfg.Listeners {
		a := ln.Addr().(*net.TCPAddr).AddrPort()
		all = append(all, netip.AddrPortFrom(a.Addr().Unmap(), a.Port()))
	}
	return all
}

// Stats returns the totals at this moment.
func (s *Server) Stats() AcceptStats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stats
}

func (s *Server) count(n *uint64) {
	s.mu.Lock()
	*n++
	s.mu.Unlock()
}

// Complain logs a warning about a peer, or counts it: one line a minute has the last one and their
// number. msg says what the peer does; the line begins with the server's prefix.
func (s *Server) Complain(from netip.Addr, msg string, args ...any) {
	s.complaints.warn(s.cfg.Prefix+": "+msg, append([]any{"from", from}, args...)...)
}

func (s *Server) accept(ln net.Listener) {
	for {
		conn, err := ln.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			// For want of descriptors, perhaps: it passes, and the peers that are connected go on.
			s.count(&s.stats.AcceptErrors)
			s.complaints.warn(s.cfg.Prefix+": accept failed", "error", err)
			time.Sleep(50 * time.Millisecond)
			continue
		}
		e := newEndpoint(sys.NewStream(conn), s.cfg.Peer, &s.cfg.Options)
		if !s.listed(e.Host()) {
			s.count(&s.stats.Unlisted) // first: who sees the end may ask for the count
			conn.Close()
			s.Complain(e.Host(), "a connection from an address that is none of the "+s.cfg.Peer+
				"s' was closed")
			continue
		}
		s.mu.Lock()
		if s.closing {
			s.mu.Unlock()
			conn.Close()
			return
		}
		s.stats.Accepted++
		if closed := s.strangers.add(e.raw, e.Host()); closed != nil {
			s.stats.Crowded++
			closed.Close()
		}
		s.wg.Go(func() { s.serve(e) })
		s.mu.Unlock()
	}
}

// listed reports whether connections from an address are accepted.
func (s *Server) listed(from netip.Addr) bool {
	from = from.Unmap().WithZone("")
	return len(s.cfg.Peers) == 0 || slices.ContainsFunc(s.cfg.Peers,
		func(p netip.Prefix) bool { return p.Contains(from) })
}

// serve is a connection's goroutine.
func (s *Server) serve(e *Endpoint) {
	defer e.raw.Close()
	e.raw.SetDeadline(time.Now().Add(handshakeTimeout))
	serve := s.admit(e)
	s.mu.Lock()
	s.strangers.remove(e.raw)
	if serve == nil {
		s.mu.Unlock()
		return
	}
	s.stats.Welcomed++
	s.strangers.know(e.Host())
	s.admitted[e] = struct{}{}
	if s.closing {
		e.Finish(Bye(nil))
	}
	s.mu.Unlock()
	e.in.Introduced()
	e.Start(nil)
	err := serve()
	var silent *Silent
	s.mu.Lock()
	delete(s.admitted, e)
	switch {
	case errors.As(err, &silent):
		s.stats.Dead++
	case wire.Malformed(err):
		s.stats.Malformed++
	}
	s.mu.Unlock()
	e.Finish(Bye(err))
	e.Wait()
}

// admit takes a stranger as far as its welcome. It returns nil where the stranger was not admitted,
// which then was told, counted and logged.
func (s *Server) admit(e *Endpoint) func() error {
	if !s.secure(e) {
		return nil
	}
	hello, err := e.next(0)
	var version uint16
	if err == nil && hello.Type != s.cfg.Hello {
		err = fmt.Errorf("%w: got %v, want %v", wire.ErrUnknown, hello.Type, s.cfg.Hello)
	}
	if err == nil {
		version, err = wire.HelloVersion(hello)
	}
	switch {
	case errors.Is(err, wire.ErrPreface):
		s.garbage(e)
		return nil
	case err != nil:
		s.refuse(e, &wire.Refuse{Code: wire.CodeMalformed, Text: err.Error()})
		return nil
	case version != wire.Version:
		s.refuse(e, &wire.Refuse{Code: wire.CodeVersion, Text: fmt.Sprintf(
			"this %s (%s) speaks version %d, the %s version %d",
			s.cfg.Self, s.cfg.Software, wire.Version, s.cfg.Peer, version)})
		return nil
	}
	e.Put([]byte(wire.Preface))
	serve, refuse := s.cfg.Admit(e, hello.Body)
	if refuse != nil {
		s.refuse(e, refuse)
		return nil
	}
	return serve
}

// secure tells TLS from the preface from anything else by the first byte, and makes the connection
// TLS where there is a key. It reports whether the stranger may go on.
func (s *Server) secure(e *Endpoint) bool {
	var first [1]byte
	if _, err := io.ReadFull(e.raw, first[:]); err != nil {
		s.count(&s.stats.Silent)
		return false
	}
	const tlsHandshake = 0x16 // RFC 8446 §5.1
	self, peer := s.cfg.Self, s.cfg.Peer
	conn := net.Conn(&prefixed{Conn: e.raw, first: first[:]})
	switch {
	case first[0] == tlsHandshake && s.cfg.TLS == nil:
		s.count(&s.stats.NoKey)
		s.Complain(e.Host(), peer+" uses a key, and this "+self+" has none")
		s.sendRefuse(e, &wire.Refuse{Code: wire.CodeNoKey,
			Text: "this " + self + " was started without a key"})
		return false
	case first[0] == tlsHandshake:
		t := tls.Server(conn, s.cfg.TLS)
		if err := t.Handshake(); err != nil {
			s.count(&s.stats.WrongKey)
			s.Complain(e.Host(), "peer did not prove that it holds the key", "error", err)
			drain(e.raw)
			return false
		}
		conn = t
	case first[0] != wire.Preface[0]:
		s.garbage(e)
		return false
	case s.cfg.TLS != nil:
		s.count(&s.stats.NeedsKey)
		s.Complain(e.Host(), peer+" uses no key, and this "+self+" requires one")
		s.sendRefuse(e, &wire.Refuse{Code: wire.CodeNeedsKey,
			Text: "this " + self + " requires a key"})
		return false
	}
	e.conn = conn
	return true
}

func (s *Server) garbage(e *Endpoint) {
	s.count(&s.stats.Garbage)
	s.Complain(e.Host(), "peer does not speak tcpcopy's protocol")
}

// refuse counts, logs and sends a refusal.
func (s *Server) refuse(e *Endpoint, r *wire.Refuse) {
	switch r.Code {
	case wire.CodeMalformed:
		s.count(&s.stats.Malformed)
		s.Complain(e.Host(), s.cfg.Peer+"'s hello cannot be read", "error", r.Text)
	case wire.CodeSlot: // the copier chooses another one
		s.count(&s.stats.Refused)
	default:
		s.count(&s.stats.Refused)
		s.Complain(e.Host(), s.cfg.Peer+" was refused", "why", r.Text)
	}
	s.sendRefuse(e, r)
}

// sendRefuse sends a refusal, and gives the peer time to read it.
func (s *Server) sendRefuse(e *Endpoint, r *wire.Refuse) {
	if _, err := e.conn.Write(r.Append([]byte(wire.Preface))); err == nil {
		drain(e.raw)
	}
}

const (
	// drainTime bounds how long a refused peer may take to read the refusal.
	drainTime = time.Second
	// drainBytes bounds what is read of it meanwhile.
	drainBytes = 256 << 10
)

// drain reads what a peer still sends, until it closes: to close a connection with unread bytes
// resets it, and the reset may overtake the refusal.
func drain(conn net.Conn) {
	if c, ok := conn.(interface{ CloseWrite() error }); ok {
		c.CloseWrite()
	}
	conn.SetReadDeadline(time.Now().Add(drainTime))
	io.CopyN(io.Discard, conn, drainBytes)
}

// prefixed is a connection whose first bytes were read before.
type prefixed struct {
	net.Conn
	first []byte
}

func (p *prefixed) Read(b []byte) (int, error) {
	if len(p.first) > 0 {
		n := copy(b, p.first)
		p.first = p.first[n:]
		return n, nil
	}
	return p.Conn.Read(b)
}
