package intercept

import (
	"slices"

	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/core/seqnum"
	"tcpcopy/internal/way/link/wire"
)

const (
	// earlyEach and earlyAll bound what is kept of one connection, and of all, in bytes; earlyConns
	// how many there are.
	earlyEach  = 64 << 10
	earlyAll   = 32 << 20
	earlyConns = 1 << 16
	// earlyCost is what a segment costs beside its payload.
	earlyCost = 64
)

// early holds the target's first segments on a connection whose answers cannot be read yet, because
// the copier has not asked for them, or because the SYN-ACK passed before it asked and the copier
// has yet to say where the first byte is. A request, and so its answer, need not wait for the
// copier's record, and a server that speaks first waits for nobody. Segments are kept for
// wire.EarlyFor from the SYN-ACK, or the copier's record, on.
type early struct {
	since     mono.Time // when the SYN-ACK came, or the record of a connection whose SYN-ACK had passed
	segments  []earlySegment
	cost      int
	forgotten bool // there was more than is kept
}

// earlySegment is a segment of the target's; its payload is the pool's.
type earlySegment struct {
	at      mono.Time
	seq     seqnum.Value
	flags   packet.Flags
	payload []byte
}

// begun takes a SYN-ACK: a connection begins, or f has begun with it before. It returns what is
// known of it.
func (s *Intercept) begun(now mono.Time, of whose, hash uint32, f *following, seg *packet.Segment) *following {
	a, base := &s.answers, seg.Seq+1
	if f != nil {
		if !f.begunElsewhere(base) {
			return f
		}
		if c := s.owners[of.owner]; f.asked && c != nil && len(c.peers) > 0 {
			s.tellFound(c.peers[hash%uint32(len(c.peers))], &wire.Found{Kind: wire.FoundLost, Tuple: of.tuple})
		}
		s.unfollow(f) // the tuple is used again
	}
	c := s.owners[of.owner]
	if c == nil || len(a.followed) >= maxFollowed {
		return nil
	}
	if _, ok := c.reads[of.tuple.Target]; !ok {
		return nil
	}
	f = s.enter(of)
	f.Begin(base)
	f.whole, f.heard, f.early.since = true, now, now
	a.waiting = append(a.waiting, f)
	s.forgetEarly(now)
	return f
}

// keep keeps a segment of a connection that cannot be read yet.
func (s *Intercept) keep(now mono.Time, f *following, seg *packet.Segment) {
	a, e := &s.answers, &f.early
	if e.forgotten || seg.Flags.Has(packet.SYN) || seg.Len == 0 && !seg.Flags.Has(packet.FIN) {
		return
	}
	if len(seg.Payload) < seg.Len || e.cost+seg.Len+earlyCost > earlyEach || a.kept+seg.Len+earlyCost > earlyAll {
		s.forget(f)
		return
	}
	if f.asked && len(e.segments) == 0 {
		e.since = now
		a.waiting = append(a.waiting, f)
	}
	k := earlySegment{at: now, seq: seg.Seq, flags: seg.Flags}
	cost := earlyCost
	if seg.Len > 0 {
		k.payload = a.pool.Get(seg.Len)
		copy(k.payload, seg.Payload)
		cost += cap(k.payload)
	}
	e.segments = append(e.segments, k)
	e.cost += cost
	a.kept += cost
}

// hearEarly reads what was kept of a connection.
func (s *Intercept) hearEarly(f *following) {
	for i := range f.early.segments {
		k := &f.early.segments[i]
		seg := packet.Segment{Seq: k.seq, Flags: k.flags, Len: len(k.payload), Payload: k.payload}
		if !s.hear(k.at, f, &seg) {
			return
		}
	}
	s.answers.spill(f)
}

// spill gives back what is kept of a connection.
func (a *answers) spill(f *following) {
	e := &f.early
	for i := range e.segments {
		if p := e.segments[i].payload; p != nil {
			a.pool.Put(p)
		}
	}
	a.kept -= e.cost
	e.segments, e.cost = nil, 0
}

// keepsFrom reports whether the segments that are kept begin with the first byte.
func (f *following) keepsFrom(base seqnum.Value) bool {
	return slices.ContainsFunc(f.early.segments, func(k earlySegment) bool { return k.seq == base })
}

// forget gives up what is kept of a connection. If its answers were asked for, they are lost. The
// lock is held.
func (s *Intercept) forget(f *following) {
	s.answers.spill(f)
	f.early.forgotten = true
	if f.asked {
		f.Lose()
		s.tellFound(s.peerOf(f.owner, f.hash), &wire.Found{Kind: wire.FoundLost, Tuple: f.tuple})
		s.unfollow(f)
	}
}

// forgetEarly forgets connections that could not be read in time, and the oldest of too many. The
// lock is held.
func (s *Intercept) forgetEarly(now mono.Time) {
	a := &s.answers
	for len(a.waiting) > earlyConns || len(a.waiting) > 0 && a.waiting[0].early.since.Add(wire.EarlyFor).Reached(now) {
		f := a.waiting[0]
		a.waiting[0] = nil
		a.waiting = a.waiting[1:]
		switch {
		case a.followed[f.whose] != f:
		case !f.asked:
			s.unfollow(f)
		case !f.based() && len(f.early.segments) > 0:
			s.forget(f)
		}
	}
}
