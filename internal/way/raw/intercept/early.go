package intercept

import (
	"slices"

	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/core/seqnum"
	"tcpcopy/internal/way/link/wire"
)

const (
	// earlyEach and earlyAll bound the early segments of one connection, and of all, in bytes.
	earlyEach = 64 << 10
	earlyAll  = 32 << 20
	// earlyConns bounds the connections that have early segments.
	earlyConns = 1 << 16
	// earlyCost is what a segment costs beside its payload, in bytes.
	earlyCost = 64
)

// early holds the target's first segments on a connection whose answers cannot be read yet, because
// the copier has not asked for them, or because the SYN-ACK passed before it asked and the copier
// has yet to say where the first byte is. A request, and so its answer, need not wait for the
// copier's reading, and a server that speaks first does not wait at all. Segments are kept for
// wire.EarlyFor from the SYN-ACK, or the copier's reading, on.
type early struct {
	// of the SYN-ACK, or of the reading of a connection whose SYN-ACK had passed
	since      mono.Time
	segments   []earlySegment
	cost       int
	overflowed bool // there was more than is kept
}

// earlySegment is a segment of the target's. Its payload is from the pool.
type earlySegment struct {
	at      mono.Time
	seq     seqnum.Value
	flags   packet.Flags
	payload []byte
}

// handleSYNACK handles a SYN-ACK: a new connection begins, or the SYN-ACK of f is repeated. It
// returns the connection's entry, nil if it is not to be followed.
func (s *Intercept) handleSYNACK(now mono.Time, of pair, hash uint32, f *following,
	seg *packet.Segment) *following {
	a, base := &s.answers, seg.Seq+1
	c := s.owners[of.owner]
	if f != nil {
		if !f.startsElsewhere(base) {
			return f
		}
		if f.reading && c != nil && len(c.peers) > 0 {
			p := c.peers[hash%uint32(len(c.peers))]
			s.report(p, &wire.Found{Kind: wire.FoundLost, Tuple: of.tuple})
		}
		s.unfollow(f) // the tuple is used again
	}
	if c == nil || len(a.followed) >= maxFollowed {
		return nil
	}
	if _, ok := c.reads[of.tuple.Target]; !ok {
		return nil
	}
	f = s.addFollowing(of)
	f.Begin(base)
	f.whole, f.lastSeen, f.early.since = true, now, now
	a.early = append(a.early, f)
	s.forgetEarly(now)
	return f
}

// keepEarly keeps a segment of a connection that cannot be read yet.
func (s *Intercept) keepEarly(now mono.Time, f *following, seg *packet.Segment) {
	a, e := &s.answers, &f.early
	if e.overflowed || seg.Flags.Has(packet.SYN) || seg.Len == 0 && !seg.Flags.Has(packet.FIN) {
		return
	}
	cost := seg.Len + earlyCost
	if len(seg.Payload) < seg.Len || e.cost+cost > earlyEach || a.earlyBytes+cost > earlyAll {
		s.giveUpEarly(f)
		return
	}
	if f.reading && len(e.segments) == 0 {
		e.since = now
		a.early = append(a.early, f)
	}
	k := earlySegment{at: now, seq: seg.Seq, flags: seg.Flags}
	cost = earlyCost
	if seg.Len > 0 {
		k.payload = a.pool.Get(seg.Len)
		copy(k.payload, seg.Payload)
		cost += cap(k.payload)
	}
	e.segments = append(e.segments, k)
	e.cost += cost
	a.earlyBytes += cost
}

// readEarly reads the early segments of a connection.
func (s *Intercept) readEarly(f *following) {
	for i := range f.early.segments {
		k := &f.early.segments[i]
		seg := packet.Segment{Seq: k.seq, Flags: k.flags, Len: len(k.payload), Payload: k.payload}
		if !s.readSegment(k.at, f, &seg) {
			return
		}
	}
	s.answers.freeEarly(f)
}

// freeEarly drops the early segments of a connection.
func (a *answers) freeEarly(f *following) {
	e := &f.early
	for i := range e.segments {
		if p := e.segments[i].payload; p != nil {
			a.pool.Put(p)
		}
	}
	a.earlyBytes -= e.cost
	e.segments, e.cost = nil, 0
}

// hasEarly reports whether an early segment begins with the connection's first byte.
func (f *following) hasEarly(base seqnum.Value) bool {
	return slices.ContainsFunc(f.early.segments, func(k earlySegment) bool { return k.seq == base })
}

// giveUpEarly drops the early segments of a connection. If its answers were asked for, they are
// lost. The lock is held.
func (s *Intercept) giveUpEarly(f *following) {
	s.answers.freeEarly(f)
	f.early.overflowed = true
	if f.reading {
		f.Lose()
		s.report(s.peerOf(f.owner, f.hash), &wire.Found{Kind: wire.FoundLost, Tuple: f.tuple})
		s.unfollow(f)
	}
}

// forgetEarly forgets connections that could not be read in time, and the oldest of too many. The
// lock is held.
func (s *Intercept) forgetEarly(now mono.Time) {
	a := &s.answers
	for len(a.early) > 0 {
		f := a.early[0]
		due := f.early.since.Add(wire.EarlyFor).Reached(now)
		if !due && len(a.early) <= earlyConns {
			return
		}
		a.early[0] = nil
		a.early = a.early[1:]
		switch {
		case a.followed[f.pair] != f:
		case !f.reading:
			s.unfollow(f)
		case !f.based() && len(f.early.segments) > 0:
			s.giveUpEarly(f)
		}
	}
}
