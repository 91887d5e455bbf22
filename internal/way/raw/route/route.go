// Package route is the assistant's table: which copier owns the connection that a captured packet of the
// target belongs to.
//
// A copier puts its slot, 1 to 255, into the low 8 bits of its initial sequence numbers, so the SYN-ACK
// that acknowledges one names its owner, and the table learns the connection from it; later packets go by
// the table. A copier whose connections the table does not know (the intercept was restarted) claims
// them. A packet of a connection that nobody owns waits a moment for such a claim, and is dropped then:
// nothing is ever sent to more than one copier.
//
// Of several copiers that open the same connection the target takes one, whose SYN came first: its SYN-ACK says
// so, here as there. The others' SYNs stay without an answer. Before they are repeated the copiers ask (Seek), and
// hear that they came second. So does one before the first SYN of a connection that was under way. One that is so
// far behind that the target has done with the first one's connection is found out by its SYN-ACK (Behind).
//
// The package is pure and not safe for concurrent use; the intercept guards a Table with its lock. All
// it keeps is bounded. An entry takes 64 bytes, and 16 to 32 more in the hash index.
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
	FINLinger  time.Duration // the same after the target's FIN: the client may go on; or while it is sought; default 2 min
	RSTLinger  time.Duration // the same after a reset or a release; default 5 s
	Behind     time.Duration // how long after its last use a connection is not another copier's; default 2 s
	Grace      time.Duration // how long a copier that is gone keeps its slot; default 60 s
	Settle     time.Duration // how long after the start nobody can be sure to own nothing; default 10 s
	Reclaim    time.Duration // the same of what one seeks; copiers that lost us are back, and have claimed; default 3 s
	Seed       uint64        // random: keeps outsiders from choosing addresses that collide
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
	Sought        uint64 // connections that a copier might open, for all that is known here
	SeeksRefused  uint64 // those that it might not
	Late          uint64 // SYN-ACKs to copiers that were only behind
	TakenOver     uint64 // entries that a SYN-ACK gave to another copier: the tuple was used again
	Unowned       uint64 // handshake segments that name no copier: real clients of the target
	Held          uint64 // segments that had to wait
	HeldReleased  uint64 // of these, claimed in time
	HeldExpired   uint64 // of these, dropped after the wait
	HeldOverflow  uint64 // of these, dropped before: too many waited
	Evicted       uint64 // entries that gave way because the table was full
	Aged          uint64 // entries that were not used for too long

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

// Hash returns the hash of a connection, as Route does.
func (t *Table) Hash(client, target netip.AddrPort) uint32 {
	k := keyOf(client, target)
	return uint32(t.entries.hash(&k))
}

// Route says who owns the segment s, which came from a target: an owner as Join returned it, or 0 if
// nobody may have it now. In that case it was held (and a later Claim may hand it out) or dropped, and
// counted. hash is the connection's, to spread an owner's connections over its links.
func (t *Table) Route(now mono.Time, s *packet.Segment) (owner uint8, hash uint32) {
	k := keyOf(s.Dst, s.Src)
	h := t.entries.hash(&k)
	i := t.entries.find(&k, h)
	flags := s.Flags & (packet.SYN | packet.ACK | packet.RST | packet.FIN)

	if flags&packet.SYN != 0 {
		// The acknowledgment of a SYN names who sent it (RFC 9293 §3.5). It outdoes the table: the
		// tuple is being used again. A SYN alone would be the target connecting to a client.
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
		// A reset with sequence number 0 refuses a SYN and acknowledges it (RFC 9293 §3.10.7.1), so it
		// names who sent that. Nothing to learn: there will be no connection.
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

// Behind says whether the segment s, which came from a target, is a SYN-ACK to a copier that is only behind:
// another one that is connected had the connection a moment ago, and the target would be told everything again. If so,
// the copier, owner, is to be told that, and then to hear of s, which is not routed: the target waits to be reset.
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
	if owner == 0 || had == 0 || had == owner || !t.copiers[had].up || e.list == listSought || now.Sub(e.last) > t.cfg.Behind {
		return 0, 0, false
	}
	t.stats.Late++
	return owner, uint32(h), true
}

// touchAfter keeps the lists' order coarse: moving an entry costs two cache misses, and once a second is
// enough for linger times of seconds.
const touchAfter = time.Second

// named returns the copier that sent a SYN with the initial sequence number isn to target, 0 if none did.
func (t *Table) named(isn seqnum.Value, target netip.AddrPort) uint8 {
	o := t.slots[uint8(isn)]
	if o == 0 || !t.copiers[o].sendsTo(target) {
		return 0
	}
	return o
}

// owner returns who owns an entry, 0 if that copier has been forgotten.
func (t *Table) owner(e *entry) uint8 {
	if c := &t.copiers[e.owner]; c.used && c.generation == e.generation {
		return e.owner
	}
	return 0
}

// learn makes the connection k of owner an open one; i is its entry, 0 if it has none.
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
	// What still waits belonged to whoever had the tuple before: it expires.
	t.give(now, i, owner, listOpen)
	return i
}

// add makes an entry that nobody owns, if need be in the place of the one that can best be spared.
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

// drop removes an entry, with what waits for it.
func (t *Table) drop(i uint32) {
	e := t.entries.at(i)
	for e.heldFirst != 0 {
		t.held.pop(e)
		t.stats.HeldExpired++
	}
	t.entries.remove(i)
}

// Claim gives the connection from client to target to owner, and hands the segments that waited for it
// to deliver, which must not keep the pointer. It returns false, and changes nothing, where another
// copier that is connected owns the connection, or the copier did not name the target when it joined. One
// that has left must do without: who claims now is most likely its successor, and has the same clients.
func (t *Table) Claim(now mono.Time, owner uint8, client, target netip.AddrPort,
	deliver func(s *packet.Segment, at mono.Time, hash uint32)) bool {
	c := &t.copiers[owner]
	if !c.used || !c.sendsTo(target) {
		t.stats.ClaimsRefused++
		return false
	}
	i, hash := t.enter(now, client, target)
	e := t.entries.at(i)
	if had := t.owner(e); had != 0 && had != owner && e.list != listClosed && e.list != listSought && t.copiers[had].up {
		t.stats.ClaimsRefused++
		return false
	}
	t.stats.Claimed++
	t.give(now, i, owner, listOpen)
	t.handOut(i, hash, deliver)
	return true
}

// enter is the entry of a connection, which is made if there is none.
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
	e.owner, e.generation = owner, t.copiers[owner].generation
	t.entries.move(i, list, now)
}

// handOut hands what waits at an entry to deliver.
func (t *Table) handOut(i uint32, hash uint32, deliver func(s *packet.Segment, at mono.Time, hash uint32)) {
	for e := t.entries.at(i); e.heldFirst != 0; {
		s := t.held.pop(e)
		t.stats.HeldReleased++
		t.stats.Routed++
		deliver(&s.segment, s.at, hash)
	}
}

// Seek says whether owner may send a SYN for the connection from client to target, its first at since. It may not
// where another copier that is connected has the connection, or had it then, or shortly before: that was the client's
// same connection, even if the other copier is gone by now, unless the asker begins only now (since is now); nor where
// the copier did not name the target when it joined. To have it means that the target has accepted it: several may
// seek the same one. The last of them is who hears of an old connection at the target, which answers a SYN with an
// ACK that names nobody; deliver is as for Claim.
func (t *Table) Seek(now mono.Time, owner uint8, client, target netip.AddrPort, since mono.Time,
	deliver func(s *packet.Segment, at mono.Time, hash uint32)) bool {
	if !t.SendsTo(owner, target) {
		t.stats.SeeksRefused++
		return false
	}
	i, hash := t.enter(now, client, target)
	e := t.entries.at(i)
	had, list := t.owner(e), listSought
	open := e.list == listOpen || e.list == listClosing
	if had != 0 && had != owner && (open || e.list == listClosed) {
		refuse := open || since.Sub(e.last) <= t.cfg.Behind
		if !t.copiers[had].up { // who follows it begins anew, and with nothing that it may have sent
			refuse = since != now && since.Sub(e.last) <= touchAfter
		}
		if refuse {
			t.stats.SeeksRefused++
			return false
		}
	}
	if open {
		list = listOpen // its own, or left by one who is gone: it is known that nobody else's it is
	}
	t.stats.Sought++
	t.give(now, i, owner, list)
	t.handOut(i, hash, deliver)
	return true
}

// Release says that owner is done with a connection: it is forgotten soon, unless it is used again.
func (t *Table) Release(now mono.Time, owner uint8, client, target netip.AddrPort) {
	k := keyOf(client, target)
	if i := t.entries.find(&k, t.entries.hash(&k)); i != 0 && t.owner(t.entries.at(i)) == owner {
		t.entries.move(i, listClosed, now)
	}
}

// Owner says who owns a connection, or seeks to, 0 if nobody does. sure is false for one who seeks, or nobody, as
// long as copiers may not yet have claimed what they own, just after the start.
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

// expireBudget bounds the work of one Expire: the caller holds a lock.
const expireBudget = 4096

// Expire forgets what has waited or lain idle for too long, and returns when to call it again.
func (t *Table) Expire(now mono.Time) mono.Time {
	next := t.expireHeld(now)
	budget := expireBudget
	for l, linger := range [...]time.Duration{listOpen: t.cfg.Idle, listClosing: t.cfg.FINLinger, listClosed: t.cfg.RSTLinger,
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
