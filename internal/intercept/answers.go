package intercept

import (
	"net/netip"

	"tcpcopy/internal/chunk"
	"tcpcopy/internal/mono"
	"tcpcopy/internal/packet"
	"tcpcopy/internal/proto"
	"tcpcopy/internal/proto/known"
	"tcpcopy/internal/wire"
)

const (
	// maxFollowed bounds the connections whose answers are read.
	maxFollowed = 1 << 18
	// followIdle is how long one may say nothing: its copier has forgotten it.
	followIdle = mono.Time(3600e9)
	// forgetEvery is how often those are looked for.
	forgetEvery = mono.Time(60e9)
	// tellAtOnce is how large a message of answers grows.
	tellAtOnce = wire.MaxAnswers / 2
)

// asked names what a copier has asked about: another may ask about the same connection before the target has said
// whose it is.
type asked struct {
	wire.Tuple
	owner uint8
}

// answers is what the intercept reads for copiers. Guarded by Intercept.mu.
type answers struct {
	followed map[asked]*following
	pool     chunk.Pool
	told     []proto.Told
	scratch  []proto.Answer
	tellers  []*peer // have something to tell
	forget   mono.Time
	targets  map[netip.AddrPort]struct{} // whose packets are captured whole
}

// reads says whether answers can be read: whole packets can be captured.
func (s *Intercept) reads() bool { return s.cfg.Whole != nil }

// readAnswers takes the body of a ReadAnswers.
func (s *Intercept) readAnswers(p *peer, body []byte) error {
	if !s.reads() || len(body) > wire.MaxAnswers {
		return wire.Frame{Type: wire.TypeReadAnswers, Body: body}.Unexpected()
	}
	if err := s.widen(p, body); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.cfg.Now()
	var r wire.Reading
	for len(body) > 0 {
		var err error
		if body, err = wire.NextReading(body, &r); err != nil {
			return err
		}
		s.reading(now, p, &r)
	}
	s.flushTold()
	return nil
}

// widen has packets of the targets that are asked about captured whole, before anything is confirmed.
func (s *Intercept) widen(p *peer, body []byte) error {
	var r wire.Reading
	var fresh []netip.AddrPort
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(body) > 0 {
		var err error
		if body, err = wire.NextReading(body, &r); err != nil {
			return err
		}
		if _, ok := s.answers.targets[r.Tuple.Target]; !ok && s.table.SendsTo(p.copier.owner, r.Tuple.Target) {
			if s.answers.targets == nil {
				s.answers.targets = make(map[netip.AddrPort]struct{})
			}
			s.answers.targets[r.Tuple.Target] = struct{}{}
			fresh = append(fresh, r.Tuple.Target)
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
		}
	}
	return nil
}

// reading carries out one record. The lock is held.
func (s *Intercept) reading(now mono.Time, p *peer, r *wire.Reading) {
	a := &s.answers
	key := asked{r.Tuple, p.copier.owner}
	f := a.followed[key]
	if r.Proto == proto.None {
		if f != nil && r.Hint != 0 {
			f.follower.Expect(r.Request, r.Hint)
		}
		s.tellFound(p, &wire.Found{Kind: wire.FoundConfirmed, Tuple: r.Tuple, Serial: r.Serial})
		return
	}
	if f == nil || !r.BaseKnown || f.based && f.base != r.Base { // else the copier repeats it, and knows the base now
		reader := known.Answers(r.Proto)
		_, whole := a.targets[r.Tuple.Target]
		if reader == nil || !whole || f == nil && len(a.followed) >= maxFollowed {
			s.tellFound(p, &wire.Found{Kind: wire.FoundLost, Tuple: r.Tuple})
			return
		}
		if f != nil {
			f.close()
		}
		f = &following{follower: proto.Follow(reader)}
		if a.followed == nil {
			a.followed = make(map[asked]*following)
		}
		a.followed[key] = f
	}
	f.heard = now
	if r.BaseKnown && !f.based {
		f.begin(r.Base)
	}
	s.tellFound(p, &wire.Found{Kind: wire.FoundConfirmed, Tuple: r.Tuple, Serial: r.Serial})
}

// follow reads a segment that was routed to its owner, and tells what is found after the segment's header.
func (s *Intercept) follow(now mono.Time, owner uint8, hash uint32, seg *packet.Segment) {
	a := &s.answers
	tuple := wire.Tuple{Client: seg.Dst, Target: seg.Src}
	f := a.followed[asked{tuple, owner}]
	if f == nil {
		return
	}
	c := s.owners[owner]
	if seg.Flags.Any(packet.RST) || c == nil || len(c.peers) == 0 {
		s.unfollow(asked{tuple, owner}, f)
		return
	}
	p := c.peers[hash%uint32(len(c.peers))]
	a.told = f.take(now, seg, &a.pool, a.told[:0], &a.scratch)
	for i := range a.told {
		t := &a.told[i]
		if len(t.Bytes) == 0 {
			s.tellFound(p, &wire.Found{Kind: wire.FoundAnswer, Tuple: tuple, Answer: t.Answer, Age: t.At.Sub(t.First)})
			continue
		}
		for b := t.Bytes; len(b) > 0; b = b[min(len(b), wire.MaxKept):] {
			s.tellFound(p, &wire.Found{Kind: wire.FoundBytes, Tuple: tuple, Data: b[:min(len(b), wire.MaxKept)]})
		}
	}
	clear(a.told)
	if f.follower.Lost() {
		s.tellFound(p, &wire.Found{Kind: wire.FoundLost, Tuple: tuple})
	}
	if f.follower.Over() {
		s.unfollow(asked{tuple, owner}, f)
	}
}

func (s *Intercept) unfollow(a asked, f *following) {
	f.close()
	delete(s.answers.followed, a)
}

// dropped forgets a connection that its copier is done with; should it use the same tuple again by now, it is told.
// The lock is held.
func (s *Intercept) dropped(owner uint8, t wire.Tuple) {
	f := s.answers.followed[asked{t, owner}]
	if f == nil {
		return
	}
	s.unfollow(asked{t, owner}, f)
	if c := s.owners[owner]; c != nil && len(c.peers) > 0 {
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
	for t, f := range a.followed {
		if now-f.heard > followIdle {
			s.unfollow(t, f)
		}
	}
}

// forgetOwner forgets what a copier that has gone had read. The lock is held.
func (s *Intercept) forgetOwner(owner uint8) {
	for a, f := range s.answers.followed {
		if a.owner == owner {
			s.unfollow(a, f)
		}
	}
}
