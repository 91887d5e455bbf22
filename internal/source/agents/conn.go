package agents

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"

	"github.com/klauspost/compress/s2"

	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/source"
	"tcpcopy/internal/source/filter"
	"tcpcopy/internal/way/link/wire"
)

// agent is what is known of one run of an agent. Source.mu guards it.
type agent struct {
	name, software, address string
	serial                  int
	conn                    net.Conn // nil: it is not connected
	since                   time.Time
	connects                uint64
	base, counts            wire.AgentCounts // when it first connected here, and now
	next                    uint64           // the number of the packet that it will send next
	packets, lost           uint64
	failure                 string
	last                    mono.Time // of its packets
}

// forgotten is the sum over agents that are not remembered any more.
type forgotten struct {
	packets, lost uint64
	counts        wire.AgentCounts
}

// prefixed is a connection whose first byte was read already.
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

// serve is a connection's goroutine.
func (s *Source) serve(raw net.Conn) {
	defer raw.Close()
	defer s.known(raw)
	raw.SetDeadline(time.Now().Add(handshakeTimeout))
	var in wire.Reader
	conn, hello, err := s.greet(raw, &in)
	if err != nil {
		s.cfg.Log.Warn("agents: a peer was not let in", "from", raw.RemoteAddr(), "error", err)
		return
	}
	a := s.admit(conn, raw, hello)
	if a == nil {
		s.refuse(conn, wire.CodeFull, "too many agents")
		return
	}
	s.known(raw)
	defer s.leave(a, conn)
	welcome := wire.AgentWelcome{Version: wire.Version, Software: s.cfg.Software}
	if _, err = conn.Write(welcome.Append([]byte(wire.Preface))); err == nil {
		raw.SetDeadline(time.Time{})
		in.Introduced()
		s.cfg.Log.Info("agents: an agent connected", "name", hello.Name, "from", raw.RemoteAddr(), "software", hello.Software)
		err = s.read(a, conn, &in)
	}
	s.mu.Lock()
	closing := s.closed
	if !closing {
		a.failure = err.Error()
	}
	s.mu.Unlock()
	if closing {
		conn.SetWriteDeadline(time.Now().Add(time.Second))
		_, _ = conn.Write((&wire.Bye{Reason: wire.ByeShutdown}).Append(nil))
		return
	}
	if err == errEnded {
		s.cfg.Log.Info("agents: an agent has ended", "name", hello.Name, "from", raw.RemoteAddr())
		return
	}
	s.cfg.Log.Warn("agents: an agent is gone", "name", hello.Name, "from", raw.RemoteAddr(), "error", err)
}

// greet takes a stranger as far as its hello. One byte tells TLS from our own preface from garbage.
func (s *Source) greet(raw net.Conn, in *wire.Reader) (net.Conn, *wire.AgentHello, error) {
	var first [1]byte
	if _, err := io.ReadFull(raw, first[:]); err != nil {
		return nil, nil, fmt.Errorf("it says nothing: %w", err)
	}
	const tlsHandshake = 0x16 // RFC 8446 §5.1
	conn := net.Conn(&prefixed{Conn: raw, first: first[:]})
	switch {
	case first[0] == tlsHandshake && s.cfg.TLS == nil:
		s.refuse(raw, wire.CodeNoKey, "this copier was started without a key")
		return nil, nil, errors.New("it uses a key, and this copier has none")
	case first[0] == tlsHandshake:
		t := tls.Server(conn, s.cfg.TLS)
		if err := t.Handshake(); err != nil {
			return nil, nil, fmt.Errorf("it did not prove that it holds the key: %w", err)
		}
		conn = t
	case first[0] != wire.Preface[0]:
		return nil, nil, errors.New("it does not speak tcpcopy's protocol")
	case s.cfg.TLS != nil:
		s.refuse(raw, wire.CodeNeedsKey, "this copier wants a key")
		return nil, nil, errors.New("it uses no key, and this copier wants one")
	}
	f, err := next(conn, in)
	if err != nil {
		return nil, nil, err
	}
	var h wire.AgentHello
	if f.Type != wire.TypeAgentHello {
		err = fmt.Errorf("got %v, want %v", f.Type, wire.TypeAgentHello)
	} else {
		err = h.Decode(f.Body)
	}
	if err != nil {
		s.refuse(conn, wire.CodeMalformed, err.Error())
		return nil, nil, err
	}
	if h.Version != wire.Version {
		err = fmt.Errorf("this copier speaks version %d, the agent version %d", wire.Version, h.Version)
		s.refuse(conn, wire.CodeVersion, err.Error())
		return nil, nil, err
	}
	return conn, &h, nil
}

func (s *Source) refuse(conn net.Conn, code wire.Code, text string) {
	_, _ = conn.Write((&wire.Refuse{Code: code, Text: text}).Append([]byte(wire.Preface)))
	if c, ok := conn.(*net.TCPConn); ok {
		c.CloseWrite() // what it has sent and we do not read would reset the connection, and the refusal with it
	}
	_, _ = io.CopyN(io.Discard, conn, wire.MaxHelloBody)
}

// errEnded is the error of a connection that an agent has ended in order.
var errEnded = errors.New("it has ended")

// next reads until there is a frame.
func next(conn net.Conn, in *wire.Reader) (wire.Frame, error) {
	for {
		f, ok, err := in.Next()
		if err != nil || ok {
			return f, err
		}
		n, err := conn.Read(in.Space())
		in.Filled(n)
		if err != nil && n == 0 {
			return f, err
		}
	}
}

// admit enters an agent, or finds the one that it was, whose older connection then has to go. Nil: there is no
// room for it.
func (s *Source) admit(conn, raw net.Conn, h *wire.AgentHello) *agent {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.agents[h.Instance]
	if a == nil {
		if s.closed || len(s.agents) >= maxAgents && !s.forget() {
			return nil
		}
		s.serial++
		a = &agent{serial: s.serial, base: h.Counts, counts: h.Counts, next: h.Next}
		s.agents[h.Instance] = a
	}
	if a.conn != nil {
		a.conn.Close()
	}
	if h.Next > a.next {
		a.lost += h.Next - a.next
	}
	a.next, a.counts = h.Next, h.Counts
	a.name, a.software, a.address = h.Name, h.Software, hostOf(raw)
	a.conn, a.since = conn, time.Now()
	a.connects++
	return a
}

func hostOf(c net.Conn) string {
	a, err := netip.ParseAddrPort(c.RemoteAddr().String())
	if err != nil {
		return c.RemoteAddr().String()
	}
	return a.Addr().Unmap().String()
}

// forget sums up the agent that has been gone the longest; false if all are there. mu is held.
func (s *Source) forget() bool {
	var id wire.Instance
	var oldest *agent
	for i, a := range s.agents {
		if a.conn == nil && (oldest == nil || a.since.Before(oldest.since)) {
			id, oldest = i, a
		}
	}
	if oldest == nil {
		return false
	}
	c := oldest.counts.Since(&oldest.base)
	s.gone.packets += oldest.packets
	s.gone.lost += oldest.lost
	s.gone.counts.Add(&c)
	delete(s.agents, id)
	return true
}

func (s *Source) leave(a *agent, conn net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a.conn == conn {
		a.conn, a.since = nil, time.Now()
	}
}

// read hands on what the agent sends.
func (s *Source) read(a *agent, conn net.Conn, in *wire.Reader) error {
	var out []byte
	s.mu.Lock()
	times := clock{last: a.last}
	s.mu.Unlock()
	for {
		f, ok, err := in.Next()
		if err == nil && !ok {
			if err := s.fill(conn, in); err != nil {
				return err
			}
			continue
		}
		if err == nil {
			switch f.Type {
			case wire.TypePackets:
				err = s.packets(a, conn, &times, f.Body)
			case wire.TypeAgentCounts:
				var c wire.AgentCounts
				if err = c.Decode(f.Body); err == nil {
					s.mu.Lock()
					a.counts = c
					s.mu.Unlock()
				}
			case wire.TypePing:
				var p wire.Ping
				if err = p.Decode(f.Body); err == nil {
					out = (&wire.Pong{ID: p.ID, At: s.cfg.Now()}).Append(out[:0])
					conn.SetWriteDeadline(time.Now().Add(writeTimeout))
					_, err = conn.Write(out)
				}
			case wire.TypeBye:
				var b wire.Bye
				if err = b.Decode(f.Body); err == nil {
					if b.Reason == wire.ByeShutdown {
						return errEnded
					}
					return fmt.Errorf("it closed: %v: %s", b.Reason, b.Text)
				}
			default:
				err = f.Unexpected()
			}
		}
		if err != nil {
			return err
		}
	}
}

// fill reads more of the connection.
func (s *Source) fill(conn net.Conn, in *wire.Reader) error {
	s.mu.Lock()
	closed := s.closed
	if !closed {
		conn.SetReadDeadline(time.Now().Add(s.cfg.DeadAfter))
	}
	s.mu.Unlock()
	if closed {
		return source.ErrClosed
	}
	n, err := conn.Read(in.Space())
	in.Filled(n)
	if err != nil && n == 0 {
		var timeout net.Error
		if errors.As(err, &timeout) && timeout.Timeout() {
			return fmt.Errorf("nothing heard for %v", s.cfg.DeadAfter)
		}
		return err
	}
	return nil
}

// packets hands a message of packets to the reader, and waits while too many wait.
func (s *Source) packets(a *agent, conn net.Conn, times *clock, body []byte) error {
	var p wire.Packets
	if err := p.Decode(body); err != nil {
		return err
	}
	s.mu.Lock()
	next := a.next
	s.mu.Unlock()
	if p.First < next {
		return fmt.Errorf("packets from number %d on, and %d came before", p.First, next)
	}
	b := s.batch()
	records, err := b.unpack(&p)
	if err != nil {
		s.release(b)
		return err
	}
	now := s.cfg.Now()
	times.message(now, p.Sent)
	r := p.Unpacked(records)
	var rec wire.Record
	for {
		ok, err := r.Next(&rec)
		if err != nil {
			s.release(b)
			return err
		}
		if !ok {
			break
		}
		f := source.Frame{
			Data: rec.Data, Wire: rec.Wire, Time: times.at(rec.At, now), Ifindex: int32(a.serial&0x7fff<<16) | int32(rec.Ifindex&0xffff),
		}
		if len(s.cfg.Filter) > 0 {
			m := filter.Meta{Len: f.Wire}
			if f.Data = f.Data[:s.cfg.Filter.Match(f.Data, &m)]; len(f.Data) == 0 {
				continue
			}
		}
		b.frames = append(b.frames, f)
	}
	s.mu.Lock()
	if a.conn != conn { // another has taken its place
		s.mu.Unlock()
		s.release(b)
		return errors.New("replaced by a newer connection")
	}
	a.lost += p.First - a.next
	a.next = p.First + uint64(p.Count)
	a.packets += uint64(p.Count)
	a.last = times.last
	s.mu.Unlock()
	if len(b.frames) == 0 {
		s.release(b)
		return nil
	}
	select {
	case s.batches <- b:
		return nil
	case <-s.done:
		return source.ErrClosed
	}
}

// unpack copies the records out of the message, whose bytes are the connection's.
func (b *batch) unpack(p *wire.Packets) ([]byte, error) {
	if cap(b.raw) < int(p.Size) {
		b.raw = make([]byte, p.Size)
	}
	b.raw = b.raw[:p.Size]
	if p.Packing == wire.Plain {
		copy(b.raw, p.Records)
		return b.raw, nil
	}
	n, err := s2.DecodedLen(p.Records)
	if err != nil || n != int(p.Size) {
		return nil, fmt.Errorf("packed records of %d bytes, and %d are announced: %w", n, p.Size, errors.Join(err, wire.ErrValue))
	}
	out, err := s2.Decode(b.raw, p.Records)
	if err != nil {
		return nil, fmt.Errorf("packed records: %w", err)
	}
	b.raw = out
	return out, nil
}
