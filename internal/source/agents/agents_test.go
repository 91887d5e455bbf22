package agents

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/s2"
	"go.uber.org/goleak"

	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/source"
	"tcpcopy/internal/source/filter"
	"tcpcopy/internal/way/link"
	"tcpcopy/internal/way/link/key"
	"tcpcopy/internal/way/link/wire"
)

const patience = 5 * time.Second

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func listen(t testing.TB, cfg Config) *Source {
	t.Helper()
	cfg.Listen = netip.MustParseAddrPort("127.0.0.1:0")
	cfg.Log = slog.New(slog.DiscardHandler)
	s, err := Listen(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// peer is an agent that the test plays.
type peer struct {
	net.Conn
	t  testing.TB
	in wire.Reader
}

func dial(t testing.TB, s *Source, k *tls.Config) *peer {
	t.Helper()
	c, err := net.Dial("tcp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patience))
	if k != nil {
		c = tls.Client(c, k)
	}
	return &peer{Conn: c, t: t}
}

func (p *peer) send(b []byte) {
	p.t.Helper()
	if _, err := p.Write(b); err != nil {
		p.t.Fatal(err)
	}
}

func (p *peer) frame() wire.Frame {
	p.t.Helper()
	for {
		f, ok, err := p.in.Next()
		if err != nil {
			p.t.Fatal(err)
		}
		if ok {
			return f
		}
		n, err := p.Read(p.in.Space())
		if p.in.Filled(n); err != nil && n == 0 {
			p.t.Fatal(err)
		}
	}
}

// hello introduces a run of an agent.
func (p *peer) hello(id byte, from uint64, c wire.AgentCounts) {
	p.t.Helper()
	h := wire.AgentHello{Version: wire.Version, Instance: wire.Instance{id}, Name: "web",
		Software: "test", Next: from, Counts: c}
	p.send(h.Append([]byte(wire.Preface)))
	if f := p.frame(); f.Type != wire.TypeAgentWelcome {
		p.t.Fatalf("answered with %v", f.Type)
	}
}

// packets returns a message with one packet for each word.
func packets(first uint64, packing wire.Packing, words ...string) []byte {
	p := wire.Packets{First: first, Count: uint32(len(words)), At: 1000, Sent: 2000,
		Packing: packing}
	var records []byte
	for _, w := range words {
		records = wire.AppendRecord(records, 1000,
			&wire.Record{At: 1000, Ifindex: 3, Wire: len(w) + 5, Data: []byte(w)})
	}
	p.Size = uint32(len(records))
	if packing == wire.S2 {
		records = s2.Encode(nil, records)
	}
	return append(p.AppendHeader(nil, len(records)), records...)
}

// words reads packets until there are n.
func words(t testing.TB, s *Source, n int) (all []string) {
	t.Helper()
	for end := time.Now().Add(patience); len(all) < n; {
		frames, err := s.Next(100 * time.Millisecond)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range frames {
			if f.Wire != len(f.Data)+5 {
				t.Errorf("%q: %d bytes on the wire", f.Data, f.Wire)
			}
			all = append(all, string(f.Data))
		}
		if time.Now().After(end) {
			t.Fatalf("%q, wanted %d", all, n)
		}
	}
	return all
}

// until waits until ok returns true.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); !ok(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

func TestPacketsOfSeveralAgents(t *testing.T) {
	s := listen(t, Config{})
	a, b := dial(t, s, nil), dial(t, s, nil)
	a.hello(1, 0, wire.AgentCounts{})
	b.hello(2, 100, wire.AgentCounts{KernelDrop: 50})
	a.send(packets(0, wire.Plain, "one", "two"))
	if got := strings.Join(words(t, s, 2), " "); got != "one two" {
		t.Errorf("%q", got)
	}
	b.send(packets(100, wire.S2, strings.Repeat("three", 100)))
	if got := words(t, s, 1)[0]; got != strings.Repeat("three", 100) {
		t.Errorf("%q", got)
	}
	a.send((&wire.AgentCounts{Sent: 2, KernelDrop: 1, ShedCPU: 2, ShedRate: 3, OverMemory: 4,
		LinkDown: 5}).Append(nil))
	b.send((&wire.AgentCounts{Sent: 1, KernelDrop: 57}).Append(nil)) // 50 of them before we knew it
	want := source.Stats{Offered: 3 + 1 + 5 + 9 + 7, Dropped: 8, Delivered: 3, Shed: 5, Lost: 9}
	until(t, "the counts", func() bool { return s.Stats() == want })
	states := s.Agents()
	if len(states) != 2 || !states[0].Up || states[0].Packets != 2 ||
		states[1].Counts.KernelDrop != 7 || states[1].Name != "web" {
		t.Errorf("%+v", states)
	}
}

// TestReconnect: packets that were lost with a connection are counted once.
func TestReconnect(t *testing.T) {
	s := listen(t, Config{})
	a := dial(t, s, nil)
	a.hello(1, 0, wire.AgentCounts{})
	a.send(packets(0, wire.Plain, "one"))
	words(t, s, 1)
	b := dial(t, s, nil)
	b.hello(1, 5, wire.AgentCounts{}) // before the older connection is known to be gone
	b.send(packets(5, wire.Plain, "six"))
	words(t, s, 1)
	if _, err := a.Read(make([]byte, 1)); err == nil || errors.Is(err, io.ErrNoProgress) {
		t.Error("the older connection goes on")
	}
	b.send(packets(8, wire.Plain, "nine"))
	words(t, s, 1)
	if st := s.Agents()[0]; st.Lost != 4+2 || st.Packets != 3 || st.Connects != 2 || !st.Up {
		t.Errorf("%+v", st)
	}
	b.Close()
	until(t, "its end", func() bool { return !s.Agents()[0].Up })
}

func TestPingAndGoodbye(t *testing.T) {
	s := listen(t, Config{Now: func() mono.Time { return 77 }})
	a := dial(t, s, nil)
	a.hello(1, 0, wire.AgentCounts{})
	a.send((&wire.Ping{ID: 9}).Append(nil))
	var pong wire.Pong
	if f := a.frame(); f.Type != wire.TypePong || pong.Decode(f.Body) != nil || pong.ID != 9 ||
		pong.At != 77 {
		t.Errorf("%v %+v", f.Type, pong)
	}
	go s.Close()
	var bye wire.Bye
	if f := a.frame(); f.Type != wire.TypeBye || bye.Decode(f.Body) != nil ||
		bye.Reason != wire.ByeShutdown {
		t.Errorf("%v %+v", f.Type, bye)
	}
}

// TestReaderThatIsAway: while the source is not read agents wait, and the batches that are held are
// bounded. Close ends all.
func TestReaderThatIsAway(t *testing.T) {
	s := listen(t, Config{})
	a := dial(t, s, nil)
	a.hello(1, 0, wire.AgentCounts{})
	var sent uint64
	go func() {
		word := strings.Repeat("x", 50_000)
		for { // until the connection is full, and then closed
			if _, err := a.Write(packets(sent, wire.Plain, word)); err != nil {
				return
			}
			sent++
		}
	}()
	until(t, "a full queue", func() bool { return len(s.batches) == waiting })
	if got := len(words(t, s, waiting)); got < waiting {
		t.Errorf("%d packets", got)
	}
	s.Close()
	a.Close()
	for {
		if _, err := s.Next(0); errors.Is(err, source.ErrClosed) {
			break
		}
	}
}

func TestSilentAgentIsGone(t *testing.T) {
	s := listen(t, Config{DeadAfter: 20 * time.Millisecond})
	a := dial(t, s, nil)
	a.hello(1, 0, wire.AgentCounts{})
	until(t, "its end", func() bool { return !s.Agents()[0].Up })
	if st := s.Agents()[0]; st.LastError != "nothing received for 20ms" {
		t.Errorf("%+v", st)
	}
}

func TestFilter(t *testing.T) {
	prog, err := filter.Compile("tcp port 80", filter.Options{})
	if err != nil {
		t.Fatal(err)
	}
	s := listen(t, Config{Filter: prog})
	a := dial(t, s, nil)
	a.hello(1, 0, wire.AgentCounts{})
	a.send(packets(0, wire.Plain, "no packet"))
	until(t, "the packet", func() bool { return s.Agents()[0].Packets == 1 })
	if frames, err := s.Next(0); len(frames) > 0 || err != nil {
		t.Error(frames, err)
	}
}

func TestKeys(t *testing.T) {
	k, err := key.Parse(key.Generate())
	if err != nil {
		t.Fatal(err)
	}
	other, err := key.Parse(key.Generate())
	if err != nil {
		t.Fatal(err)
	}
	t.Run("right", func(t *testing.T) {
		s := listen(t, Config{TLS: key.AgentServerTLS(k)})
		dial(t, s, key.AgentClientTLS(k)).hello(1, 0, wire.AgentCounts{})
	})
	for name, cfg := range map[string]*tls.Config{"wrong": key.AgentClientTLS(other),
		"a copier's": key.ClientTLS(k)} {
		t.Run(name, func(t *testing.T) {
			s := listen(t, Config{TLS: key.AgentServerTLS(k)})
			p := dial(t, s, cfg)
			p.Write([]byte(wire.Preface))
			if _, err := p.Read(make([]byte, 1)); err == nil {
				t.Error("let in")
			}
			if len(s.Agents()) > 0 {
				t.Error("entered")
			}
		})
	}
	refused := func(t *testing.T, p *peer, want wire.Code) {
		t.Helper()
		var r wire.Refuse
		if f := p.frame(); f.Type != wire.TypeRefuse || r.Decode(f.Body) != nil || r.Code != want {
			t.Errorf("%v %+v, want %v", f.Type, r, want)
		}
	}
	t.Run("none, and one is wanted", func(t *testing.T) {
		s := listen(t, Config{TLS: key.AgentServerTLS(k)})
		p := dial(t, s, nil)
		p.send([]byte(wire.Preface))
		refused(t, p, wire.CodeNeedsKey)
	})
	t.Run("another version", func(t *testing.T) {
		s := listen(t, Config{})
		p := dial(t, s, nil)
		p.send((&wire.AgentHello{Version: 9}).Append([]byte(wire.Preface)))
		refused(t, p, wire.CodeVersion)
	})
	t.Run("no hello", func(t *testing.T) {
		s := listen(t, Config{})
		p := dial(t, s, nil)
		p.send((&wire.Ping{}).Append([]byte(wire.Preface)))
		refused(t, p, wire.CodeMalformed)
	})
}

// TestHostile: what an agent must not send ends its connection, and nothing else.
func TestHostile(t *testing.T) {
	bomb := packets(0, wire.S2, strings.Repeat("x", 100_000))
	lie := bytes.Clone(packets(0, wire.S2, strings.Repeat("x", 100_000)))
	lie[wire.FrameHeader+29+3]-- // one byte fewer than there are
	for name, b := range map[string][]byte{
		"a frame that is too long": {byte(wire.TypePackets), 0, 0xff, 0xff, 0xff, 0xff},
		"a type that is unknown":   wire.AppendRaw(nil, 99, 0, nil),
		"records that are none": wire.AppendRaw(nil, wire.TypePackets, 0,
			make([]byte, 33)[:32]),
		"fewer bytes than are announced": lie,
		"packets that came before": append(packets(5, wire.Plain, "x"),
			packets(2, wire.Plain, "x")...),
		"packets of the far future": packets(1<<60, wire.Plain, "x"),
		"packing that is none": append(bomb[:wire.FrameHeader+33:wire.FrameHeader+33],
			bytes.Repeat([]byte{0xff}, len(bomb)-wire.FrameHeader-33)...),
	} {
		t.Run(name, func(t *testing.T) {
			s := listen(t, Config{})
			p := dial(t, s, nil)
			p.hello(1, 0, wire.AgentCounts{})
			p.Write(b)
			until(t, "its end", func() bool { return !s.Agents()[0].Up })
			good := dial(t, s, nil)
			good.hello(2, 0, wire.AgentCounts{})
			good.send(packets(0, wire.Plain, "good"))
			for { // of the bad one, what came before the bad message
				if w := words(t, s, 1); w[len(w)-1] == "good" {
					break
				}
			}
		})
	}
	t.Run("no protocol of ours", func(t *testing.T) {
		s := listen(t, Config{})
		for _, b := range []string{"GET / HTTP/1.1\r\n\r\n", "tcpcopx", ""} {
			p := dial(t, s, nil)
			p.Write([]byte(b))
			p.Conn.(*net.TCPConn).CloseWrite()
			io.Copy(io.Discard, p)
		}
		if len(s.Agents()) > 0 {
			t.Error("entered")
		}
	})
}

// TestAgentsAreForgotten: the oldest agents that are gone are remembered only in a sum.
func TestAgentsAreForgotten(t *testing.T) {
	s := listen(t, Config{})
	for i := range maxAgents + 10 {
		end := new(link.Endpoint)
		h := wire.AgentHello{Version: wire.Version, Instance: wire.Instance{byte(i), byte(i >> 8)}}
		a := s.enter(end, "192.0.2.1", &h)
		if a == nil {
			t.Fatalf("no room for agent %d", i)
		}
		s.mu.Lock()
		a.packets, a.counts.ShedCPU = 1, 2
		s.mu.Unlock()
		s.disconnected(a, end, io.EOF)
	}
	if n := len(s.Agents()); n != maxAgents {
		t.Errorf("%d are remembered, want %d", n, maxAgents)
	}
	if st := s.Stats(); st.Shed != 2*(maxAgents+10) {
		t.Errorf("%+v", st)
	}
	for i := range maxAgents { // connected ones are never forgotten
		h := wire.AgentHello{Instance: wire.Instance{1, 1, byte(i), byte(i >> 8), 1}}
		s.enter(new(link.Endpoint), "192.0.2.1", &h)
	}
	h := wire.AgentHello{Instance: wire.Instance{9, 9, 9}}
	if s.enter(new(link.Endpoint), "192.0.2.1", &h) != nil {
		t.Error("one more than there is room for")
	}
}

// FuzzUnpack: the packets of any message lie within the size that it announced.
func FuzzUnpack(f *testing.F) {
	f.Add(packets(0, wire.Plain, "one", "two")[wire.FrameHeader:])
	f.Add(packets(7, wire.S2, strings.Repeat("three", 100))[wire.FrameHeader:])
	f.Fuzz(func(t *testing.T, body []byte) {
		var p wire.Packets
		if p.Decode(body) != nil {
			return
		}
		var b batch
		records, err := b.unpack(&p)
		if err != nil {
			return
		}
		if len(records) != int(p.Size) || len(records) > wire.MaxRecords {
			t.Fatalf("%d bytes, %d announced", len(records), p.Size)
		}
		r := p.Unpacked(records)
		var rec wire.Record
		for n := 0; ; n++ {
			ok, err := r.Next(&rec)
			if !ok || err != nil {
				return
			}
			if n > len(records) || len(rec.Data) > len(records) {
				t.Fatalf("%d packets in %d bytes", n, len(records))
			}
		}
	})
}
