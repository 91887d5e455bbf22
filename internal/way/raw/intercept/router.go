package intercept

import (
	"errors"
	"net/netip"
	"time"

	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/source"
	"tcpcopy/internal/way/link/wire"
)

// capture routes the packets of one source until it is closed. Meanwhile it expires what has waited
// too long.
func (s *Intercept) capture(src source.Source) error {
	var seg packet.Segment
	for {
		frames, err := src.Next(expireEvery)
		now := s.cfg.Now()
		s.batch(now, frames, &seg)
		if err != nil {
			if errors.Is(err, source.ErrClosed) {
				return nil
			}
			return err
		}
	}
}

// batch routes frames; each copier concerned gets one message.
func (s *Intercept) batch(now mono.Time, frames []source.Frame, seg *packet.Segment) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range frames {
		s.frame(now, &frames[i], seg)
	}
	s.flush(now)
	s.confirmAll()
	s.flushFound()
	if s.next.Reached(now) {
		s.forgetIdle(now)
		s.forgetEarly(now)
		s.forgetExams(now)
		// Claims and holds in between may be due before what Expire names.
		s.next = min(s.table.Expire(now), now.Add(expireEvery))
	}
}

// frame routes one captured packet. The lock is held.
func (s *Intercept) frame(now mono.Time, f *source.Frame, seg *packet.Segment) {
	s.frames.Seen++
	if f.Outgoing || f.PktType == source.Outgoing {
		s.frames.Outgoing++
		return
	}
	switch err := packet.Decode(f.Data, f.Wire, seg); err {
	case nil:
	case packet.ErrNotTCP:
		s.icmp(now, f)
		return
	case packet.ErrFragment:
		s.frames.Fragments++
		return
	default:
		s.frames.Malformed++
		return
	}
	if len(s.exams.all) > 0 && s.probed(seg) {
		return
	}
	if dst := seg.Dst.Addr(); s.cfg.Local != nil && s.cfg.Local.Has(dst) {
		s.frames.Local++
		return
	} else if s.passed(dst) {
		s.frames.Passed++
		return
	}
	if owner, hash, behind := s.table.Behind(now, seg); behind {
		if p := s.peerOf(owner, hash); p != nil {
			var room [64]byte
			tuple := []wire.Tuple{{Client: seg.Dst, Target: seg.Src}}
			p.put(wire.AppendTuples(room[:0], wire.TypeClaimRefused, tuple)) // before the header
		}
		s.deliver(owner, seg, min(f.Time, now), hash)
		return
	}
	if owner, hash := s.table.Route(now, seg); owner != 0 {
		s.routed(now, owner, hash, seg, min(f.Time, now))
	}
}

// routed delivers a segment to its owner and, if its answers are read, reads it. What is found goes
// after the headers, but before one that may end the connection: the copy may end with it, before
// it knows of its last answer. Where they could not be read, the copier needs the headers first, to
// tell which answers it still has. The lock is held.
func (s *Intercept) routed(now mono.Time, owner uint8, hash uint32, seg *packet.Segment,
	at mono.Time) {
	var f *following
	of := pair{wire.Tuple{Client: seg.Dst, Target: seg.Src}, owner}
	if len(s.answers.followed) > 0 {
		f = s.answers.followed[of]
	}
	if f != nil && f.endsWith(seg) {
		if s.follow(now, of, hash, f, seg); !f.lost {
			s.sendFoundOf(now, owner, hash)
		}
		s.deliver(owner, seg, at, hash)
		return
	}
	s.deliver(owner, seg, at, hash)
	if f != nil || seg.Flags.Has(packet.SYN) {
		s.follow(now, of, hash, f, seg)
	}
}

func (s *Intercept) passed(a netip.Addr) bool {
	for _, p := range s.cfg.Pass {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// icmp reports an ICMP error to the copier whose packet caused it.
func (s *Intercept) icmp(now mono.Time, f *source.Frame) {
	e, err := packet.DecodeICMP(f.Data)
	if err != nil {
		s.frames.NotTCP++
		return
	}
	owner, _ := s.table.Owner(now, e.Src, e.Dst)
	c := s.owners[owner]
	if owner == 0 || c == nil || len(c.peers) == 0 {
		s.frames.ICMPUnowned++
		return
	}
	if !s.allowed.spend(now) {
		s.frames.ICMPOver++
		return
	}
	m := wire.ICMP{Kind: e.Kind, Code: e.Code, MTU: uint32(max(e.MTU, 0)), Seq: e.Seq,
		Tuple: wire.Tuple{Client: e.Src, Target: e.Dst}}
	var room [128]byte
	c.peers[0].put(m.Append(room[:0]))
	s.frames.ICMP++
}

const (
	// mostICMP is how many ICMP errors are reported in each icmpEvery. Anyone can send one about a
	// connection whose addresses he knows. What is lost to it comes again, as segments do.
	mostICMP  = 100
	icmpEvery = time.Second
)

// allowance bounds the ICMP errors that are reported.
type allowance struct {
	since mono.Time
	spent int
}

func (a *allowance) spend(now mono.Time) bool {
	if a.spent == 0 || now.Sub(a.since) >= icmpEvery {
		*a = allowance{since: now}
	}
	a.spent++
	return a.spent <= mostICMP
}

// deliver adds a segment to the batch of one of its owner's connections: always the same one for
// the same tuple, as long as their number does not change. The lock is held.
func (s *Intercept) deliver(owner uint8, seg *packet.Segment, at mono.Time, hash uint32) {
	p := s.peerOf(owner, hash)
	if p == nil {
		if c := s.owners[owner]; c != nil {
			c.away++
		}
		return
	}
	if p.batch.Len() == 0 {
		s.touched = append(s.touched, p)
	}
	if !p.batch.Add(seg, at) {
		s.seal(p, s.cfg.Now())
		p.batch.Add(seg, at)
	}
}

// peerOf returns an owner's connection for a tuple with a hash, nil if it has none. The lock is
// held.
func (s *Intercept) peerOf(owner uint8, hash uint32) *peer {
	c := s.owners[owner]
	if c == nil || len(c.peers) == 0 {
		return nil
	}
	return c.peers[hash%uint32(len(c.peers))]
}

// flush seals all batches that were begun. The lock is held.
func (s *Intercept) flush(now mono.Time) {
	for i, p := range s.touched {
		s.seal(p, now)
		s.touched[i] = nil
	}
	s.touched = s.touched[:0]
}

// seal queues a batch. The lock is held.
func (s *Intercept) seal(p *peer, now mono.Time) {
	n := uint64(p.batch.Len())
	if p.put(p.batch.Seal(now)) {
		p.copier.headers += n
	} else {
		p.copier.dropped += n
	}
}

// claim claims tuples for owner, some at a time so that the router need not wait long, and appends
// those that were refused to refused.
func (s *Intercept) claim(owner uint8, tuples, refused []wire.Tuple) []wire.Tuple {
	const step = 512
	var now mono.Time
	deliver := func(seg *packet.Segment, at mono.Time, hash uint32) {
		s.deliver(owner, seg, at, hash)
	}
	for len(tuples) > 0 {
		n := min(step, len(tuples))
		s.mu.Lock()
		now = s.cfg.Now()
		for _, t := range tuples[:n] {
			if !s.table.Claim(now, owner, t.Client, t.Target, deliver) {
				refused = append(refused, t)
			}
		}
		s.flush(now)
		s.mu.Unlock()
		tuples = tuples[n:]
	}
	return refused
}

// seek answers a copier that wants to open a connection.
func (s *Intercept) seek(asker uint8, q *wire.Seek) wire.Ownership {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.cfg.Now()
	since := now.Add(-time.Duration(q.Age) * time.Millisecond)
	deliver := func(seg *packet.Segment, at mono.Time, hash uint32) {
		s.deliver(asker, seg, at, hash)
	}
	if !s.table.Seek(now, asker, q.Tuple.Client, q.Tuple.Target, since, deliver) {
		return wire.Another
	}
	s.flush(now)
	return wire.You
}

// release carries out a copier's release of tuples.
func (s *Intercept) release(owner uint8, tuples []wire.Tuple) {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.flushFound()
	now := s.cfg.Now()
	for _, t := range tuples {
		s.table.Release(now, owner, t.Client, t.Target)
		s.releaseFollowed(owner, t)
	}
}

// ownership answers a copier's query.
func (s *Intercept) ownership(asker uint8, t wire.Tuple) wire.Ownership {
	s.mu.Lock()
	defer s.mu.Unlock()
	owner, sure := s.table.Owner(s.cfg.Now(), t.Client, t.Target)
	switch {
	case owner != 0 && owner != asker:
		return wire.Another
	case !sure:
		return wire.Unsure
	case owner == asker:
		return wire.You
	}
	return wire.Nobody
}
