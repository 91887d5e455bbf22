// Package shard owns the sessions of a share of the clients: the table, the timers, the bounds, and, for
// the raw way, the connections' TCP.
//
// It is pure: a Step takes the packets, reports and events that have come by now, and returns when it
// wants to be called again; what is to be sent is in Output. One goroutine of the engine calls a shard;
// which clients are a shard's own is decided by Of, from the client's port, in the same way for packets
// of the client and for what comes back from the target.
package shard

import (
	"net/netip"
	"slices"
	"time"

	"tcpcopy/internal/core/balance"
	"tcpcopy/internal/core/chunk"
	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/core/mapping"
	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/core/seqnum"
	"tcpcopy/internal/core/session"
	"tcpcopy/internal/way/link/wire"
)

// Config is what a shard works with. What it points to is the shard's own.
type Config struct {
	Index, Count int // which of how many shards
	Services     []*Service
	// Opener makes the streams of the socket way. Nil: the raw way, as Raw says.
	Opener session.Opener
	Raw    Raw
	// Sources: the Opener's streams come from the address and port that OpenSpec.Source says, chosen as
	// the raw way does, by Raw.
	Sources bool

	MaxSessions int       // of this shard
	MaxMemory   int64     // bytes, of this shard
	Start       mono.Time // when the capture began
}

// Raw is what the raw way needs to know.
type Raw struct {
	Clients     *mapping.Pool // addresses that stand in for the clients'; nil: their own
	LocalhostAs netip.Addr    // stands in for a loopback client
	PortShift   int
	Slot        uint8        // names this copier in the low bits of initial sequence numbers
	ISNAtZero   seqnum.Value // the sequence number clock at mono time 0: 4 µs ticks of the wall clock
	TSAtZero    uint32       // the timestamp clock at mono time 0: milliseconds of the wall clock
	SYN         SYN
	// MaxSegment is the payload bound from the path's MTU to a target, before TCP options.
	MaxSegment     func(target netip.Addr) int
	Congestion     uint8 // as in tcp.Config
	ConnectTimeout time.Duration
	UserTimeout    time.Duration
}

// SYN says which options a SYN offers.
type SYN uint8

// What a SYN offers.
const (
	SYNClient  SYN = iota // what the client's did
	SYNFull               // MSS, SACK, timestamps, window scale
	SYNMinimal            // MSS only
)

// Packet is a captured segment that belongs to a mapping.
type Packet struct {
	Seg     packet.Segment
	At      mono.Time
	Service int32 // index of the mapping
	Ifindex int32
	// FromServer says that it is the production server's: only its header counts.
	FromServer bool
}

// Input is what has come since the last Step; the shard keeps nothing of it.
type Input struct {
	Packets  []Packet
	Feedback []packet.Segment // raw: the target's segments, headers only
	Found    []wire.Found     // raw: what the intercepts have found of answers; Data is kept until the next Step
	Events   []session.Event  // of streams that the Opener made
	Freed    []Tuple          // raw: tuples that no copier owns, in answer to Queries
	Free     []Tuple          // raw: tuples that may be opened, in answer to Seeks; see also Taken
	// Late says that all this came later than the Step's now, which stands still for it to be heard first: how
	// long an answer took cannot be told by it.
	Late bool
}

// Of returns which of count shards a client's port belongs to.
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

	now    mono.Time
	flows  map[Tuple]*entry // by client and production address; an entry leads the copies of one client
	byID   map[session.ID]*entry
	nextID session.ID
	wheel  wheel
	dirty  []*entry
	spare  *entry // entries to use again, linked by copy
	spares int    // how many
	marks  shedMarks
	used   map[Tuple]*entry // with Config.Sources: whose the tuples are that targets see
	busy   int              // sessions that are Busy
	behind bool             // one that something has happened to is Behind

	raw rawSide
}

// entry is a session's place in the table.
type entry struct {
	session.Session
	timer timer
	key   Tuple
	copy  *entry // the next copy of the same client connection
	index int    // which copy it is, from 0; of balance.All, for its target

	service *Service
	target  *balance.Target // where the copy is, or was last; nil before it was anywhere
	source  netip.AddrPort  // with Config.Sources: the copy's
	late    *lateness       // nil: it lives when its client does
	nowhere ledger.Reason   // why it has nowhere to go: its session is still to be told
	placed  bool            // it counts among the target's live copies
	fixed   bool            // target is the only one that it may have
	first   bool            // of the copies of its client's connection
	begun   bool            // a copy was asked for
	arrived bool            // the target has accepted one

	dirty   bool
	busy    bool      // it is in the number of busy sessions
	current bool      // flows leads to it
	goneAt  mono.Time // when it was first found Gone
	counted bool      // it is in the number of live sessions
}

// sessionCost is what a live session is taken to cost beside its payload, in bytes.
const sessionCost = 2048

// linger is how long a session that has ended keeps its place, so that the last packets of its client
// are known to be the old connection's.
const linger = time.Second

// New returns a shard without sessions.
func New(cfg Config) *Shard {
	cfg.Count = max(cfg.Count, 1)
	sh := &Shard{cfg: cfg, flows: make(map[Tuple]*entry), byID: make(map[session.ID]*entry), used: make(map[Tuple]*entry)}
	way := cfg.Opener
	if way == nil {
		sh.raw.init(sh)
		way = &sh.raw
	}
	sh.env = session.Env{Pool: &sh.pool, Count: &sh.count, Opener: &placer{sh, way}}
	sh.wheel.now = int64(cfg.Start) / int64(tick)
	for _, s := range cfg.Services {
		s.limit(cfg.Start)
	}
	return sh
}

// Step takes what has come, does what is due at now, and returns when to be called again if nothing
// comes before. now never falls.
func (sh *Shard) Step(now mono.Time, in *Input) mono.Time {
	sh.now = max(sh.now, now)
	sh.raw.out = sh.raw.out[:0]
	for i := range in.Packets {
		sh.packet(&in.Packets[i])
	}
	for i := range in.Feedback {
		sh.raw.feedback(sh.now, &in.Feedback[i], in.Late)
	}
	sh.raw.foundAll(sh.now, in.Found)
	for i := range in.Events {
		if e := sh.byID[in.Events[i].ID]; e != nil {
			sh.handle(sh.now, e, &in.Events[i])
			sh.touch(e)
		}
	}
	for _, t := range in.Freed {
		sh.raw.freed(sh.now, t)
	}
	for _, t := range in.Free {
		sh.raw.free(t)
	}
	sh.wheel.fire(sh.now, sh.touch)
	sh.settle()
	return sh.wheel.next()
}

// Output is what the raw way wants sent: valid, with the payload it refers to, until the next Step.
func (sh *Shard) Output() []packet.Segment { return sh.raw.out }

// Queries returns the tuples of which the raw way must know whether another copier owns them, and
// forgets them.
func (sh *Shard) Queries() []Tuple {
	q := sh.raw.queries
	sh.raw.queries = nil
	return q
}

// Seek asks whether a SYN may be sent on a tuple.
type Seek struct {
	Tuple Tuple
	Age   time.Duration // since the first one was due
}

// Seeks returns what the raw way must know before it sends SYNs, and forgets it. The answer is Input.Free, or Taken.
func (sh *Shard) Seeks() []Seek {
	s := sh.raw.seeks
	sh.raw.seeks = nil
	return s
}

const (
	releaseAtOnce = 128
	releaseAfter  = time.Second
)

// Behind says whether a copy to which something has happened since the last call was behind its client.
func (sh *Shard) Behind() bool {
	b := sh.behind
	sh.behind = false
	return b
}

// Releases returns the tuples that the intercepts can forget, and forgets them: when they are many, or have
// waited for a while.
func (sh *Shard) Releases() []Tuple {
	r := &sh.raw
	if len(r.released) == 0 || len(r.released) < releaseAtOnce && sh.now.Sub(r.releasedAt) < releaseAfter {
		return nil
	}
	list := slices.DeleteFunc(r.released, func(t Tuple) bool { return r.streams[t] != nil }) // in use again
	r.released = nil
	return list
}

// settle advances every session that something happened to, and lets the raw way send.
func (sh *Shard) settle() {
	for i := 0; i < len(sh.dirty); i++ { // a session's end may touch another one
		e := sh.dirty[i]
		e.dirty = false
		sh.advance(e)
		sh.noteBusy(e)
		sh.behind = sh.behind || e.Behind(sh.now)
	}
	clear(sh.dirty)
	sh.dirty = sh.dirty[:0]
}

func (sh *Shard) advance(e *entry) {
	wake := sh.relive(sh.now, e)
	if e.State() != session.Gone {
		wake = min(wake, e.Advance(sh.now))
	}
	if why := e.nowhere; why != ledger.None {
		e.nowhere = ledger.None
		e.Handle(sh.now, &session.Event{ID: e.ID(), Kind: session.Failed, Reason: why, At: sh.now})
		sh.touch(e)
	}
	wake = min(wake, sh.raw.poll(sh.now, e))
	if e.Stream() == nil {
		sh.leave(e)
	}
	if e.State() == session.Gone {
		sh.bury(e)
		return
	}
	sh.wheel.set(e, wake)
}

// touch has e advanced at the end of the Step.
func (sh *Shard) touch(e *entry) {
	if !e.dirty {
		e.dirty = true
		sh.dirty = append(sh.dirty, e)
	}
}

// bury keeps the place of a session that has ended for a while, and then forgets it.
func (sh *Shard) bury(e *entry) {
	if e.counted {
		e.counted = false
		sh.count.Live--
		delete(sh.byID, e.ID())
		e.Close()
		if e.late != nil {
			e.late.free(sh)
		}
		e.goneAt = sh.now
	}
	if e.current && sh.now < e.goneAt.Add(linger) {
		sh.wheel.set(e, e.goneAt.Add(linger))
		return
	}
	sh.forget(e)
}

// forget gives an ended session's place away.
func (sh *Shard) forget(e *entry) {
	if e.current {
		sh.unlink(e)
	}
	sh.wheel.remove(e)
	if e.dirty {
		return // settle comes to it again
	}
	if sh.spares < maxSpare {
		e.copy = sh.spare
		sh.spare = e
		sh.spares++
	}
}

// unlink takes e out of the copies of its client's connection.
func (sh *Shard) unlink(e *entry) {
	e.current = false
	head := sh.flows[e.key]
	if head == e {
		if e.copy == nil {
			delete(sh.flows, e.key)
		} else {
			sh.flows[e.key] = e.copy
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

// Drain says that nothing more is captured: sessions close as soon as what their clients had sent has
// arrived and was answered.
func (sh *Shard) Drain(now mono.Time) {
	for _, e := range sh.byID {
		sh.hurryUp(now, e)
		e.Drain()
		sh.touch(e)
	}
}

// Snapshot returns a copy of the account.
func (sh *Shard) Snapshot() ledger.Counters { return sh.count }

// Live is how many sessions the table holds.
func (sh *Shard) Live() int { return int(sh.count.Live) }

// Memory is what the sessions hold, in bytes, as the bound counts it.
func (sh *Shard) Memory() int64 { return sh.pool.InUse() + int64(sh.count.Live)*sessionCost }

// Shutdown ends every session: those that had nothing left to do with success.
func (sh *Shard) Shutdown(now mono.Time) {
	sh.now = max(sh.now, now)
	sh.raw.out = sh.raw.out[:0]
	for _, e := range sh.byID {
		sh.hurryUp(sh.now, e)
		e.Shutdown(sh.now)
		sh.touch(e)
	}
	sh.settle()
}
