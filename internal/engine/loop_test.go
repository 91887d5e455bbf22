package engine

import (
	"net/netip"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"tcpcopy/internal/config"
	"tcpcopy/internal/core/balance"
	"tcpcopy/internal/core/gate"
	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/core/mapping"
	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/core/seqnum"
	"tcpcopy/internal/core/session"
	"tcpcopy/internal/core/shard"
	"tcpcopy/internal/source"
)

var (
	client     = netip.MustParseAddrPort("192.0.2.7:40000")
	production = netip.MustParseAddrPort("10.0.0.1:80")
	target     = netip.MustParseAddrPort("10.0.0.2:8080")
)

// script is a capture source that yields batches when the test says so.
type script struct {
	batches chan []source.Frame
	closed  chan struct{}
	given   atomic.Uint64
}

func newScript() *script {
	return &script{batches: make(chan []source.Frame, 16), closed: make(chan struct{})}
}

func (s *script) Next(wait time.Duration) ([]source.Frame, error) {
	select {
	case b := <-s.batches:
		s.given.Add(uint64(len(b)))
		return b, nil
	default:
	}
	if wait == 0 {
		return nil, nil
	}
	select {
	case b := <-s.batches:
		s.given.Add(uint64(len(b)))
		return b, nil
	case <-s.closed:
		return nil, source.ErrClosed
	case <-time.After(wait):
		return nil, nil
	}
}

func (s *script) Stats() source.Stats { return source.Stats{Dropped: 3, Delivered: s.given.Load()} }
func (s *script) Close() error        { close(s.closed); return nil }

// sink is an Opener whose streams take everything at once and keep it.
type sink struct {
	opened []*sunk
}

type sunk struct {
	sink  *sink
	spec  session.OpenSpec
	bytes []byte
	shut  bool
}

func (s *sink) Open(_ mono.Time, spec *session.OpenSpec) session.Stream {
	st := &sunk{sink: s, spec: *spec}
	s.opened = append(s.opened, st)
	return st
}

func (s *sunk) Release(_ mono.Time, end uint64) {
	for uint64(len(s.bytes)) < end {
		s.bytes = append(s.bytes, s.spec.Record.View(uint64(len(s.bytes)), int(end)-len(s.bytes))...)
	}
}
func (s *sunk) CloseWrite(mono.Time) { s.shut = true }
func (s *sunk) Abort(mono.Time)      {}

// bench is a reader and shards in a synctest bubble.
type bench struct {
	source *script
	reader *reader
	loops  []*shardLoop
	sinks  []*sink
	read   chan error
	now    func() mono.Time
}

func start(t *testing.T, shards int) *bench {
	t.Helper()
	origin := time.Now()
	b := &bench{source: newScript(), read: make(chan error, 1)}
	b.now = func() mono.Time { return mono.Time(time.Since(origin)) }
	for i := range shards {
		k := &sink{}
		b.sinks = append(b.sinks, k)
		svc := &shard.Service{
			Session: &session.Service{Gate: gate.NewService(gate.Config{}), MaxBytes: 1 << 20, Idle: time.Hour, Stall: time.Minute},
			Targets: balance.NewGroup(balance.Config{}, []mapping.Target{{Addr: target, Weight: 1}}), Copies: 1, Sample: 1,
		}
		l := newShardLoop(shard.New(shard.Config{
			Index: i, Count: shards, Services: []*shard.Service{svc}, Opener: k,
			MaxSessions: 100, MaxMemory: 1 << 20,
		}), b.now)
		b.loops = append(b.loops, l)
		go l.run()
	}
	maps, err := mapping.Parse("80-10.0.0.2:8080")
	if err != nil {
		t.Fatal(err)
	}
	served, err := newServed(&config.Copy{}, maps)
	if err != nil {
		t.Fatal(err)
	}
	b.reader = newReader(b.source, classifier{
		served: served, isLocal: func(a netip.Addr) bool { return a == production.Addr() },
	}, b.loops)
	go func() { b.read <- b.reader.run() }()
	return b
}

// stop ends the reader and the shards, and returns the sum of their accounts.
func (b *bench) stop(t *testing.T) ledger.Counters {
	t.Helper()
	close(b.reader.stop)
	if err := <-b.read; err != nil {
		t.Error(err)
	}
	var sum ledger.Counters
	for _, l := range b.loops {
		close(l.stop)
		<-l.ended
		c := l.snapshot()
		sum.Add(&c)
	}
	if err := sum.Check(); err != nil {
		t.Error(err)
	}
	if n := sum.Sessions.InFlight() + sum.Bytes.InFlight(); n != 0 {
		t.Errorf("%d in flight after the end", n)
	}
	return sum
}

func (b *bench) frame(from, to netip.AddrPort, seq, ack seqnum.Value, flags packet.Flags, payload string) source.Frame {
	seg := packet.Segment{Src: from, Dst: to, Seq: seq, Ack: ack, Flags: flags, Window: 1000, Payload: []byte(payload), Len: len(payload)}
	data := packet.Append(nil, &seg)
	return source.Frame{Data: data, Wire: len(data), Time: b.now(), Ifindex: 2, Outgoing: from == production}
}

func TestFromCaptureToStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, 2)
		b.source.batches <- []source.Frame{
			b.frame(client, production, 100, 0, packet.SYN, ""),
			b.frame(production, client, 500, 101, packet.SYN|packet.ACK, ""),
			b.frame(client, production, 101, 501, packet.ACK, ""),
			b.frame(client, production, 101, 501, packet.ACK|packet.PSH, "GET / HTTP/1.1\r\n\r\n"),
		}
		synctest.Wait()
		k := b.sinks[shard.Of(client.Port(), 2)]
		if len(k.opened) != 1 {
			t.Fatalf("%d connections to the target, wanted 1", len(k.opened))
		}
		if got := string(k.opened[0].bytes); got != "GET / HTTP/1.1\r\n\r\n" {
			t.Errorf("the target got %q", got)
		}
		if got := k.opened[0].spec; got.Client != client || got.Production != production || got.Target != target {
			t.Errorf("opened for %v", got)
		}
		sum := b.stop(t)
		if p := b.reader.packets(); p.Seen != 4 || p.KernelDrop != 3 || p.Offered != 7 || p.NotOurs != 0 {
			t.Errorf("packets %+v", p)
		}
		if sum.Sessions.Captured != 1 || sum.Sessions.Dropped[ledger.Shutdown] != 1 {
			t.Errorf("sessions %+v", sum.Sessions)
		}
	})
}

func TestWhatWasCapturedBeforeTheStopIsRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, 1)
		synctest.Wait()
		for i := range 5 { // at once with the stop: the reader finds both
			c := netip.AddrPortFrom(client.Addr(), uint16(41000+i))
			b.source.batches <- []source.Frame{b.frame(c, production, 1, 0, packet.SYN, "")}
		}
		sum := b.stop(t)
		if sum.Sessions.Captured != 5 {
			t.Errorf("%d sessions captured, wanted 5", sum.Sessions.Captured)
		}
	})
}

func TestClassify(t *testing.T) {
	other := netip.MustParseAddrPort("10.0.0.9:80")
	for _, tc := range []struct {
		name     string
		from, to netip.AddrPort
		named    bool // the mapping names the production address, and it is not this host's
		frame    source.Frame
		want     bool
		server   bool
	}{
		{"a client's packet that comes in", client, production, false, source.Frame{}, true, false},
		{"the server's that goes out", production, client, false, source.Frame{Outgoing: true}, true, true},
		{"to another host, seen on a bridge", client, other, false, source.Frame{}, false, false},
		{"our own connection to another host's port 80", netip.MustParseAddrPort("10.0.0.1:45000"), other, false, source.Frame{Outgoing: true}, false, false},
		{"loopback, on its way out", client, production, false, source.Frame{Outgoing: true, Loopback: true}, false, false},
		{"loopback, on its way in", client, production, false, source.Frame{Loopback: true}, true, false},
		{"loopback, the answer on its way in", production, client, false, source.Frame{Loopback: true}, false, false},
		{"to the address that the mapping names, forwarded in", client, other, true, source.Frame{}, true, false},
		{"to the address that the mapping names, forwarded out", client, other, true, source.Frame{Outgoing: true}, true, false},
		{"from the address that the mapping names", other, client, true, source.Frame{}, true, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			rule := "80-10.0.0.2:8080"
			if tc.named {
				rule = "10.0.0.9:80-10.0.0.2:8080"
			}
			maps, err := mapping.Parse(rule)
			if err != nil {
				t.Fatal(err)
			}
			k, err := newServed(&config.Copy{}, maps)
			if err != nil {
				t.Fatal(err)
			}
			k.named[0] = tc.named
			c := classifier{served: k, isLocal: func(a netip.Addr) bool { return a == production.Addr() }}
			tc.frame.Data = packet.Append(nil, &packet.Segment{Src: tc.from, Dst: tc.to, Flags: packet.ACK})
			tc.frame.Wire = len(tc.frame.Data)
			var p shard.Packet
			if got := c.classify(&tc.frame, &p); got != tc.want {
				t.Fatalf("taken: %v, wanted %v", got, tc.want)
			}
			if tc.want && p.FromServer != tc.server {
				t.Errorf("the server's: %v, wanted %v", p.FromServer, tc.server)
			}
		})
	}
}

// TestClassifyRemote: packets of other hosts' interfaces count by their mapping alone, but for our own copies.
func TestClassifyRemote(t *testing.T) {
	client, production := netip.MustParseAddrPort("192.0.2.1:1234"), netip.MustParseAddrPort("198.51.100.1:80")
	target := netip.MustParseAddrPort("10.0.0.2:80")
	for _, tc := range []struct {
		name         string
		rule         string
		from, to     netip.AddrPort
		want, server bool
	}{
		{"to any host's port", "80-10.0.0.2:80", client, production, true, false},
		{"from any host's port", "80-10.0.0.2:80", production, client, true, true},
		{"to the host that is named", "198.51.100.1:80-10.0.0.2:80", client, production, true, false},
		{"to another", "198.51.100.9:80-10.0.0.2:80", client, production, false, false},
		{"our copy", "80-10.0.0.2:80", client, target, false, false},
		{"the answer to it", "80-10.0.0.2:80", target, client, false, false},
		{"another port", "81-10.0.0.2:80", client, production, false, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			maps, err := mapping.Parse(tc.rule)
			if err != nil {
				t.Fatal(err)
			}
			served, err := newServed(&config.Copy{From: config.From{Kind: config.FromMirror}}, maps)
			if err != nil {
				t.Fatal(err)
			}
			c := classifier{served: served}
			f := source.Frame{Data: packet.Append(nil, &packet.Segment{Src: tc.from, Dst: tc.to, Flags: packet.ACK})}
			f.Wire = len(f.Data)
			var p shard.Packet
			if got := c.classify(&f, &p); got != tc.want || got && p.FromServer != tc.server {
				t.Errorf("taken %v, the server's %v; wanted %v, %v", got, p.FromServer, tc.want, tc.server)
			}
		})
	}
}

// After a time without CPU the clock stands still before the missed deadline until what has come meanwhile
// had its moment.
func TestClockAfterAStall(t *testing.T) {
	const ms = mono.Time(time.Millisecond)
	now := 100 * ms
	l := &shardLoop{now: func() mono.Time { return now }, due: mono.Never}
	expect := func(at, clock mono.Time) {
		t.Helper()
		now = at
		if got := l.clock(); got != clock {
			t.Errorf("at %v the clock says %v, wanted %v", at, got, clock)
		}
	}
	expect(100*ms, 100*ms)
	l.due = 110 * ms
	expect(105*ms, 105*ms)   // early: something came
	expect(112*ms, 112*ms)   // on time, nearly
	expect(160*ms, 110*ms-1) // 50 ms late
	expect(161*ms, 110*ms-1)
	if got := l.until(); got != 2*time.Millisecond {
		t.Errorf("waits for %v, wanted 2ms", got)
	}
	expect(163*ms, 163*ms)
}

func TestCallAfterTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, 1)
		b.stop(t)
		if b.loops[0].call(func(*shard.Shard) { t.Error("called") }) {
			t.Error("a call to a loop that has ended says that it was made")
		}
	})
}
