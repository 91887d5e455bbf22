package shard

import (
	"math"
	"net/netip"
	"time"

	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/core/seqnum"
	"tcpcopy/internal/core/session"
	"tcpcopy/internal/proto"
	"tcpcopy/internal/way/link/wire"
)

const (
	// askLimit is how long a request waits until the intercepts have confirmed what they must know of it.
	askLimit = time.Second
	// maxFound bounds what was found and waits for the bytes that it is about.
	maxFound = 4096
	// unheld is the bound of a rawReading that holds nothing back.
	unheld = math.MaxUint64
	// earlyFor is how long after our SYN the intercepts are relied on to have what the target has said before it was
	// asked for: as long as they keep it, but for the way there.
	earlyFor = wire.EarlyFor / 2
)

// rawReading is a connection whose target's bytes the intercepts read as a protocol's answers. They are not
// where the requests pass: so bytes that are answered only after something was said of them wait until all
// intercepts have confirmed that. What protocol it is need not be among this: of a target that they read already, they
// keep what a new connection hears first until they are told.
type rawReading struct {
	kind    proto.Kind
	serial  uint32 // of what was said last
	left    int    // confirmations of it that are missing
	hold    uint64 // while they are, the copy's bytes below go, and no others
	askedAt mono.Time
	irs     seqnum.Value // the target's first byte's sequence number, if known
	known   bool
	asked   bool // the intercepts know it, or have been there when it was said
	early   bool // they keep what the target says before they are told
	whole   bool // one of them has the connection from its beginning
	settled bool // they read it: what is confirmed from here on is what was said of requests
	lost    bool
	told    bool // that it is lost
	found   []session.Event
}

var _ session.AnswerReader = (*rawStream)(nil)

// ReadAnswers implements session.AnswerReader.
func (st *rawStream) ReadAnswers(kind proto.Kind) {
	if kind == proto.None {
		return
	}
	r := &st.reading
	r.kind = kind
	r.early = r.early && st.side.sh.now.Sub(st.began) < earlyFor
	if st.side.readers == 0 || st.received > 0 && !r.early {
		if st.side.readers > 0 && !st.side.keeps(st.tuple.Server()) {
			st.askToRead(unheld) // for those after it
		}
		st.lose() // nobody reads, or the target has spoken before
		st.side.sh.touch(st.e)
		return
	}
	if st.waiting == mono.Never && st.failed == 0 {
		st.openReading()
	}
}

// openReading begins the reading of a connection that has begun.
func (st *rawStream) openReading() {
	if st.reading.early {
		st.askToRead(unheld)
	} else {
		st.askToRead(0)
	}
}

// askToRead says which protocol the target's bytes are of; with their first sequence number, if that is known.
func (st *rawStream) askToRead(below uint64) {
	r, side := &st.reading, st.side
	st.ask(wire.Reading{Proto: r.kind, Base: r.irs, BaseKnown: r.known}, below)
	r.asked = r.known
	to := st.tuple.Server()
	if k, ok := side.keepers[to]; !ok || k.left > 0 && k.askedAt.Add(askLimit).Reached(side.sh.now) {
		side.keepers[to] = keepers{serial: r.serial, left: side.readers, askedAt: side.sh.now}
	}
}

// keepers is how far it is known that all intercepts keep what a target says first on new connections: they do once
// they have confirmed that they read a connection of its.
type keepers struct {
	serial  uint32 // of what they were told
	left    int    // confirmations of it that are missing
	askedAt mono.Time
}

// keeps says that they all do.
func (r *rawSide) keeps(target netip.AddrPort) bool {
	k, ok := r.keepers[target]
	return ok && k.left == 0
}

// keeper takes one intercept's confirmation.
func (r *rawSide) keeper(f *wire.Found) {
	if k, ok := r.keepers[f.Tuple.Target]; ok && k.left > 0 && k.serial == f.Serial {
		k.left--
		r.keepers[f.Tuple.Target] = k
	}
}

// Expect implements session.AnswerReader.
func (st *rawStream) Expect(request uint64, h proto.Hint) {
	if r := &st.reading; r.kind != proto.None && !r.lost {
		st.ask(wire.Reading{Request: request, Hint: h}, st.end)
	}
}

// ask tells the intercepts something, and holds back what is not below until they have confirmed it.
func (st *rawStream) ask(what wire.Reading, below uint64) {
	r, side := &st.reading, st.side
	if r.left == 0 {
		r.hold = below
	}
	r.hold = min(r.hold, below)
	side.serial++
	r.serial = side.serial
	r.left, r.askedAt = side.readers, side.sh.now
	what.Serial, what.Held = r.serial, r.hold != unheld
	what.Tuple = wire.Tuple{Client: st.tuple.Client(), Target: st.tuple.Server()}
	side.readings = append(side.readings, what)
}

// pass hands on what is released, as far as nothing waits for a confirmation, and then our end.
func (st *rawStream) pass(now mono.Time) {
	if st.waiting != mono.Never || st.failed != 0 {
		return
	}
	if r := &st.reading; r.left > 0 && r.hold != unheld {
		st.conn.Release(now, min(st.end, r.hold))
		return
	}
	st.conn.Release(now, st.end)
	if st.closing {
		st.conn.CloseWrite(now)
	}
}

// lose gives up: where answers end is guessed from here on.
func (st *rawStream) lose() {
	r := &st.reading
	r.lost, r.left, r.found = true, 0, nil
}

// heardSYN takes the number of the target's first byte.
func (st *rawStream) heardSYN(seg *packet.Segment) {
	if seg.Flags.Has(packet.SYN | packet.ACK) {
		st.reading.irs, st.reading.known = seg.Seq+1, true
	}
}

// readingDue is when a confirmation has not come for too long.
func (st *rawStream) readingDue() mono.Time {
	if st.reading.left == 0 {
		return mono.Never
	}
	return st.reading.askedAt.Add(askLimit)
}

// confirmed takes one intercept's confirmation.
func (st *rawStream) confirmed(now mono.Time, f *wire.Found) {
	r := &st.reading
	if r.left == 0 || f.Serial != r.serial {
		return
	}
	r.whole = r.whole || f.Whole
	if r.left--; r.left > 0 {
		return
	}
	switch {
	case r.settled:
	case r.whole:
		r.asked, r.settled = true, true
	case r.known && !r.asked:
		// The target has answered our SYN meanwhile; perhaps before the intercepts knew of the connection.
		st.askToRead(r.hold)
		return
	case st.received > 0 || st.hole:
		st.lose() // what the target said first had perhaps passed them before they knew, or they have forgotten it
	default:
		r.asked, r.settled = true, true // the SYN-ACK, or what follows it, is still to come, and they wait for it
	}
	st.pass(now)
}

// Found takes what the intercepts have found; Data must stay as it is until the Step after.
func (r *rawSide) foundAll(now mono.Time, list []wire.Found) {
	for i := range list {
		f := &list[i]
		if f.Kind == wire.FoundConfirmed {
			r.keeper(f)
		}
		st := r.streams[TupleOf(f.Tuple.Client, f.Tuple.Target)]
		if st == nil || st.reading.kind == proto.None || st.reading.lost {
			continue
		}
		e, ev := st.e, session.Event{ID: st.id, At: now}
		switch f.Kind {
		case wire.FoundConfirmed:
			st.confirmed(now, f)
		case wire.FoundLost:
			st.lose()
			st.pass(now)
		case wire.FoundAnswer:
			ev.Kind, ev.Answer, ev.First = session.AnswerEnd, f.Answer, now.Add(-f.Age)
			st.reading.found = append(st.reading.found, ev)
		case wire.FoundBytes:
			ev.Kind, ev.Bytes = session.AnswerBytes, f.Data
			st.reading.found = append(st.reading.found, ev)
		}
		if len(st.reading.found) > maxFound {
			st.lose()
			st.pass(now)
		}
		st.report(now) // may be the end of it
		r.sh.touch(e)
	}
}

// tellFound tells the session what was found of bytes that have arrived here too.
func (st *rawStream) tellFound(received uint64, tell func(session.Event)) {
	r := &st.reading
	n := 0
	for n < len(r.found) && (r.found[n].Kind != session.AnswerEnd || r.found[n].Answer.End <= received) {
		n++
	}
	if n > 0 {
		ready := r.found[:n]
		if r.found = r.found[n:]; len(r.found) == 0 {
			r.found = nil
		}
		for i := range ready {
			tell(ready[i])
			if st.e == nil {
				return
			}
		}
	}
	if r.lost && !r.told {
		r.told = true
		tell(session.Event{Kind: session.AnswersLost})
	}
}

// Readings returns what the intercepts should be told of answers before what is in Output is sent, and forgets it.
func (sh *Shard) Readings() []wire.Reading {
	r := sh.raw.readings
	sh.raw.readings = nil
	return r
}

// SetReaders says how many intercepts there are, all of which read answers; 0 where one of them does not. When
// it is called nothing is known any more of the answers of connections that there are: who saw them may be gone.
func (sh *Shard) SetReaders(n int) {
	sh.raw.readers = n
	clear(sh.raw.keepers)
	for _, st := range sh.raw.streams {
		st.reading.early = false
		if st.reading.kind != proto.None && !st.reading.lost {
			st.lose()
			st.pass(sh.now)
			sh.touch(st.e)
		}
	}
}
