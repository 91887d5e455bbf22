package engine

import (
	"errors"
	"net/netip"
	"slices"
	"sync"
	"time"

	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/session"
	"tcpcopy/internal/core/shard"
	"tcpcopy/internal/way"
)

// memory is a way without a network: its targets accept every connection, take every byte at once,
// and answer each piece with answerLength bytes, at once or when the test says so.
type memory struct {
	host     *way.Host
	settings *way.Settings

	mu     sync.Mutex
	calls  []string // of the engine's, in order
	copies []*memoryCopy
	ends   []*memoryEnd
	silent bool          // the targets do not answer by themselves
	sends  time.Duration // how long each Flush takes, by the clock of synctest
	refuse map[string]error
	told   []netip.AddrPort // SetTargets
}

const answerLength = 100

// called notes a call of the engine's, and returns the error that it is to return.
func (m *memory) called(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.calls = append(m.calls, name)
	return m.refuse[name]
}

func (m *memory) Name() string { return "memory" }

func (m *memory) Open(h *way.Host, s *way.Settings, targets []way.Target) error {
	m.host, m.settings, m.told = h, s, way.Addrs(targets)
	return m.called("open")
}

func (m *memory) Attach(index, count int) (way.End, error) {
	e := &memoryEnd{way: m, waker: way.NewWaker()}
	m.ends = append(m.ends, e)
	return e, m.called("attach")
}

func (m *memory) Connect() error { return m.called("connect") }

func (m *memory) Check(all []way.Target, added []netip.AddrPort) error {
	if slices.Contains(added, netip.AddrPort{}) {
		return errors.New("no address")
	}
	return m.called("check")
}

func (m *memory) SetTargets(all []netip.AddrPort) {
	m.called("set targets")
	m.told = all
}

func (m *memory) Account() way.Account {
	return way.Account{SendErrors: 7, Links: []way.Link{{Intercept: "memory", Up: true}}}
}

func (m *memory) Close() { m.called("close") }

// memoryEnd is a shard's end.
type memoryEnd struct {
	way    *memory
	waker  way.Waker
	events []session.Event // the shard's goroutine's
	handed []session.Event
	// discard: copies keep no bytes, and the targets do not answer.
	discard bool

	mu    sync.Mutex
	inbox []session.Event // from the test's goroutine
}

func (e *memoryEnd) Open(now mono.Time, spec *session.OpenSpec, _ shard.Copy) session.Stream {
	c := &memoryCopy{end: e, spec: *spec}
	e.way.mu.Lock()
	e.way.copies = append(e.way.copies, c)
	e.way.mu.Unlock()
	c.tell(now, session.Event{Kind: session.Opened})
	return c
}

func (e *memoryEnd) Deliver(mono.Time, bool) []session.Event {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.handed = append(append(e.handed[:0], e.events...), e.inbox...)
	e.events, e.inbox = e.events[:0], e.inbox[:0]
	return e.handed
}

func (e *memoryEnd) Count(c *ledger.Counters) { c.SegmentsOut += 1000 }
func (e *memoryEnd) Wake() <-chan struct{}    { return e.waker }
func (e *memoryEnd) Flush(mono.Time)          { time.Sleep(e.way.sends) }
func (e *memoryEnd) Pending() bool            { return len(e.events) > 0 }
func (e *memoryEnd) Detach()                  { e.way.called("detach") }

// memoryCopy is a copy at a target. Its fields are the shard's goroutine's; a test looks at them
// when that is idle.
type memoryCopy struct {
	end      *memoryEnd
	spec     session.OpenSpec
	bytes    []byte
	answered uint64
	shut     bool
	over     bool
}

func (c *memoryCopy) tell(now mono.Time, ev session.Event) {
	ev.ID, ev.At = c.spec.ID, now
	c.end.events = append(c.end.events, ev)
}

func (c *memoryCopy) Release(now mono.Time, end uint64) {
	if c.end.discard {
		c.tell(now, session.Event{Kind: session.Taken, N: end})
		return
	}
	for uint64(len(c.bytes)) < end {
		c.bytes = append(c.bytes, c.spec.Record.View(uint64(len(c.bytes)),
			int(end)-len(c.bytes))...)
	}
	c.tell(now, session.Event{Kind: session.Taken, N: end})
	if !c.end.way.silent {
		c.answered += answerLength
		c.tell(now, session.Event{Kind: session.Received, N: c.answered})
	}
}

func (c *memoryCopy) CloseWrite(now mono.Time) {
	c.shut, c.over = true, true
	c.tell(now, session.Event{Kind: session.Shut})
	c.tell(now, session.Event{Kind: session.Finished})
}

func (c *memoryCopy) Abort(mono.Time) { c.over = true }

// answer has the target answer, from another goroutine than the shard's.
func (c *memoryCopy) answer(now mono.Time) {
	c.end.mu.Lock()
	c.answered += answerLength
	c.end.inbox = append(c.end.inbox, session.Event{
		ID: c.spec.ID, Kind: session.Received, N: c.answered, At: now,
	})
	c.end.mu.Unlock()
	c.end.waker.Wake()
}

// here is an address set of one.
type here netip.Addr

func (h here) Has(a netip.Addr) bool { return a == netip.Addr(h) }
func (h here) All() []netip.Addr     { return []netip.Addr{netip.Addr(h)} }
func (h here) Close() error          { return nil }
