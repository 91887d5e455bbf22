package intercept

import (
	"net/netip"

	"tcpcopy/internal/core/chunk"
	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/proto"
	"tcpcopy/internal/proto/known"
	"tcpcopy/internal/proto/segments"
	"tcpcopy/internal/way/link/wire"
)

const (
	// maxFollowed bounds the connections whose answers are read.
	maxFollowed = 1 << 18
	// followIdle is how long one may say nothing: its copier has forgotten it.
	followIdle = mono.Time(3600e9)
	// forgetEvery is how often those are looked for.
	forgetEvery = mono.Time(60e9)
	// maxIdle bounds the confirmations that nothing waits for.
	maxIdle = 4096
	// tellAtOnce is how large a message of answers grows.
	tellAtOnce = wire.MaxAnswers / 2
)

// whose names a connection and a copier that has it, or would have it: several may ask about one
// before the target has said whose it is.
type whose struct {
	tuple wire.Tuple
	owner uint8
}

// answers is what the intercept reads for copiers. Guarded by Intercept.mu.
type answers struct {
	followed map[whose]*following
	pool     chunk.Pool
	told     []proto.Told
	scratch  []proto.Answer
	tellers  []*peer // have something to tell
	forget   mono.Time
	targets  map[netip.AddrPort]struct{} // whose packets are captured whole
	waiting  []*following                // the early ones, by age, and some that are no longer
	kept     int                         // bytes that they cost
	idle     []confirmation              // nothing waits for them
}

// reads says whether answers can be read: whole packets can be captured.
func (s *Intercept) reads() bool { return s.cfg.Whole != nil }

// readAnswers takes the body of a ReadAnswers.
func (s *Intercept) readAnswers(p *peer, body []byte) error {
	if !s.reads() || len(body) > wire.MaxAnswers {
		return wire.Frame{Type: wire.TypeReadAnswers, Body: body}.Unexpected()
	}
	// The lock is held throughout: a segment that waits while widen changes the filter belongs to a
	// connection that is entered before it is looked up.
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.widen(p, body); err != nil {
		return err
	}
	now, hurry := s.cfg.Now(), false
	var r wire.Reading
	for len(body) > 0 {
		var err error
		if body, err = wire.NextReading(body, &r); err != nil {
			return err
		}
		hurry = s.reading(now, p, &r) || hurry
	}
	if hurry || len(s.answers.idle) > maxIdle {
		s.confirmIdle()
		s.flushTold()
	}
	return nil
}

// widen has packets of the targets that are asked about captured whole, before anything is
// confirmed. The lock is held.
func (s *Intercept) widen(p *peer, body []byte) error {
	var r wire.Reading
	var fresh []netip.AddrPort
	for len(body) > 0 {
		var err error
		if body, err = wire.NextReading(body, &r); err != nil {
			return err
		}
		t := r.Tuple.Target
		if _, ok := p.copier.reads[t]; ok || r.Proto == proto.None || !s.table.SendsTo(p.copier.owner, t) {
			continue
		}
		if p.copier.reads == nil {
			p.copier.reads = make(map[netip.AddrPort]struct{})
		}
		p.copier.reads[t] = struct{}{}
		if _, ok := s.answers.targets[t]; !ok {
			if s.answers.targets == nil {
				s.answers.targets = make(map[netip.AddrPort]struct{})
			}
			s.answers.targets[t] = struct{}{}
			fresh = append(fresh, t)
		}
	}
	if len(fresh) == 0 {
		return nil
	}
	all := make([]netip.AddrPort, 0, len(s.answers.targets))
	for t := range s.answers.targets {
		all = append(all, t)
	}
	if err := s.cfg.Whole(all); err != nil {
		s.complain(p.addr, "intercept: answers cannot be captured whole, so that where they end is guessed", "error", err)
		for _, t := range fresh {
			delete(s.answers.targets, t)
			delete(p.copier.reads, t)
		}
	}
	return nil
}

// reading carries out one record. It says whether there is something to tell at once. The lock is
// held.
func (s *Intercept) reading(now mono.Time, p *peer, r *wire.Reading) bool {
	a := &s.answers
	of := whose{r.Tuple, p.copier.owner}
	f := a.followed[of]
	if r.Proto == proto.None {
		if f != nil && f.asked && r.Hint != 0 {
			f.Expect(r.Request, r.Hint)
		}
		s.confirm(&confirmation{p, f, r.Tuple, r.Serial})
		return true
	}
	if f != nil && (r.BaseKnown && f.begunElsewhere(r.Base) || !r.BaseKnown && f.asked) {
		s.unfollow(f) // of the connection that had the tuple before
		f = nil
	}
	if f == nil || !f.asked { // else the copier repeats it, and knows the base now
		reader := known.Answers(r.Proto)
		_, whole := a.targets[r.Tuple.Target]
		if reader == nil || !whole || f == nil && len(a.followed) >= maxFollowed || f != nil && f.early.forgotten {
			if f != nil {
				s.unfollow(f)
			}
			s.tellFound(p, &wire.Found{Kind: wire.FoundLost, Tuple: r.Tuple})
			return true
		}
		if f == nil {
			f = s.enter(of)
		}
		f.read(reader)
	}
	if _, based := f.Base(); r.BaseKnown && !based {
		f.Begin(r.Base)
		f.whole = f.keepsFrom(r.Base)
		f.unsure = !f.whole
	}
	f.heard = now
	c := confirmation{p, f, r.Tuple, r.Serial}
	if !r.Held && len(f.early.segments) == 0 {
		a.idle = append(a.idle, c)
		return false
	}
	s.confirm(&c)
	s.hearEarly(f)
	return true
}

// confirmation says that a record is known. Where nothing waits for it, it goes along with what is
// told next, and costs no message of its own.
type confirmation struct {
	peer   *peer
	f      *following // nil: the connection is not read
	tuple  wire.Tuple
	serial uint32
}

// confirmIdle confirms what nothing waits for. The lock is held.
func (s *Intercept) confirmIdle() {
	for i := range s.answers.idle {
		s.confirm(&s.answers.idle[i])
	}
	clear(s.answers.idle)
	s.answers.idle = s.answers.idle[:0]
}

// confirm sends a confirmation behind the connection's headers: a copier that has not received a
// header by then knows that the segment had not been captured when its record arrived. The lock is
// held.
func (s *Intercept) confirm(c *confirmation) {
	whole := c.f != nil && c.f.asked && c.f.whole
	p := s.peerOf(c.peer.copier.owner, s.table.Hash(c.tuple.Client, c.tuple.Target))
	if p == nil {
		p = c.peer
	}
	s.tellFound(p, &wire.Found{Kind: wire.FoundConfirmed, Tuple: c.tuple, Serial: c.serial, Whole: whole})
}

// enter makes an entry for a connection, which has none.
func (s *Intercept) enter(of whose) *following {
	f := &following{whose: of}
	if s.answers.followed == nil {
		s.answers.followed = make(map[whose]*following)
	}
	s.answers.followed[of] = f
	return f
}

// follow reads a segment that was routed to its owner, or keeps it, and tells what is found after
// the segment's header.
func (s *Intercept) follow(now mono.Time, owner uint8, hash uint32, seg *packet.Segment) {
	a := &s.answers
	of := whose{wire.Tuple{Client: seg.Dst, Target: seg.Src}, owner}
	f := a.followed[of]
	if seg.Flags.Has(packet.SYN) {
		f = s.begun(now, of, hash, f, seg)
	}
	if f == nil {
		return
	}
	f.hash = hash
	c := s.owners[owner]
	switch {
	case seg.Flags.Any(packet.RST) || c == nil || len(c.peers) == 0:
		s.unfollow(f)
	case !f.asked, !f.based() && !seg.Flags.Has(packet.SYN):
		s.keep(now, f, seg)
	default:
		if s.hear(now, f, seg) && seg.Flags.Has(packet.SYN) {
			s.hearEarly(f)
		}
	}
}

// hear reads a segment and tells what is found. It says whether there is more to come.
func (s *Intercept) hear(now mono.Time, f *following, seg *packet.Segment) bool {
	a, p := &s.answers, s.peerOf(f.owner, f.hash)
	a.told = f.take(now, seg, &a.pool, a.told[:0], &a.scratch)
	for i := range a.told {
		t := &a.told[i]
		if len(t.Bytes) == 0 {
			s.tellFound(p, &wire.Found{Kind: wire.FoundAnswer, Tuple: f.tuple, Answer: t.Answer, Age: t.At.Sub(t.First)})
			continue
		}
		for b := t.Bytes; len(b) > 0; b = b[min(len(b), wire.MaxKept):] {
			s.tellFound(p, &wire.Found{Kind: wire.FoundBytes, Tuple: f.tuple, Data: b[:min(len(b), wire.MaxKept)]})
		}
	}
	clear(a.told)
	if f.Lost() {
		s.tellFound(p, &wire.Found{Kind: wire.FoundLost, Tuple: f.tuple})
	}
	if f.Over() {
		s.unfollow(f)
		return false
	}
	return true
}

// unfollow forgets a connection.
func (s *Intercept) unfollow(f *following) {
	s.answers.spill(f)
	f.Close()
	f.Follower = segments.Follower{}
	delete(s.answers.followed, f.whose)
}

// dropped forgets a connection that its copier is done with; should it use the same tuple again by
// now, it is told. The lock is held.
func (s *Intercept) dropped(owner uint8, t wire.Tuple) {
	f := s.answers.followed[whose{t, owner}]
	if f == nil {
		return
	}
	asked := f.asked
	s.unfollow(f)
	if c := s.owners[owner]; asked && c != nil && len(c.peers) > 0 {
		s.tellFound(c.peers[0], &wire.Found{Kind: wire.FoundLost, Tuple: t})
	}
}

// tellFound has a copier told, after the headers that were added for it by now. The lock is held.
func (s *Intercept) tellFound(p *peer, f *wire.Found) {
	if len(p.told) == 0 {
		p.told = wire.BeginFrame(p.told, wire.TypeAnswers)
		s.answers.tellers = append(s.answers.tellers, p)
	}
	p.told = wire.AppendFound(p.told, f)
	if len(p.told) > tellAtOnce {
		s.seal(p, s.cfg.Now()) // the headers first
		s.sendTold(p)
	}
}

// flushTold sends all that is to be told. The lock is held.
func (s *Intercept) flushTold() {
	for i, p := range s.answers.tellers {
		s.answers.tellers[i] = nil
		if len(p.told) > 0 {
			s.sendTold(p)
		}
	}
	s.answers.tellers = s.answers.tellers[:0]
}

func (s *Intercept) sendTold(p *peer) {
	if !p.out.put(wire.EndFrame(p.told, 0)) {
		p.conn.Close() // what is lost here nobody sends again; on a new connection all begins anew
	}
	p.told = p.told[:0]
}

// forgetSilent forgets connections that have said nothing for long. The lock is held.
func (s *Intercept) forgetSilent(now mono.Time) {
	a := &s.answers
	if len(a.followed) == 0 || now < a.forget {
		return
	}
	a.forget = now + forgetEvery
	for _, f := range a.followed {
		if now-f.heard > followIdle {
			s.unfollow(f)
		}
	}
}

// forgetOwner forgets what a copier that has gone had read. The lock is held.
func (s *Intercept) forgetOwner(owner uint8) {
	for _, f := range s.answers.followed {
		if f.owner == owner {
			s.unfollow(f)
		}
	}
}
