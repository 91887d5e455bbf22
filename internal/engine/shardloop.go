package engine

import (
	"time"

	"tcpcopy/internal/ledger"
	"tcpcopy/internal/mono"
	"tcpcopy/internal/output/socket"
	"tcpcopy/internal/packet"
	"tcpcopy/internal/session"
	"tcpcopy/internal/shard"
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

// shardLoop is the goroutine that owns a shard: it steps the shard whenever something has come or is
// due, and sends what the shard wants sent.
type shardLoop struct {
	shard *shard.Shard
	now   func() mono.Time

	captured chan *packets
	reported chan *report            // raw: what the intercepts saw
	freed    chan shard.Tuple        // raw: tuples that nobody owns
	calls    chan func(*shard.Shard) // run on this goroutine, between two steps
	events   <-chan *socket.Batch    // of sockets; nil in the raw way

	sockets sockets // nil in the raw way
	sender  sender  // nil in the socket way
	raw     *rawWay
	stop    chan struct{}
	ended   chan struct{}
	counts  ledger.Counters // after the end
}

// report is a share of a batch of the target's segments on its way to a shard, which hands it back.
type report struct {
	segs []packet.Segment
	free func(*report)
}

func newShardLoop(sh *shard.Shard, now func() mono.Time) *shardLoop {
	return &shardLoop{
		shard: sh, now: now,
		captured: make(chan *packets), reported: make(chan *report, 64), freed: make(chan shard.Tuple, 64),
		calls: make(chan func(*shard.Shard)), stop: make(chan struct{}), ended: make(chan struct{}),
	}
}

// run owns the shard until stop is closed, and then ends every session.
func (l *shardLoop) run() {
	defer close(l.ended)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	due := mono.Never
	for {
		var in shard.Input
		var from *packets
		var heard *report
		l.arm(timer, due)
		select {
		case from = <-l.captured:
			in.Packets = from.list
		case b := <-l.events:
			in.Events = l.sockets.Step(l.now(), b)
		case heard = <-l.reported:
			in.Feedback = heard.segs
		case t := <-l.freed:
			in.Freed = append(in.Freed, t)
		case f := <-l.calls:
			f(l.shard)
		case <-timer.C:
		case <-l.stop:
			l.shard.Shutdown(l.now())
			l.flush()
			l.counts = l.shard.Snapshot()
			return
		}
		due = l.step(&in)
		if from != nil {
			from.done <- struct{}{}
		}
		if heard != nil {
			heard.free(heard)
		}
	}
}

// step steps the shard, and again as long as the kernel has taken bytes meanwhile: their room can be
// given back.
func (l *shardLoop) step(in *shard.Input) mono.Time {
	due := l.shard.Step(l.now(), in)
	l.flush()
	for l.sockets != nil && l.sockets.Pending() {
		now := l.now()
		due = l.shard.Step(now, &shard.Input{Events: l.sockets.Step(now, nil)})
	}
	return due
}

// flush sends what the last step has made.
func (l *shardLoop) flush() {
	if l.sender == nil {
		return
	}
	if out := l.shard.Output(); len(out) > 0 {
		if _, tooBig := l.sender.Send(out); len(tooBig) > 0 {
			l.narrow(out, tooBig)
		}
	}
	if q := l.shard.Queries(); len(q) > 0 {
		l.raw.ask(q)
	}
	if c := l.shard.Claims(); len(c) > 0 {
		l.raw.claim(c)
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

func (l *shardLoop) arm(timer *time.Timer, due mono.Time) {
	wait := time.Hour
	if due != mono.Never {
		wait = min(wait, max(0, due.Sub(l.now())))
	}
	timer.Reset(wait)
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
