package shard_test

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/core/session"
	"tcpcopy/internal/core/shard"
	"tcpcopy/internal/test/rig"
)

// waves is short connections: n waves of 50 that live for 5 ms each, one wave after the other.
type waves struct {
	b     *rig.Bed
	begun mono.Time
	n     int
	sent  int // segments
}

const (
	waveConns = 50
	waveLife  = 5 * ms
)

// capture hands in what was captured of the waves by the time until.
func (w *waves) capture(until mono.Time) {
	for ; w.sent < 2*w.n; w.sent++ {
		wave, end := w.sent/2, w.sent%2 == 1
		at := w.begun + mono.Time(wave)*waveLife
		if end {
			at += waveLife - 1
		}
		if at > until {
			return
		}
		for i := range waveConns {
			w.packets(wave, i, at, end)
		}
	}
}

// packets is the beginning of one connection, with its request, or its end.
func (w *waves) packets(wave, i int, at mono.Time, end bool) {
	from := netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), uint16(1024+wave))
	send := func(seg packet.Segment) {
		seg.Src, seg.Dst, seg.Window, seg.Len = from, rig.Production, 1000, len(seg.Payload)
		w.b.In.Packets = append(w.b.In.Packets, shard.Packet{Seg: seg, At: at, Ifindex: 1})
	}
	if end {
		send(packet.Segment{Seq: 1006, Ack: 5001, Flags: packet.ACK | packet.FIN})
		return
	}
	send(packet.Segment{Seq: 1000, Flags: packet.SYN, Opts: packet.Options{MSS: 1460}})
	send(packet.Segment{Seq: 1001, Ack: 5001, Flags: packet.ACK})
	send(packet.Segment{Seq: 1001, Ack: 5001, Flags: packet.ACK, Payload: []byte("hello")})
}

// slowTarget opens a copy after a millisecond, and finishes it life after it was asked to. The way
// there and back takes longer by late, if that is set.
type slowTarget struct {
	b     *rig.Bed
	life  mono.Time
	late  mono.Time
	asked []mono.Time // when each stream was opened
	over  []bool
	most  int // copies at once
}

// act plays the target at the bed's time, for streams that were opened by then.
func (s *slowTarget) act() (open int) {
	for i, f := range s.b.Open.All {
		if i == len(s.asked) {
			s.asked, s.over = append(s.asked, s.b.Now), append(s.over, false)
		}
		if s.over[i] {
			continue
		}
		open++
		tell := func(kind session.EventKind) {
			s.b.In.Events = append(s.b.In.Events,
				session.Event{ID: f.Spec.ID, Kind: kind, N: uint64(len(f.Text)), At: s.b.Now})
		}
		switch age := s.b.Now - s.asked[i]; {
		case age == ms+s.late:
			tell(session.Opened)
		case age >= s.life+2*s.late && f.Shut:
			tell(session.Finished)
			s.over[i] = true
		}
	}
	s.most = max(s.most, open)
	return open
}

// lives returns a bed whose target finishes copies after life, with n waves.
func lives(t *testing.T, life mono.Time, n int) (*rig.Bed, *waves, *slowTarget) {
	b := rig.NewBed(t, func(c *shard.Config) { c.MaxSessions = 10000 })
	b.Open.Deaf = true
	return b, &waves{b: b, begun: b.Now, n: n}, &slowTarget{b: b, life: life}
}

// A backlog is copied as it was at production: its connections are not all opened at once.
func TestBacklogDoesNotPileUp(t *testing.T) {
	const n = 20
	b, w, target := lives(t, waveLife, n)
	b.Now += sec // the copier was away
	w.capture(b.Now)
	for begun := b.Now; len(b.Open.All) < n*waveConns || target.act() > 0; b.Now += ms {
		b.Step()
		target.act()
		if b.Now > begun+2*n*waveLife {
			t.Fatalf("after twice the time %d of %d copies have begun", len(b.Open.All),
				n*waveConns)
		}
	}
	if most := waveConns*5/4 + 10; target.most > most {
		t.Errorf("%d copies at once, wanted at most %d", target.most, most)
	}
	b.Sessions(n*waveConns, ledger.None, n*waveConns)
}

// Copies at a target that is slower than production are not held back for long: as many are open as
// the target makes of production's connections.
func TestSlowTargetShowsItsPile(t *testing.T) {
	for _, slower := range []mono.Time{2, 4, 20} {
		t.Run(fmt.Sprint(int(slower), " times"), func(t *testing.T) {
			const n = 600
			b, w, target := lives(t, slower*waveLife, n)
			lag := 0 // waves
			for end := w.begun + n*waveLife; b.Now < end+2*sec; b.Now += ms {
				w.capture(b.Now)
				b.Step()
				target.act()
				lag = max(lag, min(int((b.Now-w.begun)/waveLife), n)-len(b.Open.All)/waveConns)
			}
			if most := mono.Time(lag) * waveLife; most > sec/2 {
				t.Errorf("copies begin up to %v late", most)
			}
			if most := int(slower) * waveConns; target.most < most {
				t.Errorf("%d copies at once, wanted %d", target.most, most)
			}
			b.Sessions(n*waveConns, ledger.None, n*waveConns)
		})
	}
}

// What copies wait for on their way is no sign of a slow target, unless the way always takes that
// long.
func TestLagOnTheWayDoesNotPileUp(t *testing.T) {
	for _, always := range []bool{false, true} {
		t.Run(fmt.Sprint("always ", always), func(t *testing.T) {
			const n = 120
			b, w, target := lives(t, waveLife, n)
			for end := w.begun + n*waveLife; b.Now < end+3*sec; b.Now += ms {
				if wave := int((b.Now - w.begun) / waveLife); always || wave > n/3 && wave < n/2 {
					target.late = 30 * ms
				} else {
					target.late = 0
				}
				w.capture(b.Now)
				b.Step()
				target.act()
			}
			if most := waveConns*5/4 + 10; !always && target.most > most {
				t.Errorf("%d copies at once, wanted at most %d", target.most, most)
			}
			if always && target.most < 4*waveConns {
				t.Errorf("%d copies at once: they are held back", target.most)
			}
			b.Sessions(n*waveConns, ledger.None, n*waveConns)
		})
	}
}

// No copy begins while something else is due; but if something always is, some do in the end.
func TestCopiesBeginLast(t *testing.T) {
	b := rig.NewBed(t)
	var conns []*rig.Conn
	for i := range 10 {
		conns = append(conns, b.Conn(fmt.Sprintf("192.0.2.1:%d", 1024+i)).Syn())
	}
	opened(b, 10)
	step := func() {
		for i, c := range conns {
			c.Hold = true
			c.Data(fmt.Sprint("GET ", i))
		}
		in := b.In
		b.In = rig.Input{}
		b.Port.Take(&in)
		b.Sh.Step(b.Now, &shard.Input{Packets: in.Packets, Limit: 4})
	}
	c := b.Conn("192.0.2.2:40000")
	c.Hold = true
	c.Syn()
	begun := b.Now
	for ; len(b.Open.All) == 10 && b.Now < begun+sec; b.Now += ms {
		step()
		if !b.Sh.More() {
			t.Fatal("nothing is left to do")
		}
	}
	if after := b.Now - begun; after < 20*ms || after > 100*ms {
		t.Errorf("a copy began after %v beside other work, wanted some 20 ms", after)
	}
	b.Step()
}

// held is a bed that holds turns for 5 s, with a target that is away.
func held(t *testing.T) *rig.Bed {
	b := rig.NewBed(t, func(c *shard.Config) { c.Services[0].Session.Hold = 5 * time.Second })
	b.Open.Refuses = map[netip.AddrPort]bool{rig.Target: true}
	return b
}

// Turns that are held for a target that is away go to it in their order when it is back, and only
// one copy at a time tries whether it is.
func TestTargetIsBack(t *testing.T) {
	b := held(t)
	const n = 30
	for i := range n {
		c := b.Conn(fmt.Sprintf("192.0.2.1:%d", 1024+i)).Syn()
		c.Data(fmt.Sprint("GET ", i))
		c.Fin()
		b.Wait(10 * ms)
	}
	b.Wait(700 * ms)
	if tries := len(b.Open.All); tries < 8 || tries > 12 {
		t.Errorf("%d copies tried in a second, wanted 10", tries)
	}
	b.Sessions(n, ledger.None, 0)
	b.Open.Refuses, b.Open.All = nil, nil
	b.Wait(101 * ms)
	opened(b, n)
	for i, f := range b.Open.All {
		if got, want := string(f.Text), fmt.Sprint("GET ", i); got != want || !f.Shut {
			t.Errorf("copy %d was given %q, ended %v; wanted %q, true", i, got, f.Shut, want)
		}
		finish(b, i)
	}
	b.Sessions(n, ledger.None, n)
}

// What is older than Hold is dropped for the reason for which the target is away, and the younger
// turns of the same connection are not.
func TestTargetIsAwayForLong(t *testing.T) {
	b := held(t)
	c := b.Conn("192.0.2.1:40000").Syn()
	c.Data("first ")
	b.Wait(3 * sec)
	c.Answers(10)
	c.Data("second ")
	b.Wait(sec)
	b.Bytes(13, ledger.TargetRefused, 0)
	b.Wait(2 * sec)
	b.Bytes(13, ledger.TargetRefused, 6)
	b.Sessions(2, ledger.TargetRefused, 1)
	b.Open.Refuses, b.Open.All = nil, nil
	b.Wait(sec)
	opened(b, 1)
	if got := string(b.Open.All[0].Text); got != "second " {
		t.Errorf("the copy was given %q, wanted %q", got, "second ")
	}
	b.Bytes(13, ledger.None, 7)
}

// A turn that is held does not wait for a target that is away while another one is there.
func TestOneTargetIsAway(t *testing.T) {
	second := netip.MustParseAddrPort("203.0.113.2:8080")
	b := rig.NewBed(t, func(c *shard.Config) {
		c.Services[0] = rig.ServiceFor(rig.Target, second)
		c.Services[0].Session.Hold = 5 * time.Second
	})
	b.Open.Refuses = map[netip.AddrPort]bool{rig.Target: true}
	const n = 20
	for i := range n {
		b.Conn(fmt.Sprintf("192.0.2.%d:40000", i)).Syn().Data("GET")
	}
	live := 0
	for _, f := range b.Open.All {
		if f.Spec.Target == second && string(f.Text) == "GET" {
			live++
		}
	}
	if live != n {
		t.Errorf("%d of %d sessions have a copy at the target that is there", live, n)
	}
	b.Sessions(n, ledger.None, 0)
}

// A target that comes back is used soon, even if turns may wait no longer than an attempt takes.
func TestTargetIsBackForShortHolds(t *testing.T) {
	b := rig.NewBed(t, func(c *shard.Config) {
		c.Services[0].Session.Hold = 150 * time.Millisecond
	})
	b.Open.Refuses = map[netip.AddrPort]bool{rig.Target: true}
	const n = 200
	for i := range n {
		if i == n/2 {
			b.Open.Refuses, b.Open.All = nil, nil
		}
		b.Conn(fmt.Sprintf("192.0.2.1:%d", 1024+i)).Syn().Data("GET")
		b.Wait(10 * ms)
	}
	if got := len(b.Open.All); got < n/2 || got > n/2+20 {
		t.Errorf("%d copies were opened, wanted those of the last %d and some before", got, n/2)
	}
}

// A session that is dropped for other reasons while its copy waits is not opened, and the next one
// is.
func TestEndWhileWaiting(t *testing.T) {
	b := held(t)
	c := b.Conn("192.0.2.1:40000").Syn()
	c.Data("first")
	d := b.Conn("192.0.2.1:40001").Syn()
	d.Data("second")
	fromServer(b, c, packet.Segment{Seq: fromISN + 1, Ack: c.Isn + 100, Flags: packet.ACK})
	b.Wait(300 * ms) // bytes of the first are missing
	b.Sessions(2, ledger.CaptureGap, 1)
	b.Open.Refuses, b.Open.All = nil, nil
	b.Wait(sec)
	opened(b, 1)
	if got := string(b.Open.All[0].Text); got != "second" {
		t.Errorf("the copy was given %q, wanted %q", got, "second")
	}
}
