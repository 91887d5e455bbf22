package link

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"tcpcopy/internal/way/link/wire"
)

// Group is a copier's links to all its intercepts. They share the slot; what the copier owns it claims
// at each, for it cannot know which of them will see an answer.
type Group struct {
	slot  *Slot
	links []*Link
	cfg   *Config

	mu      sync.Mutex
	id      uint32
	pending map[uint32]*question
}

// question waits for the answers of all links that it was put to.
type question struct {
	tuple wire.Tuple
	seek  bool
	left  int
	worst wire.Ownership
}

// maxQuestions bounds those that wait: an intercept that never answers costs no more.
const maxQuestions = 1 << 14

// NewGroup makes a link to each of the intercepts, which does nothing until Start: so the callbacks can
// use the group. cfg.OnOwner gets one answer for each Query, made of all links'. Close it only after
// Start.
func NewGroup(intercepts []string, cfg Config) *Group {
	cfg.defaults()
	g := &Group{slot: NewSlot(), cfg: &cfg, pending: make(map[uint32]*question)}
	for _, a := range intercepts {
		l := newLink(a, g.slot, cfg)
		l.owner = g.answered
		g.links = append(g.links, l)
	}
	return g
}

// Start starts the links; each connects, and connects again, until Close.
func (g *Group) Start() {
	for _, l := range g.links {
		l.start()
	}
}

// Slot is what a new connection's initial sequence number has to carry in its low 8 bits.
func (g *Group) Slot() uint8 { return g.slot.Get() }

// Links are the group's links, in the order of the intercepts.
func (g *Group) Links() []*Link { return g.links }

// Up says whether every link is up: as long as one is not, answers that its intercept sees are lost.
func (g *Group) Up() bool {
	for _, l := range g.links {
		if !l.State().Up {
			return false
		}
	}
	return true
}

// WaitReady waits for all links, and returns the first error; see Link.WaitReady.
func (g *Group) WaitReady(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	errs := make(chan error, len(g.links))
	for _, l := range g.links {
		go func() { errs <- l.WaitReady(ctx) }()
	}
	var first error
	for range g.links {
		if err := <-errs; err != nil && first == nil {
			first = err
			cancel()
		}
	}
	return first
}

// Claim claims at every intercept; false if one of them could not be told (see Link.Claim).
func (g *Group) Claim(tuples []wire.Tuple) bool {
	ok := true
	for _, l := range g.links {
		ok = l.Claim(tuples) && ok
	}
	return ok
}

// Release releases at every intercept.
func (g *Group) Release(tuples []wire.Tuple) bool {
	ok := true
	for _, l := range g.links {
		ok = l.Release(tuples) && ok
	}
	return ok
}

// Hurry tells every intercept that turns wait for answers.
func (g *Group) Hurry() {
	for _, l := range g.links {
		l.Hurry()
	}
}

// ReadAnswers tells every intercept what to read.
func (g *Group) ReadAnswers(readings []wire.Reading) bool {
	ok := true
	for _, l := range g.links {
		ok = l.ReadAnswers(readings) && ok
	}
	return ok
}

// SetTargets tells every intercept where copies are sent from now on.
func (g *Group) SetTargets(targets []netip.AddrPort) {
	for _, l := range g.links {
		l.SetTargets(targets)
	}
}

// Query asks all intercepts who owns a connection. OnOwner gets one answer: Another if one of them says
// so, else Unsure if one does, else You or Nobody. Query never blocks; it returns false, and no answer
// comes, where one of them cannot be asked; nor does one come if a link breaks meanwhile.
func (g *Group) Query(t wire.Tuple) bool {
	id := g.question(&question{tuple: t, left: len(g.links), worst: wire.Nobody})
	for _, l := range g.links {
		if !l.query(id, t) {
			g.forget(id)
			return false
		}
	}
	return true
}

// Seek asks the intercepts whether a connection may be opened whose first SYN was sent age ago, or is to be sent.
// OnSought gets one answer: not where one of them says that it is another's. One that is down has no say, or nothing
// would be copied until it is back. Otherwise as Query.
func (g *Group) Seek(t wire.Tuple, age time.Duration) bool {
	up := make([]*Link, 0, 8)
	for _, l := range g.links {
		if l.State().Up {
			up = append(up, l)
		}
	}
	if len(up) == 0 {
		return false
	}
	id := g.question(&question{tuple: t, seek: true, left: len(up), worst: wire.Nobody})
	for _, l := range up {
		if !l.seek(id, t, age) {
			g.forget(id)
			return false
		}
	}
	return true
}

// question enters q, and returns its number.
func (g *Group) question(q *question) uint32 {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.id++
	if len(g.pending) >= maxQuestions {
		clear(g.pending) // links broke with answers under way; who still wants to know asks again
	}
	g.pending[g.id] = q
	return g.id
}

func (g *Group) forget(id uint32) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.pending, id)
}

// answered counts one link's answer.
func (g *Group) answered(o wire.Owner) {
	g.mu.Lock()
	q := g.pending[o.ID]
	if q == nil || q.tuple != o.Tuple {
		g.mu.Unlock()
		return
	}
	if rank(o.Owner) > rank(q.worst) {
		q.worst = o.Owner
	}
	q.left--
	done := q.left == 0
	if done {
		delete(g.pending, o.ID)
	}
	g.mu.Unlock()
	switch {
	case !done:
	case q.seek && g.cfg.OnSought != nil:
		g.cfg.OnSought(q.tuple, q.worst != wire.Another)
	case !q.seek && g.cfg.OnOwner != nil:
		g.cfg.OnOwner(q.tuple, q.worst)
	}
}

// rank orders answers by how much they forbid; what is not known forbids.
func rank(o wire.Ownership) int {
	switch o {
	case wire.Nobody:
		return 0
	case wire.You:
		return 1
	case wire.Another:
		return 3
	}
	return 2
}

// Close closes all links.
func (g *Group) Close() {
	var wg sync.WaitGroup
	for _, l := range g.links {
		wg.Go(l.Close)
	}
	wg.Wait()
}
