// Package route is the intercept's table of connections. It decides which copier owns the
// connection of a captured packet of the target.
//
// A copier's slot, 1 to 255, is in the low 8 bits of its initial sequence numbers. So the SYN-ACK
// that acknowledges one names its owner, and the table learns the connection from it. The owner
// of later packets is in the table. A copier whose connections the table does not know, because
// the intercept was restarted, claims them. A packet of a connection without an owner waits a
// moment for a claim, and is then dropped: no packet is reported to more than one copier.
//
// If several copiers open the same connection, the target accepts the one whose SYN comes first,
// and its SYN-ACK names it. The other SYNs have no answer. Before a copier repeats one it asks
// whether it may (Seek), and learns that it came second. It also asks before the first SYN of a
// connection that was under way. A copier that opens the connection when the target has finished
// the first one's is recognised by its SYN-ACK (Behind).
//
// A Table is not safe for concurrent use. Everything that it keeps is bounded. An entry takes 64
// bytes, and 16 to 32 more in the index.
package route

import (
	"net/netip"
	"time"

	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/core/seqnum"
)

// Config bounds a table. Zero values stand for the defaults.
type Config struct {
	MaxEntries int           // connections; default 1,048,576
	MaxHeld    int           // segments that wait for a claim; default 4,096
	Hold       time.Duration // how long they wait; default 200 ms
	Idle       time.Duration // how long a silent connection is kept; default 1 h
	// FINLinger is the same after the target's FIN, when the client may go on, and for
	// connections that are sought; default 2 min.
	FINLinger time.Duration
	RSTLinger time.Duration // the same after a reset or a release; default 5 s
	// Behind is how long after its last use a connection is not given to another copier; default
	// 2 s.
	Behind time.Duration
	Grace  time.Duration // how long a copier that is gone keeps its slot; default 60 s
	// Settle is how long after the start a connection that the table does not know may have an
	// owner, which has yet to claim it; default 10 s. Reclaim is the same for connections that
	// are sought, whose owners have connected again and claim sooner; default 3 s.
	Settle, Reclaim time.Duration
	Seed            uint64 // random, so that nobody can choose addresses whose hashes collide
}

func (c *Config) defaults() {
	set := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	if c.MaxEntries <= 0 {
		c.MaxEntries = 1 << 20
	}
	if c.MaxHeld <= 0 {
		c.MaxHeld = 4096
	}
	set(&c.Hold, 200*time.Millisecond)
	set(&c.Idle, time.Hour)
	set(&c.FINLinger, 2*time.Minute)
	set(&c.RSTLinger, 5*time.Second)
	set(&c.Behind, 2*time.Second)
	set(&c.Grace, time.Minute)
	set(&c.Settle, 10*time.Second)
	set(&c.Reclaim, 3*time.Second)
}

// Stats are totals since the table was made, and what it holds now.
type Stats struct {
	Routed        uint64 // segments that went to an owner, held ones included
	Learned       uint64 // connections learned from a SYN-ACK
	Claimed       uint64 // connections learned from a claim
	ClaimsRefused uint64 // claims of what another owns, or of targets that the copier did not name
	Sought        uint64 // seeks that were permitted
	SeeksRefused  uint64 // seeks that were refused
	Late          uint64 // SYN-ACKs to copiers that were behind another one
	TakenOver     uint64 // entries that a SYN-ACK gave to another copier: the tuple was used again
	Unowned       uint64 // handshake segments that name no copier: of real clients of the target
	Held          uint64 // segments that had to wait
	HeldReleased  uint64 // of these, claimed in time
	HeldExpired   uint64 // of these, dropped after the wait
	HeldOverflow  uint64 // of these, dropped before: too many waited
	Evicted       uint64 // entries that were removed because the table was full
	Aged          uint64 // entries that were removed because they were not used

	Entries int // connections in the table
	Waiting int // segments held now
}

// Table maps connections to copiers. Make one with New.
type Table struct {
	cfg     Config
	started mono.Time
	entries slab
	copiers [256]copier // by owner; 0 is nobody
	slots   [256]uint8  // owner by slot; 0: free
	held    holdQueue
	stats   Stats
}

// New returns an empty table that starts at now.
func New(now mono.Time, cfg Config) *Table {
	cfg.defaults()
	t := &Table{cfg: cfg, started: now}
	t.entries.init(cfg.Seed)
	t.held.init(cfg.MaxHeld)
	return t
}

// Stats returns the totals.
func (t *Table) Stats() Stats {
	s := t.stats
	s.Entries, s.Waiting = t.entries.n, t.held.n
	return s
}

// Hash returns the hash of a connection, which Route returns as well.
func (t *Table) Hash(client, target netip.AddrPort) uint32 {
	k := keyOf(client, target)
	return uint32(t.entries.hash(&k))
}

// Route returns the owner of the segment s, which came from a target, or 0 if it has none. Then the
// segment was held, and a later Claim may deliver it, or it was dropped and counted. hash is the
// connection's: the caller spreads an owner's connections over its links by it.
func (t *Table) Route(now mono.Time, s *packet.Segment) (owner uint8, hash uint32) {
	k := keyOf(s.Dst, s.Src)
	h := t.entries.hash(&k)
	i := t.entries.find(&k, h)
	flags := s.Flags & (packet.SYN | packet.ACK | packet.RST | packet.FIN)

	if flags&packet.SYN != 0 {
		// The acknowledgment of a SYN names its sender (RFC 9293 §3.5). It overrides the table:
		// the tuple is used again. A SYN alone is the target connecting to a client.
		owner = 0
		if flags&packet.ACK != 0 {
			owner = t.named(s.Ack-1, s.Src)
		}
		if owner == 0 {
			t.stats.Unowned++
			return 0, 0
		}
		t.learn(now, i, &k, h, owner)
		t.stats.Routed++
		return owner, uint32(h)
	}

	if flags&(packet.RST|packet.ACK) == packet.RST|packet.ACK && s.Seq == 0 {
		// A reset with sequence number 0 refuses a SYN and acknowledges it (RFC 9293 §3.10.7.1),
		// so that it names the sender. There is no connection to learn.
		if owner = t.named(s.Ack-1, s.Src); owner != 0 {
			t.stats.Routed++
			return owner, uint32(h)
		}
	}

	e := t.entries.at(i)
	if i != 0 {
		owner = t.owner(e)
	}
	if owner == 0 {
		t.hold(now, i, &k, h, s)
		return 0, 0
	}
	switch {
	case flags&packet.RST != 0:
		t.entries.move(i, listClosed, now)
	case flags&packet.FIN != 0 && e.list == listOpen:
		t.entries.move(i, listClosing, now)
	case now.Sub(e.last) > touchAfter:
		t.entries.move(i, e.list, now)
	}
	t.stats.Routed++
	return owner, uint32(h)
}

// Behind reports whether the segment s, which came from a target, is a SYN-ACK to a copier that
// is behind another one: the other, which is connected, had the connection a moment ago, and the
// target would receive everything again. If so, the caller tells the copier, owner, that it is
// behind, and then reports s to it. Route must not be called for s. The copier resets the
// connection.
func (t *Table) Behind(now mono.Time, s *packet.Segment) (owner uint8, hash uint32, behind bool) {
	if !s.Flags.Has(packet.SYN | packet.ACK) {
		return 0, 0, false
	}
	k := keyOf(s.Dst, s.Src)
	h := t.entries.hash(&k)
	i := t.entries.find(&k, h)
	if i == 0 {
		return 0, 0, false
	}
	e := t.entries.at(i)
	had := t.owner(e)
	owner = t.named(s.Ack-1, s.Src)
	if owner == 0 || had == 0 || had == owner || !t.copiers[had].up || e.list == listSought ||
		now.Sub(e.last) > t.cfg.Behind {
		return 0, 0, false
	}
	t.stats.Late++
	return owner, uint32(h), true
}

// touchAfter is how often an entry is moved in its list at most. Moving costs two cache misses, and
// once a second is enough for linger times of seconds.
const touchAfter = time.Second

// named returns the copier that sends to target with the initial sequence number isn, 0 if none
// does.
func (t *Table) named(isn seqnum.Value, target netip.AddrPort) uint8 {
	o := t.slots[uint8(isn)]
	if o == 0 || !t.copiers[o].sendsTo(target) {
		return 0
	}
	return o
}

// owner returns the owner of an entry, 0 if that copier was forgotten.
func (t *Table) owner(e *entry) uint8 {
	if c := &t.copiers[e.owner]; c.used && c.generation == e.generation {
		return e.owner
	}
	return 0
}

// learn makes k an open connection of owner. i is its entry, 0 if it has none.
func (t *Table) learn(now mono.Time, i uint32, k *key, h uint64, owner uint8) uint32 {
	if i == 0 {
		i = t.add(now, k, h)
	}
	e := t.entries.at(i)
	had := t.owner(e)
	if had != owner || e.list != listOpen {
		t.stats.Learned++
		if had != 0 && had != owner && e.list != listSought {
			t.stats.TakenOver++
		}
	}
	// What still waits belonged to the previous owner of the tuple: it expires.

	t.give(now, i, owner, listOpen)
	return i
}

// add adds an entry without an owner. If the table is full it removes the least useful one.
func (t *Table) add(now mono.Time, k *key, h uint64) uint32 {
	if t.entries.n >= t.cfg.MaxEntries {
		for _, l := range []uint8{listPending, listClosed, listSought, listClosing, listOpen} {
			if i := t.entries.oldest(l); i != 0 {
				t.drop(i)
				t.stats.Evicted++
				break
			}
		}
	}
	return t.entries.add(k, h, listPending, now)
}

// drop removes an entry, and the segments that wait there.
func (t *Table) drop(i uint32) {
	e := t.entries.at(i)
	t.copiers[t.owner(e)].entries--
	for e.heldFirst != 0 {
		t.held.pop(e)
		t.stats.HeldExpired++
	}
	t.entries.remove(i)
}

// Claim makes owner the owner of the connection from client to target, and calls deliver for each
// segment that waited for it. deliver must not keep the pointer. Claim returns false, and changes
// nothing, if another copier that is connected owns the connection, if owner has not named the
// target, or if the table is full and owner has most of it. A copier that is gone loses the
// connection: the one that claims it is most likely its successor, with the same clients.
func (t *Table) Claim(now mono.Time, owner uint8, client, target netip.AddrPort,
	deliver func(s *packet.Segment, at mono.Time, hash uint32)) bool {
	c := &t.copiers[owner]
	if !c.used || !c.sendsTo(target) || t.greedy(owner) {
		t.stats.ClaimsRefused++
		return false
	}
	i, hash := t.enter(now, client, target)
	e := t.entries.at(i)
	if had := t.owner(e); had != 0 && had != owner && e.list != listClosed &&
		e.list != listSought && t.copiers[had].up {
		t.stats.ClaimsRefused++
		return false
	}
	t.stats.Claimed++
	t.give(now, i, owner, listOpen)
	t.handOut(i, hash, deliver)
	return true
}

// enter returns the entry of a connection, which it adds if there is none, and its hash.
func (t *Table) enter(now mono.Time, client, target netip.AddrPort) (i, hash uint32) {
	k := keyOf(client, target)
	h := t.entries.hash(&k)
	if i = t.entries.find(&k, h); i == 0 {
		i = t.add(now, &k, h)
	}
	return i, uint32(h)
}

// give makes owner the owner of an entry.
func (t *Table) give(now mono.Time, i uint32, owner, list uint8) {
	e := t.entries.at(i)
	t.copiers[t.owner(e)].entries--
	e.owner, e.generation = owner, t.copiers[owner].generation
	t.copiers[owner].entries++
	t.entries.move(i, list, now)
}

// greedy reports whether the table is full and a copier has most of it, so that what it asks for
// would drive out connections of others.
func (t *Table) greedy(owner uint8) bool {
	if t.entries.n < t.cfg.MaxEntries || t.copiers[owner].entries <= t.cfg.MaxEntries/2 {
		return false
	}
	for i := range t.copiers {
		if t.copiers[i].used && uint8(i) != owner {
			return true
		}
	}
	return false
}

// handOut calls deliver for each segment that waits at an entry.
func (t *Table) handOut(i uint32, hash uint32,
	deliver func(s *packet.Segment, at mono.Time, hash uint32)) {
	for e := t.entries.at(i); e.heldFirst != 0; {
		s := t.held.pop(e)
		t.stats.HeldReleased++
		t.stats.Routed++
		deliver(&s.segment, s.at, hash)
	}
}

// Seek reports whether owner may send a SYN for the connection from client to target, whose first
// SYN was sent at since. It may not if owner has not named the target, if the table is full and
// owner has most of it, or if another copier that is connected has the connection, or had it at
// since or shortly before: that was the same connection of the client. The same holds if the other
// copier is gone, unless owner begins only now (since is now). To have a connection means that the
// target has accepted it; several copiers may seek the same one. The last of them receives the
// segments of an old connection at the target, which answers a SYN with an ACK that names no
// copier. deliver is as for Claim.
func (t *Table) Seek(now mono.Time, owner uint8, client, target netip.AddrPort, since mono.Time,
	deliver func(s *packet.Segment, at mono.Time, hash uint32)) bool {
	if !t.SendsTo(owner, target) || t.greedy(owner) {
		t.stats.SeeksRefused++
		return false
	}
	i, hash := t.enter(now, client, target)
	e := t.entries.at(i)
	had, list := t.owner(e), listSought
	open := e.list == listOpen || e.list == listClosing
	if had != 0 && had != owner && (open || e.list == listClosed) {
		refuse := open || since.Sub(e.last) <= t.cfg.Behind
		if !t.copiers[had].up {
			// A successor begins anew, with nothing that the other may have sent.
			refuse = since != now && since.Sub(e.last) <= touchAfter
		}
		if refuse {
			t.stats.SeeksRefused++
			return false
		}
	}
	if open {
		list = listOpen // its own, or of a copier that is gone
	}
	t.stats.Sought++
	t.give(now, i, owner, list)
	t.handOut(i, hash, deliver)
	return true
}

// Release ends owner's use of a connection, which is forgotten soon unless it is used again.
func (t *Table) Release(now mono.Time, owner uint8, client, target netip.AddrPort) {
	k := keyOf(client, target)
	if i := t.entries.find(&k, t.entries.hash(&k)); i != 0 && t.owner(t.entries.at(i)) == owner {
		t.entries.move(i, listClosed, now)
	}
}

// Owner returns the copier that owns a connection, or seeks it, 0 if there is none. sure is false
// for one that seeks it, or none, as long as copiers may still claim what they own, just after
// the start.
func (t *Table) Owner(now mono.Time, client, target netip.AddrPort) (owner uint8, sure bool) {
	k := keyOf(client, target)
	age := now.Sub(t.started)
	if i := t.entries.find(&k, t.entries.hash(&k)); i != 0 {
		e := t.entries.at(i)
		if owner = t.owner(e); owner != 0 {
			return owner, e.list != listSought || age >= t.cfg.Reclaim
		}
	}
	return 0, age >= t.cfg.Settle
}

// expireBudget bounds the entries that one Expire removes: the caller holds a lock.
const expireBudget = 4096

// Expire removes what has waited or was not used for too long, and returns when to call it again.
func (t *Table) Expire(now mono.Time) mono.Time {
	next := t.expireHeld(now)
	budget := expireBudget
	for l, linger := range [...]time.Duration{listOpen: t.cfg.Idle, listClosing: t.cfg.FINLinger,
		listClosed: t.cfg.RSTLinger,
		listSought: t.cfg.FINLinger} {
		for {
			i := t.entries.oldest(uint8(l))
			if i == 0 {
				break
			}
			if due := t.entries.at(i).last.Add(linger); !due.Reached(now) {
				next = min(next, due)
				break
			}
			if budget--; budget < 0 {
				return now
			}
			t.drop(i)
			t.stats.Aged++
		}
	}
	return min(next, t.expireCopiers(now))
}
