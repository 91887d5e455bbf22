package engine

import (
	"sync/atomic"
	"time"

	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/core/session"
	"tcpcopy/internal/core/shard"
	"tcpcopy/internal/way/link/wire"
	"tcpcopy/internal/way/socket"
)

// sender puts the raw way's segments on the wire.
type sender interface {
	Send(segs []packet.Segment) (sent int, tooBig []int)
}

// sockets is what a shard's loop needs of the socket way.
type sockets interface {
	Events() <-chan *socket.Batch
	Step(now mono.Time, b *socket.Batch) []session.Event
	Pending() bool
}

// shardLoop is the goroutine that owns a shard: it steps the shard whenever something has come or
// is due, and sends what the shard wants sent.
type shardLoop struct {
	shard *shard.Shard
	now   func() mono.Time

	captured chan *carrier
	reported chan *report            // raw: what the intercepts saw
	freed    chan shard.Tuple        // raw: tuples that nobody owns
	free     chan shard.Tuple        // raw: tuples that may be opened
	calls    chan func(*shard.Shard) // run on this goroutine, between two steps
	events   <-chan *socket.Batch    // of sockets; nil in the other ways
	told     <-chan *tunnelBatch     // of the tunnel; nil in the other ways

	sockets sockets // of the socket way
	tunnel  tunnelled
	sender  sender // of the raw way
	raw     *rawWay

	due             mono.Time // when the shard wants to be stepped
	held, heldUntil mono.Time // see clock; held is 0 while it runs

	heldBytes, busySessions atomic.Int64 // as the shard says after each step

	stop   chan struct{}
	ended  chan struct{}
	counts ledger.Counters     // after the end
	last   []shard.TargetCount // after the end
}

// report is a share of a batch of the target's segments on its way to a shard, which hands it back.
type report struct {
	segs  []packet.Segment
	found []wire.Found // of answers whose segments came before or with it
	// last reports whether found has a confirmation. What follows it in reports must be in a later
	// step: whether a segment was captured before or after the intercept knew of its connection
	// decides what is read.
	last bool
	free func(*report)
}

// reset empties a report, and keeps its room. free takes it back.
func (r *report) reset(free func(*report)) {
	*r = report{segs: r.segs[:0], found: r.found[:0], free: free}
}

func newShardLoop(sh *shard.Shard, now func() mono.Time) *shardLoop {
	return &shardLoop{
		shard: sh, now: now, due: mono.Never,
		captured: make(chan *carrier, maxCarriers), reported: make(chan *report, 64), freed: make(chan shard.Tuple, 64),
		free:  make(chan shard.Tuple, 64),
		calls: make(chan func(*shard.Shard)), stop: make(chan struct{}), ended: make(chan struct{}),
	}
}

// late is how far past its deadline a timer may be before what has come meanwhile gets a moment,
// catchUp, to reach us: after a time without CPU, silence proves nothing.
const (
	late    = 5 * time.Millisecond
	catchUp = 3 * time.Millisecond
)

// run owns the shard until stop is closed, and then ends every session.
func (l *shardLoop) run() {
	defer close(l.ended)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		var in inputs
		timer.Reset(l.until())
		select {
		case p := <-l.captured:
			in.packets(p)
		case b := <-l.events:
			in.Events = l.sockets.Step(l.now(), b)
		case b := <-l.told:
			in.Events = l.tunnel.Step(l.now(), b)
		case r := <-l.reported:
			in.report(r)
		case t := <-l.freed:
			in.Freed = append(in.Freed, t)
		case t := <-l.free:
			in.Free = append(in.Free, t)
		case f := <-l.calls:
			f(l.shard)
		case <-timer.C:
		case <-l.stop:
			l.shard.Shutdown(l.now())
			l.flush()
			l.counts, l.last = l.shard.Snapshot(), l.shard.Targets()
			return
		}
		l.more(&in)
		l.step(&in.Input)
		in.release()
	}
}

// until is how long to wait for the next deadline.
func (l *shardLoop) until() time.Duration {
	due := l.due
	if l.held != 0 {
		due = l.heldUntil
	}
	if due == mono.Never {
		return time.Hour
	}
	return min(time.Hour, max(0, due.Sub(l.now())))
}

// clock is the time to step at. It stands still just before a deadline that was missed by much,
// until what has come meanwhile had its moment.
func (l *shardLoop) clock() mono.Time {
	now := l.now()
	switch {
	case l.held != 0 && now < l.heldUntil:
		return l.held
	case l.held != 0:
		l.held = 0
	case l.due != mono.Never && now.Sub(l.due) > late:
		l.held, l.heldUntil = l.due-1, now.Add(catchUp)
		return l.held
	}
	return now
}

// inputs is what one step takes, and who waits for the step to be over.
type inputs struct {
	shard.Input
	dealt *carrier
	heard []*report
	full  bool // no report may be added
}

func (in *inputs) packets(c *carrier) { in.Packets, in.dealt = c.list, c }

func (in *inputs) report(r *report) {
	in.Found = append(in.Found, r.found...)
	in.full = r.last
	if in.heard = append(in.heard, r); len(in.heard) == 1 {
		in.Feedback = r.segs
		return
	}
	in.Feedback = append(in.Feedback, r.segs...)
}

func (in *inputs) release() {
	if in.dealt != nil {
		in.dealt.home <- in.dealt
	}
	if len(in.heard) > 0 {
		in.heard[0].segs = in.Feedback // with the room that it has grown to
	}
	for _, r := range in.heard {
		r.free(r)
	}
}

// more takes what else has come, so that nothing is decided by the clock before it is known.
func (l *shardLoop) more(in *inputs) {
	if in.dealt == nil {
		select {
		case p := <-l.captured:
			in.packets(p)
		default:
		}
	}
	if in.Events == nil {
		select {
		case b := <-l.events:
			in.Events = l.sockets.Step(l.now(), b)
		case b := <-l.told:
			in.Events = l.tunnel.Step(l.now(), b)
		default:
		}
	}
	for range cap(l.reported) {
		if in.full {
			return
		}
		select {
		case r := <-l.reported:
			in.report(r)
		default:
			return
		}
	}
}

// step steps the shard, and again as long as the kernel has taken bytes meanwhile: their room can
// be given back.
func (l *shardLoop) step(in *shard.Input) {
	now := l.clock()
	in.Late = l.held != 0
	l.due = l.shard.Step(now, in)
	l.flush()
	for l.sockets != nil && l.sockets.Pending() {
		l.due = l.shard.Step(now, &shard.Input{Events: l.sockets.Step(now, nil)})
	}
	for l.tunnel != nil && l.tunnel.Pending() {
		l.due = l.shard.Step(now, &shard.Input{Events: l.tunnel.Step(now, nil)})
		l.tunnel.Flush()
	}
	l.heldBytes.Store(l.shard.Held())
	l.busySessions.Store(int64(l.shard.Busy()))
}

// flush sends what the last step has made.
func (l *shardLoop) flush() {
	if l.tunnel != nil {
		l.tunnel.Flush()
	}
	if l.sender == nil {
		return
	}
	if r := l.shard.Readings(); len(r) > 0 {
		l.raw.group.ReadAnswers(r) // what cannot be told is not confirmed either
	}
	if out := l.shard.Output(); len(out) > 0 {
		if _, tooBig := l.sender.Send(out); len(tooBig) > 0 {
			l.narrow(out, tooBig)
		}
	}
	if l.shard.Behind() {
		l.raw.hurry(l.now())
	}
	if t := l.shard.Releases(); len(t) > 0 {
		l.raw.group.Release(wireTuples(t))
	}
	if q := l.shard.Queries(); len(q) > 0 {
		l.raw.ask(q)
	}
	for _, s := range l.shard.Seeks() {
		l.raw.group.Seek(wireTuple(s.Tuple), s.Age) // what cannot be asked is asked again
	}
}

// narrow makes connections fit a path that has just refused their segments.
func (l *shardLoop) narrow(out []packet.Segment, tooBig []int) {
	for _, i := range tooBig {
		if payload, ok := l.raw.pathMTU(out[i].Dst.Addr()); ok {
			l.shard.SetPathMTU(shard.TupleOf(out[i].Src, out[i].Dst), payload)
		}
	}
}

// call runs f on the shard's goroutine and waits for it; false if the loop has ended.
func (l *shardLoop) call(f func(*shard.Shard)) bool {
	done := make(chan struct{})
	select {
	case l.calls <- func(sh *shard.Shard) { f(sh); close(done) }:
		<-done
		return true
	case <-l.ended:
		return false
	}
}

// snapshot returns the shard's account, the last one if the loop has ended.
func (l *shardLoop) snapshot() (c ledger.Counters) {
	if !l.call(func(sh *shard.Shard) { c = sh.Snapshot() }) {
		c = l.counts
	}
	return c
}

// targets returns what the shard has counted of the targets, the last of it if the loop has ended.
func (l *shardLoop) targets() (t []shard.TargetCount) {
	if !l.call(func(sh *shard.Shard) { t = sh.Targets() }) {
		t = l.last
	}
	return t
}
