package engine

import (
	"sync/atomic"
	"time"

	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/shard"
	"tcpcopy/internal/way"
)

// shardLoop is the goroutine that owns a shard and its end of the way: it steps the shard whenever
// something has come or is due, and sends what the shard has produced.
type shardLoop struct {
	shard *shard.Shard
	end   way.End
	now   func() mono.Time

	captured chan *carrier
	calls    chan func(*shard.Shard) // to run on this goroutine, between two steps

	due mono.Time // when the shard has to be stepped
	// held is where the clock stands until heldUntil, 0 while it runs. See clock.
	held, heldUntil mono.Time

	heldBytes, busySessions atomic.Int64 // of the shard, after each step

	stop   chan struct{}
	ended  chan struct{}
	counts ledger.Counters     // after the end
	last   []shard.TargetCount // after the end
}

func newShardLoop(sh *shard.Shard, end way.End, now func() mono.Time) *shardLoop {
	return &shardLoop{
		shard: sh, end: end, now: now, due: mono.Never,
		captured: make(chan *carrier, maxCarriers), calls: make(chan func(*shard.Shard)),
		stop: make(chan struct{}), ended: make(chan struct{}),
	}
}

// A deadline that was missed by more than maxLate shows that the process did not run. The silence
// of a target proves nothing then, so what came meanwhile gets catchUp to reach the shard before
// the deadline counts.
const (
	maxLate = 5 * time.Millisecond
	catchUp = 3 * time.Millisecond
)

// run owns the shard until stop is closed, and then ends every session.
func (l *shardLoop) run() {
	defer close(l.ended)
	defer l.end.Detach()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		var packets *carrier
		timer.Reset(l.wait())
		select {
		case packets = <-l.captured:
		case <-l.end.Wake():
		case f := <-l.calls:
			f(l.shard)
		case <-timer.C:
		case <-l.stop:
			l.shard.Shutdown(l.now())
			l.end.Flush(l.now())
			l.counts, l.last = l.shard.Snapshot(), l.shard.Targets()
			return
		}
		if packets == nil { // nothing is decided by the clock before what has come is taken in
			select {
			case packets = <-l.captured:
			default:
			}
		}
		l.step(packets)
	}
}

// wait returns how long to wait for the next deadline.
func (l *shardLoop) wait() time.Duration {
	due := l.due
	if l.held != 0 {
		due = l.heldUntil
	}
	if due == mono.Never {
		return time.Hour
	}
	return min(time.Hour, max(0, due.Sub(l.now())))
}

// clock returns the time to step at. After a deadline that was missed by more than maxLate it
// stands still just before that deadline, for catchUp.
func (l *shardLoop) clock() mono.Time {
	now := l.now()
	switch {
	case l.held != 0 && now < l.heldUntil:
		return l.held
	case l.held != 0:
		l.held = 0
	case l.due != mono.Never && now.Sub(l.due) > maxLate:
		l.held, l.heldUntil = l.due-1, now.Add(catchUp)
		return l.held
	}
	return now
}

// step steps the shard with captured packets, or none, and again for as long as the way has
// something to deliver at once.
func (l *shardLoop) step(packets *carrier) {
	now := l.clock()
	in := shard.Input{Stalled: l.held != 0}
	if packets != nil {
		in.Packets = packets.list
	}
	l.due = l.shard.Step(now, &in)
	l.end.Flush(l.now())
	for l.end.Pending() {
		l.due = l.shard.Step(now, &shard.Input{})
		l.end.Flush(l.now())
	}
	l.heldBytes.Store(l.shard.Held())
	l.busySessions.Store(int64(l.shard.Busy()))
	if packets != nil {
		packets.home <- packets
	}
}

// call runs f on the shard's goroutine and waits for it. It reports whether f was run: not if the
// loop has ended.
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

// snapshot returns the shard's account; the final one if the loop has ended.
func (l *shardLoop) snapshot() (c ledger.Counters) {
	if !l.call(func(sh *shard.Shard) { c = sh.Snapshot() }) {
		c = l.counts
	}
	return c
}

// targets returns the account of the targets; the final one if the loop has ended.
func (l *shardLoop) targets() (t []shard.TargetCount) {
	if !l.call(func(sh *shard.Shard) { t = sh.Targets() }) {
		t = l.last
	}
	return t
}
