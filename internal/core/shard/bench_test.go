package shard_test

import (
	"runtime"
	"testing"
	"unsafe"

	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/session"
	"tcpcopy/internal/core/shard"
	"tcpcopy/internal/test/rig"
)

// quietPort's streams take everything and keep nothing: what a socket costs is not the shard's.
type quietPort struct {
	rig.Events
	events []session.Event
}

type quietStream struct {
	p  *quietPort
	id session.ID
}

func (p *quietPort) Open(_ mono.Time, spec *session.OpenSpec, _ shard.Copy) session.Stream {
	p.events = append(p.events, session.Event{ID: spec.ID, Kind: session.Opened})
	return &quietStream{p, spec.ID}
}

func (s *quietStream) Release(_ mono.Time, end uint64) {
	s.p.events = append(s.p.events, session.Event{ID: s.id, Kind: session.Taken, N: end},
		session.Event{ID: s.id, Kind: session.Received, N: end})
}
func (s *quietStream) CloseWrite(mono.Time) {}
func (s *quietStream) Abort(mono.Time)      {}

// settle steps the shard until its streams have reported everything.
func settle(l *rig.Load, _ *rig.LoadClient) {
	p := l.Port.(*quietPort)
	for len(p.events) > 0 {
		l.In.Events = append(l.In.Events, p.events...)
		p.events = p.events[:0]
		l.Step()
	}
}

func BenchmarkStepSocket(b *testing.B) {
	l := rig.NewLoad(&quietPort{}, 1000, settle, settle)
	i := 0
	b.ReportAllocs()
	for b.Loop() {
		l.Now += mono.Time(50 * 1000)
		c := &l.Clients[i%1000]
		l.Request(c)
		settle(l, c)
		i++
	}
}

// A session that is idle costs little: the heap holds at most 2 KB for it.
func TestIdleSessionsAreSmall(t *testing.T) {
	const n = 100_000
	rig.IdleIsSmall(t, n, func() *rig.Load { return rig.NewLoad(&quietPort{}, n, settle, settle) })
	runtime.GC()
	t.Logf("a session has %d bytes", unsafe.Sizeof(session.Session{}))
}
