package shard

import (
	"maps"
	"math"
	"slices"
	"time"

	"tcpcopy/internal/core/balance"
	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/session"
)

// lane is where the copies of a service wait until they may begin; with balance.All each target has
// one of its own. They begin in the order in which their turns were captured.
//
// A lane lets no more copies be at the target than clients were connected to production when the
// client of the waiting one connected, and a quarter more. So our own lag delays copies, and does
// not pile them up. Where the target itself is slower than production it must show what that leads
// to. So a copy no longer counts when it has been at the target for twice as long as its client was
// at production, or as clients typically are, whichever is longer; and for longer still if each
// client has several copies. And the longer the lane has kept copies back, the more it lets in.
type lane struct {
	waiting agenda // the sessions that have a copy to begin, by the time of the turn
	// clients is how many sessions have a client that has not ended, copies how many have a copy
	// that counts. overdue is when copies whose clients have ended cease to count.
	clients, copies int
	overdue         agenda
	typical         float64 // the logarithm of how long clients are connected: a moving average
	opens           map[*balance.Target]*opening

	blocked mono.Time // since when copies have been kept back; 0: none is

	away  ledger.Reason // why the target is away, while turns are held for it; None: it is not
	until mono.Time     // when the next copy may try
}

const (
	// awayRetry is how long after a failure the next copy tries a target that is away. awayLimit is
	// how long one that has no result keeps others from trying.
	awayRetry = 100 * time.Millisecond
	awayLimit = time.Second
	// laneSpare is how many copies more than that may always be at the target.
	laneSpare = 4
	// laneDouble is how long a lane keeps copies back until it lets in as many more as there were
	// clients, with one copy of each; laneAgain is how often it is looked at meanwhile.
	laneDouble = 4 * time.Second
	laneAgain  = 10 * time.Millisecond
	// typicalOf is how many connections typical is mostly based on.
	typicalOf = 64
	// lateOf is over how many copies a lag of ours is forgotten, lagLimit is the longest that
	// counts, and leastShift says how slowly the least time grows.
	lateOf     = 64
	lagLimit   = 100 * time.Millisecond
	leastShift = 14
	// behindLimit is how long copies wait while there is always something else to do. From then on
	// one begins in each step.
	behindLimit = 20 * time.Millisecond
)

// opening is how long copies at a target take to open: at least, and of late; and which of them are
// on their way, by when they began.
type opening struct {
	least, late time.Duration
	begun       agenda
}

// note notes how long a copy has taken. A longer time counts at once, and then ever less.
func (o *opening) note(d time.Duration) {
	if o.least == 0 || d < o.least {
		o.least = max(d, 1)
	} else {
		o.least += o.least >> leastShift // a way that has changed
	}
	o.late = max(d, o.late-o.late/lateOf)
}

// lag is how much longer copies take at present than they must, within a bound: a target that
// does not accept is slow itself. One that is on its way for longer shows that, too: what has come
// from other copies may wait as well.
func (o *opening) lag(now mono.Time) time.Duration {
	if o == nil || o.least == 0 {
		return 0
	}
	d := o.late
	if i := o.first(now); i != nil {
		d = max(d, now.Sub(i.at))
	}
	return min(max(d-o.least, 0), lagLimit)
}

// first returns the copy that is on its way for the longest time, within lagLimit; nil if there is
// none.
func (o *opening) first(now mono.Time) *agendaItem {
	for {
		i := o.begun.first()
		if i == nil || i.onItsWay() && now.Sub(i.at) <= lagLimit {
			return i
		}
		o.begun.pop()
	}
}

// onItsWay reports whether the item is about a copy that is not open yet.
func (i *agendaItem) onItsWay() bool {
	p := &i.e.presence
	return i.current() && p.counts && !p.accepted && i.at == p.opened
}

// presence is what a session counts as in its lane.
type presence struct {
	lane   *lane
	began  mono.Time     // when its client connected, or was found
	ended  bool          // its client has ended
	lasts  time.Duration // with ended: how long its copy counts, our own lag apart
	until  mono.Time     // with ended: when its copy counts no more
	beside int           // how many clients of the lane were connected when this one did
	waits  bool          // it is in lane.waiting
	ready  bool          // its copy may begin now
	counts bool          // it counts in lane.copies
	opened mono.Time     // when its copy began
	// accepted: its copy's connection is open.
	accepted bool
}

// lane returns where the copies of a service wait; target is where they all go, or nil.
func (s *Service) lane(sh *Shard, target *balance.Target) *lane {
	l := s.lanes[target]
	if l == nil {
		if s.lanes == nil {
			s.lanes = make(map[*balance.Target]*lane)
		}
		l = &lane{opens: make(map[*balance.Target]*opening)}
		s.lanes[target] = l
		sh.lanes = append(sh.lanes, l)
	}
	return l
}

// forgetLanes forgets the lanes of targets that were removed and have no session left.
func (s *Service) forgetLanes(sh *Shard) {
	for t, l := range s.lanes {
		maps.DeleteFunc(l.opens, func(t *balance.Target, _ *opening) bool { return t.Removed() })
		if t != nil && t.Removed() && l.clients == 0 && l.copies == 0 && l.next() == nil {
			delete(s.lanes, t)
			sh.lanes = slices.DeleteFunc(sh.lanes, func(o *lane) bool { return o == l })
		}
	}
}

// connect notes that the client is connected.
func (e *entry) connect(l *lane, at mono.Time) {
	l.clients++
	e.presence = presence{lane: l, began: at, beside: l.clients}
}

// noteEnd notes whether a packet that was captured at the time at has ended the client's
// connection.
func (e *entry) noteEnd(at mono.Time) {
	if !e.presence.ended && e.EndSeen() {
		e.disconnect(at)
	}
}

// disconnect notes that the client's connection is over.
func (e *entry) disconnect(at mono.Time) {
	p := &e.presence
	if p.ended {
		return
	}
	p.ended, p.lasts = true, p.lane.lasts(at.Sub(p.began), e.service.Copies)
	p.lane.clients--
	if p.counts {
		e.limit(at)
	}
}

// limit sets when the copy counts no more.
func (e *entry) limit(now mono.Time) {
	p := &e.presence
	p.until = p.opened.Add(p.lasts + 2*p.lane.opens[e.target].lag(now))
	p.lane.overdue.push(p.until, e)
}

// opening returns how long copies at the session's target take to open.
func (e *entry) opening() *opening {
	l := e.presence.lane
	o := l.opens[e.target]
	if o == nil {
		o = new(opening)
		l.opens[e.target] = o
	}
	return o
}

// accept notes that the copy's connection is open.
func (e *entry) accept(now mono.Time) {
	p := &e.presence
	p.accepted = true
	e.opening().note(now.Sub(p.opened))
	if p.counts && p.ended {
		e.limit(now)
	}
}

// staysOn has a copy whose time is over count on, and reports whether it does: if it is not open
// yet and takes longer for that than copies must, or if our lag has grown since it began.
func (e *entry) staysOn(now mono.Time) bool {
	p := &e.presence
	o := p.lane.opens[e.target]
	if o == nil || o.least == 0 {
		return false
	}
	if late := p.opened.Add(lagLimit); !p.accepted && now.Sub(p.opened) > o.least &&
		!late.Reached(now) {
		p.until = late
		p.lane.overdue.push(late, e)
		return true
	}
	e.limit(now)
	return !p.until.Reached(now)
}

// lasts returns how long the copy of a client counts that was connected for the time d. The typical
// time is a geometric mean: a few clients that stay for long must not have it exceed what the lane
// lets in. With several copies of each client the target has more to do than production.
func (l *lane) lasts(d time.Duration, copies float64) time.Duration {
	x := math.Log(float64(max(d, time.Microsecond)))
	if l.typical == 0 {
		l.typical = x
	}
	l.typical += (x - l.typical) / typicalOf
	return time.Duration((1 + max(copies, 1)) * max(float64(d), math.Exp(l.typical)))
}

// arrive notes that a copy begins.
func (e *entry) arrive(now mono.Time) {
	p := &e.presence
	p.leave()
	p.counts, p.opened, p.accepted = true, now, false
	p.lane.copies++
	o := e.opening()
	o.first(now) // which forgets those that are open
	o.begun.push(now, e)
	if p.ended {
		e.limit(now)
	}
}

// leave notes that the copy is over, or counts no more.
func (p *presence) leave() {
	if p.counts {
		p.counts = false
		p.lane.copies--
	}
}

// Ready implements session.Opener.
func (p placer) Ready(id session.ID, at mono.Time) (ready bool, away ledger.Reason) {
	e := p.shard.byID[id]
	pr := &e.presence
	if !pr.ready && !pr.waits {
		pr.waits = true
		pr.lane.waiting.push(at, e)
	}
	return pr.ready, pr.lane.away
}

// noteOpening notes what an event that the session has handled says about whether the target is
// away.
func (e *entry) noteOpening(now mono.Time, ev *session.Event) {
	l := e.presence.lane
	switch {
	case ev.Kind == session.Opened:
		l.away = ledger.None
		e.accept(now)
	case l.away != ledger.None && ev.Kind == session.Failed:
		l.away, l.until = ev.Reason, now.Add(awayRetry)
	case e.State() == session.Waiting && !e.group().Spares(now, e.target):
		// The copy was lost, and the session holds its turn.
		l.away, l.until = ledger.TargetReset, now.Add(awayRetry)
		if ev.Kind == session.Failed {
			l.away = ev.Reason
		}
	}
}

// openCopies begins the copies that may begin now. While anything else is due that comes first, and
// what has come from the targets. It returns when it has to be called again.
func (sh *Shard) openCopies(in *Input) mono.Time {
	limit := in.Limit
	switch {
	case in.Stalled:
		return mono.Never
	case len(sh.dirty) == 0 && !sh.cfg.Streams.Pending():
		sh.caughtUp = sh.now
	case sh.now.Sub(sh.caughtUp) < behindLimit:
		return mono.Never
	default:
		limit = 1
	}
	next := mono.Never
	for _, l := range sh.lanes {
		next = min(next, sh.openLane(l, limit))
	}
	return next
}

// openLane begins the copies of a lane that may begin now, but at most limit of them, or all if
// limit is 0. It returns when it has to be called again.
func (sh *Shard) openLane(l *lane, limit int) mono.Time {
	for n := 0; ; n++ {
		e := l.next()
		if e == nil {
			l.blocked = 0
			return mono.Never
		}
		gives := l.away != ledger.None && e.HeldUntil().Reached(sh.now)
		if !gives {
			if at := l.opensAt(e, sh.now); !at.Reached(sh.now) {
				return at
			}
			if n == limit && limit > 0 {
				return sh.now
			}
			if l.away != ledger.None {
				l.until = sh.now.Add(awayLimit)
			}
		}
		l.waiting.pop()
		e.presence.waits, e.presence.ready = false, !gives
		sh.advance(e)
		sh.noteBusy(e)
		sh.noteOpen(e)
		e.presence.ready = false
	}
}

// next returns the session whose copy is to begin next; nil if there is none.
func (l *lane) next() *entry {
	for {
		i := l.waiting.first()
		switch {
		case i == nil:
			return nil
		case !i.current() || !i.e.presence.waits:
		case i.e.State() == session.Waiting:
			return i.e
		default: // it asks again when it has something to copy
			i.e.presence.waits = false
		}
		l.waiting.pop()
	}
}

// opensAt returns when the copy of e may begin if nothing happens before.
func (l *lane) opensAt(e *entry, now mono.Time) mono.Time {
	if l.away != ledger.None {
		return min(l.until, e.HeldUntil())
	}
	for {
		i := l.overdue.first()
		if i != nil && (!i.overdue() || i.at.Reached(now)) {
			e, over := i.e, i.overdue()
			l.overdue.pop()
			if over && !e.staysOn(now) {
				e.presence.leave()
			}
			continue
		}
		if l.copies < l.most(e, now) {
			return now
		}
		if l.blocked == 0 {
			l.blocked = now
		}
		again := now.Add(laneAgain)
		if i == nil {
			return again
		}
		return min(i.at, again)
	}
}

// most returns how many copies may be at the target when that of e has begun.
func (l *lane) most(e *entry, now mono.Time) int {
	n := max(e.presence.beside, l.clients)
	most := n + n/4 + laneSpare
	if l.blocked != 0 {
		most += int(max(e.service.Copies, 1) * float64(n) *
			now.Sub(l.blocked).Seconds() / laneDouble.Seconds())
	}
	return most
}

// overdue reports whether the item is about a copy that counts.
func (i *agendaItem) overdue() bool {
	p := &i.e.presence
	return i.current() && p.counts && p.ended && i.at == p.until
}
