package shard

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
	"tcpcopy/internal/proto"
	"tcpcopy/internal/proto/redis"
)

// FuzzShard steps a shard through whatever the bytes say, eight for each thing that happens: packets of
// clients and servers, the target's segments or a stream's events, in any order and with any numbers.
// Nothing may panic or go on for ever, and the ledger balances.
func FuzzShard(f *testing.F) {
	f.Add([]byte{0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 1, 16, 0, 0, 20, 1, 2, 0, 1, 16, 0, 1, 0, 1, 3, 0, 0, 0, 0, 0, 5, 1})
	f.Add([]byte{1, 0, 0, 2, 0, 0, 0, 1, 0, 0, 1, 16, 0, 0, 20, 1, 4, 0, 0, 18, 0, 1, 0, 1, 4, 0, 0, 16, 0, 0, 5, 1})
	f.Fuzz(func(t *testing.T, script []byte) {
		if len(script) == 0 {
			return
		}
		script = script[:min(len(script), 8*150)]
		svc := serviceFor(target)
		if script[0]&8 != 0 {
			svc = serviceFor(target, netip.MustParseAddrPort("203.0.113.2:8080"))
			method := []balance.Method{balance.All, balance.Client, balance.Least, balance.RoundRobin}[script[0]>>6]
			svc.Targets.Set(balance.Config{Method: method, Health: script[0]&2 == 0}, targetsOf(svc))
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
		if script[0]&64 != 0 { // what production says is read
			p := *redis.Protocol
			svc.Session.Protocols, svc.Session.Certain, svc.Session.Production = []proto.Protocol{p}, true, true
		}
		var in Input
		open := &fakeOpener{in: &in, deaf: true}
		cfg := Config{Services: []*Service{svc}, Opener: open, Count: 1,
			MaxSessions: 5, MaxMemory: 60000}
		raw := script[0]&1 != 0
		if raw {
			rawConfig(&cfg)
		}
		cfg.Sources = !raw && script[0]&16 == 0
		sh := New(cfg)
		sh.SetLink(true, 7)
		now := mono.Time(sec)
		payload := bytes.Repeat([]byte("*1\r\n$4\r\nPING\r\n"), 110)
		answer := bytes.Repeat([]byte("+PONG\r\n"), 220)
		var isn seqnum.Value // of the last SYN that was sent
		for ; len(script) >= 8; script = script[8:] {
			client := netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, 1}), uint16(40000+int(script[1]&3)))
			now += mono.Time(script[7]) * mono.Time(script[7]) * ms / 4
			seg := packet.Segment{Src: client, Dst: production, Seq: 1000, Ack: 5000, Flags: packet.Flags(script[3])}
			seg.Seq = seg.Seq.Add(int(int8(script[4])) << (script[1] >> 4))
			seg.Ack = seg.Ack.Add(int(int8(script[5])) << (script[2] >> 4))
			seg.Len = int(script[6]) << (script[2] & 3)
			at := now - mono.Time(script[1]>>2&3)*ms
			switch script[0] % 6 {
			case 0, 1:
				seg.Payload = payload[:min(seg.Len, int(script[6])<<2)]
				in.Packets = append(in.Packets, Packet{Seg: seg, At: at, Ifindex: int32(script[2] >> 2 & 1)})
			case 2:
				seg.Src, seg.Dst = seg.Dst, seg.Src
				seg.Seq, seg.Ack = seg.Ack, seg.Seq
				seg.Payload = answer[:min(seg.Len, int(script[6])<<2)]
				in.Packets = append(in.Packets, Packet{Seg: seg, At: at, FromServer: true})
			case 3:
				in.Events = append(in.Events, session.Event{ID: session.ID(script[1] & 7), Kind: session.EventKind(script[3] % 9),
					Reason: ledger.ConnectTimeout, N: uint64(script[4]) << (script[1] >> 4), Hole: script[5]&1 != 0, At: now})
			case 4:
				if !raw {
					continue
				}
				seg.Src, seg.Dst = target, client
				seg.Seq, seg.Ack = seg.Ack, isn.Add(1+int(int8(script[4])))
				in.Feedback = append(in.Feedback, seg)
			default:
				switch script[3] % 5 {
				case 0:
					sh.SetLink(script[4]&1 != 0, 3)
				case 1:
					in.Freed = append(in.Freed, sh.Queries()...)
					for _, s := range sh.Seeks() {
						if script[4]&1 != 0 {
							sh.Taken(s.Tuple)
						} else {
							in.Free = append(in.Free, s.Tuple)
						}
					}
				case 2:
					sh.Drain(now)
				default:
					continue // gather a batch
				}
			}
			events := in.Events[:0]
			for _, ev := range in.Events { // streams keep to their contract
				if e := sh.byID[ev.ID]; e != nil && !raw {
					if fs, ok := e.Stream().(*fakeStream); ok && fs != nil && allowed(fs, &ev) {
						events = append(events, ev)
					}
				}
			}
			in.Events = events
			step := in
			in = Input{}
			due := sh.Step(now, &step)
			if due <= now {
				t.Fatalf("at %v: Step wants to be called at %v", now, due)
			}
			for _, s := range sh.Output() {
				if len(s.Payload) != s.Len {
					t.Fatalf("%d bytes in a segment of %d", len(s.Payload), s.Len)
				}
				if s.Flags.Has(packet.SYN) {
					isn = s.Seq
				}
			}
			c := sh.Snapshot()
			if err := c.Check(); err != nil {
				t.Fatal(err)
			}
			if sh.Live() != len(sh.byID) || sh.Live() > cfg.MaxSessions {
				t.Fatalf("%d sessions live, %d have names", sh.Live(), len(sh.byID))
			}
			if n := sh.pool.InUse(); n > cfg.MaxMemory+200000 {
				t.Fatalf("%d bytes are in use", n)
			}
		}
		// Left alone, everything comes to its end.
		for i := 0; sh.Live() > 0 && now < 3600*sec; i++ {
			if i > 100000 {
				t.Fatal("stepped again and again")
			}
			step := in
			in = Input{}
			due := sh.Step(now, &step)
			if due <= now {
				t.Fatalf("at %v: Step wants to be called at %v", now, due)
			}
			now = min(due, now+mono.Time(time.Minute))
		}
		if sh.Live() > 0 {
			t.Fatalf("%d sessions live for an hour", sh.Live())
		}
		sh.Shutdown(now)
		checkEmpty(t, sh)
	})
}

// allowed says whether a stream may report ev.
func allowed(f *fakeStream, ev *session.Event) bool {
	if f.gone || ev.Kind == 0 || ev.Kind > session.Failed || (ev.Kind == session.Opened) == f.open && ev.Kind != session.Failed {
		return false
	}
	switch ev.Kind {
	case session.Opened:
		f.open = true
	case session.Taken:
		ev.N = min(ev.N, uint64(len(f.text)))
	case session.Finished:
		if !f.shut {
			return false
		}
		ev.N = uint64(len(f.text))
	}
	f.gone = ev.Kind >= session.Finished
	return true
}
