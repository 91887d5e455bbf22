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

// Opener opens the streams of a shard.
type Opener interface {
	// Ready reports whether a copy of the session may begin now, at a turn that was captured at the
	// time at. If not, the Opener has the session advanced when it may. away is why no copy can
	// begin at present, if the target is known to be away.
	Ready(id ID, at mono.Time) (ready bool, away ledger.Reason)
	// Open opens a stream. It does not block.
	Open(now mono.Time, spec *OpenSpec) Stream
}

// Env is what the sessions of a shard share.
type Env struct {
	Pool   *chunk.Pool
	Count  *ledger.Counters
	Opener Opener
	// Compare receives the answers that are to be compared; nil: none are.
	Compare Comparer

	// Scratch space, reused by every call of a protocol's readers.
	out   proto.Out
	told  []proto.Told
	found []proto.Answer
}

// scratch returns an empty Out for one call of a protocol's reader. The next call invalidates it.
func (e *Env) scratch() *proto.Out {
	e.out.Reset()
	return &e.out
}

// Service is what the sessions of one mapping share within a shard.
type Service struct {
	Gate       *gate.Service
	Protocols  []proto.Protocol // the protocols to recognise; empty: none
	Certain    bool             // all connections speak Protocols[0]; it need not be recognised
	Production bool             // production's own answers may be captured whole, and are read
	// OldOnly: the old version's answers are compared in place of production's, of which nothing is
	// read.
	OldOnly   bool
	WholeOnly bool          // connections found under way are not copied
	MaxBytes  int           // most bytes of the pool that one session may hold
	Idle      time.Duration // ends a session in which nothing happens for so long
	// Stall ends a session whose target takes no bytes, or does not close, for so long.
	Stall time.Duration
	// Hold is for how long after it was captured a turn may wait for a target that is away.
	Hold time.Duration
	// HoleGrace is how long a hole may stay open after the server has acknowledged the missing
	// bytes. It must exceed the time by which packets are captured out of order, and the longest
	// pause between two batches of packets. 0 means 200 ms.
	HoleGrace time.Duration
}

const (
	// Lull is the silence after which a client's next bytes start a turn, even if what preceded
	// them was not captured.
	Lull = time.Second
	// retryAfter is how long a session opens no further copy after one that could not open, so that
	// a target that does not answer is not tried again for each turn. After a refusal, or without a
	// link, an attempt costs little, and the target is to be used as soon as it is back.
	retryAfter        = time.Second
	retryAfterRefusal = 100 * time.Millisecond
	// holeGrace is the default of Service.HoleGrace: the time by which packets of two capture rings
	// may be out of order.
	holeGrace = 200 * time.Millisecond
	// holeLimit is how long a hole may stay open in any case. It allows for several
	// retransmissions.
	holeLimit = 5 * time.Second
)

// serverDirection is what is known of the direction from the production server to the client.
type serverDirection uint8

const (
	serverUnknown serverDirection = iota // no packet has told its sequence numbers
	serverOpen                           // serverBase is known
	serverEnded                          // serverEnd is known as well: the server has sent its FIN
)

// Session is one client connection and its copy. Its states are described at phase.
//
// Offsets of the client's bytes are those of the session's reader unless said otherwise. Counts of
// the server's bytes begin at serverBase.
type Session struct {
	client, production netip.AddrPort

	// What each packet reads lies together from here on.
	env *Env
	svc *Service

	id         ID
	phase      phase
	serverSide serverDirection
	heard      bool          // packets of the server are captured
	reset      bool          // the connection was reset, or the capture is over
	reason     ledger.Reason // why there is no copy (Watching, Waiting, Refused)
	previous   fingerprint

	last      mono.Time // when either side was last heard
	ready     mono.Time // when the stream last was given bytes, took bytes, or opened
	spoke     mono.Time // when the client last sent bytes
	holeSince mono.Time // since when bytes are missing; Never if none are

	isn        seqnum.Value // the client's initial sequence number
	serverBase seqnum.Value // the sequence number of the server's first byte
	seen       uint64       // server bytes that the client had acknowledged
	sent       uint64       // server bytes that were sent
	serverEnd  uint64       // the length of the server's direction (serverEnded)
	acked      uint64       // the client's bytes below this offset were acknowledged by the server

	reader   reasm.Reader
	gate     gate.Gate
	stream   Stream        // the copy's connection to the target; nil while there is no copy
	talk     *talk         // nil: no protocol is known, nor can become known
	server   *serverReader // nil: production's answers are not read
	pairs    *pairing      // nil: production's answers are not compared for this session
	baseline *baseline     // adds the answers of this copy to another session's pairs; or nil
	turns    *turns        // nil: they are not compared by turns
	base     uint64        // the offset of the copy's first byte
	released uint64        // the stream may send the bytes below this offset
	turn     uint64        // the offset at which the current turn began, or the copy waits to begin
	turnNote reasm.Note    // of that turn
	settled  uint64        // every byte below this offset is accounted for
	hurried  uint64        // answer bytes that have been acknowledged at once
	taken    uint64        // the stream needs the bytes below this offset no more
	weight   int           // what the readers of protocols hold, as charged to the pool

	shutAt    mono.Time // when the copy's direction was closed (Closing)
	notBefore mono.Time // no copy begins earlier
	syn       synOptions
}

// synOptions is what the copy's SYN has of the client's. A packet.Options is three times as large.
type synOptions struct {
	tsVal                           uint32
	mss, window                     uint16
	wscale                          uint8
	hasWScale, sackPermitted, hasTS bool
}

func synOptionsOf(seg *packet.Segment) synOptions {
	o := &seg.Opts
	return synOptions{tsVal: o.TSVal, mss: o.MSS, window: seg.Window, wscale: o.WScale,
		hasWScale: o.HasWScale, sackPermitted: o.SACKPermitted, hasTS: o.HasTS}
}

// options returns the options of the SYN.
func (o *synOptions) options() packet.Options {
	return packet.Options{TSVal: o.tsVal, MSS: o.mss, WScale: o.wscale, HasWScale: o.hasWScale,
		SACKPermitted: o.sackPermitted, HasTS: o.hasTS}
}

// fingerprint identifies a packet of the client, to find one that was captured twice.
type fingerprint struct {
	seq, ack seqnum.Value
	ts       uint32
	length   int32
	ifindex  int32
	window   uint16
	flags    packet.Flags
}

// Init makes s the session of the client connection whose first packet was captured at the time at.
// The caller hands the same packet to FromClient next. If it is a SYN, whose connection has been
// established meanwhile, a copy begins as soon as it may; otherwise the session waits for a turn.
// midTurn reports that the capture has not run for long enough to know whether the client was
// silent before this packet.
func (s *Session) Init(env *Env, svc *Service, spec *OpenSpec, at mono.Time,
	first *packet.Segment, midTurn bool) {
	reader := s.reader
	*s = Session{env: env, svc: svc, id: spec.ID, client: spec.Client, production: spec.Production,
		reader: reader, last: at, ready: at, spoke: at, holeSince: mono.Never}
	s.isn = first.Seq
	s.talk, s.server = newTalk(svc), newServerReader(svc, spec.Further)
	// Of several copies one is compared: production's answer to all of them is the same, and what
	// it has by chance would count as often.
	if s.talk != nil && s.server != nil && !spec.Further {
		s.pairs = newPairing(env.Compare, svc.OldOnly)
	}
	if spec.BaselineOf != nil {
		s.baseline = spec.BaselineOf.pairs.addBaseline()
	}
	if !spec.Further {
		s.turns = newTurns(s, first.Flags.Has(packet.SYN))
	}
	if first.Flags.Has(packet.SYN) {
		s.phase = watchingNew
		s.env.Count.Sessions.Captured++
		s.reader.Init(env.Pool, first.Seq+1, 0)
		return
	}
	s.phase = watchingFound
	s.reason = ledger.NoSYN
	if svc.WholeOnly {
		s.phase = refusedFound
	}
	if !midTurn {
		s.spoke = at.Add(-Lull)
	}
	s.reader.Init(env.Pool, first.Seq, 0)
}

// ID returns the session's name in its shard.
func (s *Session) ID() ID { return s.id }

// State returns the session's state.
func (s *Session) State() State { return s.phase.state() }

// Client returns the client's address.
func (s *Session) Client() netip.AddrPort { return s.client }

// Production returns the address that the client connected to.
func (s *Session) Production() netip.AddrPort { return s.production }

// ISN returns the client's initial sequence number, which distinguishes a repeated SYN from the SYN
// of a new connection.
func (s *Session) ISN() seqnum.Value { return s.isn }

// Stream returns the copy's stream, or nil if there is no copy.
func (s *Session) Stream() Stream { return s.stream }

// Content reports whether the session waits for no more of the target's answer: the answer is whole
// as far as is known, and the client has sent no further turn and no end.
func (s *Session) Content() bool {
	_, turn := s.reader.Mark()
	if s.State() != Flowing || turn || s.reader.HasEnd() {
		return false
	}
	if s.talk.known() {
		return s.talk.content()
	}
	return s.gate.Whole(s.sent)
}

// ClientEnded reports whether the client has ended the connection and every byte before the end was
// captured.
func (s *Session) ClientEnded() bool {
	how, _ := s.reader.Ended()
	return how != reasm.Open
}

// HeldUntil returns until when the current turn may wait for a target that is away.
func (s *Session) HeldUntil() mono.Time { return s.turnNote.At.Add(s.svc.Hold) }

// EndSeen reports whether the client's connection is over at production: both sides have ended it,
// as far as both are captured. Bytes before the end may not have been captured yet.
func (s *Session) EndSeen() bool {
	return s.reader.HasEnd() &&
		(s.reset || !s.heard || s.serverSide == serverEnded)
}

// openAccount enters a connection found under way in the account, unless it is there.
func (s *Session) openAccount() {
	switch s.phase {
	case watchingFound:
		s.phase = watchingMidTurn
	case refusedFound:
		s.phase = refusedMidTurn
	default:
		return
	}
	s.env.Count.Sessions.Captured++
}

// closeAccount accounts for the end of the session or of its copy. The caller changes the phase
// next.
func (s *Session) closeAccount(r ledger.Reason) {
	switch {
	case !s.phase.accounted():
	case r == ledger.None:
		s.env.Count.Sessions.Delivered++
	default:
		s.env.Count.Sessions.Drop(r, 1)
	}
}

// drop accounts for the client's bytes below the offset end as dropped.
func (s *Session) drop(end uint64, r ledger.Reason) {
	if end > s.settled {
		s.env.Count.Bytes.Drop(r, end-s.settled)
		s.settled = end
		s.reader.Take(end)
	}
}

// await has a copy begin at m as soon as it may. The phase is one of Waiting.
func (s *Session) await(waiting phase, m reasm.Mark) {
	if !s.phase.accounted() {
		s.env.Count.Sessions.Captured++
	}
	s.phase, s.reason = waiting, ledger.None
	s.turn, s.turnNote = m.Off, m.Note
}

// start opens the copy that waits.
func (s *Session) start(now mono.Time) {
	spec := OpenSpec{ID: s.id, Client: s.client, Production: s.production, Record: s,
		Since: s.turnNote.At, Listen: s.talk != nil || s.turns.wanted()}
	seen := s.turnNote.Seen
	if s.phase == waitingWhole {
		s.phase, seen = openingWhole, 0
		spec.SYN, spec.Window = s.syn.options(), s.syn.window
	} else {
		s.phase = openingAdopted
	}
	s.base, s.released, s.taken, s.hurried = s.turn, s.turn, s.turn, 0
	s.ready = now
	s.gate.Init(s.svc.Gate, seen, now)
	s.stream = s.env.Opener.Open(now, &spec)
	s.turns.copyBegins(s.base, s.phase.adopted())
	if s.talk == nil {
		s.readTurns()
	}
	s.beginTalk(now, seen)
}

// View implements Record.
func (s *Session) View(off uint64, max int) []byte {
	if s.talk.edits() {
		return s.talk.script.view(&s.reader, off, max)
	}
	return s.reader.View(s.base+off, max)
}

// lose aborts the copy and accounts for its loss. The captured part of the current turn is dropped;
// the client's next turn opens another copy.
func (s *Session) lose(now mono.Time, r ledger.Reason) {
	if s.stream != nil {
		s.stream.Abort(now)
	}
	s.lost(r)
}

// lost is lose for a copy whose stream is gone.
func (s *Session) lost(r ledger.Reason) {
	s.noteCopyEnded(r)
	s.endTalk()
	s.stream = nil
	s.closeAccount(r)
	s.phase, s.reason = watchingLost, r
	if s.svc.WholeOnly {
		s.phase = refused
	}
}

// Refuse ends the copy for the reason r; the session opens no other. A session that is refused
// already keeps its first reason.
func (s *Session) Refuse(now mono.Time, r ledger.Reason) {
	if st := s.State(); st == Refused || st == Gone {
		return
	}
	s.openAccount()
	s.lose(now, r)
	s.phase = refused
	s.endProduction(false)
	if s.baseline != nil {
		s.baseline.close() // no other copy follows, and nothing must wait for one
	}
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

// finish ends the session successfully: all that the client sent has arrived.
func (s *Session) finish() {
	s.noteCopyEnded(ledger.TargetClosed)
	s.endTalk()
	s.stream = nil
	s.drop(s.reader.Next(), ledger.TargetClosed)
	s.dropAhead()
	s.closeAccount(ledger.None)
	s.phase = gone
}

// End ends the session in any state. r is the shard's reason; a session without a copy keeps its
// own, if it has one.
func (s *Session) End(now mono.Time, r ledger.Reason) {
	switch s.State() {
	case Gone:
		return
	case Watching, Refused:
		r = s.reason
	case Waiting:
		if s.reason != ledger.None {
			r = s.reason
		}
	default:
		s.stream.Abort(now)
		s.stream = nil
		s.noteCopyEnded(r)
	}
	s.endTalk()
	s.drop(s.reader.Next(), r)
	s.dropAhead()
	s.closeAccount(r)
	s.phase = gone
}

// Superseded tells the session that the client has opened another connection from the same port.
// What the client had sent on this one is still copied; then the session ends.
func (s *Session) Superseded() {
	s.reset = true
	s.reader.SetEnd(reasm.Reset, s.reader.NextSeq(), s.lastNote())
}

// Drain tells the session that nothing more is captured. Once everything that the client had sent
// has arrived and was answered, the copy is closed.
func (s *Session) Drain() {
	s.reset = true
	s.reader.SetEnd(reasm.Closed, s.reader.NextSeq(), s.lastNote())
}

// Shutdown ends the session at once: with success if nothing was left to do.
func (s *Session) Shutdown(now mono.Time) {
	if s.stream != nil && s.taken == s.reader.Next() && !s.reader.Hole() {
		s.stream.Abort(now)
		s.noteCopyEnded(ledger.Shutdown)
		s.finish()
		return
	}
	s.End(now, ledger.Shutdown)
}

func (s *Session) lastNote() reasm.Note {
	return reasm.Note{Seen: s.seen, Sent: max(s.sent, s.seen), At: s.last}
}

// dropAhead accounts for the bytes that still wait behind a hole when the session ends.
func (s *Session) dropAhead() {
	if n := s.reader.Ahead(); n > 0 {
		s.env.Count.Bytes.Captured += uint64(n)
		s.env.Count.Bytes.Drop(ledger.CaptureGap, uint64(n))
	}
}

// Close returns the session's buffers to the pool. The session must be Gone.
func (s *Session) Close() {
	s.reader.Close()
	s.server.close()
	s.copied().close()
	s.turns.close(s.ClientEnded(), s.seen)
	s.env.Pool.Charge(-s.weight)
	s.weight = 0
}
