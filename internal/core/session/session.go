package session

import (
	"net/netip"
	"time"

	"tcpcopy/internal/core/chunk"
	"tcpcopy/internal/core/gate"
	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/core/reasm"
	"tcpcopy/internal/core/seqnum"
	"tcpcopy/internal/proto"
)

// Opener makes the streams of a shard; it must not block.
type Opener interface {
	Open(now mono.Time, spec *OpenSpec) Stream
}

// Env is what the sessions of a shard share.
type Env struct {
	Pool   *chunk.Pool
	Count  *ledger.Counters
	Opener Opener

	out   proto.Out // room for what a protocol's reader says
	told  []proto.Told
	found []proto.Answer
}

// scratch is room for one call of a protocol's reader.
func (e *Env) scratch() *proto.Out {
	e.out.Reset()
	return &e.out
}

// Service is what the sessions of one mapping share within a shard.
type Service struct {
	Gate       *gate.Service
	Protocols  []proto.Protocol // that its connections may speak; empty: nobody asks
	Certain    bool             // they all speak the first of Protocols: it need not be recognised
	Production bool             // production's own answers may be captured whole: they are read, too
	WholeOnly  bool             // do not adopt connections found under way
	MaxBytes   int              // a session may hold as much of the pool
	Idle       time.Duration    // a session with nothing to do ends after this
	Stall      time.Duration    // a session whose target takes no bytes, or does not close, ends after this
	// HoleGrace is how long a hole may stay open though the server has acknowledged what we miss: longer than
	// packets are out of order, and than whoever hands them in may pause between two. 0: 200 ms.
	HoleGrace time.Duration
}

// State is where a session stands.
type State uint8

// The states of a session.
const (
	// Watching: there is no copy; the session waits for the client's next turn, to begin one there.
	Watching State = iota
	// Opening: the copy's connection is asked for.
	Opening
	// Greeting: an adopted copy has opened, and waits whether the target speaks first.
	Greeting
	// Flowing: turns go to the target as the gate lets them.
	Flowing
	// Closing: our direction is closed; the target's is not yet.
	Closing
	// Refused: the connection is not copied; its bytes are only counted.
	Refused
	// Gone: nothing is left to do; the shard forgets the session.
	Gone
)

const (
	// Lull is how long a connection must have been silent for its next bytes to start a turn, though
	// nothing is known of what came before them.
	Lull = time.Second
	// retryAfter is how long after a copy that could not open the client's turns begin no other: a target
	// that is down is not asked again for each of them.
	retryAfter = time.Second
	// holeGrace is Service.HoleGrace by default: as long as packets of two capture rings may be out of order.
	holeGrace = 200 * time.Millisecond
	// holeLimit is how long a hole may stay open in any case: some of the client's retransmissions.
	holeLimit = 5 * time.Second
)

// Session is one client connection and its copy.
type Session struct {
	env *Env
	svc *Service

	id                 ID
	client, production netip.AddrPort
	state              State
	reason             ledger.Reason // why there is no copy (Watching, Refused)
	open               bool          // the ledger holds an account for it
	adopted            bool
	clientShut         bool // the client's end was passed on
	targetShut         bool
	opened             bool // the copy's connection has opened
	serverKnown        bool
	serverFIN          bool
	met                bool // a packet of the client's was taken before
	serverFirst        bool // the client had seen the server's bytes before it sent any
	waiting            bool // a turn waits for the target's answer to the one before

	isn        seqnum.Value // the client's
	serverBase seqnum.Value // the sequence number of the server's first byte
	seen       uint64       // the server's bytes that the client had seen
	sent       uint64       // the server's bytes that were sent
	serverEnd  uint64       // where the server's direction ends, if serverFIN
	took       uint64       // the client's bytes that the server has acknowledged: an offset of reader

	reader   reasm.Reader
	gate     gate.Gate
	stream   Stream
	talk     *talk         // nil: no protocol is known, or will be
	server   *serverReader // nil: its answers are not read
	base     uint64        // the copy's offset 0, as an offset of reader
	released uint64        // offset of reader below which the stream may send
	turn     uint64        // where the turn began that is released now, as an offset of reader
	settled  uint64        // offset of reader below which every byte is accounted for
	hurried  uint64        // what the target had answered when it was last acknowledged in a hurry
	taken    uint64        // what the stream has taken, as an offset of reader

	last   mono.Time // something was heard of either side
	ready  mono.Time // the stream last was given bytes, took some, or opened
	spoke  mono.Time // the client last sent bytes
	holed  mono.Time // since when bytes are missing; Never if none are
	shutAt mono.Time // we closed our direction

	notBefore mono.Time // no copy begins earlier
	seenPkt   fingerprint
}

// fingerprint tells a packet from the one before it.
type fingerprint struct {
	seq, ack seqnum.Value
	ts       uint32
	length   int32
	ifindex  int32
	window   uint16
	flags    packet.Flags
}

// Init makes s the session of a client's connection, whose first packet, captured at that time, the shard
// has in hand and hands to FromClient next: it opens the copy if that is a SYN, and else waits for a turn.
// midTurn says that the capture has not run for long enough to know that the client was silent before it.
func (s *Session) Init(env *Env, svc *Service, spec *OpenSpec, at mono.Time, first *packet.Segment, midTurn bool) {
	reader := s.reader
	*s = Session{env: env, svc: svc, id: spec.ID, client: spec.Client, production: spec.Production,
		reader: reader, last: at, ready: at, spoke: at, holed: mono.Never}
	s.isn = first.Seq
	s.talk, s.server = newTalk(svc), newServerReader(svc, spec.Further)
	if first.Flags.Has(packet.SYN) {
		s.openAccount()
		s.reader.Init(env.Pool, first.Seq+1, 0)
		return
	}
	s.adopted = true
	s.reason = ledger.NoSYN
	if svc.WholeOnly {
		s.state = Refused
	}
	if !midTurn {
		s.spoke = at.Add(-Lull)
	}
	s.reader.Init(env.Pool, first.Seq, 0)
}

// ID is the session's name in its shard.
func (s *Session) ID() ID { return s.id }

// State is where the session stands.
func (s *Session) State() State { return s.state }

// Client is the client's address.
func (s *Session) Client() netip.AddrPort { return s.client }

// Production is the address that the client connected to.
func (s *Session) Production() netip.AddrPort { return s.production }

// ISN is the client's initial sequence number: with it a repeated SYN is told from a new connection.
func (s *Session) ISN() seqnum.Value { return s.isn }

// Stream is the copy's stream; nil while there is none.
func (s *Session) Stream() Stream { return s.stream }

// Content says that nothing waits for more of the target's answer: it is whole, as far as is known, and
// the client has not gone on yet.
func (s *Session) Content() bool {
	_, turn := s.reader.Mark()
	if s.state != Flowing || turn || s.reader.HasEnd() {
		return false
	}
	if s.talk.known() {
		return s.talk.content()
	}
	return s.gate.Whole(s.sent)
}

// ClientEnded says whether the client has ended the connection, as far as was captured.
func (s *Session) ClientEnded() bool {
	how, _ := s.reader.Ended()
	return how != reasm.Open
}

func (s *Session) openAccount() {
	if !s.open {
		s.open = true
		s.env.Count.Sessions.Captured++
	}
}

func (s *Session) closeAccount(r ledger.Reason) {
	if !s.open {
		return
	}
	s.open = false
	if r == ledger.None {
		s.env.Count.Sessions.Delivered++
	} else {
		s.env.Count.Sessions.Drop(r, 1)
	}
}

// drop accounts for the client's bytes below the offset end: they will not be sent.
func (s *Session) drop(end uint64, r ledger.Reason) {
	if end > s.settled {
		s.env.Count.Bytes.Drop(r, end-s.settled)
		s.settled = end
		s.reader.Take(end)
	}
}

// start begins a copy at the offset off, of a client that had seen that many of the server's bytes. syn
// is the client's SYN, or an empty segment.
func (s *Session) start(now mono.Time, off, seen uint64, syn *packet.Segment) {
	s.openAccount()
	s.state = Opening
	s.base, s.turn, s.released, s.taken = off, off, off, off
	s.targetShut, s.clientShut, s.opened, s.hurried = false, false, false, 0
	s.ready = now
	s.gate.Init(s.svc.Gate, seen, now)
	s.stream = s.env.Opener.Open(now, &OpenSpec{ID: s.id, Client: s.client, Production: s.production,
		SYN: syn.Opts, Window: syn.Window, Record: s, Listen: s.talk != nil})
	s.beginTalk(now, seen)
}

// View returns bytes of the copy's: see Record.
func (s *Session) View(off uint64, max int) []byte {
	if s.talk.edits() {
		return s.talk.script.view(&s.reader, off, max)
	}
	return s.reader.View(s.base+off, max)
}

// lose ends the copy for a reason that is not the client's: what was captured of the turn is dropped,
// and the client's next turn begins another copy.
func (s *Session) lose(now mono.Time, r ledger.Reason) {
	if s.stream != nil {
		s.stream.Abort(now)
	}
	s.lost(r)
}

// lost is lose without a stream to abort.
func (s *Session) lost(r ledger.Reason) {
	s.endTalk()
	s.stream = nil
	s.state, s.reason = Watching, r
	s.adopted = true
	s.closeAccount(r)
	if s.svc.WholeOnly {
		s.state = Refused
	}
}

// Refuse ends the copy, and the session does not begin another. One that is refused stays so for the
// first reason.
func (s *Session) Refuse(now mono.Time, r ledger.Reason) {
	if s.state == Refused || s.state == Gone {
		return
	}
	if s.reason == ledger.NoSYN {
		s.openAccount()
	}
	s.lose(now, r)
	s.state = Refused
	s.endProduction(false)
	s.discard()
}

// discard accounts for all that was captured, in order or not, of a session that is not copied.
func (s *Session) discard() {
	s.drop(s.reader.Next(), s.reason)
	for off, ok := s.reader.FirstAhead(); ok; off, ok = s.reader.FirstAhead() {
		s.skip(off)
		s.drop(s.reader.Next(), s.reason)
	}
}

// finish ends the session: all that the client sent has arrived.
func (s *Session) finish() {
	s.endTalk()
	s.stream = nil
	s.drop(s.reader.Next(), ledger.TargetClosed)
	s.dropAhead()
	s.closeAccount(ledger.None)
	s.state = Gone
}

// End ends the session whatever its state, for a reason of the shard's.
func (s *Session) End(now mono.Time, r ledger.Reason) {
	if s.state == Gone {
		return
	}
	if s.stream != nil {
		s.stream.Abort(now)
		s.stream = nil
	}
	if s.state == Watching || s.state == Refused {
		r = s.reason
	}
	s.endTalk()
	s.drop(s.reader.Next(), r)
	s.dropAhead()
	s.closeAccount(r)
	s.state = Gone
}

// Superseded says that the client has opened another connection from the same port: what it had sent on
// this one still arrives, and then it ends.
func (s *Session) Superseded() {
	s.reader.SetEnd(reasm.Reset, s.reader.NextSeq(), s.lastNote())
}

// Drain says that nothing more is captured: once what the client had sent has arrived and was answered,
// the copy is closed.
func (s *Session) Drain() {
	s.reader.SetEnd(reasm.Closed, s.reader.NextSeq(), s.lastNote())
}

// Shutdown ends the session at once: with success if nothing was left to do.
func (s *Session) Shutdown(now mono.Time) {
	if s.stream != nil && s.taken == s.reader.Next() && !s.reader.Hole() {
		s.stream.Abort(now)
		s.finish()
		return
	}
	s.End(now, ledger.Shutdown)
}

func (s *Session) lastNote() reasm.Note {
	return reasm.Note{Seen: s.seen, Sent: max(s.sent, s.seen), At: s.last}
}

// dropAhead accounts for bytes that still wait behind a hole when the session ends.
func (s *Session) dropAhead() {
	if n := s.reader.Ahead(); n > 0 {
		s.env.Count.Bytes.Captured += uint64(n)
		s.env.Count.Bytes.Drop(ledger.CaptureGap, uint64(n))
	}
}

// Close gives the session's buffers back. The session must be Gone.
func (s *Session) Close() {
	s.reader.Close()
	s.server.close()
}
