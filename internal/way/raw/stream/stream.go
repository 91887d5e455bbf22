package stream

import (
	"crypto/sha256"
	"encoding/binary"
	"time"

	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/seqnum"
	"tcpcopy/internal/core/session"
	"tcpcopy/internal/core/shard"
	"tcpcopy/internal/way/raw/tcp"
)

// State is the state of a Stream. See the package comment.
type State uint8

// The states of a Stream.
const (
	Over State = iota
	Failed
	Queued
	Opening
	Open
	Shut
)

// sending is the state of our own direction.
type sending uint8

const (
	unended   sending = iota
	endWanted         // CloseWrite was called, and the connection does not know yet
	ended
)

const (
	// takeover is how long a Stream waits for the Streams before it with the same tuple to end in
	// order: long enough to repair the loss of a SYN and of a request.
	takeover = 10 * time.Second
	// askEvery is how long an intercept's answer may take before it is asked again.
	askEvery = time.Second
	// lateAfter is how long after its client a copy may begin without a question. An intercept
	// recognises the SYN-ACK of one that another copier has had for 2 s (route.Config.Behind).
	lateAfter = time.Second
	// slotApart is the distance between the initial sequence numbers that two copiers choose at the
	// same time for the same tuple. See begin.
	slotApart = 1 << 24
	// ackDelay is how long the acknowledgment of a whole answer waits for a turn to travel with:
	// Linux's delayed ACK.
	ackDelay = 40 * time.Millisecond
)

// Stream is the connection of one copy.
type Stream struct {
	conn    tcp.Conn
	table   *Table
	copy    shard.Copy
	tuple   shard.Tuple
	id      session.ID
	state   State
	sending sending
	why     ledger.Reason // in Failed

	// In Queued: the Stream that has to end before this one begins, and until when it may take.
	// after is the Stream that is queued behind this one, in any state.
	before, after *Stream
	until         mono.Time

	record session.Record
	end    uint64      // Release
	cfg    *tcp.Config // until it begins
	asked  mono.Time   // when the session opened it, or if that was late, should have
	began  mono.Time
	isn    seqnum.Value
	ts     uint32 // the timestamp at began

	queryAt, seekAt mono.Time // when an intercept may next be asked
	askAt           mono.Time // when one has to be: a question is open; Never: none is
	ackBy           mono.Time // when an ACK that is held back has to go; 0: none is held back
	told            progress
	reading         reading
}

// progress is what the session was told of a connection.
type progress struct {
	acked, received uint64
	hole            bool
	retransmits     uint32 // counted
}

// queueBehind puts a Stream at the end of the queue that old heads.
func (st *Stream) queueBehind(old *Stream, until mono.Time) {
	for old.after != nil {
		old = old.after
	}
	st.state, st.until = Queued, until
	st.before, old.after = old, st
}

// leaveQueue closes the gap that a Stream leaves in a queue. The next Stream begins if it was
// behind one that had begun.
func (st *Stream) leaveQueue(now mono.Time) {
	before, after := st.before, st.after
	if before != nil {
		before.after = after
	}
	if after == nil {
		return
	}
	if after.before = before; before == nil {
		after.begin(now)
		after.copy.Touch()
	}
}

// begin makes the SYN due. Its sequence number names this copier by the slot, and lies above all
// that the tuple has used before (RFC 6528 §3, RFC 6191).
//
// Another copier may open the same tuple. The target accepts the SYN that comes first, and the
// second must do no harm. Inside the window of the first, it would have the target reset the
// connection that is being opened (RFC 9293 §3.10.7.4, "fourth, check the SYN bit"; Linux does
// that), and both copiers would lose. Outside of the window, the target answers it with an ACK to
// the first copier. So the numbers of copiers are 67 s of their clock apart, which is longer than
// a target keeps a connection half open. A SYN that arrives when the first connection is over
// would open a second one: so no SYN is repeated, and none of a copy that begins late is sent,
// before the intercepts have said that the tuple is no other copier's.
func (st *Stream) begin(now mono.Time) {
	t := st.table
	ticks := seqnum.Value(int64(now) / int64(4*time.Microsecond))
	offset, id := identify(&t.cfg.ISNSecret, &st.tuple)
	isn := t.cfg.ISNAtZero + ticks + offset + seqnum.Value(t.slot)*slotApart
	ts := t.cfg.TSAtZero + uint32(int64(now)/int64(time.Millisecond))
	if old, ok := t.ended.get(now, id); ok {
		if isn.LessEq(old.next + 0xff) { // the slot replaces the low bits
			isn = old.next + 1<<16
		}
		if int32(ts-old.ts) <= 0 {
			ts = old.ts + 1
		}
		st.reading.again = old.how == endedAborted && now.Sub(old.at) < confirmLimit
	}
	st.isn, st.ts = isn&^0xff|seqnum.Value(t.slot), ts
	st.cfg.ISN, st.cfg.TSBase = st.isn, ts
	if now != st.asked {
		st.cfg.LeaveFrom = 1
	}
	st.state, st.began = Opening, now
	t.streams[st.tuple] = st
	st.conn.Init(st.cfg, st.record)
	st.cfg = nil
	st.conn.Open(now)
	st.beginReading()
	st.passOn(now)
}

// identify returns what a tuple adds to its initial sequence numbers, so that nobody can guess them
// from those of another tuple (RFC 6528 §3), and an identity by which the table remembers it.
func identify(secret *[32]byte, tuple *shard.Tuple) (offset seqnum.Value, id uint64) {
	var b [len(secret) + 36]byte
	bytes := tuple.Bytes()
	copy(b[copy(b[:], secret[:]):], bytes[:])
	sum := sha256.Sum256(b[:])
	return seqnum.Value(binary.BigEndian.Uint32(sum[:])), binary.BigEndian.Uint64(sum[8:])
}

// Release implements session.Stream.
func (st *Stream) Release(now mono.Time, end uint64) {
	st.end = end
	st.passOn(now)
}

// CloseWrite implements session.Stream.
func (st *Stream) CloseWrite(now mono.Time) {
	st.sending = endWanted
	st.passOn(now)
}

// Abort implements session.Stream. The reset is part of this Step's output.
func (st *Stream) Abort(now mono.Time) {
	if st.state >= Opening {
		st.conn.Abort(now)
		st.send(now)
	}
	st.remove(now)
}

// passOn passes the bytes that may be sent to the connection: those that are released and that wait
// for no confirmation; then our end.
func (st *Stream) passOn(now mono.Time) {
	if st.state < Opening {
		return
	}
	if r := &st.reading; r.left > 0 && r.hold != unheld {
		st.conn.Release(now, min(st.end, r.hold))
		return
	}
	st.conn.Release(now, st.end)
	if st.sending == endWanted {
		st.sending = ended
		st.conn.CloseWrite(now)
	}
}

// send appends what the connection has to send to the output, and returns when it has more.
func (st *Stream) send(now mono.Time) mono.Time {
	t := st.table
	before := len(t.out)
	var wake mono.Time
	t.out, wake = st.conn.Poll(now, t.out)
	t.segmentsOut += uint64(len(t.out) - before)
	return wake
}

// remove takes a Stream that is over out of the table.
func (st *Stream) remove(now mono.Time) {
	t := st.table
	if st.state >= Opening {
		delete(t.streams, st.tuple)
		s := st.conn.Status()
		past := connectionEnd{
			next: st.isn + seqnum.Value(s.Sent) + 2, at: now,
			ts: st.ts + uint32(now.Sub(st.began)/time.Millisecond) + 1,
		}
		switch {
		case s.Err == tcp.CauseAborted || s.Err == tcp.CauseConnectTimeout ||
			s.Err == tcp.CauseUserTimeout:
			past.how = endedAborted
		case st.why == ledger.TupleTaken:
			past.how = endedTaken
		}
		_, id := identify(&t.cfg.ISNSecret, &st.tuple)
		t.ended.put(id, past)
		if past.how != endedAborted { // else the target may have more to say, and must be answered
			if len(t.released) == 0 {
				t.releasedAt = now
			}
			t.released = append(t.released, st.tuple)
		}
	}
	st.leaveQueue(now)
	st.state, st.copy = Over, nil
	if len(t.spare) < maxSpare {
		t.spare = append(t.spare, st)
	}
}

// Poll implements shard.Poller.
func (st *Stream) Poll(now mono.Time) mono.Time {
	st.table.behind = st.table.behind || st.copy.Behind(now)
	switch st.state {
	case Failed:
		st.fail(now, st.why)
		return mono.Never
	case Queued:
		if !st.until.Reached(now) {
			return st.until
		}
		for st.before != nil { // the end of the last one makes this one begin
			st.before.copy.Replace(now)
		}
	}
	if st.conn.OnlyAck() && st.copy.Content() {
		// The answer is whole, so no target with Nagle's algorithm waits for this acknowledgment.
		if st.ackBy == 0 {
			st.ackBy = now.Add(ackDelay)
		}
		if !st.ackBy.Reached(now) {
			return st.ackBy
		}
	}
	st.ackBy = 0
	if st.confirmationDue().Reached(now) {
		st.loseReading()
		st.passOn(now)
	}
	wake := st.send(now)
	st.report(now)
	return min(wake, st.askAt, st.confirmationDue())
}

// report tells the session what has changed.
func (st *Stream) report(now mono.Time) {
	s := st.conn.Status()
	st.table.retransmits += uint64(s.Retransmits - st.told.retransmits)
	st.told.retransmits = s.Retransmits
	st.ask(now, &s)
	if s.Established && st.state == Opening {
		st.state = Open
		st.tell(now, session.Event{Kind: session.Opened})
	}
	if s.Acked > st.told.acked {
		st.told.acked = s.Acked
		st.tell(now, session.Event{Kind: session.Taken, N: s.Acked})
	}
	if s.Received > st.told.received || s.HasHole != st.told.hole {
		st.told.received, st.told.hole = s.Received, s.HasHole
		st.tell(now, session.Event{Kind: session.Received, N: s.Received, Hole: s.HasHole})
	}
	if st.tellFound(now, s.Received); st.state == Over {
		return
	}
	if s.Err == tcp.CauseNone && st.reading.awaited() {
		return
	}
	if s.RemoteFIN && st.state == Open {
		st.state = Shut
		st.tell(now, session.Event{Kind: session.Shut})
	}
	switch {
	case s.Err != tcp.CauseNone && s.Err != tcp.CauseAborted:
		st.send(now) // there may be a reset to send
		st.finish(now, failure(&s))
	case s.Done && s.Err == tcp.CauseNone:
		st.finish(now, session.Event{Kind: session.Finished})
	}
}

// finish ends a Stream with its last event.
func (st *Stream) finish(now mono.Time, ev session.Event) {
	c := st.copy
	ev.ID, ev.At = st.id, now
	st.remove(now)
	c.Tell(now, ev)
}

// tell hands the session an event.
func (st *Stream) tell(now mono.Time, ev session.Event) {
	ev.ID, ev.At = st.id, now
	st.copy.Tell(now, ev)
}

// ask asks the intercepts what the connection has to know before it goes on, once each askEvery.
func (st *Stream) ask(now mono.Time, s *tcp.Status) {
	st.askAt = mono.Never
	if s.OldAck {
		if st.queryAt.Reached(now) {
			st.queryAt = now.Add(askEvery)
			st.table.queries = append(st.table.queries, st.tuple)
		}
		st.askAt = st.queryAt
	}
	if s.SynWaits {
		if st.seekAt.Reached(now) {
			st.seekAt = now.Add(askEvery)
			st.table.seeks = append(st.table.seeks, Seek{st.tuple, now.Sub(st.asked)})
		}
		st.askAt = min(st.askAt, st.seekAt)
	}
}

// failure returns the event of a connection that did not end by both sides' FIN.
func failure(s *tcp.Status) session.Event {
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

// fail ends a Stream that has not opened.
func (st *Stream) fail(now mono.Time, why ledger.Reason) {
	st.why = why
	st.finish(now, session.Event{Kind: session.Failed, Reason: why})
}
