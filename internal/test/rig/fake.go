// Package rig drives a shard in tests: a Bed, whose packets and time the test hands in; client
// connections; and random traffic, with a target program that checks what arrives.
//
// A Port stands for the way to the targets. FakeOpener is the simplest one.
package rig

import (
	"net/netip"
	"tcpcopy/internal/core/balance"
	"tcpcopy/internal/core/mapping"
	"tcpcopy/internal/core/shard"
	"tcpcopy/internal/way/link/wire"
	"testing"
	"time"

	"tcpcopy/internal/core/gate"
	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/core/seqnum"
	"tcpcopy/internal/core/session"
)

const (
	ms  = mono.Time(time.Millisecond)
	sec = mono.Time(time.Second)
)

// The addresses of the production server and of the target.
var (
	Production = netip.MustParseAddrPort("198.51.100.1:80")
	Target     = netip.MustParseAddrPort("203.0.113.1:8080")
)

// Input is what has come since the last step.
type Input struct {
	Packets []shard.Packet
	Stalled bool
	Events  []session.Event // of streams

	// Of the raw way: the targets' segments, what the intercepts have found, tuples that no copier
	// owns, and tuples that may be opened.
	Feedback []packet.Segment
	Found    []wire.Found
	Unowned  []shard.Tuple
	Free     []shard.Tuple
}

// Port is a shard's Streams that a test feeds.
type Port interface {
	shard.Streams
	// Take hands over what the next Deliver delivers: all of in but the packets.
	Take(in *Input)
}

// Step steps a shard with what has come.
func Step(sh *shard.Shard, port Port, now mono.Time, in *Input) mono.Time {
	port.Take(in)
	return sh.Step(now, &shard.Input{Packets: in.Packets, Stalled: in.Stalled})
}

// Events is the part of a Port whose streams report by events alone.
type Events struct{ next []session.Event }

// Take implements Port.
func (e *Events) Take(in *Input) { e.next = in.Events }

// Deliver implements shard.Streams.
func (e *Events) Deliver(mono.Time, bool) []session.Event {
	events := e.next
	e.next = nil
	return events
}

// Pending implements shard.Streams.
func (e *Events) Pending() bool { return len(e.next) > 0 }

// Count implements shard.Streams.
func (e *Events) Count(*ledger.Counters) {}

// FakeOpener opens streams that take everything at once and do nothing else by themselves.
type FakeOpener struct {
	Events
	All  []*FakeStream
	In   *Input // where its events go
	Deaf bool   // it opens and takes nothing
	// Refuses are the targets that refuse connections.
	Refuses map[netip.AddrPort]bool
}

// FakeStream is a stream of a FakeOpener.
type FakeStream struct {
	o       *FakeOpener
	Spec    session.OpenSpec
	Text    []byte
	Shut    bool
	Aborted bool
	Opened  bool // for FuzzShard: what was told
	Gone    bool
}

// Open implements shard.Streams.
func (o *FakeOpener) Open(now mono.Time, spec *session.OpenSpec, _ shard.Copy) session.Stream {
	f := &FakeStream{o: o, Spec: *spec}
	o.All = append(o.All, f)
	if o.Refuses[spec.Target] {
		f.Tell(session.Event{Kind: session.Failed, Reason: ledger.TargetRefused, At: now})
	} else {
		f.Tell(session.Event{Kind: session.Opened})
	}
	return f
}

// Tell has the stream report an event in the next step.
func (f *FakeStream) Tell(ev session.Event) {
	if ev.ID = f.Spec.ID; !f.o.Deaf {
		f.o.In.Events = append(f.o.In.Events, ev)
	}
}

// Release implements session.Stream.
func (f *FakeStream) Release(_ mono.Time, end uint64) {
	for uint64(len(f.Text)) < end {
		f.Text = append(f.Text, f.Spec.Record.View(uint64(len(f.Text)), int(end)-len(f.Text))...)
	}
	f.Tell(session.Event{Kind: session.Taken, N: end})
}

// CloseWrite implements session.Stream.
func (f *FakeStream) CloseWrite(mono.Time) { f.Shut = true }

// Abort implements session.Stream.
func (f *FakeStream) Abort(mono.Time) { f.Aborted = true }

// Bed is a shard whose time and packets a test hands in.
type Bed struct {
	*testing.T
	Sh   *shard.Shard
	Now  mono.Time
	Due  mono.Time
	In   Input      // of the next step
	Open FakeOpener // its Port, if the test gives it no other
	Port Port
}

// ServiceFor returns a service with these targets.
func ServiceFor(targets ...netip.AddrPort) *shard.Service {
	var list []mapping.Target
	for _, t := range targets {
		list = append(list, mapping.Target{Addr: t, Weight: 1})
	}
	return &shard.Service{Session: &session.Service{Gate: gate.NewService(
		gate.Config{Limit: 30 * time.Second}),
		MaxBytes: 1 << 20, Idle: time.Minute, Stall: 20 * time.Second},
		Targets: balance.NewGroup(balance.Config{Health: true}, list), Copies: 1, Sample: 1}
}

// TargetsOf returns the targets of a service.
func TargetsOf(s *shard.Service) (list []mapping.Target) {
	for _, t := range s.Targets.Targets() {
		list = append(list, mapping.Target{Addr: t.Addr, Weight: t.Weight})
	}
	return list
}

// NewBed returns a Bed. Its configuration is as the test changes it.
func NewBed(t *testing.T, change ...func(*shard.Config)) *Bed {
	b := &Bed{T: t, Now: 100 * sec}
	b.Open.In = &b.In
	cfg := shard.Config{Services: []*shard.Service{ServiceFor(Target)}, Streams: &b.Open,
		MaxSessions: 1000, MaxMemory: 64 << 20, Start: b.Now - 10*sec}
	for _, f := range change {
		f(&cfg)
	}
	b.Sh, b.Port = shard.New(cfg), cfg.Streams.(Port)
	t.Cleanup(b.shutdown)
	return b
}

func (b *Bed) shutdown() {
	b.Sh.Shutdown(b.Now)
	CheckEmpty(b.T, b.Sh)
}

// CheckEmpty fails the test if a shard whose sessions have all ended has anything left.
func CheckEmpty(t interface {
	Helper()
	Errorf(string, ...any)
}, sh *shard.Shard) {
	t.Helper()
	c := sh.Snapshot()
	if err := c.Check(); err != nil {
		t.Errorf("%v", err)
	}
	if n := c.Sessions.InFlight(); n != 0 {
		t.Errorf("%d sessions in flight at the end", n)
	}
	if n := c.Bytes.InFlight(); n != 0 {
		t.Errorf("%d bytes in flight at the end", n)
	}
	for _, a := range sh.Targets() {
		if a.Count.Live != 0 {
			t.Errorf("at the end %d copies live at %v", a.Count.Live, a.Addr)
		}
	}
	if sh.Live() != 0 || sh.Held() != 0 || sh.Memory() != 0 {
		t.Errorf("at the end %d sessions live, %d bytes are in use", sh.Live(), sh.Held())
	}
}

// Step steps the shard with what has gathered, until no event comes of it any more.
func (b *Bed) Step() {
	b.Helper()
	for i := 0; i == 0 || len(b.In.Events) > 0; i++ {
		in := b.In
		b.In = Input{}
		b.Due = Step(b.Sh, b.Port, b.Now, &in)
		if b.Due <= b.Now {
			b.Fatalf("at %v: Step wants to be called at %v", b.Now, b.Due)
		}
		c := b.Sh.Snapshot()
		if err := c.Check(); err != nil {
			b.Fatalf("at %v: %v", b.Now, err)
		}
		if i > 20 {
			b.Fatalf("at %v: events without end", b.Now)
		}
	}
}

// Wait lets d pass, and steps the shard whenever it is due.
func (b *Bed) Wait(d mono.Time) {
	b.Helper()
	end := b.Now + d
	for b.Due <= end {
		b.Now = b.Due
		b.Step()
	}
	b.Now = end
	b.Step()
}

// Live fails the test if there are not n live sessions.
func (b *Bed) Live(n int) {
	b.Helper()
	if b.Sh.Live() != n {
		b.Errorf("at %v: %d sessions live, wanted %d", b.Now, b.Sh.Live(), n)
	}
}

// Sessions fails the test if not so many sessions were captured, and n of them dropped for why, or
// delivered, if why is None.
func (b *Bed) Sessions(captured uint64, why ledger.Reason, n uint64) {
	b.Helper()
	b.flow("sessions", b.Sh.Snapshot().Sessions, captured, why, n)
}

// Bytes is Sessions for the clients' bytes.
func (b *Bed) Bytes(captured uint64, why ledger.Reason, n uint64) {
	b.Helper()
	b.flow("bytes", b.Sh.Snapshot().Bytes, captured, why, n)
}

func (b *Bed) flow(what string, f ledger.Flow, captured uint64, why ledger.Reason, n uint64) {
	b.Helper()
	got := f.Delivered
	if why != ledger.None {
		got = f.Dropped[why]
	}
	if f.Captured != captured || got != n {
		b.Errorf("at %v: %d %s captured, %d %s; wanted %d, %d (%+v)", b.Now, f.Captured, what, got,
			why, captured, n, f)
	}
}

// Conn is a client connection of a test.
type Conn struct {
	b          *Bed
	Addr       netip.AddrPort
	Isn        seqnum.Value
	next, seen int
	Hold       bool // gather packets, do not step
}

// Conn returns a client connection from an address.
func (b *Bed) Conn(addr string) *Conn {
	return &Conn{b: b, Addr: netip.MustParseAddrPort(addr), Isn: 1000}
}

// Next returns the number of the next byte that the client sends.
func (c *Conn) Next() seqnum.Value { return c.Isn.Add(1 + c.next) }

// Send has a segment of the client's captured.
func (c *Conn) Send(seg packet.Segment) {
	c.b.Helper()
	seg.Src, seg.Dst, seg.Window = c.Addr, Production, 1000
	seg.Len = len(seg.Payload)
	c.b.In.Packets = append(c.b.In.Packets, shard.Packet{Seg: seg, At: c.b.Now, Ifindex: 1})
	if !c.Hold {
		c.b.Step()
	}
}

// Syn sends the SYN, and the ACK that completes the handshake.
func (c *Conn) Syn() *Conn {
	c.b.Helper()
	hold := c.Hold
	c.Hold = true
	c.HalfOpen()
	c.Hold = hold
	c.Seg(0, "")
	return c
}

// HalfOpen sends the SYN alone.
func (c *Conn) HalfOpen() *Conn {
	c.b.Helper()
	c.Send(packet.Segment{Seq: c.Isn, Flags: packet.SYN,
		Opts: packet.Options{MSS: 1460, SACKPermitted: true}})
	return c
}

// Seg sends the next segment.
func (c *Conn) Seg(flags packet.Flags, text string) {
	c.b.Helper()
	c.Send(packet.Segment{Seq: c.Isn.Add(1 + c.next), Ack: seqnum.Value(5001 + c.seen),
		Flags: flags | packet.ACK, Payload: []byte(text)})
	c.next += len(text)
}

// Data sends text.
func (c *Conn) Data(text string) { c.b.Helper(); c.Seg(packet.PSH, text) }

// Fin sends the FIN.
func (c *Conn) Fin() {
	c.b.Helper()
	c.Seg(packet.FIN, "")
	c.next++
}

// Answers is the production server's answer of n bytes, which the client has seen afterwards.
func (c *Conn) Answers(n int) {
	c.b.In.Packets = append(c.b.In.Packets,
		shard.Packet{FromServer: true, At: c.b.Now,
			Seg: packet.Segment{Src: Production, Dst: c.Addr,
				Seq: seqnum.Value(5001 + c.seen), Ack: c.Isn.Add(1 + c.next), Flags: packet.ACK,
				Len: n}})
	c.seen += n
	c.Seg(0, "")
}
