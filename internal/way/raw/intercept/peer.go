package intercept

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"time"

	"tcpcopy/internal/sys"
	"tcpcopy/internal/way/link/wire"
	"tcpcopy/internal/way/raw/route"
)

// copier is one run of a copier, with its connections. Guarded by Intercept.mu.
type copier struct {
	owner, slot uint8
	instance    wire.Instance
	software    string
	addr        netip.Addr
	peers       []*peer
	headers     uint64
	dropped     uint64
	away        uint64
	bytes       uint64                      // of connections that have ended
	reads       map[netip.AddrPort]struct{} // the targets whose answers it has read
}

// peer is one connection of a copier.
type peer struct {
	conn   net.Conn
	copier *copier
	addr   netip.Addr
	slot   uint8
	index  uint8
	batch  wire.HeaderBatch // guarded by Intercept.mu
	out    *outbox
	told   []byte // of its connections' answers, begun; guarded by Intercept.mu
	// streams belongs to the goroutine that reads; nil: this is no intercept on a target.
	streams StreamPort
}

func (s *Intercept) accept(ln net.Listener) {
	for {
		conn, err := ln.Accept()
		if err != nil {
			if s.closing.Load() || errors.Is(err, net.ErrClosed) {
				return
			}
			// Out of descriptors, say: it passes, and the copiers that are connected go on.
			s.conns.acceptErrors.Add(1)
			s.complain(netip.Addr{}, "intercept: accept failed", "error", err)
			time.Sleep(50 * time.Millisecond)
			continue
		}
		conn = sys.NewStream(conn)
		s.conns.accepted.Add(1)
		if oldest := s.strangers.enter(conn); oldest != nil {
			s.conns.crowded.Add(1)
			oldest.Close()
		}
		s.mu.Lock()
		s.open[conn] = struct{}{}
		s.mu.Unlock()
		if s.closing.Load() { // farewell may have missed it
			conn.Close()
		}
		s.wg.Go(func() {
			s.serve(conn)
			s.mu.Lock()
			delete(s.open, conn)
			s.mu.Unlock()
		})
	}
}

// serve is a connection's life: greet, then read until it ends.
func (s *Intercept) serve(raw net.Conn) {
	defer raw.Close()
	from := addrOf(raw)
	raw.SetDeadline(time.Now().Add(handshakeTimeout))
	var in wire.Reader
	conn, hello, err := s.greet(raw, from, &in)
	s.strangers.leave(raw)
	if err != nil {
		return
	}
	p, err := s.admit(conn, from, hello)
	if err != nil {
		return
	}
	conn.SetDeadline(time.Time{})
	written := make(chan struct{})
	s.wg.Go(func() {
		p.out.write()
		close(written)
	})
	in.Introduced()
	if err = s.attach(p, hello); err == nil {
		err = s.read(p, &in)
	}
	s.leave(p, err)
	if p.streams != nil {
		p.streams.Close()
	}
	<-written
	s.mu.Lock()
	p.copier.bytes += p.out.bytes // its writer has ended
	s.mu.Unlock()
}

// attach makes what serves the connection's streams, on a target.
func (s *Intercept) attach(p *peer, hello *wire.Hello) (err error) {
	if s.cfg.Streams == nil {
		return nil
	}
	p.streams, err = s.cfg.Streams(hello, p.out.put, func() { p.conn.Close() })
	if err != nil {
		s.complain(p.copier.addr, "intercept: a copier cannot be served", "from", p.copier.addr, "error", err)
	}
	return err
}

// errRefused is greet's and admit's word for a peer that has been told, counted and logged.
var errRefused = errors.New("intercept: refused")

// greet takes a stranger as far as its Hello. One byte tells TLS from our own preface from garbage.
func (s *Intercept) greet(raw net.Conn, from netip.Addr, in *wire.Reader) (net.Conn, *wire.Hello, error) {
	var first [1]byte
	if _, err := io.ReadFull(raw, first[:]); err != nil {
		s.conns.silent.Add(1)
		return nil, nil, errRefused
	}
	const tlsHandshake = 0x16 // RFC 8446 §5.1
	conn := net.Conn(&prefixed{Conn: raw, first: first[:]})
	switch {
	case first[0] == tlsHandshake && s.cfg.TLS == nil:
		s.conns.noKey.Add(1)
		s.complain(from, "intercept: a copier uses a key, and this intercept has none", "from", from)
		return nil, nil, s.refuse(raw, raw, &wire.Refuse{Code: wire.CodeNoKey, Text: "this intercept was started without a key"})
	case first[0] == tlsHandshake:
		ctx, cancel := context.WithTimeout(context.Background(), handshakeTimeout)
		defer cancel()
		t := tls.Server(conn, s.cfg.TLS)
		if err := t.HandshakeContext(ctx); err != nil {
			s.conns.wrongKey.Add(1)
			s.complain(from, "intercept: a peer did not prove that it holds the key", "from", from, "error", err)
			drain(raw)
			return nil, nil, errRefused
		}
		conn = t
	case first[0] != wire.Preface[0]:
		s.conns.garbage.Add(1)
		s.complain(from, "intercept: a peer does not speak tcpcopy's protocol", "from", from)
		return nil, nil, errRefused
	case s.cfg.TLS != nil:
		s.conns.needsKey.Add(1)
		s.complain(from, "intercept: a copier uses no key, and this intercept wants one", "from", from)
		return nil, nil, s.refuse(raw, raw, &wire.Refuse{Code: wire.CodeNeedsKey, Text: "this intercept wants a key"})
	}
	f, err := next(conn, in, 0)
	var hello wire.Hello
	if err == nil && f.Type != wire.TypeHello {
		err = fmt.Errorf("intercept: greet: got %v, want hello", f.Type)
	}
	if err == nil {
		err = hello.Decode(f.Body)
	}
	if err != nil {
		if errors.Is(err, wire.ErrPreface) {
			s.conns.garbage.Add(1)
			s.complain(from, "intercept: a peer does not speak tcpcopy's protocol", "from", from)
			return nil, nil, errRefused
		}
		s.conns.malformed.Add(1)
		s.complain(from, "intercept: a copier's greeting cannot be read", "from", from, "error", err)
		return nil, nil, s.refuse(conn, raw, &wire.Refuse{Code: wire.CodeMalformed, Text: err.Error()})
	}
	if hello.Version != wire.Version {
		s.conns.refused.Add(1)
		text := fmt.Sprintf("this intercept (%s) speaks version %d, the copier version %d", s.cfg.Software, wire.Version, hello.Version)
		s.complain(from, "intercept: a copier of another version", "from", from, "why", text)
		return nil, nil, s.refuse(conn, raw, &wire.Refuse{Code: wire.CodeVersion, Text: text})
	}
	return conn, &hello, nil
}

// admit gives a copier's connection its place, and queues Welcome.
func (s *Intercept) admit(conn net.Conn, from netip.Addr, h *wire.Hello) (*peer, error) {
	r := s.object(h)
	if r == nil {
		forbidden := s.forbidden(h.Targets)
		s.mu.Lock()
		s.table.Expire(s.cfg.Now()) // without sources nobody else does
		owner, err := s.table.Join(route.Instance(h.Instance), h.Slot, h.Targets)
		if err == nil {
			p := s.join(owner, conn, from, h, forbidden)
			s.mu.Unlock()
			s.conns.welcomed.Add(1)
			s.log.Info("intercept: copier connected", "from", from, "slot", h.Slot, "connection", fmt.Sprintf("%d/%d", h.Conn+1, h.Conns), "software", h.Software)
			return p, nil
		}
		r = &wire.Refuse{Code: wire.CodeFull, Text: "no room for another copier"}
		if errors.Is(err, route.ErrSlot) {
			r.Code, r.Text = wire.CodeSlot, fmt.Sprintf("slot %d is another copier's", h.Slot)
		}
		for i := 1; i < 256; i++ {
			if s.table.SlotTaken(uint8(i)) {
				r.Slots.Add(uint8(i))
			}
		}
		s.mu.Unlock()
	}
	s.conns.refused.Add(1)
	if r.Code != wire.CodeSlot { // that one mends itself
		s.complain(from, "intercept: a copier was refused", "from", from, "why", r.Text)
	}
	return nil, s.refuse(conn, conn, r)
}

// object says why a copier cannot be taken in, whatever its slot.
func (s *Intercept) object(h *wire.Hello) *wire.Refuse {
	if h.Conns > maxConnsEach {
		return &wire.Refuse{Code: wire.CodeFull, Text: fmt.Sprintf("%d parallel connections, want at most %d", h.Conns, maxConnsEach)}
	}
	if s.cfg.Local != nil {
		for _, a := range s.cfg.Local.All() {
			for _, p := range h.Clients {
				if p.Contains(a.Unmap()) {
					return &wire.Refuse{Code: wire.CodeLocalClient, Text: fmt.Sprintf(
						"client address %s (of %s) is the intercept host's own: its kernel would reset the copies", a, p)}
				}
			}
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, c := range s.owners {
		if c != nil && len(c.peers) > 0 {
			if c.instance == h.Instance {
				return nil
			}
			n++
		}
	}
	if n >= s.cfg.MaxCopiers {
		return &wire.Refuse{Code: wire.CodeFull, Text: fmt.Sprintf("%d copiers are connected, and no more are allowed", n)}
	}
	return nil
}

// forbidden are those of a copier's targets that its connections may not go to.
func (s *Intercept) forbidden(targets []netip.AddrPort) (list []netip.AddrPort) {
	if s.cfg.Serves == nil {
		return nil
	}
	for _, t := range targets {
		if !s.cfg.Serves(t) {
			list = append(list, t)
		}
	}
	return list
}

// join enters a connection among its copier's, in the place of an older one of the same number. The
// lock is held.
func (s *Intercept) join(owner uint8, conn net.Conn, from netip.Addr, h *wire.Hello, forbidden []netip.AddrPort) *peer {
	c := s.owners[owner]
	if c == nil || c.instance != h.Instance {
		c = &copier{owner: owner, instance: h.Instance}
		s.owners[owner] = c
	}
	c.slot, c.software, c.addr = h.Slot, h.Software, from
	p := &peer{conn: conn, copier: c, addr: from, slot: h.Slot, index: h.Conn, out: newOutbox(conn, s.cfg.Buffer)}
	way, can := wire.WayRaw, wire.Capabilities(0)
	if s.cfg.Streams != nil {
		way = wire.WayTunnel
	}
	if s.cfg.Streams != nil || s.reads() {
		can = wire.ReadsAnswers
	}
	w := wire.Welcome{Version: wire.Version, Way: way, Slot: h.Slot, Capabilities: can,
		HoldMillis: uint16(s.cfg.Route.Hold / time.Millisecond), Software: s.cfg.Software, Forbidden: forbidden}
	p.out.put(w.Append([]byte(wire.Preface)))
	// The order of the connections is the order of their numbers, so that a tuple stays on the same
	// one when a connection comes back.
	at := 0
	for at < len(c.peers) && c.peers[at].index < p.index {
		at++
	}
	if at < len(c.peers) && c.peers[at].index == p.index {
		old := c.peers[at]
		old.out.finish((&wire.Bye{Reason: wire.ByeReplaced}).Append(nil))
		c.peers[at] = p
	} else {
		c.peers = slices.Insert(c.peers, at, p)
	}
	if s.closing.Load() {
		p.out.finish((&wire.Bye{Reason: wire.ByeShutdown}).Append(nil))
	}
	return p
}

// leave takes a connection out again; nothing is put into its outbox after that but a last word.
func (s *Intercept) leave(p *peer, why error) {
	s.mu.Lock()
	c := p.copier
	if i := slices.Index(c.peers, p); i >= 0 {
		c.peers = slices.Delete(c.peers, i, i+1)
		if len(c.peers) == 0 && s.owners[c.owner] == c {
			s.table.Leave(s.cfg.Now(), c.owner)
			s.forgetOwner(c.owner)
		}
	}
	s.mu.Unlock()
	bye := wire.Bye{Reason: wire.ByeShutdown}
	if why != nil && !errors.Is(why, io.EOF) {
		bye = wire.Bye{Reason: wire.ByeProtocol, Text: why.Error()}
	}
	p.out.finish(bye.Append(nil))
	if !s.closing.Load() {
		s.log.Info("intercept: copier's connection ended", "from", p.addr, "slot", p.slot, "why", why)
	}
}

// read serves a copier's requests until its connection ends; io.EOF is its regular end.
func (s *Intercept) read(p *peer, in *wire.Reader) error {
	var tuples, refused []wire.Tuple
	var answer []byte
	for {
		f, err := next(p.conn, in, s.cfg.DeadAfter)
		if err != nil {
			var timeout net.Error
			switch {
			case errors.As(err, &timeout) && timeout.Timeout():
				s.conns.dead.Add(1)
				return fmt.Errorf("nothing heard for %v", s.cfg.DeadAfter)
			case errors.Is(err, io.EOF), errors.Is(err, net.ErrClosed):
				return io.EOF
			}
			if errors.Is(err, wire.ErrTooLong) {
				s.conns.malformed.Add(1)
			}
			return err
		}
		answer = answer[:0]
		switch f.Type {
		case wire.TypeClaim:
			if tuples, err = wire.DecodeTuples(tuples[:0], f.Type, f.Body); err == nil {
				if refused = s.claim(p.copier.owner, tuples, refused[:0]); len(refused) > 0 {
					answer = wire.AppendTuples(answer, wire.TypeClaimRefused, refused)
				}
			}
		case wire.TypeRelease:
			if tuples, err = wire.DecodeTuples(tuples[:0], f.Type, f.Body); err == nil {
				s.release(p.copier.owner, tuples)
			}
		case wire.TypeQuery:
			var q wire.Query
			if err = q.Decode(f.Body); err == nil {
				o := wire.Owner{ID: q.ID, Tuple: q.Tuple, Owner: s.owner(p.copier.owner, q.Tuple)}
				answer = o.Append(answer)
			}
		case wire.TypeSeek:
			var q wire.Seek
			if err = q.Decode(f.Body); err == nil {
				o := wire.Owner{ID: q.ID, Tuple: q.Tuple, Owner: s.seek(p.copier.owner, &q)}
				answer = o.Append(answer)
			}
		case wire.TypeTargets:
			var to wire.Targets
			if err = to.Decode(f.Body); err == nil {
				s.mu.Lock()
				s.table.Retarget(p.copier.owner, to.List)
				s.mu.Unlock()
			}
		case wire.TypeHurry:
			if s.cfg.Hurry != nil {
				s.cfg.Hurry(wire.HurryFor)
			}
		case wire.TypeReadAnswers:
			err = s.readAnswers(p, f.Body)
		case wire.TypePing:
			var ping wire.Ping
			if err = ping.Decode(f.Body); err == nil {
				answer = (&wire.Pong{ID: ping.ID, At: s.cfg.Now()}).Append(answer)
			}
		case wire.TypeOperations:
			if p.streams == nil {
				err = f.Unexpected()
			} else {
				err = p.streams.Operations(f.Body)
			}
		case wire.TypePong:
		case wire.TypeBye:
			return io.EOF
		default:
			err = f.Unexpected()
		}
		if err != nil {
			s.conns.malformed.Add(1)
			s.complain(p.addr, "intercept: a copier's message cannot be read", "from", p.addr, "error", err)
			return err
		}
		if len(answer) > 0 {
			p.out.put(answer) // a copier that does not read has no use for answers
		}
	}
}

// next reads from conn until there is a frame. patience is how long the peer may say nothing; 0:
// the deadline stands as it is.
func next(conn net.Conn, in *wire.Reader, patience time.Duration) (wire.Frame, error) {
	for {
		f, ok, err := in.Next()
		if err != nil || ok {
			return f, err
		}
		if patience > 0 {
			conn.SetReadDeadline(time.Now().Add(patience))
		}
		n, err := conn.Read(in.Space())
		in.Filled(n)
		if err != nil && n == 0 {
			return f, err
		}
	}
}

// refuse tells a peer why not, and waits a moment for it to read that: closing with bytes unread
// would reset the connection and could take the answer with it.
func (s *Intercept) refuse(conn, raw net.Conn, r *wire.Refuse) error {
	if _, err := conn.Write(r.Append([]byte(wire.Preface))); err == nil {
		drain(raw)
	}
	return errRefused
}

// lingerRead bounds how long a refused peer may take to read that it was.
const lingerRead = time.Second

func drain(conn net.Conn) {
	if c, ok := conn.(interface{ CloseWrite() error }); ok {
		c.CloseWrite()
	}
	conn.SetReadDeadline(time.Now().Add(lingerRead))
	io.CopyN(io.Discard, conn, 256<<10)
}

// prefixed gives back the byte that was read to see what it is.
type prefixed struct {
	net.Conn
	first []byte
}

func (c *prefixed) Read(b []byte) (int, error) {
	if len(c.first) == 0 {
		return c.Conn.Read(b)
	}
	n, _ := bytes.NewReader(c.first).Read(b)
	c.first = c.first[n:]
	return n, nil
}

func addrOf(c net.Conn) netip.Addr {
	if a, ok := c.RemoteAddr().(*net.TCPAddr); ok {
		return a.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}
