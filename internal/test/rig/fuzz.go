package rig

import (
	"bytes"
	"net/netip"
	"testing"
	"time"

	"tcpcopy/internal/core/balance"
	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/core/seqnum"
	"tcpcopy/internal/core/session"
	"tcpcopy/internal/core/shard"
	"tcpcopy/internal/proto"
	"tcpcopy/internal/proto/known"
)

// FuzzWay is the way that Fuzz drives.
type FuzzWay struct {
	Port Port
	// Happen does something to the way itself, as two bytes say, or nothing.
	Happen func(in *Input, what, how byte)
	// Segments: the targets' segments come as Input.Feedback, and acknowledge the sequence number
	// that Sent returns. Sent is called after each step.
	Segments bool
	Sent     func() seqnum.Value
	// Events returns those of the events that its streams may report.
	Events func([]session.Event) []session.Event
}

// Fuzz steps a shard through whatever the bytes say, eight for each thing that happens: packets of
// clients and servers, the targets' segments or streams' events, in any order and with any numbers.
// Nothing may panic or go on for ever, and the ledger balances.
func Fuzz(t *testing.T, script []byte, way func(in *Input, sh func() *shard.Shard) *FuzzWay) {
	if len(script) == 0 {
		return
	}
	script = script[:min(len(script), 8*150)]
	f := &fuzz{T: t, now: sec}
	f.way = way(&f.in, func() *shard.Shard { return f.sh })
	f.cfg = shard.Config{Services: []*shard.Service{fuzzService(script)}, Streams: f.way.Port,
		MaxSessions: 5, MaxMemory: 60000}
	f.sh = shard.New(f.cfg)
	for ; len(script) >= 8; script = script[8:] {
		f.now += mono.Time(script[7]) * mono.Time(script[7]) * ms / 4
		if f.happen(script) {
			f.step()
		}
	}
	// Left alone, everything comes to its end.
	for i := 0; f.sh.Live() > 0 && f.now < 3600*sec; i++ {
		if i > 100000 {
			t.Fatal("stepped again and again")
		}
		f.now = min(f.step(), f.now+mono.Time(time.Minute))
	}
	if f.sh.Live() > 0 {
		t.Fatalf("%d sessions live for an hour", f.sh.Live())
	}
	f.sh.Shutdown(f.now)
	CheckEmpty(t, f.sh)
}

type fuzz struct {
	*testing.T
	way *FuzzWay
	cfg shard.Config
	sh  *shard.Shard
	in  Input
	now mono.Time
	isn seqnum.Value
}

// fuzzService makes the service that the first byte says.
func fuzzService(script []byte) *shard.Service {
	svc := ServiceFor(Target)
	if script[0]&8 != 0 {
		svc = ServiceFor(Target, netip.MustParseAddrPort("203.0.113.2:8080"))
		methods := []balance.Method{balance.All, balance.Client, balance.Least, balance.RoundRobin}
		svc.Targets.Set(balance.Config{Method: methods[script[0]>>6], Health: script[0]&2 == 0},
			TargetsOf(svc))
	}
	if script[0]&32 != 0 {
		svc.MaxRate, svc.MaxBandwidth = 20, 5000
	}
	if script[0]&16 != 0 {
		svc.Stagger = 30 * time.Millisecond
	}
	svc.Copies = float64(1 + int(script[0]>>2&1))
	svc.Session.MaxBytes = 20000
	svc.Session.WholeOnly = script[0]&2 != 0
	if script[0]&64 != 0 { // production's answers are read
		p := *known.Named("redis")
		svc.Session.Protocols, svc.Session.Certain, svc.Session.Production = []proto.Protocol{p},
			true, true
	}
	return svc
}

var (
	fuzzRequests = bytes.Repeat([]byte("*1\r\n$4\r\nPING\r\n"), 110)
	fuzzAnswers  = bytes.Repeat([]byte("+PONG\r\n"), 220)
)

// happen does what eight bytes say, and reports whether a step follows.
func (f *fuzz) happen(script []byte) bool {
	client := netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, 1}),
		uint16(40000+int(script[1]&3)))
	seg := packet.Segment{Src: client, Dst: Production, Seq: 1000, Ack: 5000,
		Flags: packet.Flags(script[3])}
	seg.Seq = seg.Seq.Add(int(int8(script[4])) << (script[1] >> 4))
	seg.Ack = seg.Ack.Add(int(int8(script[5])) << (script[2] >> 4))
	seg.Len = int(script[6]) << (script[2] & 3)
	at := f.now - mono.Time(script[1]>>2&3)*ms
	switch script[0] % 6 {
	case 0, 1:
		seg.Payload = fuzzRequests[:min(seg.Len, int(script[6])<<2)]
		f.in.Packets = append(f.in.Packets,
			shard.Packet{Seg: seg, At: at, Ifindex: int32(script[2] >> 2 & 1)})
	case 2:
		seg.Src, seg.Dst = seg.Dst, seg.Src
		seg.Seq, seg.Ack = seg.Ack, seg.Seq
		seg.Payload = fuzzAnswers[:min(seg.Len, int(script[6])<<2)]
		f.in.Packets = append(f.in.Packets, shard.Packet{Seg: seg, At: at, FromServer: true})
	case 3:
		f.in.Events = append(f.in.Events, session.Event{
			ID: session.ID(script[1] & 7), Kind: session.EventKind(script[3] % 9),
			Reason: ledger.ConnectTimeout, N: uint64(script[4]) << (script[1] >> 4),
			Hole: script[5]&1 != 0, At: f.now,
		})
	case 4:
		if !f.way.Segments {
			return false
		}
		seg.Src, seg.Dst = Target, client
		seg.Seq, seg.Ack = seg.Ack, f.isn.Add(1+int(int8(script[4])))
		f.in.Feedback = append(f.in.Feedback, seg)
	default:
		switch what := script[3] % 5; what {
		case 0, 1:
			f.way.Happen(&f.in, what, script[4])
		case 2:
			f.sh.Drain(f.now)
		default:
			return false // gather a batch
		}
	}
	return true
}

func (f *fuzz) step() mono.Time {
	f.in.Events = f.way.Events(f.in.Events)
	in := f.in
	f.in = Input{}
	due := Step(f.sh, f.way.Port, f.now, &in)
	if due <= f.now {
		f.Fatalf("at %v: Step wants to be called at %v", f.now, due)
	}
	f.isn = f.way.Sent()
	c := f.sh.Snapshot()
	if err := c.Check(); err != nil {
		f.Fatal(err)
	}
	if f.sh.Live() > f.cfg.MaxSessions {
		f.Fatalf("%d sessions live", f.sh.Live())
	}
	if n := f.sh.Held(); n > f.cfg.MaxMemory+200000 {
		f.Fatalf("%d bytes are in use", n)
	}
	return due
}
