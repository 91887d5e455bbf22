package shard_test

import (
	"fmt"
	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/session"
	"tcpcopy/internal/core/shard"
	"tcpcopy/internal/test/rig"
	"testing"
)

// socketTarget is the target behind streams like those of sockets.
type socketTarget struct {
	rig.Events
	agenda *rig.Agenda
	app    *rig.TargetApp
	in     *rig.Input
	open   int
	resets int // one in so many requests has the connection reset; 0: none
	heard  int
}

type socketStream struct {
	t        *socketTarget
	spec     session.OpenSpec
	copy     *rig.CopyOf
	open     bool
	released uint64
	sent     uint64
	total    uint64
	closing  bool
	gone     bool
}

func (t *socketTarget) Open(now mono.Time, spec *session.OpenSpec, _ shard.Copy) session.Stream {
	s := &socketStream{t: t, spec: *spec}
	t.open++
	t.agenda.Plan(now+2*ms, func(now mono.Time) {
		if s.gone {
			return
		}
		s.open = true
		s.copy = t.app.Accept(now, s.spec.Client, s.say)
		s.tell(now, session.Event{Kind: session.Opened})
		s.write(now)
	})
	return s
}

func (s *socketStream) tell(now mono.Time, ev session.Event) {
	ev.ID, ev.At = s.spec.ID, now
	s.t.in.Events = append(s.t.in.Events, ev)
}

func (s *socketStream) say(now mono.Time, n int) {
	if s.gone {
		return
	}
	s.total += uint64(n)
	s.tell(now, session.Event{Kind: session.Received, N: s.total})
}

// write is what happens when the kernel takes bytes: the target has them 1 ms later.
func (s *socketStream) write(now mono.Time) {
	if !s.open || s.gone {
		return
	}
	var b []byte
	for s.sent < s.released {
		v := s.spec.Record.View(s.sent, int(s.released-s.sent))
		if len(v) == 0 {
			s.t.app.Errorf("at %v: of %v released %d, the record ends at %d", now, s.spec.Client,
				s.released, s.sent)
			return
		}
		b = append(b, v...)
		s.sent += uint64(len(v))
	}
	if len(b) > 0 {
		s.tell(now, session.Event{Kind: session.Taken, N: s.sent})
		s.t.agenda.Plan(now+ms, func(now mono.Time) {
			if s.gone && s.t.resets > 0 {
				return
			}
			s.copy.Heard(now, b, s.say)
			if s.t.heard++; s.t.resets > 0 && s.t.heard%s.t.resets == 0 && !s.gone {
				s.end(now, session.Event{Kind: session.ResetByPeer, N: s.sent})
			}
		})
	}
	if s.closing {
		s.closing = false
		var look func(now mono.Time)
		look = func(now mono.Time) {
			switch {
			case s.gone:
			case s.copy.Busy > now:
				s.t.agenda.Plan(s.copy.Busy+ms, look)
			default:
				s.tell(now, session.Event{Kind: session.Shut})
				s.end(now, session.Event{Kind: session.Finished, N: s.sent})
			}
		}
		s.t.agenda.Plan(now+3*ms, look)
	}
}

func (s *socketStream) end(now mono.Time, ev session.Event) {
	s.tell(now, ev)
	s.gone = true
	s.t.open--
}

func (s *socketStream) Release(now mono.Time, end uint64) {
	if s.gone || end <= s.released {
		s.t.app.Errorf("at %v: Release(%d) after %d, gone: %v", now, end, s.released, s.gone)
	}
	s.released = end
	s.write(now)
}

func (s *socketStream) CloseWrite(now mono.Time) {
	s.closing = true
	s.write(now)
}

func (s *socketStream) Abort(mono.Time) {
	if !s.gone {
		s.gone = true
		s.t.open--
	}
}

// Many clients of all kinds, captured as captures are, copied to a target of its own speed: every
// request arrives once, in order, none before the answers that its client had seen; nothing is
// left over.
func TestCopyProperty(t *testing.T) {
	for _, seed := range rig.Seeds(50) {
		for _, resets := range []int{0, 40} {
			t.Run(fmt.Sprintf("seed=%d,resets=%d", seed, resets), func(t *testing.T) {
				var a rig.Agenda
				start := 10 * sec
				tr := rig.NewTraffic(seed, 40, start)
				app := rig.NewTargetApp(tr, t.Errorf, a.Plan)
				tg := &socketTarget{agenda: &a, app: app, resets: resets}
				sh := shard.New(shard.Config{
					Services: []*shard.Service{rig.ServiceFor(rig.Target)}, Streams: tg,
					MaxSessions: 1000, MaxMemory: 64 << 20,
				})
				rig.CopyAll(t, sh, tg, tr, &a, &tg.in, nil)
				if resets == 0 {
					app.Check()
				}
				if tg.open != 0 {
					t.Errorf("%d connections to the target are open at the end", tg.open)
				}
			})
		}
	}
}
