package stream

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
	// confirmLimit is how long bytes wait for the intercepts to confirm what they were told.
	confirmLimit = time.Second
	// maxFound bounds the events that wait for the bytes that they are about.
	maxFound = 4096
	// unheld is the bound of a reading that holds no bytes back.
	unheld = math.MaxUint64
	// keptFor is how long after our SYN the intercepts can be relied on to have what the target has
	// said: for as long as they keep it, less the time of the message to them.
	keptFor = wire.EarlyFor / 2
)

// readState is the state of a reading. See the package comment.
type readState uint8

const (
	readOff readState = iota
	readKept
	readWanted
	readAsked
	readBased
	readWhole
	readSettled
	readLost
	readEnded
)

// reading is a Stream's part in the reading of its target's bytes as answers of a protocol.
type reading struct {
	state     readState
	kind      proto.Kind
	baseKnown bool         // base is known
	base      seqnum.Value // the target's first sequence number
	serial    uint32       // of what the intercepts were told last
	left      int          // confirmations of that which are missing
	hold      uint64       // while they are, only the copy's bytes below go
	askedAt   mono.Time
	again     bool            // we have aborted another connection of the tuple a moment ago
	found     []session.Event // about bytes that have not arrived here
}

var _ session.AnswerReader = (*Stream)(nil)

// asks reports whether the intercepts were told to read, and may report answers.
func (r *reading) asks() bool { return r.state >= readAsked && r.state <= readSettled }

// awaited reports whether the intercepts have not confirmed what they were told, which they do
// before what they have found of bytes that passed before it came. The target's end has to wait for
// that, for confirmLimit at most: the session would end without the last answers.
func (r *reading) awaited() bool { return r.asks() && r.left > 0 }

// beginReading is called when the Stream begins.
func (st *Stream) beginReading() {
	r, kept := &st.reading, st.table.keeps(st.tuple.Server())
	switch {
	case r.state == readWanted && st.table.readers == 0:
		st.loseReading()
	case r.state == readWanted:
		st.openReading(kept)
	case r.state == readOff && kept:
		r.state = readKept
	}
}

// ReadAnswers implements session.AnswerReader.
func (st *Stream) ReadAnswers(kind proto.Kind) {
	if kind == proto.None {
		return
	}
	r, t := &st.reading, st.table
	r.kind = kind
	kept := r.state == readKept && t.now.Sub(st.began) < keptFor
	if t.readers == 0 || st.told.received > 0 && !kept {
		if t.readers > 0 && !t.keeps(st.tuple.Server()) {
			st.askToRead(unheld) // so that the intercepts keep what the target says on later ones
		}
		st.loseReading()
		st.copy.Touch()
		return
	}
	r.state = readWanted
	if st.state >= Opening {
		st.openReading(kept)
	}
}

// openReading tells the intercepts to read. Where they have not kept what the target said first, no
// byte of the copy goes before they have confirmed.
func (st *Stream) openReading(kept bool) {
	if kept {
		st.askToRead(unheld)
	} else {
		st.askToRead(0)
	}
}

// askToRead tells the intercepts the protocol, and the target's first sequence number if it is
// known.
func (st *Stream) askToRead(below uint64) {
	r, t := &st.reading, st.table
	st.inform(wire.Reading{Proto: r.kind, Base: r.base, BaseKnown: r.baseKnown}, below)
	r.state = readAsked
	if r.baseKnown {
		r.state = readBased
	}
	target := st.tuple.Server()
	k, ok := t.keepers[target]
	if !ok || k.left > 0 && k.askedAt.Add(confirmLimit).Reached(t.now) {
		t.keepers[target] = keeper{serial: r.serial, left: t.readers, askedAt: t.now}
	}
}

// inform tells the intercepts something about the connection. Until they have confirmed it, only
// the copy's bytes below go.
func (st *Stream) inform(what wire.Reading, below uint64) {
	r, t := &st.reading, st.table
	if r.left == 0 {
		r.hold = below
	}
	r.hold = min(r.hold, below)
	t.serial++
	r.serial = t.serial
	r.left, r.askedAt = t.readers, t.now
	what.Serial, what.Held = r.serial, r.hold != unheld
	what.Tuple = wire.Tuple{Client: st.tuple.Client(), Target: st.tuple.Server()}
	t.readings = append(t.readings, what)
}

// Expect implements session.AnswerReader.
func (st *Stream) Expect(request uint64, h proto.Hint) {
	if r := &st.reading; r.state == readWanted || r.asks() {
		st.inform(wire.Reading{Request: request, Hint: h}, st.end)
	}
}

// loseReading gives the reading up: the session has to guess where answers end.
func (st *Stream) loseReading() {
	r := &st.reading
	r.state, r.left, r.found = readLost, 0, nil
}

// noteSYN notes the sequence number of the target's first byte.
func (st *Stream) noteSYN(seg *packet.Segment) {
	if seg.Flags.Has(packet.SYN | packet.ACK) {
		st.reading.base, st.reading.baseKnown = seg.Seq+1, true
	}
}

// confirmationDue returns when missing confirmations have taken too long.
func (st *Stream) confirmationDue() mono.Time {
	if st.reading.left == 0 {
		return mono.Never
	}
	return st.reading.askedAt.Add(confirmLimit)
}

// confirm takes in one intercept's confirmation.
func (st *Stream) confirm(now mono.Time, f *wire.Found) {
	r := &st.reading
	if r.left == 0 || f.Serial != r.serial {
		return
	}
	if f.Whole && r.state < readWhole {
		r.state = readWhole
	}
	if r.left--; r.left > 0 {
		return
	}
	switch {
	case r.state >= readWhole:
		r.state = readSettled
	case r.state == readAsked && r.baseKnown:
		// The target has answered our SYN meanwhile, perhaps before the intercepts were told.
		st.askToRead(r.hold)
		return
	case st.told.received > 0 || st.told.hole:
		// What the target said first may have passed the intercepts before they were told.
		st.loseReading()
	default:
		r.state = readSettled // the SYN-ACK, or the data after it, is yet to pass the intercepts
	}
	st.passOn(now)
}

// Found takes in what the intercepts have found of answers. The Data of each must stay as it is
// until the next Step.
func (t *Table) Found(now mono.Time, list []wire.Found) {
	for i := range list {
		f := &list[i]
		if f.Kind == wire.FoundConfirmed {
			t.keeperConfirms(f)
		}
		st := t.streams[shardTuple(f.Tuple)]
		if st == nil || !st.reading.asks() {
			continue
		}
		if (f.Kind == wire.FoundAnswer || f.Kind == wire.FoundBytes) && !st.reading.baseKnown {
			continue // the SYN-ACK would have come first: it is of an earlier connection
		}
		c, ev := st.copy, session.Event{ID: st.id, At: now}
		switch f.Kind {
		case wire.FoundConfirmed:
			st.confirm(now, f)
		case wire.FoundLost:
			if r := &st.reading; r.again && r.left > 0 {
				continue // of the connection that had the tuple; ours was not confirmed yet
			}
			st.loseReading()
			st.passOn(now)
		case wire.FoundAnswer:
			ev.Kind, ev.Answer, ev.First = session.AnswerEnd, f.Answer, now.Add(-f.Age)
			st.reading.found = append(st.reading.found, ev)
		case wire.FoundBytes:
			ev.Kind, ev.Bytes = session.AnswerBytes, f.Data
			st.reading.found = append(st.reading.found, ev)
		}
		if len(st.reading.found) > maxFound {
			st.loseReading()
			st.passOn(now)
		}
		if i+1 < len(list) && list[i+1].Tuple == f.Tuple && list[i+1].Kind != wire.FoundLost {
			c.Touch()
			continue // the target's end, which may have come, waits for what was found of it
		}
		st.report(now) // which may end the Stream
		c.Touch()
	}
}

// tellFound tells the session what was found of bytes that have arrived here too, or that the
// reading is lost. A session may end the Stream for it.
func (st *Stream) tellFound(now mono.Time, received uint64) {
	r := &st.reading
	n := 0
	for n < len(r.found) && (r.found[n].Kind != session.AnswerEnd ||
		r.found[n].Answer.End <= received) {
		n++
	}
	if n > 0 {
		ready := r.found[:n]
		if r.found = r.found[n:]; len(r.found) == 0 {
			r.found = nil
		}
		for i := range ready {
			if st.tell(now, ready[i]); st.state == Over {
				return
			}
		}
	}
	if r.state == readLost {
		r.state = readEnded
		st.tell(now, session.Event{Kind: session.AnswersLost})
	}
}

// Readings returns what the intercepts must be told before the Output is sent, and forgets it.
func (t *Table) Readings() []wire.Reading {
	r := t.readings
	t.readings = nil
	return r
}

// SetReaders sets how many intercepts there are, all of which read answers; 0 where one of them
// does not. All readings are lost by it: the intercepts that saw the answers so far may be gone.
func (t *Table) SetReaders(n int) {
	t.readers = n
	clear(t.keepers)
	for _, st := range t.streams {
		switch r := &st.reading; {
		case r.state == readKept:
			r.state = readOff
		case r.asks():
			st.loseReading()
			st.passOn(t.now)
			st.copy.Touch()
		}
	}
	if n > 0 && t.cfg.Keep != nil {
		for _, target := range t.cfg.Keep() {
			t.askToKeep(target)
		}
	}
}

// askToKeep tells the intercepts to keep what a target says first, before any connection to it. Of
// a server that speaks first, the answers on the first ones would be lost: it has spoken when its
// protocol is known.
func (t *Table) askToKeep(target netip.AddrPort) {
	t.serial++
	nobody := netip.AddrPortFrom(netip.IPv4Unspecified(), t.cfg.Address.OwnPort())
	if target.Addr().Is6() {
		nobody = netip.AddrPortFrom(netip.IPv6Unspecified(), nobody.Port())
	}
	t.readings = append(t.readings, wire.Reading{Serial: t.serial, Proto: wire.AnyProto, Held: true,
		Tuple: wire.Tuple{Client: nobody, Target: target}})
	t.keepers[target] = keeper{serial: t.serial, left: t.readers, askedAt: t.now}
}

// keeper is the intercepts' word on a target: once all have confirmed a reading of it, or of one
// connection to it, they keep what the target says first on each later one.
type keeper struct {
	serial  uint32 // of the reading
	left    int    // confirmations of it that are missing
	askedAt mono.Time
}

// keeps reports whether all intercepts keep what a target says first.
func (t *Table) keeps(target netip.AddrPort) bool {
	k, ok := t.keepers[target]
	return ok && k.left == 0
}

// keeperConfirms takes in one intercept's confirmation.
func (t *Table) keeperConfirms(f *wire.Found) {
	if k, ok := t.keepers[f.Tuple.Target]; ok && k.left > 0 && k.serial == f.Serial {
		k.left--
		t.keepers[f.Tuple.Target] = k
	}
}
