package link

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"tcpcopy/internal/way/link/wire"
)

// Group is a copier's links to all its intercepts, which share a slot. The copier claims what it
// owns at each of them, because it cannot know which of them captures an answer.
type Group struct {
	slot  *Slot
	links []*Link
	cfg   *Config

	mu      sync.Mutex
	id      uint32
	pending map[uint32]*question
}

// question is a Query or Seek that waits for answers.
type question struct {
	tuple wire.Tuple
	seek  bool
	left  int            // answers still to come
	worst wire.Ownership // of those that came
}

// maxQuestions bounds the questions that wait.
const maxQuestions = 1 << 14

// NewGroup makes a link to each of the intercepts. The links do nothing until Start, so that the
// callbacks can use the group. cfg.OnOwner receives one answer for each Query, and cfg.OnSought one
// for each Seek, made from all links' answers. The group is closed only after Start.
func NewGroup(intercepts []string, cfg Config) *Group {
	cfg.defaults()
	g := &Group{slot: NewSlot(), cfg: &cfg, pending: make(map[uint32]*question)}
	for _, a := range intercepts {
		l := newLink(a, g.slot, cfg)
		l.owner = g.answer
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

// Slot returns what a new connection's initial sequence number must carry in its low 8 bits.
func (g *Group) Slot() uint8 { return g.slot.Get() }

// Links returns the group's links, in the order of the intercepts.
func (g *Group) Links() []*Link { return g.links }

// Up reports whether every link is up. Answers that an intercept captures while its link is down
// are lost.
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

// Claim claims tuples at every intercept. It returns false if one of them could not be told; see
// Link.Claim.
func (g *Group) Claim(tuples []wire.Tuple) bool {
	ok := true
	for _, l := range g.links {
		ok = l.Claim(tuples) && ok
	}
	return ok
}

// Release releases tuples at every intercept. See Claim.
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

// ReadAnswers tells every intercept what to read. See Claim.
func (g *Group) ReadAnswers(readings []wire.Reading) bool {
	ok := true
	for _, l := range g.links {
		ok = l.ReadAnswers(readings) && ok
	}
	return ok
}

// SetTargets tells every intercept where copies are sent.
func (g *Group) SetTargets(targets []netip.AddrPort) {
	for _, l := range g.links {
		l.SetTargets(targets)
	}
}

// Query asks all intercepts who owns a connection. OnOwner receives one answer: Another if one of
// them answers so, else Unsure if one does, else You or Nobody. Query does not block. It returns
// false, and there is no answer, where one of them cannot be asked. There is no answer either if a
// link breaks meanwhile.
func (g *Group) Query(t wire.Tuple) bool {
	id := g.add(&question{tuple: t, left: len(g.links), worst: wire.Nobody})
	for _, l := range g.links {
		if !l.query(id, t) {
			g.forget(id)
			return false
		}
	}
	return true
}

// Seek asks the intercepts that are up whether a connection may be opened. Its first SYN was sent
// age ago; 0: it is still to be sent. OnSought receives one answer: true unless one of them answers
// that another copier has the connection. An intercept that is down is not asked, or nothing could
// be copied until it is back. Otherwise Seek is as Query.
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
	id := g.add(&question{tuple: t, seek: true, left: len(up), worst: wire.Nobody})
	for _, l := range up {
		if !l.seek(id, t, age) {
			g.forget(id)
			return false
		}
	}
	return true
}

// add enters a question, and returns its number.
func (g *Group) add(q *question) uint32 {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.id++
	if len(g.pending) >= maxQuestions {
		clear(g.pending) // links broke before they answered; the copier asks again
	}
	g.pending[g.id] = q
	return g.id
}

func (g *Group) forget(id uint32) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.pending, id)
}

// answer records one link's answer, and makes the callback after the last one.
func (g *Group) answer(o wire.Owner) {
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

// rank orders answers by how much they forbid. An answer of a later version forbids.
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
