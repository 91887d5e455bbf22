package shard

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/session"
)

// places is a table of the live sessions whose places do not move, so that it can be looked through
// in parts.
type places struct {
	list []*entry // nil: free
	free []int32
}

// add gives e a place.
func (p *places) add(e *entry) {
	if n := len(p.free); n > 0 {
		e.place = p.free[n-1]
		p.free = p.free[:n-1]
		p.list[e.place] = e
		return
	}
	e.place = int32(len(p.list))
	p.list = append(p.list, e)
}

// remove frees the place of e.
func (p *places) remove(e *entry) {
	p.list[e.place] = nil
	p.free = append(p.free, e.place)
}

// Order says which sessions come first.
type Order uint8

// The orders.
const (
	// ByWait: those that wait for something else than their client come first, the longest wait
	// first; of the others, the one that was last heard.
	ByWait Order = iota
	// ByLag: the copy that is the furthest behind its client.
	ByLag
	// ByHeld: the one that holds the most bytes.
	ByHeld
	// ByClient: by the client's address and port.
	ByClient
)

// Query says which sessions are wanted: those that all of it is true of.
type Query struct {
	Order  Order
	Most   int             // so many of them, 1 or more
	Within netip.Prefix    // the client, production or the target is within it; zero: any
	Port   uint16          // the client's, production's or the target's; 0: any
	Wait   WaitSet         // what they wait for; 0: anything
	State  []session.State // one of these; empty: any but Gone
}

// WaitSet is a set of what sessions wait for.
type WaitSet uint16

// With returns s with w in it.
func (s WaitSet) With(w session.Wait) WaitSet { return s | 1<<w }

// has reports whether w is in s, or s is empty.
func (s WaitSet) has(w session.Wait) bool { return s == 0 || s&(1<<w) != 0 }

// Seen is a session at the moment at which it was looked at.
type Seen struct {
	session.Moment
	ID                         session.ID
	Client, Production, Target netip.AddrPort // Target is invalid before the first copy
	Copy                       int            // which copy of its connection at the target, from 0
	At                         mono.Time
}

// rank returns what s is ordered by.
func (s *Seen) rank() Rank {
	return Rank{Idle: s.Wait == session.WaitClient, Waited: max(0, s.At.Sub(s.Since)), Lag: s.Lag,
		Held: s.Held, Client: s.Client, Copy: s.Copy}
}

// Look is a look through a shard's sessions that goes on from call to call, so that no call holds
// the shard up for long. A session that exists throughout is seen once; one that comes or goes
// meanwhile may be missed.
type Look struct {
	Query
	Looked, Matched int // so far

	next  int
	found []Seen // a heap once it is full: found[0] comes last
}

// Look looks at the next n places of the table. It reports whether there are more.
func (sh *Shard) Look(now mono.Time, l *Look, n int) (more bool) {
	end := min(l.next+n, len(sh.places.list))
	for _, e := range sh.places.list[l.next:end] {
		if e != nil && e.State() != session.Gone {
			l.take(now, e)
		}
	}
	l.next = end
	return end < len(sh.places.list)
}

// take looks at a session, and keeps it if it is among the first.
func (l *Look) take(now mono.Time, e *entry) {
	l.Looked++
	s := Seen{ID: e.ID(), Client: e.Client(), Production: e.Production(), Copy: e.index, At: now}
	if e.target != nil {
		s.Target = e.target.Addr
	}
	if !l.about(&s) || len(l.State) > 0 && !slices.Contains(l.State, e.State()) {
		return
	}
	s.Moment = e.Moment(now)
	if !l.Wait.has(s.Wait) {
		return
	}
	s.Held += e.delayed.held()
	l.Matched++
	switch {
	case len(l.found) < l.Most:
		if l.found = append(l.found, s); len(l.found) == l.Most {
			for i := l.Most/2 - 1; i >= 0; i-- {
				l.sink(i)
			}
		}
	case l.before(&s, &l.found[0]):
		l.found[0] = s
		l.sink(0)
	}
}

// before reports whether a comes before b.
func (l *Look) before(a, b *Seen) bool { return l.Order.Compare(a.rank(), b.rank()) < 0 }

// sink moves the i-th session down in the heap until those below it come before it.
func (l *Look) sink(i int) {
	for {
		last := i
		for k := 2*i + 1; k <= 2*i+2 && k < len(l.found); k++ {
			if l.before(&l.found[last], &l.found[k]) {
				last = k
			}
		}
		if last == i {
			return
		}
		l.found[i], l.found[last] = l.found[last], l.found[i]
		i = last
	}
}

// Found returns the first sessions that were found, in order. It ends the look.
func (l *Look) Found() []Seen {
	slices.SortFunc(l.found, func(a, b Seen) int { return l.Order.Compare(a.rank(), b.rank()) })
	return l.found
}

// about reports whether the addresses of s are those that are wanted.
func (q *Query) about(s *Seen) bool {
	if !q.Within.IsValid() && q.Port == 0 {
		return true
	}
	for _, a := range [...]netip.AddrPort{s.Client, s.Production, s.Target} {
		if (!q.Within.IsValid() || q.Within.Contains(a.Addr())) &&
			(q.Port == 0 || q.Port == a.Port()) {
			return true
		}
	}
	return false
}

// Rank is what sessions are ordered by.
type Rank struct {
	Idle        bool // it waits for its client
	Waited, Lag time.Duration
	Held        int
	Client      netip.AddrPort
	Copy        int
}

// Compare is negative if a comes before b.
func (o Order) Compare(a, b Rank) int {
	c := 0
	switch o {
	case ByWait:
		switch {
		case a.Idle && b.Idle:
			c = cmp.Compare(a.Waited, b.Waited)
		case a.Idle:
			c = 1
		case b.Idle:
			c = -1
		default:
			c = cmp.Compare(b.Waited, a.Waited)
		}
	case ByLag:
		c = cmp.Compare(b.Lag, a.Lag)
	case ByHeld:
		c = cmp.Compare(b.Held, a.Held)
	}
	return cmp.Or(c, a.Client.Compare(b.Client), cmp.Compare(a.Copy, b.Copy))
}
