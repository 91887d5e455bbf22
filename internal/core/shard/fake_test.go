package shard

import (
	"net/netip"
	"tcpcopy/internal/core/balance"
	"tcpcopy/internal/core/mapping"
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

var (
	production = netip.MustParseAddrPort("198.51.100.1:80")
	target     = netip.MustParseAddrPort("203.0.113.1:8080")
)

// fakeOpener opens streams that take everything at once and do nothing else by themselves.
type fakeOpener struct {
	all  []*fakeStream
	in   *Input
	deaf bool // nothing is opened or taken
	// refuses are the targets that refuse connections.
	refuses map[netip.AddrPort]bool
}

type fakeStream struct {
	o       *fakeOpener
	spec    session.OpenSpec
	text    []byte
	shut    bool
	aborted bool
	open    bool // for FuzzShard: what was told
	gone    bool
}

func (o *fakeOpener) Open(_ mono.Time, spec *session.OpenSpec) session.Stream {
	f := &fakeStream{o: o, spec: *spec}
	o.all = append(o.all, f)
	if o.refuses[spec.Target] {
		f.tell(session.Event{Kind: session.Failed, Reason: ledger.TargetRefused})
	} else {
		f.tell(session.Event{Kind: session.Opened})
	}
	return f
}

func (f *fakeStream) tell(ev session.Event) {
	if ev.ID = f.spec.ID; !f.o.deaf {
		f.o.in.Events = append(f.o.in.Events, ev)
	}
}

func (f *fakeStream) Release(_ mono.Time, end uint64) {
	for uint64(len(f.text)) < end {
		f.text = append(f.text, f.spec.Record.View(uint64(len(f.text)), int(end)-len(f.text))...)
	}
	f.tell(session.Event{Kind: session.Taken, N: end})
}

func (f *fakeStream) CloseWrite(mono.Time) { f.shut = true }
func (f *fakeStream) Abort(mono.Time)      { f.aborted = true }

// bed is a shard whose time and packets a test hands in.
type bed struct {
	*testing.T
	sh   *Shard
	now  mono.Time
	due  mono.Time
	in   Input // of the next step
	open fakeOpener
}

func serviceFor(targets ...netip.AddrPort) *Service {
	var list []mapping.Target
	for _, t := range targets {
		list = append(list, mapping.Target{Addr: t, Weight: 1})
	}
	return &Service{Session: &session.Service{Gate: gate.NewService(gate.Config{Limit: 30 * time.Second}),
		MaxBytes: 1 << 20, Idle: time.Minute, Stall: 20 * time.Second},
		Targets: balance.NewGroup(balance.Config{Health: true}, list), Copies: 1, Sample: 1}
}

func targetsOf(s *Service) (list []mapping.Target) {
	for _, t := range s.Targets.Targets() {
		list = append(list, mapping.Target{Addr: t.Addr, Weight: t.Weight})
	}
	return list
}

func newBed(t *testing.T, change ...func(*Config)) *bed {
	b := &bed{T: t, now: 100 * sec}
	b.open.in = &b.in
	cfg := Config{Services: []*Service{serviceFor(target)}, Opener: &b.open, Count: 1,
		MaxSessions: 1000, MaxMemory: 64 << 20, Start: b.now - 10*sec}
	for _, f := range change {
		f(&cfg)
	}
	b.sh = New(cfg)
	t.Cleanup(b.shutdown)
	return b
}

func (b *bed) shutdown() {
	b.sh.Shutdown(b.now)
	checkEmpty(b.T, b.sh)
}

// checkEmpty says what a shard may have left when every session has ended.
func checkEmpty(t interface {
	Helper()
	Errorf(string, ...any)
}, sh *Shard) {
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
	if sh.Live() != 0 || len(sh.byID) != 0 || sh.pool.InUse() != 0 || sh.Memory() != 0 || len(sh.raw.streams) != 0 || len(sh.used) != 0 {
		t.Errorf("at the end %d sessions live, %d have names, %d bytes are in use, %d connections are open",
			sh.Live(), len(sh.byID), sh.pool.InUse(), len(sh.raw.streams))
	}
}

// step hands in what has gathered, until nothing more comes of it.
func (b *bed) step() {
	b.Helper()
	for i := 0; i == 0 || len(b.in.Events) > 0; i++ {
		in := b.in
		b.in = Input{}
		b.due = b.sh.Step(b.now, &in)
		if b.due <= b.now {
			b.Fatalf("at %v: Step wants to be called at %v", b.now, b.due)
		}
		c := b.sh.Snapshot()
		if err := c.Check(); err != nil {
			b.Fatalf("at %v: %v", b.now, err)
		}
		if i > 20 {
			b.Fatalf("at %v: events without end", b.now)
		}
	}
}

func (b *bed) wait(d mono.Time) {
	b.Helper()
	end := b.now + d
	for b.due <= end {
		b.now = b.due
		b.step()
	}
	b.now = end
	b.step()
}

func (b *bed) live(n int) {
	b.Helper()
	if b.sh.Live() != n {
		b.Errorf("at %v: %d sessions live, wanted %d", b.now, b.sh.Live(), n)
	}
}

func (b *bed) sessions(captured uint64, why ledger.Reason, n uint64) {
	b.Helper()
	b.flow("sessions", b.sh.Snapshot().Sessions, captured, why, n)
}

func (b *bed) bytes(captured uint64, why ledger.Reason, n uint64) {
	b.Helper()
	b.flow("bytes", b.sh.Snapshot().Bytes, captured, why, n)
}

func (b *bed) flow(what string, f ledger.Flow, captured uint64, why ledger.Reason, n uint64) {
	b.Helper()
	got := f.Delivered
	if why != ledger.None {
		got = f.Dropped[why]
	}
	if f.Captured != captured || got != n {
		b.Errorf("at %v: %d %s captured, %d %s; wanted %d, %d (%+v)", b.now, f.Captured, what, got, why, captured, n, f)
	}
}

// conn is a client connection of a test.
type conn struct {
	b          *bed
	addr       netip.AddrPort
	isn        seqnum.Value
	next, seen int
	hold       bool // gather packets, do not step
}

func (b *bed) conn(addr string) *conn {
	return &conn{b: b, addr: netip.MustParseAddrPort(addr), isn: 1000}
}

func (c *conn) send(seg packet.Segment) {
	c.b.Helper()
	seg.Src, seg.Dst, seg.Window = c.addr, production, 1000
	seg.Len = len(seg.Payload)
	c.b.in.Packets = append(c.b.in.Packets, Packet{Seg: seg, At: c.b.now, Ifindex: 1})
	if !c.hold {
		c.b.step()
	}
}

func (c *conn) syn() *conn {
	c.b.Helper()
	c.send(packet.Segment{Seq: c.isn, Flags: packet.SYN, Opts: packet.Options{MSS: 1460, SACKPermitted: true}})
	return c
}

func (c *conn) seg(flags packet.Flags, text string) {
	c.b.Helper()
	c.send(packet.Segment{Seq: c.isn.Add(1 + c.next), Ack: seqnum.Value(5001 + c.seen), Flags: flags | packet.ACK, Payload: []byte(text)})
	c.next += len(text)
}

func (c *conn) data(text string) { c.b.Helper(); c.seg(packet.PSH, text) }

func (c *conn) fin() {
	c.b.Helper()
	c.seg(packet.FIN, "")
	c.next++
}

// answers is the production server's answer of n bytes, which the client has seen afterwards.
func (c *conn) answers(n int) {
	c.b.in.Packets = append(c.b.in.Packets, Packet{FromServer: true, At: c.b.now, Seg: packet.Segment{Src: production, Dst: c.addr,
		Seq: seqnum.Value(5001 + c.seen), Ack: c.isn.Add(1 + c.next), Flags: packet.ACK, Len: n}})
	c.seen += n
	c.seg(0, "")
}
