package ontarget

import (
	"errors"
	"net/netip"

	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/session"
	"tcpcopy/internal/proto"
	"tcpcopy/internal/way/link/wire"
	"tcpcopy/internal/way/socket"
	"tcpcopy/internal/way/tunnel/localroute"
)

// stream is one connection to the target. The peer's lock guards its fields, except for peer and
// tuple, which do not change.
type stream struct {
	peer  *Peer
	id    uint64
	tuple tuple
	dest  netip.AddrPort // where the last attempt to connect went

	conn     socket.Stream // nil while it waits for its two ends to be free
	since    mono.Time     // when it was opened, or if that was late, should have been
	giveUp   mono.Time     // when it stops waiting
	waiting  bool          // in peer.waiting
	closing  bool          // the copier has closed its direction
	opened   bool
	received uint64 // bytes from the copier
	taken    uint64 // of these, reported to the copier as taken
	answered uint64
	reads    bool // the copier will have the answers read

	// What the copier has said about answers, kept until the connection is open: an attempt to
	// connect may have to be repeated.
	decided bool
	proto   proto.Kind
	hints   []hint

	// The bytes that the kernel has not taken: kept are those from the offset keptAt on, live
	// those that follow, in the message that is being carried out.
	kept   []byte
	keptAt uint64
	live   []byte
}

// hint is what the copier says about one request.
type hint struct {
	request uint64
	hint    proto.Hint
}

// maxHints bounds the hints that wait for the connection to open: many more than there can be
// requests within a copier's credit.
const maxHints = wire.Window / 8

// hintSize is the size of a hint in memory, in bytes.
const hintSize = 16

// read lets the target's answers be read.
func (s *stream) read(kind proto.Kind) {
	if s.decided {
		return
	}
	s.decided, s.proto = true, kind
	if s.conn != nil {
		s.conn.ReadAnswers(kind)
	}
}

// expect records what is said about a request. It reports whether there was room.
func (s *stream) expect(request uint64, h proto.Hint) bool {
	if !s.opened {
		if len(s.hints) == maxHints {
			return false
		}
		before := cap(s.hints)
		s.hints = append(s.hints, hint{request, h})
		s.peer.server.buffered.Add(hintSize * int64(cap(s.hints)-before))
	}
	if s.conn != nil {
		s.conn.Expect(request, h)
	}
	return true
}

// dropHints drops the hints, which are needed no more.
func (s *stream) dropHints() {
	s.peer.server.buffered.Add(-hintSize * int64(cap(s.hints)))
	s.hints = nil
}

// View implements session.Record.
func (s *stream) View(off uint64, max int) []byte {
	liveAt := s.received - uint64(len(s.live))
	var v []byte
	switch {
	case off >= s.keptAt && off < s.keptAt+uint64(len(s.kept)):
		v = s.kept[off-s.keptAt:]
	case off >= liveAt && off < s.received:
		v = s.live[off-liveAt:]
	}
	return v[:min(len(v), max)]
}

// begin connects. It returns why it cannot, or None.
func (s *stream) begin(now mono.Time) ledger.Reason {
	p := s.peer
	dest, mark, err := p.server.cfg.Routes.Way(s.tuple.target)
	switch {
	case errors.Is(err, localroute.ErrPrivate):
		p.server.logUnreachable(s.tuple.target, err)
		return ledger.TargetForbidden
	case err != nil:
		p.server.logUnreachable(s.tuple.target, err)
		return ledger.TargetUnreachable
	}
	s.dest = dest
	s.conn = p.out.OpenFrom(now, &session.OpenSpec{ID: session.ID(s.id), Client: s.tuple.client,
		Target: dest, Record: s, Listen: s.reads}, mark)
	if s.decided {
		s.conn.ReadAnswers(s.proto)
	}
	for _, h := range s.hints {
		s.conn.Expect(h.request, h.hint)
	}
	if s.received > 0 {
		s.conn.Release(now, s.received)
	}
	if s.closing {
		s.conn.CloseWrite(now)
	}
	return ledger.None
}

// feed passes bytes of a message on. What the kernel does not take at once is copied.
func (s *stream) feed(now mono.Time, data []byte) {
	s.received += uint64(len(data))
	s.live = data
	if s.conn != nil {
		s.conn.Release(now, s.received)
	}
	sent := s.sent()
	if rest := s.received - sent; rest > 0 {
		s.trim(sent)
		keep := s.live[len(s.live)-int(min(rest, uint64(len(s.live)))):]
		if len(s.kept) == 0 {
			s.keptAt = s.received - uint64(len(keep))
		}
		before := cap(s.kept)
		s.kept = append(s.kept, keep...)
		s.peer.server.buffered.Add(int64(cap(s.kept) - before))
	}
	s.live = nil
}

// sent returns how many bytes the kernel has taken.
func (s *stream) sent() uint64 {
	if s.conn == nil {
		return 0
	}
	return s.conn.Sent()
}

// trim drops what is kept below the offset off.
func (s *stream) trim(off uint64) {
	if len(s.kept) == 0 || off <= s.keptAt {
		return
	}
	n := min(off-s.keptAt, uint64(len(s.kept)))
	s.keptAt += n
	if int(n) == len(s.kept) {
		s.peer.server.buffered.Add(-int64(cap(s.kept)))
		s.kept = nil
		return
	}
	// The array goes back once all of it has been taken, which the credit bounds.
	copy(s.kept, s.kept[n:])
	s.kept = s.kept[:len(s.kept)-int(n)]
}

// end removes the stream.
func (s *stream) end() {
	p := s.peer
	delete(p.streams, s.id)
	p.server.release(s)
	p.server.streams.Add(-1)
	p.server.buffered.Add(-int64(cap(s.kept)))
	s.dropHints()
	s.kept, s.live, s.conn = nil, nil, nil
}

// handle handles an event of the socket, and reports it to the copier.
func (s *stream) handle(now mono.Time, ev *session.Event) {
	p, srv := s.peer, s.peer.server
	out := wire.StreamEvent{ID: s.id, N: ev.N}
	switch ev.Kind {
	case session.Opened:
		s.opened = true
		s.dropHints()
		srv.opened.Add(1)
		out.Kind = wire.EventOpened
	case session.Taken:
		s.trim(ev.N)
		s.taken = ev.N
		out.Kind = wire.EventTaken
	case session.Received:
		srv.out.Add(ev.N - s.answered)
		s.answered = ev.N
		out.Kind = wire.EventReceived
	case session.Shut:
		out.Kind = wire.EventShut
	case session.AnswerEnd:
		out.Kind, out.Answer, out.Age = wire.EventAnswer, ev.Answer, ev.At.Sub(ev.First)
		if ev.Answer.Digest != nil {
			out.Answer.Digest = ev.Answer.Digest.MoveTo(&p.digest, p.digests)
		}
	case session.AnswerBytes:
		out.Kind = wire.EventBytes
		for b := ev.Bytes; len(b) > 0; b = b[len(out.Data):] {
			out.Data = b[:min(len(b), wire.MaxKept)]
			p.report(&out)
		}
		return
	case session.AnswersLost:
		out.Kind = wire.EventLost
	case session.Finished:
		srv.finished.Add(1)
		out.Kind = wire.EventFinished
		s.end()
	case session.ResetByPeer:
		srv.resets.Add(1)
		out.Kind = wire.EventReset
		s.end()
	case session.Failed:
		if ev.Reason == ledger.TupleTaken && !s.opened && now.Before(s.giveUp) {
			// The kernel still has the previous connection. The next attempt shows whether Free
			// helped.
			_ = srv.cfg.Routes.Free(s.tuple.client, s.dest)
			s.conn = nil
			p.wait(s)
			return
		}
		p.fail(s, ev.Reason, ev.N)
		return
	}
	p.report(&out)
}
