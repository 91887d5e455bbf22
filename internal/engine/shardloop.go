package engine

import (
	"runtime"
	"sync/atomic"
	"time"

	"tcpcopy/internal/account/verdict"
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

	due  mono.Time // when the shard has to be stepped
	more bool      // it has to be stepped at once: it has more to do, or the way to deliver
	// bounded: packets are captured live, so a step advances at most limit sessions, as adjust has
	// set it. Otherwise it advances all (limit 0): the source waits for them.
	bounded bool
	limit   int
	behind  atomic.Bool // bounded, and more: the reader wants to know
	stored  []*carrier  // room for step
	// held is where the clock stands until heldUntil, 0 while it runs. See clock.
	held, heldUntil mono.Time

	heldBytes, busySessions atomic.Int64 // of the shard, after each step

	wakeAt mono.Time    // when the loop wakes if nothing happens before
	quiet  mono.Time    // when nothing has happened for a beat
	probed mono.Time    // when to see how late the loop wakes; Never: it is not probed
	stood  atomic.Int64 // nanoseconds that the loop stood still; see woke

	stop   chan struct{}
	ended  chan struct{}
	tally  *verdict.Tally      // the shard's; nil: answers are not compared
	counts ledger.Counters     // after the end
	last   []shard.TargetCount // after the end
}

func newShardLoop(sh *shard.Shard, end way.End, now func() mono.Time) *shardLoop {
	return &shardLoop{
		shard: sh, end: end, now: now, due: mono.Never, probed: mono.Never,
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

// beat is when a loop looks at the clock after the last thing that has happened, if nothing is due
// before. So a process that is stopped, or gets no processor, is noticed while there is traffic.
const beat = 50 * time.Millisecond

// probe is how often the loop of a replay wakes while there is traffic to see how late it is.
const probe = 10 * time.Millisecond

// run owns the shard until stop is closed, and then ends every session.
func (l *shardLoop) run() {
	defer close(l.ended)
	defer l.end.Detach()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	always := make(chan struct{})
	close(always)
	for {
		var packets *carrier
		var atOnce <-chan struct{}
		if l.more {
			atOnce = always
			runtime.Gosched() // the reader, which may share this processor, goes first
		} else {
			timer.Reset(l.wait())
		}
		happened := true
		select {
		case packets = <-l.captured:
		case <-l.end.Wake():
		case f := <-l.calls:
			happened = false
			f(l.shard)
		case <-timer.C:
			happened = false
		case <-atOnce:
		case <-l.stop:
			l.shard.Shutdown(l.now())
			l.end.Flush(l.now())
			l.counts, l.last = l.shard.Snapshot(), l.shard.Targets()
			return
		}
		l.woke(happened)
		l.step(packets)
	}
}

// wait returns how long to wait for the next deadline.
func (l *shardLoop) wait() time.Duration {
	due, now := l.due, l.now()
	if l.held != 0 {
		due = l.heldUntil
	}
	most := time.Hour
	if now < l.quiet {
		most = l.quiet.Sub(now)
		if l.tally != nil && l.probed == mono.Never {
			l.probed = now.Add(l.probeEvery())
		}
	} else {
		l.probed = mono.Never
	}
	if due != mono.Never {
		most = min(most, max(0, due.Sub(now)))
	}
	l.wakeAt = now.Add(most)
	if l.probed != mono.Never {
		most = min(most, max(0, l.probed.Sub(now)))
	}
	return most
}

// probeEvery returns how often a loop with a tally wakes while there is traffic, for no other
// purpose than to see how late it is: that shows how busy the machine is. With live traffic, whose
// runs are longer and whose host has other work, it is a beat: 10 ms cost 2 µs a request at 3,000 a
// second.
func (l *shardLoop) probeEvery() time.Duration {
	if l.bounded {
		return beat
	}
	return probe
}

// woke counts the time since the loop should have woken, if that is long ago; and tells the tally
// how late it is, if that was to be probed. happened: it was not only the time that woke the loop.
func (l *shardLoop) woke(happened bool) {
	now := l.now()
	if late := now.Sub(l.wakeAt); !l.more && late > maxLate {
		l.stood.Add(int64(late))
		if l.tally != nil {
			l.tally.Starved(now)
		}
	}
	if now >= l.probed {
		l.tally.Woke(now, int64(now.Sub(l.probed)))
		l.probed = mono.Never
	}
	if happened {
		l.quiet = now.Add(beat)
	}
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
		if l.tally != nil {
			l.tally.Starved(now)
		}
		return l.held
	}
	return now
}

// step stores everything that was captured, first of all the packets that were received already, if
// any; then it lets the shard do a share of what is due, and sends it. So the ring is emptied
// however much there is to send: a backlog waits in the sessions' records.
func (l *shardLoop) step(first *carrier) {
	now := l.clock()
	stored := l.store(now, first)
	begun := l.now()
	in := shard.Input{Stalled: l.held != 0, Limit: l.limit}
	l.due = l.shard.Step(now, &in)
	l.end.Flush(l.now())
	if l.end.Pending() && !l.shard.More() { // most often this is the rest
		l.due = l.shard.Step(now, &in)
		l.end.Flush(l.now())
	}
	l.more = l.shard.More() || l.end.Pending()
	if l.bounded {
		l.behind.Store(l.more)
		l.adjust(l.now().Sub(begun))
	}
	l.heldBytes.Store(l.shard.Held())
	l.busySessions.Store(int64(l.shard.Busy()))
	for i, c := range stored {
		stored[i] = nil
		c.home <- c
	}
	l.stored = stored
}

// store stores the packets that were received already, if any, and all that wait; no more, because
// storing must not hold up sending. A recording can wait, so of one only a batch is stored at once.
func (l *shardLoop) store(now mono.Time, first *carrier) []*carrier {
	stored := l.stored[:0]
	if first != nil {
		l.shard.Store(now, first.list)
		stored = append(stored, first)
	}
	n := len(l.captured)
	if !l.bounded {
		n = min(n, 1-len(stored))
	}
	for range n {
		c := <-l.captured
		l.shard.Store(now, c.list)
		stored = append(stored, c)
	}
	return stored
}

// The time that a step should take to send, and how many sessions it advances for that: the limit
// is halved after a step that has taken longer, and doubled after one that has left sessions and
// taken less than half of it.
const (
	stepTime = 2 * time.Millisecond
	minLimit = 4
	maxLimit = 1024
)

// adjust adjusts the limit after a step that has taken so long.
func (l *shardLoop) adjust(took time.Duration) {
	switch {
	case took > stepTime:
		l.limit = max(minLimit, l.limit/2)
	case took < stepTime/2 && l.more:
		l.limit = min(maxLimit, 2*l.limit)
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
	if !l.call(func(sh *shard.Shard) { c = sh.Snapshot(); c.Open = uint64(sh.Open()) }) {
		c = l.counts
	}
	return c
}

// baseline returns the shard's account of the copies to old versions; the final one if the loop has
// ended.
func (l *shardLoop) baseline() (c *ledger.Counters) {
	read := func(sh *shard.Shard) { b := sh.Baseline(); c = &b }
	if !l.call(read) {
		read(l.shard)
	}
	return c
}

// compared returns what the shard has compared, with times if they are wanted; the final account if
// the loop has ended. The shard does its own work between two parts.
func (l *shardLoop) compared(times bool) *verdict.Account {
	a, at := new(verdict.Account), new(verdict.Look)
	for done := false; !done; {
		part := func(*shard.Shard) { done = l.tally.Look(a, at, times) }
		if !l.call(part) {
			part(nil)
		}
	}
	return a
}

// targets returns the account of the targets; the final one if the loop has ended.
func (l *shardLoop) targets() (t []shard.TargetCount) {
	if !l.call(func(sh *shard.Shard) { t = sh.Targets() }) {
		t = l.last
	}
	return t
}
