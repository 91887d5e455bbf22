package tunnel

import (
	"net/netip"

	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/session"
	"tcpcopy/internal/proto"
	"tcpcopy/internal/way/link/wire"
)

const (
	// fillTo is how large a frame grows before the next one begins.
	fillTo = 128 << 10
	// turn is how many bytes one stream puts into a frame before the others have theirs.
	turn = 32 << 10
)

// Output is one shard's streams. Its methods, and those of the streams, are for the shard's goroutine.
type Output[C Conn] struct {
	hub     *Hub[C]
	index   int
	batches chan *Batch[C]
	streams map[uint64]*stream[C] // by number
	last    uint64                // the number given last
	frames  map[C]*frame[C]       // what goes out next, by connection
	ready   []*stream[C]          // have something to say
	later   []*stream[C]
	failed  []session.Event // that are still to be told
	events  []session.Event
	spent   *Batch[C] // that the events point into
	spin    int       // which connection the next stream takes
}

// frame is a message of operations that is being filled.
type frame[C Conn] struct {
	b       []byte
	backlog [][]byte // whole frames that were filled while there was no room, the oldest first
	full    bool     // the connection has no room: wait for word of it
	waiting []*stream[C]
}

// stream is one copy.
type stream[C Conn] struct {
	out      *Output[C]
	conn     C
	record   session.Record
	id       session.ID
	number   uint64 // on the wire, above the shard's: a session may open one stream after the other
	released uint64
	sent     uint64 // is on its way to the intercept, or there
	taken    uint64 // the target's host has it
	closing  bool
	finished bool // and the intercept was told
	queued   bool // in out.ready
	listens  bool // the intercept reads the target's answers, if it is asked to
	gone     bool
}

func (s *stream[C]) wireID() uint64 { return s.number<<shardBits | uint64(s.out.index) }

// Open implements session.Opener.
func (o *Output[C]) Open(now mono.Time, spec *session.OpenSpec) session.Stream {
	s := &stream[C]{out: o, id: spec.ID, record: spec.Record}
	up := *o.hub.up.Load()
	if len(up) == 0 {
		s.gone = true
		o.failed = append(o.failed, session.Event{ID: s.id, Kind: session.Failed, Reason: ledger.LinkDown, At: now})
		return s
	}
	from := spec.Source
	if !from.IsValid() {
		from = spec.Client
	}
	to := o.choose(up, spec.Target.Addr())
	s.conn, s.listens = to.conn, to.ReadsAnswers
	o.last++
	s.number = o.last
	o.streams[s.number] = s
	how := wire.OpOpen
	if spec.Listen && s.listens {
		how = wire.OpListen
	}
	o.append(s.conn, &wire.Op{Kind: how, ID: s.wireID(), Client: from, Target: spec.Target})
	return s
}

// choose takes the connections in turn: those to the target's own host, where there are such.
func (o *Output[C]) choose(up []end[C], target netip.Addr) *end[C] {
	own := 0
	for i := range up {
		if up[i].Host == target {
			own++
		}
	}
	o.spin++
	if own == 0 {
		return &up[o.spin%len(up)]
	}
	n := o.spin % own
	for i := range up {
		if up[i].Host == target {
			if n == 0 {
				return &up[i]
			}
			n--
		}
	}
	return &up[0]
}

// Release implements session.Stream.
func (s *stream[C]) Release(_ mono.Time, end uint64) {
	if end > s.released {
		s.released = end
		s.out.say(s)
	}
}

// CloseWrite implements session.Stream.
func (s *stream[C]) CloseWrite(mono.Time) {
	s.closing = true
	s.out.say(s)
}

// Abort implements session.Stream. What the intercept has still goes out before the reset.
func (s *stream[C]) Abort(mono.Time) {
	if s.gone {
		return
	}
	s.out.append(s.conn, &wire.Op{Kind: wire.OpAbort, ID: s.wireID()})
	s.out.forget(s)
}

// ReadAnswers implements session.AnswerReader.
func (s *stream[C]) ReadAnswers(kind proto.Kind) {
	switch {
	case s.gone:
	case s.listens:
		s.out.append(s.conn, &wire.Op{Kind: wire.OpRead, ID: s.wireID(), Proto: kind})
	case kind != proto.None: // an intercept of an earlier version
		s.out.failed = append(s.out.failed, session.Event{ID: s.id, Kind: session.AnswersLost, At: s.out.hub.now()})
	}
}

// Expect implements session.AnswerReader. The request's last bytes are in the same message, or a later one.
func (s *stream[C]) Expect(request uint64, h proto.Hint) {
	if s.listens && !s.gone {
		s.out.append(s.conn, &wire.Op{Kind: wire.OpExpect, ID: s.wireID(), Request: request, Hint: h})
	}
}

func (o *Output[C]) forget(s *stream[C]) {
	s.gone, s.record = true, nil
	delete(o.streams, s.number)
}

// say has the stream looked at by the next Flush.
func (o *Output[C]) say(s *stream[C]) {
	if !s.queued && !s.gone {
		s.queued = true
		o.ready = append(o.ready, s)
	}
}

func (o *Output[C]) frame(c C) *frame[C] {
	f := o.frames[c]
	if f == nil {
		f = &frame[C]{}
		o.frames[c] = f
	}
	if len(f.b) == 0 {
		f.b = wire.BeginFrame(f.b, wire.TypeOperations)
	}
	return f
}

// append adds an operation without data, even where the connection has no room: they are small, and only
// as many as the shard has sessions.
func (o *Output[C]) append(c C, op *wire.Op) {
	f := o.frame(c)
	f.b = wire.AppendOp(f.b, op)
	if len(f.b) > fillTo {
		if f.full {
			f.backlog = append(f.backlog, wire.EndFrame(f.b, 0))
			f.b = nil
		} else {
			o.put(c, f)
		}
	}
}

// put hands a frame to its connection.
func (o *Output[C]) put(c C, f *frame[C]) {
	for len(f.backlog) > 0 {
		if !c.Put(f.backlog[0]) {
			f.full = true
			return
		}
		f.backlog = f.backlog[1:]
	}
	if len(f.b) <= wire.FrameHeader {
		return
	}
	if !c.Put(wire.EndFrame(f.b, 0)) {
		f.full = true
		return
	}
	f.full = false
	f.b = f.b[:0]
}

// Flush sends what the last steps want sent, as far as there is credit and room.
func (o *Output[C]) Flush() {
	for len(o.ready) > 0 {
		list := o.ready
		o.ready, o.later = o.later[:0], nil
		for i, s := range list {
			list[i] = nil
			s.queued = false
			if !s.gone {
				o.fill(s)
			}
		}
		o.later = list[:0]
	}
	for c, f := range o.frames {
		if !f.full {
			o.put(c, f)
		}
	}
}

// fill puts a turn of the stream's bytes into its connection's frame.
func (o *Output[C]) fill(s *stream[C]) {
	f := o.frame(s.conn)
	if f.full {
		s.queued = true
		f.waiting = append(f.waiting, s)
		return
	}
	end := min(s.released, s.taken+wire.Window, s.sent+turn)
	for s.sent < end {
		view := s.record.View(s.sent, int(min(end-s.sent, wire.MaxData)))
		if len(view) == 0 {
			break
		}
		f.b = wire.AppendOp(f.b, &wire.Op{Kind: wire.OpData, ID: s.wireID(), Data: view})
		s.sent += uint64(len(view))
	}
	switch {
	case s.sent == end && end < min(s.released, s.taken+wire.Window):
		o.say(s) // another turn
	case s.closing && !s.finished && s.sent == s.released:
		s.finished = true
		f.b = wire.AppendOp(f.b, &wire.Op{Kind: wire.OpCloseWrite, ID: s.wireID()})
	}
	if len(f.b) > fillTo {
		o.put(s.conn, f)
	}
}

// Events is where batches come, each of which must be given to Step, in order.
func (o *Output[C]) Events() <-chan *Batch[C] { return o.batches }

// Pending says that Step has events even without a batch.
func (o *Output[C]) Pending() bool { return len(o.failed) > 0 }

// Step takes a batch, or nil, and returns what the sessions must know, valid until the next Step.
func (o *Output[C]) Step(now mono.Time, b *Batch[C]) []session.Event {
	if o.spent != nil {
		o.hub.spare.Put(o.spent)
		o.spent = nil
	}
	o.events = append(o.events[:0], o.failed...)
	o.failed = o.failed[:0]
	if b == nil {
		return o.events
	}
	for i := range b.events {
		o.heed(now, b.conn, &b.events[i])
	}
	if b.room {
		if f := o.frames[b.conn]; f != nil {
			f.full = false
			o.ready = append(o.ready, f.waiting...)
			clear(f.waiting)
			f.waiting = f.waiting[:0]
		}
	}
	if b.lost {
		delete(o.frames, b.conn)
		for _, s := range o.streams {
			if s.conn == b.conn {
				o.events = append(o.events, session.Event{ID: s.id, Kind: session.Failed, Reason: ledger.LinkDown, N: s.taken, At: now})
				o.forget(s)
			}
		}
	}
	o.spent = b
	return o.events
}

// heed takes an event of c, whose ID is the stream's number.
func (o *Output[C]) heed(now mono.Time, c C, ev *session.Event) {
	s := o.streams[uint64(ev.ID)]
	if s == nil || s.conn != c {
		return
	}
	ev.ID = s.id
	ev.At = min(ev.At, now)
	switch ev.Kind {
	case session.Taken:
		if ev.N <= s.taken || ev.N > s.sent {
			return // no intercept says so
		}
		s.taken = ev.N
		if s.sent < s.released {
			o.say(s) // there is credit again
		}
	case session.Finished:
		o.forget(s)
	case session.ResetByPeer, session.Failed:
		ev.N = min(ev.N, s.sent)
		o.forget(s)
	}
	o.events = append(o.events, *ev)
}
