package tunnel

import (
	"net/netip"
	"time"

	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/session"
	"tcpcopy/internal/core/shard"
	"tcpcopy/internal/proto"
	"tcpcopy/internal/way"
	"tcpcopy/internal/way/address"
	"tcpcopy/internal/way/link/wire"
)

const (
	// fillTo is the size, in bytes, from which on a frame is sent.
	fillTo = 128 << 10
	// share is how many bytes a stream puts into a frame before the others have their share.
	share = 32 << 10
)

// Output is one shard's streams. Its methods, and those of the streams, are for the shard's
// goroutine.
type Output[C Conn] struct {
	hub     *Hub[C]
	index   int
	sources address.Chooser
	batches chan *Batch[C]
	filled  way.Waker             // has a token when batches has been filled
	streams map[uint64]*stream[C] // by number
	used    map[shard.Tuple]*stream[C]
	last    uint64          // the number given last
	frames  map[C]*frame[C] // what goes out next, by connection
	ready   []*stream[C]    // have something to send
	spare   []*stream[C]    // room for the next ready
	failed  []session.Event // that Step returns next
	events  []session.Event
	spent   *Batch[C] // that the events point into
	turn    int       // which connection the next stream takes
}

// frame is a message of operations that is being filled.
type frame[C Conn] struct {
	b       []byte
	backlog [][]byte     // whole frames that were filled while there was no room, the oldest first
	full    bool         // the connection has no room; Batch.room ends that
	waiting []*stream[C] // for that
}

// stream is one copy.
type stream[C Conn] struct {
	out      *Output[C]
	conn     C
	record   session.Record
	id       session.ID
	tuple    shard.Tuple // at the target
	client   shard.Tuple // the client's connection to production
	number   uint64      // on the wire, with the shard's bits: one session may open several streams
	released uint64
	sent     uint64 // bytes that are on their way to the intercept, or there
	taken    uint64 // bytes that the intercept has written to its socket
	closing  bool   // CloseWrite was called
	finished bool   // the intercept was told of it
	queued   bool   // in out.ready, or in a frame's waiting
	listens  bool   // the intercept can read the target's answers
	gone     bool
}

// wireID returns the stream's number on the wire.
func (s *stream[C]) wireID() uint64 { return s.number<<shardBits | uint64(s.out.index) }

// lateAfter is how long after its client a copy may begin without a word about it. The intercept
// remembers for two seconds who has had a tuple last.
const lateAfter = time.Second

// Open begins a copy at spec.Target and returns its stream. One that cannot begin fails in the next
// Step.
func (o *Output[C]) Open(now mono.Time, spec *session.OpenSpec) session.Stream {
	s := &stream[C]{out: o, id: spec.ID, record: spec.Record}
	up := *o.hub.up.Load()
	from, why := o.sources.Choose(spec, o.owner)
	if why == ledger.None && len(up) == 0 {
		why = ledger.LinkDown
	}
	if why != ledger.None {
		s.gone = true
		o.failed = append(o.failed, session.Event{ID: s.id, Kind: session.Failed, Reason: why,
			At: now})
		return s
	}
	s.tuple = shard.TupleOf(from, spec.Target)
	s.client = shard.TupleOf(spec.Client, spec.Production)
	o.used[s.tuple] = s
	to := o.choose(up, spec.Target.Addr())
	s.conn, s.listens = to.conn, to.ReadsAnswers
	o.last++
	s.number = o.last
	o.streams[s.number] = s
	if late := now.Sub(spec.Since); late > lateAfter && to.TakesLate {
		o.append(s.conn, &wire.Op{Kind: wire.OpLate, ID: s.wireID(), Age: late})
	}
	how := wire.OpOpen
	if spec.Listen && s.listens {
		how = wire.OpListen
	}
	o.append(s.conn, &wire.Op{Kind: how, ID: s.wireID(), Client: from, Target: spec.Target})
	return s
}

// owner implements address.Owner.
func (o *Output[C]) owner(tuple shard.Tuple) (connection shard.Tuple, used bool) {
	if s := o.used[tuple]; s != nil {
		return s.client, true
	}
	return shard.Tuple{}, false
}

// choose returns the connections in turn: those to the target's own host, if there are any.
func (o *Output[C]) choose(up []peer[C], target netip.Addr) *peer[C] {
	own := 0
	for i := range up {
		if up[i].Host == target {
			own++
		}
	}
	o.turn++
	if own == 0 {
		return &up[o.turn%len(up)]
	}
	n := o.turn % own
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
		s.out.enqueue(s)
	}
}

// CloseWrite implements session.Stream.
func (s *stream[C]) CloseWrite(mono.Time) {
	s.closing = true
	s.out.enqueue(s)
}

// Abort implements session.Stream. The intercept delivers what it has before the reset.
func (s *stream[C]) Abort(mono.Time) {
	if s.gone {
		return
	}
	s.out.append(s.conn, &wire.Op{Kind: wire.OpAbort, ID: s.wireID()})
	s.out.remove(s)
}

// ReadAnswers implements session.AnswerReader.
func (s *stream[C]) ReadAnswers(kind proto.Kind) {
	switch {
	case s.gone:
	case s.listens:
		s.out.append(s.conn, &wire.Op{Kind: wire.OpRead, ID: s.wireID(), Proto: kind})
	case kind != proto.None: // the intercept is of a version that does not read
		s.out.failed = append(s.out.failed,
			session.Event{ID: s.id, Kind: session.AnswersLost, At: s.out.hub.now()})
	}
}

// Expect implements session.AnswerReader. The request's last bytes are in the same message, or in a
// later one.
func (s *stream[C]) Expect(request uint64, h proto.Hint) {
	if s.listens && !s.gone {
		s.out.append(s.conn, &wire.Op{Kind: wire.OpExpect, ID: s.wireID(), Request: request,
			Hint: h})
	}
}

// remove removes a stream that is over.
func (o *Output[C]) remove(s *stream[C]) {
	s.gone, s.record = true, nil
	delete(o.streams, s.number)
	if o.used[s.tuple] == s {
		delete(o.used, s.tuple)
	}
}

// enqueue has the next Flush send what the stream has to send.
func (o *Output[C]) enqueue(s *stream[C]) {
	if !s.queued && !s.gone {
		s.queued = true
		o.ready = append(o.ready, s)
	}
}

// frame returns the frame that is being filled for a connection.
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

// append adds an operation without data, even where the connection has no room: such operations are
// small, and there are only as many as the shard has sessions.
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

// put hands a frame, and those before it, to their connection.
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

// Flush sends what streams have to send, as far as there are credit and room.
func (o *Output[C]) Flush() {
	for len(o.ready) > 0 {
		list := o.ready
		o.ready, o.spare = o.spare[:0], nil
		for i, s := range list {
			list[i] = nil
			s.queued = false
			if !s.gone {
				o.fill(s)
			}
		}
		o.spare = list[:0]
	}
	for c, f := range o.frames {
		if !f.full {
			o.put(c, f)
		}
	}
}

// fill puts a share of the stream's bytes into its connection's frame.
func (o *Output[C]) fill(s *stream[C]) {
	f := o.frame(s.conn)
	if f.full {
		s.queued = true
		f.waiting = append(f.waiting, s)
		return
	}
	end := min(s.released, s.taken+wire.Window, s.sent+share)
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
		o.enqueue(s) // another share
	case s.closing && !s.finished && s.sent == s.released:
		s.finished = true
		f.b = wire.AppendOp(f.b, &wire.Op{Kind: wire.OpCloseWrite, ID: s.wireID()})
	}
	if len(f.b) > fillTo {
		o.put(s.conn, f)
	}
}

// Events returns the channel of batches, each of which must be given to Step, in order.
func (o *Output[C]) Events() <-chan *Batch[C] { return o.batches }

// Pending reports whether Step has events without a batch.
func (o *Output[C]) Pending() bool { return len(o.failed) > 0 }

// Step takes in a batch, or nil, and returns the events for the sessions, valid until the next
// Step.
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
		o.event(now, b.conn, &b.events[i])
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
				o.events = append(o.events,
					session.Event{ID: s.id, Kind: session.Failed, Reason: ledger.LinkDown,
						N: s.taken, At: now})
				o.remove(s)
			}
		}
	}
	o.spent = b
	return o.events
}

// event takes in an event of connection c, whose ID is the stream's number, and passes it on.
func (o *Output[C]) event(now mono.Time, c C, ev *session.Event) {
	s := o.streams[uint64(ev.ID)]
	if s == nil || s.conn != c {
		return
	}
	ev.ID = s.id
	ev.At = min(ev.At, now)
	switch ev.Kind {
	case session.Taken:
		if ev.N <= s.taken || ev.N > s.sent {
			return // no sound intercept reports that
		}
		s.taken = ev.N
		if s.sent < s.released {
			o.enqueue(s) // there is credit again
		}
	case session.Finished:
		o.remove(s)
	case session.ResetByPeer, session.Failed:
		ev.N = min(ev.N, s.sent)
		o.remove(s)
	}
	o.events = append(o.events, *ev)
}
