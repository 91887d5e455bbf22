package shard

import (
	"net/netip"
	"time"

	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/core/seqnum"
	"tcpcopy/internal/core/session"
	"tcpcopy/internal/proto"
	"tcpcopy/internal/way/link/wire"
	"tcpcopy/internal/way/raw/tcp"
)

// rawSide is the raw way of a shard: the TCP connections of its sessions, found by the tuple that the
// target sees. It is the shard's session.Opener.
type rawSide struct {
	sh      *Shard
	up      bool // an intercept is there to report answers
	streams map[Tuple]*rawStream
	past    pastTuples
	out     []packet.Segment
	slot    uint8
	queries []Tuple
	seeks   []Seek

	readings []wire.Reading
	readers  int // how many intercepts read answers
	keepers  map[netip.AddrPort]keepers
	serial   uint32 // of the last reading

	released   []Tuple // the target has nothing more to say on them
	releasedAt mono.Time
	spare      []*rawStream
	cfg        tcp.Config // of the stream that is being opened
}

const (
	// maxSpare is how many connections, and how many sessions, are kept for reuse.
	maxSpare = 256
	// takeover is how long a new connection waits for an old one with the same tuple to end in order: long
	// enough for a SYN and a request that were lost.
	takeover = 10 * time.Second
	// askEvery is how long to wait for an intercept's answer before it is asked again.
	askEvery = time.Second
	// slotApart is how far apart the initial sequence numbers are that two copiers choose at the same time for the
	// same tuple. See begin.
	slotApart = 1 << 24
	// ackDelay is how long the acknowledgment of a whole answer waits for the next turn to go along with:
	// Linux's.
	ackDelay = 40 * time.Millisecond
)

// rawStream is one connection: a session.Stream.
type rawStream struct {
	conn   tcp.Conn
	side   *rawSide
	e      *entry
	tuple  Tuple
	id     session.ID
	failed ledger.Reason // could not even begin

	// waiting is when the connections before this one with the same tuple, ahead first, have to go; Never
	// once this one has begun. What is asked for meanwhile is kept in end and closing.
	waiting mono.Time
	ahead   *rawStream // the one that must end before this one begins
	heir    *rawStream // the one that this one is ahead of
	record  session.Record
	end     uint64
	closing bool

	adopted  bool // the client's connection was under way: the target may know the tuple
	oldAck   bool // the target has answered with an old connection's ACK
	queryAt  mono.Time
	seeking  bool // a SYN waits for the intercepts' word
	seekAt   mono.Time
	asked    mono.Time // when it was opened, though it may have begun later
	ackBy    mono.Time // when an acknowledgment that is held back must go; 0: none is
	opened   bool
	shut     bool
	hole     bool
	acked    uint64
	received uint64
	retrans  uint32
	isn      seqnum.Value
	ts       uint32      // the timestamp at began
	cfg      *tcp.Config // until it has begun
	began    mono.Time
	reading  rawReading
}

func (r *rawSide) init(sh *Shard) {
	r.sh, r.streams, r.keepers = sh, make(map[Tuple]*rawStream), make(map[netip.AddrPort]keepers)
	r.past.init()
}

// Open implements session.Opener.
func (r *rawSide) Open(now mono.Time, spec *session.OpenSpec) session.Stream {
	st := r.stream()
	st.e, st.id, st.waiting = r.sh.byID[spec.ID], spec.ID, mono.Never
	if !r.up {
		st.failed = ledger.LinkDown
		return st
	}
	source, why := r.sh.source(st.e, spec, r.owner)
	if why != ledger.None {
		st.failed = why
		return st
	}
	st.tuple = TupleOf(source, spec.Target)
	r.configure(&r.cfg, source, spec)
	st.record, st.cfg, st.asked = spec.Record, &r.cfg, now
	st.adopted = spec.Window == 0 && spec.SYN == (packet.Options{})
	if old := r.streams[st.tuple]; old != nil {
		// The client has used its port again; the old connection's last bytes are still on their way.
		st.waiting = now.Add(takeover)
		for old.heir != nil {
			old = old.heir
		}
		st.ahead, old.heir = old, st
		own := r.cfg
		st.cfg = &own
		return st
	}
	st.begin(now)
	return st
}

// owner is whose a tuple is; nil: it is free.
func (r *rawSide) owner(t Tuple) *entry {
	if st := r.streams[t]; st != nil {
		return st.e
	}
	return nil
}

func (r *rawSide) stream() *rawStream {
	if n := len(r.spare); n > 0 {
		st := r.spare[n-1]
		r.spare = r.spare[:n-1]
		*st = rawStream{conn: st.conn, side: r}
		return st
	}
	return &rawStream{side: r}
}

// configure says how a connection is to begin, but for its numbers.
func (r *rawSide) configure(cfg *tcp.Config, source netip.AddrPort, spec *session.OpenSpec) {
	raw := &r.sh.cfg.Raw
	*cfg = tcp.Config{
		Local: source, Remote: spec.Target,
		Syn: raw.options(spec), SynWindow: spec.Window,
		MaxSegment:        raw.MaxSegment(spec.Target.Addr()),
		CongestionControl: raw.Congestion,
		ConnectTimeout:    raw.ConnectTimeout, UserTimeout: raw.UserTimeout,
	}
	cfg.Syn.MSS = min(cfg.Syn.MSS, uint16(cfg.MaxSegment))
}

// options are what a SYN offers.
func (raw *Raw) options(spec *session.OpenSpec) packet.Options {
	mss := uint16(min(raw.MaxSegment(spec.Target.Addr()), 65535))
	switch {
	case raw.SYN == SYNMinimal:
		return packet.Options{MSS: mss}
	case raw.SYN == SYNClient && spec.SYN.MSS != 0:
		o := spec.SYN
		o.NSACK = 0
		return o
	default:
		return packet.Options{MSS: mss, SACKPermitted: true, HasTS: true, HasWScale: true, WScale: 7}
	}
}

// begin sends the SYN, numbered so that it names this copier, and above what the tuple had used before
// (RFC 6528 §3, RFC 6191).
//
// Another copier may open the same tuple. The target takes the SYN that comes first, and must not be harmed by the
// second: in its window, it would have the target reset the connection that is being opened (RFC 9293 §3.10.7.4,
// "fourth, check the SYN bit"; Linux does that), and both would lose. Outside of it, it is answered by an ACK to
// the first. So copiers' numbers are 67 s of the clock apart, which is longer than a target keeps a connection that
// is being opened. So that the second stays second even where the first one's connection is over by then, no SYN is
// repeated before the intercepts have said that the first one did not meet another's connection.
func (st *rawStream) begin(now mono.Time) {
	raw, r := &st.side.sh.cfg.Raw, st.side
	st.waiting = mono.Never
	isn := raw.ISNAtZero + seqnum.Value(int64(now)/int64(4*time.Microsecond)) + seqnum.Value(st.tuple.hash()) +
		seqnum.Value(r.slot)*slotApart
	ts := raw.TSAtZero + uint32(int64(now)/int64(time.Millisecond))
	if old, ok := r.past.get(st.tuple); ok {
		if isn.LessEq(old.next + 0xff) { // the slot takes the place of the low bits
			isn = old.next + 1<<16
		}
		if int32(ts-old.ts) <= 0 {
			ts = old.ts + 1
		}
	}
	st.isn, st.ts = isn&^0xff|seqnum.Value(r.slot), ts
	st.cfg.ISN, st.cfg.TSBase = st.isn, ts
	if st.cfg.LeaveFrom = 2; st.adopted || now != st.asked {
		st.cfg.LeaveFrom = 1
	}
	st.began = now
	r.streams[st.tuple] = st
	st.conn.Init(st.cfg, st.record)
	st.cfg = nil
	st.conn.Open(now)
	st.reading.early = r.keeps(st.tuple.Server())
	if r := &st.reading; r.kind != proto.None && !r.lost {
		st.openReading()
	}
	st.pass(now)
}

// Release implements session.Stream.
func (st *rawStream) Release(now mono.Time, end uint64) {
	st.end = end
	st.pass(now)
}

// CloseWrite implements session.Stream.
func (st *rawStream) CloseWrite(now mono.Time) {
	st.closing = true
	st.pass(now)
}

// Abort implements session.Stream. The reset is part of this Step's output.
func (st *rawStream) Abort(now mono.Time) {
	r := st.side
	if r.streams[st.tuple] == st {
		st.conn.Abort(now)
		st.send(now)
	}
	r.release(st, now)
}

// send appends to the shard's output what the connection wants sent.
func (st *rawStream) send(now mono.Time) mono.Time {
	r := st.side
	before := len(r.out)
	var wake mono.Time
	r.out, wake = st.conn.Poll(now, r.out)
	r.sh.count.SegmentsOut += uint64(len(r.out) - before)
	return wake
}

// release forgets a connection that is over.
func (r *rawSide) release(st *rawStream, now mono.Time) {
	if r.streams[st.tuple] == st {
		delete(r.streams, st.tuple)
		s := st.conn.Status()
		aborted := s.Err == tcp.CauseAborted || s.Err == tcp.CauseConnectTimeout || s.Err == tcp.CauseUserTimeout
		r.past.put(st.tuple, past{
			next: st.isn + seqnum.Value(s.Sent) + 2, at: now,
			ts: st.ts + uint32(now.Sub(st.began)/time.Millisecond) + 1, aborted: aborted, taken: st.failed == ledger.TupleTaken,
		})
		if !aborted { // else the target may have more to say, and is to be heard
			if len(r.released) == 0 {
				r.releasedAt = now
			}
			r.released = append(r.released, st.tuple)
		}
	}
	r.pass(st, now)
	st.e = nil
	if len(r.spare) < maxSpare {
		r.spare = append(r.spare, st)
	}
}

// pass lets the one that waits for st to end begin, or wait for the one before.
func (r *rawSide) pass(st *rawStream, now mono.Time) {
	heir, ahead := st.heir, st.ahead
	if ahead != nil {
		ahead.heir = heir
	}
	if heir == nil {
		return
	}
	if heir.ahead = ahead; ahead == nil {
		heir.begin(now)
		r.sh.touch(heir.e)
	}
}

// feedback takes a segment of the target's.
func (r *rawSide) feedback(now mono.Time, seg *packet.Segment, late bool) {
	r.sh.count.SegmentsIn++
	tuple := TupleOf(seg.Dst, seg.Src)
	st := r.streams[tuple]
	if st == nil {
		r.late(now, tuple, seg)
		return
	}
	e := st.e
	st.heardSYN(seg)
	if late {
		st.conn.DeliverLate(now, seg)
	} else {
		st.conn.Deliver(now, seg)
	}
	st.report(now)
	r.sh.touch(e)
}

// late answers a segment of the target's that came after its connection had ended.
func (r *rawSide) late(now mono.Time, tuple Tuple, seg *packet.Segment) {
	old, ok := r.past.get(tuple)
	if !ok || now.Sub(old.at) >= timeWait {
		r.sh.count.ForeignAnswers++
		return
	}
	switch {
	case !seg.Flags.Has(packet.ACK) || seg.Flags.Any(packet.RST):
		return
	case old.aborted, // our reset was lost, or was not where the target expected it
		old.taken && seg.Flags.Has(packet.SYN) && seg.Ack+1 == old.next: // it was not taken, after all
		r.out = append(r.out, tcp.ResetFor(seg))
	case seg.Flags.Any(packet.FIN): // our last ACK was lost: it is in LAST-ACK (RFC 9293 §3.10.7.4)
		r.out = append(r.out, tcp.AckFor(seg))
	default:
		return
	}
	r.sh.count.SegmentsOut++
}

// poll lets the connection of e send, and returns when it wants to be asked again.
func (r *rawSide) poll(now mono.Time, e *entry) mono.Time {
	st, ok := e.Stream().(*rawStream)
	if !ok || st == nil {
		return mono.Never
	}
	if st.failed != ledger.None {
		st.fail(now, st.failed)
		return mono.Never
	}
	if st.waiting != mono.Never {
		if !st.waiting.Reached(now) {
			return st.waiting
		}
		for st.ahead != nil { // the end of the last one has this one begin
			e := st.ahead.e
			e.End(now, ledger.Replaced)
			r.sh.touch(e)
		}
	}
	if st.conn.OnlyAck() && e.Content() {
		// The answer is whole, so no target with Nagle's algorithm waits for its acknowledgment.
		if st.ackBy == 0 {
			st.ackBy = now.Add(ackDelay)
		}
		if !st.ackBy.Reached(now) {
			return st.ackBy
		}
	}
	st.ackBy = 0
	if st.readingDue().Reached(now) {
		st.lose()
		st.pass(now)
	}
	wake := st.send(now)
	if st.report(now) {
		r.sh.touch(e)
	}
	if st.seeking {
		wake = min(wake, st.seekAt)
	}
	if st.oldAck {
		wake = min(wake, st.queryAt)
	}
	return min(wake, st.readingDue())
}

// report tells the session what has changed; it says whether anything did.
func (st *rawStream) report(now mono.Time) bool {
	s, e := st.conn.Status(), st.e
	changed := false
	tell := func(ev session.Event) {
		changed = true
		ev.ID, ev.At = st.id, now
		st.side.sh.handle(now, e, &ev)
	}
	st.side.sh.count.Retransmits += uint64(s.Retransmits - st.retrans)
	st.retrans = s.Retransmits
	if st.oldAck = s.OldAck; st.oldAck && st.queryAt.Reached(now) {
		st.queryAt = now.Add(askEvery) // an intercept may have to wait before it is sure
		st.side.queries = append(st.side.queries, st.tuple)
	}
	if st.seeking = s.SynWaits; st.seeking && st.seekAt.Reached(now) {
		st.seekAt = now.Add(askEvery)
		st.side.seeks = append(st.side.seeks, Seek{st.tuple, now.Sub(st.asked)})
	}
	if s.Established && !st.opened {
		st.opened = true
		tell(session.Event{Kind: session.Opened})
	}
	if s.Acked > st.acked {
		st.acked = s.Acked
		tell(session.Event{Kind: session.Taken, N: s.Acked})
	}
	if s.Received > st.received || s.HasHole != st.hole {
		st.received, st.hole = s.Received, s.HasHole
		tell(session.Event{Kind: session.Received, N: s.Received, Hole: s.HasHole})
	}
	if st.tellFound(s.Received, tell); st.e == nil {
		return true
	}
	if s.RemoteFIN && !st.shut {
		st.shut = true
		tell(session.Event{Kind: session.Shut})
	}
	switch {
	case s.Err != tcp.CauseNone && s.Err != tcp.CauseAborted:
		st.send(now) // a reset, perhaps
		st.side.release(st, now)
		tell(broken(s))
	case s.Done && s.Err == tcp.CauseNone:
		st.side.release(st, now)
		tell(session.Event{Kind: session.Finished})
	}
	return changed
}

// broken is the event of a connection that ended in another way than by both sides' FIN.
func broken(s tcp.Status) session.Event {
	ev := session.Event{Kind: session.Failed, N: s.Acked}
	switch s.Err {
	case tcp.CauseReset:
		ev.Kind = session.ResetByPeer
	case tcp.CauseRefused:
		ev.Reason = ledger.TargetRefused
	case tcp.CauseConnectTimeout:
		ev.Reason = ledger.ConnectTimeout
	default:
		ev.Reason = ledger.SendTimeout
	}
	return ev
}

// fail tells the session that the connection could not begin.
func (st *rawStream) fail(now mono.Time, why ledger.Reason) {
	e, id := st.e, st.id
	st.side.release(st, now)
	st.side.sh.handle(now, e, &session.Event{ID: id, Kind: session.Failed, Reason: why, At: now})
	st.side.sh.touch(e)
}

// freed says that no other copier owns the tuple: an old connection at the target is nobody's.
func (r *rawSide) freed(now mono.Time, t Tuple) {
	if st := r.streams[t]; st != nil {
		st.conn.FreeOldConnection(now)
		r.sh.touch(st.e)
	}
}

// free says that no other copier has the tuple, or has had it since we began: what waits for that goes.
func (r *rawSide) free(t Tuple) {
	if st := r.streams[t]; st != nil {
		st.conn.Leave()
		r.sh.touch(st.e)
	}
}

// Taken says that a tuple is another copier's, which has begun with it first: a connection of ours that has
// not opened gives up, and says nothing that could reach the other one's. Should the target accept our SYN after that,
// it is reset: there is no other connection then.
func (sh *Shard) Taken(t Tuple) {
	if st := sh.raw.streams[t]; st != nil && !st.opened {
		st.failed = ledger.TupleTaken
		st.fail(sh.now, st.failed)
	}
}

// SetLink says whether an intercept is there to report the target's answers, and the slot that names this
// copier in the low bits of initial sequence numbers. While none is, new copies are dropped: nobody would
// hear them answered.
func (sh *Shard) SetLink(up bool, slot uint8) { sh.raw.up, sh.raw.slot = up, slot }

// SetPathMTU bounds the payload of a raw connection's segments, in bytes.
func (sh *Shard) SetPathMTU(t Tuple, payload int) {
	if st := sh.raw.streams[t]; st != nil {
		st.conn.SetMTU(payload)
		sh.touch(st.e)
	}
}

// Tuples returns the tuples of all raw connections that have opened, for an intercept that must learn whose they
// are. Of the others it hears when the target answers.
func (sh *Shard) Tuples() []Tuple {
	all := make([]Tuple, 0, len(sh.raw.streams))
	for t, st := range sh.raw.streams {
		if st.opened {
			all = append(all, t)
		}
	}
	return all
}
