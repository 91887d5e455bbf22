package raw

import (
	"sync"

	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/core/seqnum"
	"tcpcopy/internal/core/session"
	"tcpcopy/internal/core/shard"
	"tcpcopy/internal/way"
	"tcpcopy/internal/way/raw/send"
	"tcpcopy/internal/way/raw/stream"
)

// inboxSize is how many messages wait for a shard; then the links' readers wait, and so, in the
// end, do the intercepts.
const inboxSize = 64

// end is a shard's end of the raw way.
type end struct {
	*stream.Table
	way    *Way
	sender *send.Sender
	inbox  chan message
	waker  way.Waker
	once   sync.Once
	ended  chan struct{} // closed by Detach
}

// message is what the links have for a shard: a report; or a word about a tuple; or a call.
type message struct {
	report  *report
	do      func(now mono.Time)
	tuple   shard.Tuple
	seq     seqnum.Value // of tooBig: the segment's
	payload int          // of tooBig: bytes
	what    word
}

// word is what an intercept says of a tuple.
type word uint8

const (
	unowned word = iota + 1 // no other copier owns it
	freed                   // it may be opened
	taken                   // it is another copier's
	tooBig                  // someone says that its path takes smaller packets only
)

func newEnd(w *Way, t *stream.Table, out *send.Sender) *end {
	return &end{
		Table: t, way: w, sender: out,
		inbox: make(chan message, inboxSize), waker: way.NewWaker(), ended: make(chan struct{}),
	}
}

// put puts a message into the inbox, and waits while that is full.
func (e *end) put(m message) {
	select {
	case e.inbox <- m:
		e.waker.Wake()
	case <-e.ended:
	}
}

// offer puts a message into the inbox if there is room.
func (e *end) offer(m message) {
	select {
	case e.inbox <- m:
		e.waker.Wake()
	default:
	}
}

// call has the shard's goroutine call f, and waits until it has, or until the shard has ended.
func (e *end) call(f func(now mono.Time)) {
	done := make(chan struct{})
	e.put(message{do: func(now mono.Time) { f(now); close(done) }})
	select {
	case <-done:
	case <-e.ended:
	}
}

// Wake implements way.End.
func (e *end) Wake() <-chan struct{} { return e.waker }

// Pending implements shard.Streams.
func (e *end) Pending() bool { return len(e.inbox) > 0 }

// Detach implements way.End.
func (e *end) Detach() { e.once.Do(func() { close(e.ended) }) }

// Deliver implements shard.Streams. It takes in at most as many messages as the inbox holds.
func (e *end) Deliver(now mono.Time, stalled bool) []session.Event {
	e.SetTime(now)
	for range inboxSize {
		select {
		case m := <-e.inbox:
			e.receive(now, &m, stalled)
		default:
			return nil
		}
	}
	return nil
}

// receive takes in a message.
func (e *end) receive(now mono.Time, m *message, stalled bool) {
	switch {
	case m.report != nil:
		for i := range m.report.segs {
			e.Segment(now, &m.report.segs[i], stalled)
		}
		e.Found(now, m.report.found)
		e.way.reports.Put(m.report)
	case m.do != nil:
		m.do(now)
	case m.what == unowned:
		e.Unowned(now, m.tuple)
	case m.what == freed:
		e.Free(m.tuple)
	case m.what == taken:
		e.Taken(now, m.tuple)
	case m.what == tooBig:
		e.PacketTooBig(now, m.tuple, m.seq, m.payload)
	}
}

// Flush implements way.End. What cannot be told to an intercept is told or asked again later, or
// is not confirmed.
func (e *end) Flush(now mono.Time) {
	g := e.way.group
	if r := e.Readings(); len(r) > 0 {
		g.ReadAnswers(r)
	}
	if out := e.Output(); len(out) > 0 {
		if _, tooBig := e.sender.Send(out); len(tooBig) > 0 {
			e.narrow(out, tooBig)
		}
	}
	if e.Behind() {
		e.way.hurry(now)
	}
	if t := e.Releases(); len(t) > 0 {
		g.Release(wireTuples(t))
	}
	for _, t := range e.Queries() {
		g.Query(wireTuple(t))
	}
	for _, s := range e.Seeks() {
		g.Seek(wireTuple(s.Tuple), s.Age)
	}
}

// narrow makes connections fit a path that has refused their segments, those with the indexes
// tooBig.
func (e *end) narrow(out []packet.Segment, tooBig []int) {
	for _, i := range tooBig {
		if payload, ok := e.way.pathMTU(out[i].Dst.Addr()); ok {
			e.SetPathMTU(shard.TupleOf(out[i].Src, out[i].Dst), payload)
		}
	}
}
