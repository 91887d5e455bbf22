package verdict

import (
	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/session"
	"tcpcopy/internal/proto"
)

// Bounds of what a Tally keeps.
const (
	maxCells     = 1 << 14
	maxEndpoints = 1 << 12
	maxStatuses  = 1 << 10 // pairs of statuses
	quiet        = 16      // answers without a difference after which a session is judged anew
)

// otherEndpoints stands for endpoints beyond maxEndpoints.
const otherEndpoints = "(others)"

// place is what is counted: in one class of requests, at one path, one way of differing.
// Differences of content have no direction; of others, each direction is a place of its own, and
// the opposite direction is what speaks against it.
type place struct {
	endpoint, path string
	kind           Kind // Value for all kinds of content
	from, to       string
}

// mirror returns the place of the opposite direction.
func (p place) mirror() place {
	p.from, p.to = p.to, p.from
	switch p.kind {
	case Missing:
		p.kind = Extra
	case Extra:
		p.kind = Missing
	}
	return p
}

// count is what was seen at a place.
type count struct {
	alone    uint64 // the candidate alone differed: once for each session
	direct   uint64 // of alone: it was not judged by the old version's answer
	base     uint64 // production's earlier answer, or the old version's, alone differed
	blind    uint64 // it cannot be told: production differed as well, or has no other answer
	both     uint64 // the old version differed from production in the same way
	sessions uint64 // in which the candidate differed from production
	expected uint64 // values of a recognised kind
	known    proto.Recognised
	kinds    [3]uint64 // of content: value, order, length
	from, to string    // an example
	pair     *pair     // the two answers in which it was seen first; nil: there was no room
}

// endpoint is what was compared in one class of requests.
type endpoint struct{ compared, content, based, differed uint64 }

// Tally compares the answers of one shard. It implements session.Comparer.
type Tally struct {
	with  *proto.Digesting
	rules *Rules
	count Account

	bases        *bases
	by           basis             // of the exchange that is judged
	found, noise []difference      // scratch: of the candidate, and of its basis
	apart        []difference      // scratch: between the old version and the candidate
	present      *session.Exchange // that is judged; nil: none
	pairs        int               // that are kept
	aside        int               // bytes that may wait for the old version's answers
}

// Account is what Tallies have counted.
type Account struct {
	due      uint64
	compared uint64
	excluded [session.Exclusions]uint64
	skipped  uint64 // compared without their content
	// differed counts the answers that were the first of their session to differ, and later those
	// that came after such a one.
	differed, later uint64
	overCells       uint64 // differences that found no room
	places          map[place]*count
	endpoints       map[string]*endpoint
	// known and names are the keys of places and endpoints in the order in which they were added.
	known    []place
	names    []string
	status   map[[2]uint16]uint64 // production's and the candidate's; 0: no answer
	times    Times
	silenced []uint64 // differences, by rule
	baseline baseline
}

// NewTally returns a Tally without answers. The room of with bounds the bytes of digests that wait
// for their counterparts, as much those that wait for the old version alone, and half of it those
// that are kept for later ones, which are as many as bases at most.
func NewTally(with *proto.Digesting, rules *Rules, bases int) *Tally {
	room := with.Room
	return &Tally{
		with: with, rules: rules, aside: room, bases: newBases(bases, room/2),
		count: Account{
			places: map[place]*count{}, endpoints: map[string]*endpoint{},
			status: map[[2]uint16]uint64{}, silenced: make([]uint64, rules.silencers()),
		},
	}
}

var _ session.Comparer = (*Tally)(nil)

// Digesting is of session.Comparer.
func (t *Tally) Digesting() *proto.Digesting { return t.with }

// Aside is of session.Comparer.
func (t *Tally) Aside() *int { return &t.aside }

// Due is of session.Comparer.
func (t *Tally) Due() { t.count.due++ }

// Exclude is of session.Comparer.
func (t *Tally) Exclude(why session.Exclusion) { t.count.excluded[why]++ }

// Starved notes that this program did not run for a while before now: times that were taken then
// say nothing of the target.
func (t *Tally) Starved(now mono.Time) {
	t.count.times.starve(now)
	if b := &t.count.baseline; b.asked {
		b.old.starve(now)
		b.now.starve(now)
	}
}

// Woke notes that this program woke late by so many nanoseconds, because the machine is busy.
func (t *Tally) Woke(now mono.Time, late int64) { t.count.times.woke(now, late) }

// Machine notes for how long this machine's processors were busy and idle just before now, in any
// unit. Only one of the shards that share a machine may be told.
func (t *Tally) Machine(now mono.Time, busy, idle uint64, processors int) {
	t.count.times.machine(now, busy, idle, processors)
}

// Compare is of session.Comparer.
func (t *Tally) Compare(x *session.Exchange) {
	a := &t.count
	a.compared++
	name, e := a.endpoint(t.rules.endpoint(x.Endpoint))
	e.compared++
	t.found = t.found[:0]
	earlier := t.takeBase(x)
	if x.Target == nil {
		if !x.NoStatus {
			a.statuses(x.Production.Status, 0)
		}
		t.found = append(t.found, difference{path: "answer", kind: NoAnswer, from: "an answer",
			to: x.Failed.String()})
	} else {
		if !x.NoStatus {
			a.statuses(x.Production.Status, x.Target.Status)
		}
		if x.Took > 0 {
			a.times.note(x.At, x.Took)
		}
		if x.Production.Status == x.Target.Status {
			e.content++
		}
		var partly bool
		if t.found, partly = t.differences(t.found, x.Production, x.Target, x.Unordered); partly {
			a.skipped++
		}
		if earlier != nil {
			e.based++
		}
	}
	t.findBasis(x, earlier)
	t.present = x
	if t.judge(name, x.Unit) {
		e.differed++
	}
	t.present = nil
	for _, d := range [...]*proto.Digest{x.Target, x.Baseline, earlier} {
		if d != nil {
			d.Drop(t.with)
		}
	}
	if !t.bases.put(t.with, x.Request, x.Production) {
		x.Production.Drop(t.with)
	}
}

// statuses counts two answers by their status; where there are too many pairs, by their hundreds.
func (a *Account) statuses(p, c uint16) {
	k := [2]uint16{p, c}
	if _, ok := a.status[k]; !ok && len(a.status) >= maxStatuses {
		k = [2]uint16{p / 100 * 100, c / 100 * 100}
	}
	a.status[k]++
}

// differences appends the differences between an answer and another to the same request. partly
// reports that their contents could not be compared.
func (t *Tally) differences(all []difference, p, c *proto.Digest, unordered bool) (
	_ []difference, partly bool) {
	if p.Same(c) {
		return all, false
	}
	p.Unpack(t.with)
	c.Unpack(t.with)
	partly = p.Skipped != proto.Compared || c.Skipped != proto.Compared
	return t.rules.compare(all, p, c, unordered), partly
}

// Surplus is of session.Comparer.
func (t *Tally) Surplus(u *session.Unit, endpoint string) {
	name, e := t.count.endpoint(t.rules.endpoint(endpoint))
	t.by, t.noise = byNothing, t.noise[:0]
	t.found = append(t.found[:0], difference{path: "answer", kind: Extra, from: "absent",
		to: "an answer"})
	if t.judge(name, u) {
		e.differed++
	}
}

// Ended is of session.Comparer.
func (t *Tally) Ended(u *session.Unit, endpoint string, production, target session.Ending) {
	name, e := t.count.endpoint(t.rules.endpoint(endpoint))
	t.by, t.noise = byNothing, t.noise[:0]
	t.found = append(t.found[:0], difference{path: "end", kind: End, from: production.String(),
		to: target.String()})
	if t.judge(name, u) {
		e.differed++
	}
}

// endpoint returns what was compared in a class of requests, and the name that it is counted by.
func (a *Account) endpoint(name string) (string, *endpoint) {
	e := a.endpoints[name]
	if e == nil && len(a.endpoints) >= maxEndpoints {
		name = otherEndpoints
		e = a.endpoints[name]
	}
	if e == nil {
		e = new(endpoint)
		a.endpoints[name] = e
		a.names = append(a.names, name)
	}
	return name, e
}

// takeBase removes and returns production's earlier answer to the same request; nil if there is
// none with the same status that can be compared as well as this one.
func (t *Tally) takeBase(x *session.Exchange) *proto.Digest {
	old := t.bases.take(x.Request)
	if old == nil || old.Status != x.Production.Status {
		return nil
	}
	if !old.Same(x.Production) {
		old.Unpack(t.with)
		x.Production.Unpack(t.with)
		if old.Skipped != x.Production.Skipped {
			return nil
		}
	}
	return old
}

// judge counts the differences that were found. It reports whether the candidate differed in a way
// that counts.
func (t *Tally) judge(name string, u *session.Unit) (differs bool) {
	for i := range t.found {
		d := &t.found[i]
		if t.rules.silences(name, d, t.count.silenced) {
			continue
		}
		p := placeOf(name, d)
		c := t.count.at(p)
		if c == nil {
			continue
		}
		switch t.stance(c, d) {
		case isExpected:
			c.expected++
			c.known = d.expected
		case isBlind:
			c.blind++
			c.note(u, p)
		case isBoth:
			c.both++
			c.note(u, p)
			c.example(d)
		case isAlone:
			differs = true
			c.note(u, p)
			if u.Diverged {
				break
			}
			c.alone++
			if t.by != byBaseline {
				c.direct++
			}
			c.example(d)
			t.keepPair(c)
		}
	}
	t.blame(name, u)
	t.count.unit(u, differs)
	return differs
}

// keepPair keeps the two answers that are judged as the example of a place that has none.
func (t *Tally) keepPair(c *count) {
	if c.pair == nil && t.present != nil && t.pairs < maxPairs {
		c.pair = t.rules.pairOf(t.present, t.found)
		t.pairs++
	}
}

// unit notes in a session whether an answer differed.
func (a *Account) unit(u *session.Unit, differs bool) {
	switch {
	case differs && u.Diverged:
		a.later++
	case differs:
		a.differed++
	}
	went(&u.Course, differs)
}

// went notes whether an answer of a server differed.
func went(c *session.Course, differs bool) {
	switch {
	case differs:
		c.Diverged, c.Quiet = true, 0
	case c.Diverged:
		if c.Quiet++; c.Quiet == quiet {
			c.Diverged = false
		}
	}
}

func has(all []difference, path string) bool {
	for i := range all {
		if all[i].path == path || within(path, []string{all[i].path}) {
			return true
		}
	}
	return false
}

// placeOf returns the place at which a difference is counted.
func placeOf(name string, d *difference) place {
	p := place{endpoint: name, path: d.path, kind: d.kind}
	switch d.kind {
	case Value, Order, Length:
		p.kind = Value
	case Status, Type, NoAnswer, End:
		p.from, p.to = d.from, d.to
	}
	return p
}

// at returns the count of a place; nil if there is no room for another.
func (a *Account) at(p place) *count {
	c := a.places[p]
	if c == nil && len(a.places) >= maxCells {
		a.overCells++
		return nil
	}
	if c == nil {
		c = new(count)
		a.places[p] = c
		a.known = append(a.known, p)
	}
	return c
}

// note counts a session in which the candidate differed here, once.
func (c *count) note(u *session.Unit, p place) {
	h := hashOf(p)
	for i, seen := range u.Seen {
		if seen == h {
			return
		}
		if seen == 0 {
			u.Seen[i] = h
			c.sessions++
			return
		}
	}
}

// hashOf returns a hash of a place that is not 0: FNV-1a.
func hashOf(p place) uint32 {
	h := uint32(2166136261)
	for _, s := range [...]string{p.endpoint, p.path, string(p.kind), p.from, p.to} {
		for i := range len(s) {
			h = (h ^ uint32(s[i])) * 16777619
		}
		h = (h ^ 0xff) * 16777619
	}
	return max(h, 1)
}

// example keeps a difference as an example, and its kind.
func (c *count) example(d *difference) {
	if c.from == "" {
		c.from, c.to = d.from, d.to
	}
	switch d.kind {
	case Value:
		c.kinds[0]++
	case Order:
		c.kinds[1]++
	case Length:
		c.kinds[2]++
	}
}

// kind returns the kind of a place: of content, the most frequent.
func (c *count) kind(p place) Kind {
	if p.kind != Value {
		return p.kind
	}
	kinds := [...]Kind{Value, Order, Length}
	most := 0
	for i, n := range c.kinds {
		if n > c.kinds[most] {
			most = i
		}
	}
	return kinds[most]
}

// Look is how far an Account was copied.
type Look struct{ cells, names int }

// lookPart is how many cells and endpoints are copied at once.
const lookPart = 256

// Look adds a part of what was counted to a, which was empty at first, and notes in l how far it
// has come. It reports whether that was the last part. Parts may be of different times: the cells
// are those of earlier ones. The times are added only if they are wanted.
func (t *Tally) Look(a *Account, l *Look, times bool) (done bool) {
	b := &t.count
	if a.places == nil {
		a.init(len(b.silenced))
	}
	n := min(lookPart, len(b.known)-l.cells)
	for _, p := range b.known[l.cells : l.cells+n] {
		a.place(p).add(b.places[p])
	}
	l.cells += n
	if l.cells < len(b.known) {
		return false
	}
	n = min(lookPart-n, len(b.names)-l.names)
	for _, name := range b.names[l.names : l.names+n] {
		a.named(name).add(b.endpoints[name])
	}
	if l.names += n; l.names < len(b.names) {
		return false
	}
	a.total(b)
	if times {
		a.AddTimes(b)
	}
	return true
}

func (a *Account) init(rules int) {
	a.places, a.endpoints = map[place]*count{}, map[string]*endpoint{}
	a.status = map[[2]uint16]uint64{}
	a.silenced = make([]uint64, rules)
}

// place returns the count of a place, which it makes if need be.
func (a *Account) place(p place) *count {
	c := a.places[p]
	if c == nil {
		c = new(count)
		a.places[p] = c
	}
	return c
}

// named returns the endpoint of a name, which it makes if need be.
func (a *Account) named(name string) *endpoint {
	e := a.endpoints[name]
	if e == nil {
		e = new(endpoint)
		a.endpoints[name] = e
	}
	return e
}

// Add adds what another shard has counted, but for the times: see AddTimes.
func (a *Account) Add(b *Account) {
	if a.places == nil {
		a.init(len(b.silenced))
	}
	for p, c := range b.places {
		a.place(p).add(c)
	}
	for name, e := range b.endpoints {
		a.named(name).add(e)
	}
	a.total(b)
}

// total adds what is counted of all endpoints together.
func (a *Account) total(b *Account) {
	a.due += b.due
	a.compared += b.compared
	a.skipped += b.skipped
	a.differed += b.differed
	a.later += b.later
	a.overCells += b.overCells
	a.baseline.total(&b.baseline)
	for i, n := range b.excluded {
		a.excluded[i] += n
	}
	for i, n := range b.silenced {
		a.silenced[i] += n
	}
	for k, n := range b.status {
		a.status[k] += n
	}
}

// AddTimes adds the times that another shard has taken.
func (a *Account) AddTimes(b *Account) {
	a.times.add(&b.times)
	a.baseline.old.add(&b.baseline.old)
	a.baseline.now.add(&b.baseline.now)
}

func (e *endpoint) add(b *endpoint) {
	e.compared += b.compared
	e.content += b.content
	e.based += b.based
	e.differed += b.differed
}

func (c *count) add(b *count) {
	c.alone += b.alone
	c.direct += b.direct
	c.base += b.base
	c.both += b.both
	c.blind += b.blind
	c.sessions += b.sessions
	c.expected += b.expected
	c.known = max(c.known, b.known)
	for i, n := range b.kinds {
		c.kinds[i] += n
	}
	if c.from == "" || b.from != "" && b.from < c.from {
		c.from, c.to = b.from, b.to
	}
	if b.pair.earlier(c.pair) {
		c.pair = b.pair
	}
}
