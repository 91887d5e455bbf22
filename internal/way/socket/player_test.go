package socket

import (
	"bytes"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/session"
)

// patience bounds every wait of these tests.
const patience = 20 * time.Second

func TestMain(m *testing.M) {
	if os.Getenv(serverVar) != "" {
		answerRequests()
	}
	if inNamespace(m) {
		return
	}
	goleak.VerifyTestMain(m)
}

var start = time.Now()

func now() mono.Time { return mono.Time(time.Since(start)) }

// memory is a Record over bytes, cut like a client's packets. What is reported as taken is
// overwritten: a Stream that still needs it sends rubbish.
type memory struct {
	b     []byte
	cut   int
	taken uint64
	t     testing.TB
}

func (m *memory) View(off uint64, max int) []byte {
	if off < m.taken {
		m.t.Errorf("View(%d) after %d bytes were taken", off, m.taken)
	}
	if off >= uint64(len(m.b)) {
		return nil
	}
	end := min(off+uint64(max), uint64(len(m.b)))
	if m.cut > 0 {
		end = min(end, (off/uint64(m.cut)+1)*uint64(m.cut))
	}
	return m.b[off:end]
}

func (m *memory) forget(end uint64) {
	if end < m.taken || end > uint64(len(m.b)) {
		m.t.Errorf("Taken %d after %d of %d", end, m.taken, len(m.b))
		return
	}
	clear(m.b[m.taken:end])
	m.taken = end
}

// player plays the shard: one goroutine that owns an Output and its streams.
type player struct {
	t      testing.TB
	out    *Output
	do     chan func()
	ended  chan struct{}
	copies map[session.ID]*played // the goroutine's
}

// played is one session: its record, stream and events.
type played struct {
	p      *player
	id     session.ID
	rec    *memory
	stream session.Stream

	mu     sync.Mutex
	events []session.Event
	news   chan struct{}
}

func play(t testing.TB, cfg Config) *player {
	t.Helper()
	if cfg.Now == nil {
		cfg.Now = now
	}
	out, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	p := &player{t: t, out: out, do: make(chan func()), ended: make(chan struct{}),
		copies: map[session.ID]*played{}}
	stop := make(chan struct{})
	go p.run(stop)
	t.Cleanup(func() {
		close(stop)
		<-p.ended
	})
	return p
}

func (p *player) run(stop chan struct{}) {
	defer close(p.ended)
	defer p.out.Close()
	events := p.out.Events()
	for {
		if p.out.Pending() {
			p.heed(p.out.Step(now(), nil))
		}
		select {
		case b, ok := <-events:
			if !ok {
				events = nil
			}
			p.heed(p.out.Step(now(), b))
		case f := <-p.do:
			f()
		case <-stop:
			return
		}
	}
}

func (p *player) heed(evs []session.Event) {
	at := now()
	for _, ev := range evs {
		c := p.copies[ev.ID]
		if ev.At > at {
			p.t.Errorf("event %+v comes before it happens, at %v", ev, at)
		}
		c.mu.Lock()
		c.check(ev)
		ev.Bytes = bytes.Clone(ev.Bytes)
		c.events = append(c.events, ev)
		c.mu.Unlock()
		if ev.Kind == session.Taken {
			c.rec.forget(ev.N)
		}
		select {
		case c.news <- struct{}{}:
		default:
		}
	}
}

// check holds an event against what the contract of session.Stream says of their order.
func (c *played) check(ev session.Event) {
	var opened bool
	for _, old := range c.events {
		switch {
		case isLast(old.Kind):
			c.p.t.Errorf("session %d: event %+v after the last one %+v", c.id, ev, old)
		case old.Kind == ev.Kind && (ev.Kind == session.Opened || ev.Kind == session.Shut):
			c.p.t.Errorf("session %d: event %+v twice", c.id, ev)
		case ev.Kind >= session.AnswerEnd:
		case old.Kind == ev.Kind && old.N >= ev.N:
			c.p.t.Errorf("session %d: event %+v after %+v", c.id, ev, old)
		}
		opened = opened || old.Kind == session.Opened
	}
	if !opened && ev.Kind != session.Opened && ev.Kind != session.Failed {
		c.p.t.Errorf("session %d: event %+v before it opened", c.id, ev)
	}
}

// isLast reports whether nothing follows an event.
func isLast(k session.EventKind) bool {
	return k == session.Finished || k == session.ResetByPeer || k == session.Failed
}

// in runs f on the player's goroutine and waits for it.
func (p *player) in(f func()) {
	done := make(chan struct{})
	p.do <- func() { f(); close(done) }
	<-done
}

// open opens a session whose record is a copy of content.
func (p *player) open(id session.ID, target netip.AddrPort, content []byte, cut int,
	change ...func(*session.OpenSpec)) *played {
	c := &played{p: p, id: id, news: make(chan struct{}, 1),
		rec: &memory{b: bytes.Clone(content), cut: cut, t: p.t}}
	p.in(func() {
		p.copies[id] = c
		spec := session.OpenSpec{ID: id, Target: target, Record: c.rec}
		for _, f := range change {
			f(&spec)
		}
		c.stream = p.out.Open(now(), &spec)
	})
	return c
}

func (c *played) release(end int) { c.p.in(func() { c.stream.Release(now(), uint64(end)) }) }
func (c *played) closeWrite()     { c.p.in(func() { c.stream.CloseWrite(now()) }) }
func (c *played) abort()          { c.p.in(func() { c.stream.Abort(now()) }) }

// until waits for an event that fits.
func (c *played) until(want string, fits func(session.Event) bool) session.Event {
	c.p.t.Helper()
	late := time.After(patience)
	for {
		c.mu.Lock()
		for _, ev := range c.events {
			if fits(ev) {
				c.mu.Unlock()
				return ev
			}
		}
		c.mu.Unlock()
		select {
		case <-c.news:
		case <-late:
			c.p.t.Fatalf("session %d: no %s in %v; events: %+v", c.id, want, patience, c.all())
		}
	}
}

func (c *played) wait(kind session.EventKind) session.Event {
	c.p.t.Helper()
	return c.until("event of kind "+kindName(kind),
		func(ev session.Event) bool { return ev.Kind == kind })
}

func (c *played) waitN(kind session.EventKind, n int) {
	c.p.t.Helper()
	c.until("enough of "+kindName(kind),
		func(ev session.Event) bool { return ev.Kind == kind && ev.N >= uint64(n) })
}

// last waits for the event that ends the session.
func (c *played) last() session.Event {
	c.p.t.Helper()
	return c.until("last event", func(ev session.Event) bool { return isLast(ev.Kind) })
}

func (c *played) all() []session.Event {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]session.Event(nil), c.events...)
}

// kinds are the events so far, those that follow one of their own kind left out.
func (c *played) kinds() []session.EventKind {
	var kinds []session.EventKind
	for _, ev := range c.all() {
		if len(kinds) == 0 || kinds[len(kinds)-1] != ev.Kind {
			kinds = append(kinds, ev.Kind)
		}
	}
	return kinds
}

func kindName(k session.EventKind) string {
	return [...]string{"none", "opened", "taken", "received", "shut", "finished", "reset by peer",
		"failed",
		"answer end", "answer bytes", "answers lost"}[k]
}

// serve listens on loopback and runs f for each connection, which it closes afterwards.
func serve(t testing.TB, host string, f func(*net.TCPConn)) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	var mu sync.Mutex
	conns := map[net.Conn]bool{}
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns[c] = true
			mu.Unlock()
			_ = c.SetDeadline(time.Now().Add(patience))
			all.Go(func() {
				f(c.(*net.TCPConn))
				c.Close()
				mu.Lock()
				delete(conns, c)
				mu.Unlock()
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for c := range conns {
			c.Close()
		}
		mu.Unlock()
		all.Wait()
	})
	return netip.MustParseAddrPort(l.Addr().String())
}

// echo answers each byte with itself until the client ends its direction.
func echo(c *net.TCPConn) { _, _ = io.Copy(struct{ io.Writer }{c}, struct{ io.Reader }{c}) }

// pattern is content in which each place looks different.
func pattern(n int) []byte {
	b := make([]byte, n)
	x := uint32(2463534242)
	for i := range b {
		x ^= x << 13
		x ^= x >> 17
		x ^= x << 5
		b[i] = byte(x)
	}
	return b
}
