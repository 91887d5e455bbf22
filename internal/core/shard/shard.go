// Package shard owns the sessions of a share of the clients: the table of sessions, their timers,
// and the bounds on them.
//
// It is pure. A Step takes the packets that were captured by now and what has come from the
// targets, does what is due, and returns when it has to be called again. One goroutine of the
// engine calls a shard. Of decides by the client's port which shard owns a client, both for the
// client's packets and for the targets' answers. How copies reach the targets is the business of
// the shard's Streams.
package shard

import (
	"time"

	"tcpcopy/internal/core/balance"
	"tcpcopy/internal/core/chunk"
	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/core/session"
)

// Config is a shard's configuration. The shard owns what it points to.
type Config struct {
	Services []*Service
	Streams  Streams

	Compare session.Comparer // nil: answers are not compared

	MaxSessions int       // of this shard
	MaxHalfOpen int       // half-open connections, of this shard; 0: 131,072
	MaxMemory   int64     // bytes, of this shard
	Start       mono.Time // when the capture began
	// BothSides: production's segments are captured, too. Otherwise that is found out.
	BothSides bool
}

// Packet is a captured segment that belongs to a mapping.
type Packet struct {
	Seg     packet.Segment
	At      mono.Time // when it was captured
	Service int32     // index of the mapping
	Ifindex int32
	// FromServer marks a segment of the production server.
	FromServer bool
}

// Input is what was captured since the last Step. The shard keeps no reference to it.
type Input struct {
	Packets []Packet
	// Stalled reports that Step's now is earlier than the present: the process did not run for a
	// while, and now stands still until what came meanwhile is taken in. Times that are measured
	// from it say nothing about the target.
	Stalled bool
	// Limit bounds how many sessions the Step advances, and how many copies begin, so that it ends
	// soon; 0: all. More reports whether some are left. All packets are taken in whatever the
	// limit.
	Limit int
}

// Of returns which of count shards owns the clients with a port.
func Of(port uint16, count int) int {
	if count <= 1 {
		return 0
	}
	return int((uint32(port) * 0x9e3779b1 >> 16) % uint32(count))
}

// Shard owns sessions. New makes one.
type Shard struct {
	cfg   Config
	env   session.Env
	pool  chunk.Pool
	count ledger.Counters

	baselineEnv   session.Env // of the copies to old versions
	baselineCount ledger.Counters

	now    mono.Time
	half   halfOpens
	found  foundUnderWay
	lanes  []*lane
	flows  map[Tuple]*entry // by client and production server: the first copy of the connection
	byID   map[session.ID]*entry
	nextID session.ID
	wheel  wheel
	dirty  []*entry // to be advanced at the end of the Step
	spare  *entry   // entries for reuse, linked by copy
	spares int      // how many
	marks  shedMarks
	places places // of the live sessions
	open   int    // client connections
	busy   int    // sessions that are Busy
	queued int    // packets in the queues of staggered copies

	caughtUp  mono.Time // when nothing was left to do but to begin copies, for the last time
	copiesDue mono.Time // when copies may begin next
}

// entry is a session's place in the table. What each Step reads of it lies together.
type entry struct {
	session.Session
	shard *Shard
	timer timer

	dirty   bool
	busy    bool // it counts among the busy sessions
	current bool // flows leads to it
	leads   bool // it is the first that flows leads to
	open    bool // its connection counts among the open ones
	counted bool // it counts among the live sessions
	placed  bool // it counts among the target's live copies
	fixed   bool // it may have no other target
	first   bool // of the copies of its client's connection
	old     bool // it goes to the old version
	rival   bool // a half-open connection may have the same tuple
	weak    bool // it was found under way, and production has said nothing of it
	begun   bool // a copy was asked for
	// accepted: the target has accepted a copy of it.
	accepted bool

	copy     *entry      // the next copy of the same client connection
	delayed  *delayQueue // nil: the copy is not staggered
	poller   Poller      // the session's stream, if it acts by itself
	presence presence

	key     Tuple
	place   int32 // in places, if counted
	index   int   // which copy it is, from 0; with balance.All, at its target
	service *Service
	target  *balance.Target // where the copy is, or was last; nil before its first
	goneAt  mono.Time       // when it was first found Gone
}

// group returns the targets of which one gets the copy.
func (e *entry) group() *balance.Group {
	if e.old {
		return e.service.Baseline
	}
	return e.service.Targets
}

// count returns the account that the session is in.
func (e *entry) count() *ledger.Counters {
	if e.old {
		return &e.shard.baselineCount
	}
	return &e.shard.count
}

// sessionCost is the memory that the bound counts for a live session beside its payload, in bytes.
const sessionCost = 2048

// linger is how long a session that has ended keeps its place, so that the client's last packets
// begin no new one.
const linger = time.Second

// New returns a shard without sessions.
func New(cfg Config) *Shard {
	sh := &Shard{cfg: cfg, flows: make(map[Tuple]*entry), byID: make(map[session.ID]*entry)}
	sh.env = session.Env{Pool: &sh.pool, Count: &sh.count, Opener: placer{sh},
		Compare: cfg.Compare}
	sh.baselineEnv = session.Env{Pool: &sh.pool, Count: &sh.baselineCount, Opener: placer{sh}}
	sh.half.init(&cfg)
	sh.found.init(&cfg)
	sh.wheel.now = int64(cfg.Start) / int64(tick)
	for _, s := range cfg.Services {
		s.limit(cfg.Start)
	}
	return sh
}

// Step takes in what was captured and what has come from the targets, does what is due at now, and
// returns when it has to be called again if nothing comes before. Copies begin last. now never
// falls.
func (sh *Shard) Step(now mono.Time, in *Input) mono.Time {
	sh.Store(now, in.Packets)
	events := sh.cfg.Streams.Deliver(sh.now, in.Stalled)
	var e *entry
	for i := range events {
		if id := events[i].ID; e == nil || e.ID() != id { // a stream's events come in a row
			e = sh.byID[id]
		}
		if e != nil {
			sh.handle(sh.now, e, &events[i])
			e.Touch()
		}
	}
	sh.wheel.fire(sh.now, (*entry).Touch)
	sh.relieve()
	sh.settle(in.Limit)
	sh.copiesDue = sh.openCopies(in)
	if in.Limit == 0 {
		sh.settle(0) // copies that could not begin
	}
	return min(sh.wheel.next(), sh.expireHalfOpen(), sh.expireFound(), sh.copiesDue)
}

// Store takes packets into the sessions' records, as Step does first, and sends nothing. What is to
// be done about them is left to the next Step.
func (sh *Shard) Store(now mono.Time, packets []Packet) {
	sh.now = max(sh.now, now)
	for i := range packets {
		sh.packet(&packets[i])
		sh.relieve()
	}
}

// More reports whether the last Step has left something for the next one, because of Input.Limit.
func (sh *Shard) More() bool { return len(sh.dirty) > 0 || sh.copiesDue.Reached(sh.now) }

// settle advances the sessions that something has happened to, in that order: at most limit of
// them, or all if limit is 0.
func (sh *Shard) settle(limit int) {
	i := 0
	for ; i < len(sh.dirty) && (limit == 0 || i < limit); i++ { // an end may touch another session
		e := sh.dirty[i]
		sh.dirty[i], e.dirty = nil, false
		sh.advance(e)
		sh.noteBusy(e)
		sh.noteOpen(e)
	}
	if i == len(sh.dirty) {
		sh.dirty = sh.dirty[:0]
		return
	}
	left := copy(sh.dirty, sh.dirty[i:])
	clear(sh.dirty[left:])
	sh.dirty = sh.dirty[:left]
}

// advance lets a session and its stream do what is due.
func (sh *Shard) advance(e *entry) {
	wake := sh.deliverDelayed(sh.now, e)
	if e.State() != session.Gone {
		wake = min(wake, e.Advance(sh.now))
	}
	if e.poller != nil && e.Stream() != nil {
		wake = min(wake, e.poller.Poll(sh.now))
	}
	if e.Stream() == nil {
		e.poller = nil
		e.unplace()
		e.presence.leave()
	}
	if e.State() == session.Gone {
		sh.bury(e)
		return
	}
	sh.wheel.set(e, wake)
}

// bury keeps the place of a session that has ended for linger, and then frees it.
func (sh *Shard) bury(e *entry) {
	if e.counted {
		e.disconnect(sh.now)
		e.counted = false
		if e.weak {
			e.weak = false
			sh.found.weak--
		}
		e.count().Live--
		delete(sh.byID, e.ID())
		sh.places.remove(e)
		e.Close()
		if e.delayed != nil {
			e.delayed.free(sh)
			e.delayed = nil // the entry stays for linger, and nothing may be queued there
		}
		e.goneAt = sh.now
	}
	if e.current && sh.now < e.goneAt.Add(linger) {
		sh.wheel.set(e, e.goneAt.Add(linger))
		return
	}
	sh.free(e)
}

// free frees the place of a session that has ended.
func (sh *Shard) free(e *entry) {
	if e.current {
		sh.unlink(e)
	}
	sh.wheel.remove(e)
	if e.dirty {
		return // settle advances it once more, and bury comes here again
	}
	if sh.spares < maxSpare {
		e.copy = sh.spare
		sh.spare = e
		sh.spares++
	}
}

// maxSpare is how many entries are kept for reuse.
const maxSpare = 256

// unlink takes e out of the copies of its client's connection.
func (sh *Shard) unlink(e *entry) {
	e.current = false
	head := sh.flows[e.key]
	if head == e {
		e.leads = false
		sh.noteOpen(e)
		if e.copy == nil {
			delete(sh.flows, e.key)
		} else {
			sh.flows[e.key] = e.copy
			e.copy.leads = true
			sh.noteOpen(e.copy)
		}
		e.copy = nil
		return
	}
	for p := head; p != nil; p = p.copy {
		if p.copy == e {
			p.copy = e.copy
			e.copy = nil
			return
		}
	}
}

// Drain ends the capture: each session closes as soon as what its client had sent has arrived and
// was answered.
func (sh *Shard) Drain(now mono.Time) {
	sh.endHalfOpen()
	sh.endFound()
	for _, e := range sh.byID {
		sh.flushDelayed(now, e)
		e.Drain()
		e.noteEnd(now)
		e.Touch()
	}
}

// Snapshot returns a copy of the account.
func (sh *Shard) Snapshot() ledger.Counters {
	c := sh.count
	sh.cfg.Streams.Count(&c)
	return c
}

// Baseline returns a copy of the account of the copies to old versions.
func (sh *Shard) Baseline() ledger.Counters { return sh.baselineCount }

// Live returns how many sessions the table holds.
func (sh *Shard) Live() int { return int(sh.count.Live + sh.baselineCount.Live) }

// Memory returns what the sessions, the queues of staggered copies, and the connections that are
// half-open or were found under way hold, in bytes, as the bound counts it.
func (sh *Shard) Memory() int64 {
	return sh.pool.InUse() + int64(sh.Live())*sessionCost + int64(sh.queued)*delayedCost +
		sh.half.memory() + sh.found.memory()
}

// Shutdown ends every session; one that has nothing left to do counts as delivered.
func (sh *Shard) Shutdown(now mono.Time) {
	sh.now = max(sh.now, now)
	sh.endHalfOpen()
	sh.endFound()
	for _, e := range sh.byID {
		sh.flushDelayed(sh.now, e)
		e.Shutdown(sh.now)
		e.Touch()
	}
	sh.settle(0)
}
