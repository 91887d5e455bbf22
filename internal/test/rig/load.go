package rig

import (
	"net/netip"
	"reflect"
	"runtime"
	"testing"
	"time"

	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/core/seqnum"
	"tcpcopy/internal/core/shard"
)

// Load is a shard with many established sessions, each of which has had an exchange.
type Load struct {
	Sh      *shard.Shard
	Port    Port
	Now     mono.Time
	In      Input
	Payload []byte // of each request
	Clients []LoadClient
}

// LoadClient is a client of a Load.
type LoadClient struct {
	Addr       netip.AddrPort
	sent, seen int
	// Of the copy: what the target has seen, and what it sends.
	ISN, IRS        seqnum.Value
	CopySent, Heard int
}

// NewLoad returns a Load of n sessions. accept, if it is not nil, has the target accept a copy
// whose SYN was sent, and answer has it answer a request.
func NewLoad(port Port, n int, accept, answer func(*Load, *LoadClient)) *Load {
	l := &Load{Port: port, Now: 100 * sec, Payload: make([]byte, 100),
		Clients: make([]LoadClient, n)}
	cfg := shard.Config{Services: []*shard.Service{ServiceFor(Target)}, Streams: port,
		MaxSessions: n,
		MaxMemory:   1 << 32}
	cfg.Services[0].Session.Idle = 24 * time.Hour
	l.Sh = shard.New(cfg)
	syn := packet.Options{MSS: 1460, SACKPermitted: true, HasTS: true, HasWScale: true, WScale: 7}
	for i := range l.Clients {
		c := &l.Clients[i]
		addr := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
		c.Addr = netip.AddrPortFrom(addr, uint16(1024+i%60000))
		l.client(c, packet.Segment{Seq: 1000, Flags: packet.SYN, Opts: syn})
		l.client(c, packet.Segment{Seq: 1001, Ack: 5001, Flags: packet.ACK})
		l.Step()
		if accept != nil {
			accept(l, c)
		}
		l.Request(c)
		answer(l, c)
		l.Now += mono.Time(10 * 1000)
	}
	return l
}

func (l *Load) client(c *LoadClient, seg packet.Segment) {
	seg.Src, seg.Dst, seg.Window, seg.Len = c.Addr, Production, 1000, len(seg.Payload)
	l.In.Packets = append(l.In.Packets, shard.Packet{Seg: seg, At: l.Now, Ifindex: 1})
}

// Feedback has the target send a segment to the copy of a client.
func (l *Load) Feedback(c *LoadClient, seg packet.Segment) {
	seg.Src, seg.Dst, seg.Window = Target, c.Addr, 60000
	l.In.Feedback = append(l.In.Feedback, seg)
}

// Step steps the shard with what has gathered.
func (l *Load) Step() {
	Step(l.Sh, l.Port, l.Now, &l.In)
	l.In.Packets, l.In.Feedback, l.In.Events = l.In.Packets[:0], l.In.Feedback[:0], l.In.Events[:0]
}

// Request has a client send its next turn, after it has seen the answer to the one before.
func (l *Load) Request(c *LoadClient) {
	l.client(c, packet.Segment{Seq: seqnum.Value(1001 + c.sent), Ack: seqnum.Value(5001 + c.seen),
		Flags: packet.ACK | packet.PSH, Payload: l.Payload})
	c.sent += len(l.Payload)
	l.Step()
	c.seen += len(l.Payload)
}

// IdleIsSmall fails the test if a session of a Load of n costs more than 2 KB of heap.
func IdleIsSmall(t *testing.T, n int, load func() *Load) {
	t.Helper()
	heap := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	l := load()
	clients := uint64(n) * uint64(reflect.TypeFor[LoadClient]().Size())
	each := (heap() - before - clients) / uint64(n)
	if l.Sh.Live() != n {
		t.Fatalf("%d sessions live, wanted %d", l.Sh.Live(), n)
	}
	t.Logf("%d bytes for each of %d idle sessions", each, n)
	if each > 2048 {
		t.Errorf("an idle session costs %d bytes, wanted at most 2048", each)
	}
	runtime.KeepAlive(l)
}
