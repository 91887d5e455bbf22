package agent_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/source"
	"tcpcopy/internal/source/agent"
	"tcpcopy/internal/source/agents"
	"tcpcopy/internal/way/link/key"
)

const patience = 10 * time.Second

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeSource yields the frames that a test sends.
type fakeSource struct {
	batches chan []source.Frame
	done    chan struct{}
	once    sync.Once
	dropped atomic.Uint64
}

func newSource() *fakeSource {
	return &fakeSource{batches: make(chan []source.Frame, 100), done: make(chan struct{})}
}

func (s *fakeSource) Next(wait time.Duration) ([]source.Frame, error) {
	select {
	case b := <-s.batches:
		return b, nil
	case <-s.done:
		return nil, source.ErrClosed
	case <-time.After(wait):
		return nil, nil
	}
}

func (s *fakeSource) Stats() source.Stats { return source.Stats{Dropped: s.dropped.Load()} }
func (s *fakeSource) Close() error        { s.once.Do(func() { close(s.done) }); return nil }

// clock is a clock that the test can advance.
type clock struct {
	start time.Time
	more  atomic.Int64
}

func (c *clock) now() mono.Time { return mono.Time(time.Since(c.start)) + mono.Time(c.more.Load()) }

const production = "10.0.0.1"

// request returns a client's packet with a payload.
func (c *clock) request(client int, payload string) source.Frame {
	return c.frame(fmt.Sprintf("192.0.2.%d:1234", client), production+":80", payload)
}

func (c *clock) frame(from, to, payload string) source.Frame {
	s := packet.Segment{Src: netip.MustParseAddrPort(from), Dst: netip.MustParseAddrPort(to),
		Flags: packet.ACK, Payload: []byte(payload)}
	b := packet.Append(nil, &s)
	return source.Frame{Data: b, Wire: len(b), Time: c.now()}
}

// rig is an agent that runs, with its capture.
type rig struct {
	t *testing.T
	*agent.Agent
	source *fakeSource
	clock  *clock
	stop   func() // and wait
}

func start(t *testing.T, cfg agent.Config) *rig {
	t.Helper()
	r := &rig{t: t, source: newSource(), clock: &clock{start: time.Now()}}
	cfg.Source, cfg.Now, cfg.Log = r.source, r.clock.now, slog.New(slog.DiscardHandler)
	cfg.Name = "web"
	if cfg.Production == nil {
		cfg.Production = []agent.Production{{Port: 80}}
	}
	if cfg.Memory == 0 {
		cfg.Memory = 1 << 20
	}
	if cfg.IsLocal == nil {
		cfg.IsLocal = func(a netip.Addr) bool { return a.String() == production }
	}
	a, err := agent.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	r.Agent = a
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	var once sync.Once
	r.stop = func() {
		once.Do(func() {
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
	}
	t.Cleanup(r.stop)
	return r
}

func copier(t *testing.T, at netip.AddrPort, k *key.Key) *agents.Source {
	t.Helper()
	cfg := agents.Config{Listen: at, Log: slog.New(slog.DiscardHandler)}
	if k != nil {
		cfg.TLS = key.AgentServerTLS(*k)
	}
	s, err := agents.Listen(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

var anywhere = netip.MustParseAddrPort("127.0.0.1:0")

// payloads reads packets until there are n, and returns their payloads.
func payloads(t *testing.T, s *agents.Source, n int) (all []string) {
	t.Helper()
	for end := time.Now().Add(patience); len(all) < n; {
		frames, err := s.Next(100 * time.Millisecond)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range frames {
			var seg packet.Segment
			if err := packet.Decode(f.Data, f.Wire, &seg); err != nil {
				t.Fatal(err)
			}
			all = append(all, string(seg.Payload))
		}
		if time.Now().After(end) {
			t.Fatalf("%q, wanted %d", all, n)
		}
	}
	return all
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); !ok(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

func newKey(t *testing.T) *key.Key {
	t.Helper()
	k, err := key.Parse(key.Generate())
	if err != nil {
		t.Fatal(err)
	}
	return &k
}

// TestSends: packets of this host's servers reach the copier, with a key and in order, including
// those that were captured last.
func TestSends(t *testing.T) {
	k := newKey(t)
	s := copier(t, anywhere, k)
	r := start(t, agent.Config{To: s.Addr().String(), TLS: key.AgentClientTLS(*k)})
	// What was counted before the connection is not in the copier's account.

	until(t, "the connection", func() bool { return len(s.Agents()) == 1 })
	answer := r.clock.frame(production+":80", "192.0.2.1:1234", "an answer")
	answer.Outgoing = true
	r.source.batches <- []source.Frame{
		r.clock.request(1, "one"),
		r.clock.frame("192.0.2.1:1234", "10.0.0.9:80", "another host's"),
		r.clock.frame("192.0.2.1:1234", production+":81", "another port"),
		answer,
		r.clock.frame(production+":80", "192.0.2.1:1234", "an answer on its way in"),
		{Data: []byte("no packet at all"), Wire: 16},
		r.clock.request(2, strings.Repeat("two", 30_000/3)),
	}
	got := payloads(t, s, 3)
	if got[0] != "one" || got[1] != "an answer" || len(got[2]) != 30_000 {
		t.Errorf("%.100q", got)
	}
	r.source.dropped.Store(7)
	r.source.batches <- []source.Frame{r.clock.request(1, "the last")}
	r.stop()
	if got := payloads(t, s, 1); got[0] != "the last" {
		t.Errorf("%q", got)
	}
	until(t, "the last counts", func() bool {
		st := s.Agents()[0]
		return !st.Up && st.Counts.Sent == 4 && st.Counts.NotOurs == 4 &&
			st.Counts.KernelDrop == 7 && st.Lost == 0
	})
	if st := s.Stats(); st.Offered != 4+7 || st.Dropped != 7 {
		t.Errorf("%+v", st)
	}
}

// TestNamedAndLoopback: forwarded packets are sent if the server's address is given, and on
// loopback one of each pair.
func TestNamedAndLoopback(t *testing.T) {
	s := copier(t, anywhere, nil)
	r := start(t, agent.Config{To: s.Addr().String(),
		Production: []agent.Production{{Port: 80},
			{Addr: netip.MustParseAddr("10.0.0.9"), Port: 81}}})
	in := r.clock.request(1, "in")
	in.Loopback = true
	out := in
	out.Outgoing = true
	through := r.clock.frame("192.0.2.1:1234", "10.0.0.9:81", "through")
	through.Outgoing = true
	r.source.batches <- []source.Frame{out, in, through}
	if got := strings.Join(payloads(t, s, 2), " "); got != "in through" {
		t.Errorf("%q", got)
	}
}

// TestCopierRestarts: the agent counts what it cannot send, and connects again.
func TestCopierRestarts(t *testing.T) {
	s := copier(t, anywhere, nil)
	at := s.Addr()
	r := start(t, agent.Config{To: at.String()})
	r.source.batches <- []source.Frame{r.clock.request(1, "one")}
	payloads(t, s, 1)
	s.Close()
	until(t, "the loss of the connection", func() bool { return !r.Snapshot().Link.Up })
	r.source.batches <- []source.Frame{r.clock.request(1, "too old when it can be sent")}
	until(t, "it to be taken", func() bool { return len(r.source.batches) == 0 })
	r.clock.more.Store(int64(time.Minute))
	until(t, "it to be dropped", func() bool { return r.Snapshot().Counts.LinkDown == 1 })
	again := copier(t, at, nil)
	until(t, "the connection", func() bool { return r.Snapshot().Link.Up })
	r.source.batches <- []source.Frame{r.clock.request(1, "two")}
	if got := payloads(t, again, 1); got[0] != "two" {
		t.Errorf("%q", got)
	}
	until(t, "the account", func() bool {
		st := r.Snapshot()
		return st.Link.Connects == 2 && st.Counts.Sent == 2
	})
	if st := again.Agents()[0]; st.Lost != 0 || st.Counts.LinkDown != 0 {
		t.Errorf("what was dropped before it was there is the new copier's: %+v", st)
	}
}

// TestAgentRestarts: a new run of an agent is another agent.
func TestAgentRestarts(t *testing.T) {
	s := copier(t, anywhere, nil)
	for i := range 2 {
		r := start(t, agent.Config{To: s.Addr().String()})
		r.source.batches <- []source.Frame{r.clock.request(1, "word")}
		payloads(t, s, 1)
		r.stop()
		until(t, "its end", func() bool { st := s.Agents(); return len(st) == i+1 && !st[i].Up })
	}
	if st := s.Stats(); st.Offered != 2 || st.Lost != 0 {
		t.Errorf("%+v", st)
	}
}

// TestNobodyListens: what waits for a copier that is not there is bounded. The rest is counted.
func TestNobodyListens(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	r := start(t, agent.Config{To: l.Addr().String(), Memory: 1 << 20})
	const each, batches = 100, 40 // 60,000 bytes each: 2.4 MB
	for range batches {
		var b []source.Frame
		for range each {
			b = append(b, r.clock.request(1, strings.Repeat("x", 600)))
		}
		r.source.batches <- b
	}
	until(t, "drops", func() bool { return r.Snapshot().Counts.LinkDown > each*batches/4 })
	until(t, "a refusal", func() bool { return r.Snapshot().Link.Err != nil })
	if st := r.Snapshot(); st.Link.Up || st.Counts.Sent != 0 || st.Counts.OverMemory != 0 {
		t.Errorf("%+v", st)
	}
}

// TestCopierThatDoesNotRead: the capture does not wait for the copier. What finds no room is
// counted.
func TestCopierThatDoesNotRead(t *testing.T) {
	s := copier(t, anywhere, nil)
	r := start(t, agent.Config{To: s.Addr().String(), Memory: 1 << 20, Compress: agent.CompressOff})
	until(t, "the connection", func() bool { return r.Snapshot().Link.Up })
	var sent uint64
	for r.Snapshot().Counts.OverMemory == 0 {
		var b []source.Frame
		for range 5 {
			b = append(b, r.clock.request(1, strings.Repeat("x", 60_000)))
		}
		r.source.batches <- b
		sent += uint64(len(b))
	}
	var got uint64
	until(t, "the rest", func() bool {
		for {
			frames, err := s.Next(0)
			if err != nil {
				t.Fatal(err)
			}
			if got += uint64(len(frames)); len(frames) == 0 {
				break
			}
		}
		c := r.Snapshot().Counts
		return len(r.source.batches) == 0 && c.Sent+c.OverMemory == sent && got == c.Sent
	})
}

// TestWrongKeys: the agent reports the cause, and tries again.
func TestWrongKeys(t *testing.T) {
	k, other := newKey(t), newKey(t)
	for _, tc := range []struct {
		name        string
		mine, their *key.Key
		want        string
	}{
		{"another", k, other, "the copier holds another key"},
		{"the copier has none", k, nil, "the copier was started without a key"},
		{"the copier wants one", nil, k, "the copier requires a key"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := copier(t, anywhere, tc.their)
			cfg := agent.Config{To: s.Addr().String()}
			if tc.mine != nil {
				cfg.TLS = key.AgentClientTLS(*tc.mine)
			}
			r := start(t, cfg)
			until(t, "a refusal", func() bool { return r.Snapshot().Link.Err != nil })
			if err := r.Snapshot().Link.Err.Error(); !strings.Contains(err, tc.want) {
				t.Errorf("%s, want %s", err, tc.want)
			}
		})
	}
}

// TestSheds: above a bound whole sessions are left out, after a gap if they had begun, and counted.
func TestSheds(t *testing.T) {
	s := copier(t, anywhere, nil)
	var cpu atomic.Int64
	var busy atomic.Bool
	r := start(t, agent.Config{To: s.Addr().String(), MaxCPU: 0.5, Spent: func() time.Duration {
		if busy.Load() {
			cpu.Add(int64(time.Hour))
		}
		return time.Duration(cpu.Load())
	}})
	const clients = 200
	round := func() {
		var b []source.Frame
		for i := range clients {
			b = append(b, r.clock.request(i, "word"))
		}
		r.source.batches <- b
	}
	round()
	payloads(t, s, clients)
	busy.Store(true)
	until(t, "the share to fall to nothing", func() bool { return r.Snapshot().Share == 0 })
	if c := r.Snapshot(); c.Cause != agent.CPU {
		t.Errorf("%+v", c)
	}
	round() // each is told of, as a gap
	for i, p := range payloads(t, s, clients) {
		if p != "" {
			t.Fatalf("packet %d has %q", i, p)
		}
	}
	round() // and then no more, but for the few that share a place in the agent's memory
	until(t, "the counts", func() bool {
		c := r.Snapshot().Counts
		return c.ShedCPU+c.Sent == 3*clients && c.ShedCPU > clients*9/10 &&
			c.ShedSessions == c.Sent-clients
	})
	payloads(t, s, int(r.Snapshot().Counts.Sent-2*clients))
	busy.Store(false)
	until(t, "all of them to be sent again", func() bool {
		// The governor goes by the clock, not by how often it is called.

		r.clock.more.Add(int64(time.Second))
		r.source.batches <- nil
		return r.Snapshot().Share == 1
	})
	round()
	if got := payloads(t, s, clients); got[0] != "word" || got[clients-1] != "word" {
		t.Errorf("%q", got)
	}
}

// BenchmarkAgent measures a packet from the capture to the copier, over loopback and without a key.
func BenchmarkAgent(b *testing.B) {
	t := &testing.T{}
	s, err := agents.Listen(agents.Config{Listen: anywhere, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	r := start(t, agent.Config{To: s.Addr().String(), Memory: 64 << 20})
	defer r.stop()
	var batch []source.Frame
	for i := range 100 {
		batch = append(batch, r.clock.request(i, strings.Repeat("x", 200)))
	}
	b.ReportAllocs()
	b.ResetTimer()
	for n := 0; n < b.N; n += len(batch) {
		r.source.batches <- batch
		for got := 0; got < len(batch); {
			f, err := s.Next(-1)
			if err != nil {
				b.Fatal(err)
			}
			got += len(f)
		}
	}
}
