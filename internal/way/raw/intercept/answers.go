package intercept

import (
	"maps"
	"net/netip"
	"slices"

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
	// followIdle is how long a connection may be silent before it is forgotten.
	followIdle = mono.Time(3600e9)
	// sweepEvery is how often idle connections are looked for.
	sweepEvery = mono.Time(60e9)
	// maxReads bounds the targets whose packets are captured whole.
	maxReads = 4096
	// maxUnconfirmed bounds the confirmations that are put off.
	maxUnconfirmed = 4096
	// maxFound is the size at which a message of answers is sent.
	maxFound = wire.MaxAnswers / 2
)

// pair names a connection and a copier that has it or would have it. Several copiers may ask about
// one connection before the target has decided between them.
type pair struct {
	tuple wire.Tuple
	owner uint8
}

// answers is what the intercept reads for copiers. Guarded by Intercept.mu.
type answers struct {
	followed    map[pair]*following
	pool        chunk.Pool
	results     []proto.Told
	scratch     []proto.Answer
	digest      proto.Digest // of the answer that is reported
	unsent      []*peer      // have a message of answers begun
	nextSweep   mono.Time
	targets     map[netip.AddrPort]struct{} // whose packets are captured whole
	early       []*following                // have early segments, the oldest first, or had them
	earlyBytes  int                         // cost of all early segments
	unconfirmed []confirmation              // nothing waits for them
}

// canRead reports whether answers can be read here: whole packets can be captured.
func (s *Intercept) canRead() bool { return s.cfg.Whole != nil }

// readAnswers carries out a message of readings.
func (s *Intercept) readAnswers(p *peer, f wire.Frame) error {
	if !s.canRead() || len(f.Body) > wire.MaxAnswers {
		return f.Unexpected()
	}
	// The lock is held throughout: a segment that waits for it while the filter changes is of a
	// connection that is added before it is looked up.
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.captureWhole(p, f.Body); err != nil {
		return err
	}
	now, urgent := s.cfg.Now(), false
	var r wire.Reading
	for body := f.Body; len(body) > 0; {
		var err error
		if body, err = wire.NextReading(body, &r); err != nil {
			return err
		}
		urgent = s.readAnswer(now, p, &r) || urgent
	}
	if urgent || len(s.answers.unconfirmed) > maxUnconfirmed {
		s.confirmAll()
		s.flushFound()
	}
	return nil
}

// captureWhole makes the sources capture packets of the targets in a message of readings whole,
// before any reading is confirmed. The lock is held.
func (s *Intercept) captureWhole(p *peer, body []byte) error {
	var r wire.Reading
	var fresh []netip.AddrPort
	c, a := p.copier, &s.answers
	for len(body) > 0 {
		var err error
		if body, err = wire.NextReading(body, &r); err != nil {
			return err
		}
		t := r.Tuple.Target
		if _, ok := c.reads[t]; ok || r.Proto == proto.None || !s.table.SendsTo(c.owner, t) {
			continue
		}
		if _, ok := a.targets[t]; !ok {
			if len(a.targets) >= maxReads {
				s.server.Complain(p.addr, "answers of so many targets cannot be captured whole: "+
					"where they end is guessed", "most", maxReads)
				continue
			}
			if a.targets == nil {
				a.targets = make(map[netip.AddrPort]struct{})
			}
			a.targets[t] = struct{}{}
			fresh = append(fresh, t)
		}
		if c.reads == nil {
			c.reads = make(map[netip.AddrPort]struct{})
		}
		c.reads[t] = struct{}{}
	}
	if len(fresh) == 0 {
		return nil
	}
	if err := s.cfg.Whole(slices.Collect(maps.Keys(a.targets))); err != nil {
		s.server.Complain(p.addr,
			"answers cannot be captured whole: where they end is guessed", "error", err)
		for _, t := range fresh {
			delete(a.targets, t)
			delete(c.reads, t)
		}
	}
	return nil
}

// narrow makes the sources cut again the packets of targets that no copier reads any more: c is
// gone, or sends to others. The lock is held.
func (s *Intercept) narrow(c *copier) {
	a, n := &s.answers, len(s.answers.targets)
	for t := range c.reads {
		if len(c.peers) > 0 && s.table.SendsTo(c.owner, t) {
			continue
		}
		delete(c.reads, t)
		reads := func(o *copier) bool {
			if o == nil {
				return false
			}
			_, ok := o.reads[t]
			return ok
		}
		if !slices.ContainsFunc(s.owners[:], reads) {
			delete(a.targets, t)
		}
	}
	if len(a.targets) == n {
		return
	}
	if err := s.cfg.Whole(slices.Collect(maps.Keys(a.targets))); err != nil {
		// It captures more than it needs: the next change tries again.
		s.server.Complain(c.addr, "answers go on being captured whole", "error", err)
	}
}

// readAnswer carries out one reading. It reports whether the copier waits for what was found. The
// lock is held.
func (s *Intercept) readAnswer(now mono.Time, p *peer, r *wire.Reading) bool {
	of := pair{r.Tuple, p.copier.owner}
	f := s.answers.followed[of]
	if r.Proto == proto.None {
		if f != nil && f.reading && r.Hint != 0 {
			f.Expect(r.Request, r.Hint)
		}
		s.confirm(&confirmation{p, f, r.Tuple, r.Serial})
		return true
	}
	if r.OfTarget() {
		if _, whole := s.answers.targets[r.Tuple.Target]; whole {
			s.confirm(&confirmation{p, nil, r.Tuple, r.Serial})
		}
		return true
	}
	if f != nil && (r.BaseKnown && f.startsElsewhere(r.Base) || !r.BaseKnown && f.reading) {
		s.unfollow(f) // of the connection that had the tuple before
		f = nil
	}
	if f == nil || !f.reading { // else the copier repeats it, and knows the base now
		if f = s.startReading(of, f, r.Proto); f == nil {
			s.report(p, &wire.Found{Kind: wire.FoundLost, Tuple: r.Tuple})
			return true
		}
	}
	if r.BaseKnown && !f.based() {
		f.Begin(r.Base)
		f.whole = f.hasEarly(r.Base)
		f.unsure = !f.whole
	}
	f.lastSeen = now
	c := confirmation{p, f, r.Tuple, r.Serial}
	if !r.Held && len(f.early.segments) == 0 {
		s.answers.unconfirmed = append(s.answers.unconfirmed, c)
		return false
	}
	s.confirm(&c)
	s.readEarly(f)
	return true
}

// startReading starts to read the answers of a connection, whose entry is f, or nil if it has none.
// It returns the entry, or nil where the answers cannot be read. The lock is held.
func (s *Intercept) startReading(of pair, f *following, kind proto.Kind) *following {
	a := &s.answers
	reader := known.Answers(kind)
	_, whole := a.targets[of.tuple.Target]
	full := f == nil && len(a.followed) >= maxFollowed
	if reader == nil || !whole || full || f != nil && f.early.overflowed {
		if f != nil {
			s.unfollow(f)
		}
		return nil
	}
	if f == nil {
		f = s.addFollowing(of)
	}
	var digests *proto.Digesting
	if c := s.owners[of.owner]; c != nil {
		digests = c.digesting
	}
	f.start(reader, kind, digests)
	return f
}

// confirmation tells a copier that a reading has arrived. If nothing waits for it, it is sent with
// what is reported next, and costs no message of its own.
type confirmation struct {
	peer   *peer
	f      *following // nil: the connection is not read
	tuple  wire.Tuple
	serial uint32
}

// confirmAll sends the confirmations that were put off. The lock is held.
func (s *Intercept) confirmAll() {
	for i := range s.answers.unconfirmed {
		s.confirm(&s.answers.unconfirmed[i])
	}
	clear(s.answers.unconfirmed)
	s.answers.unconfirmed = s.answers.unconfirmed[:0]
}

// confirm sends a confirmation after the connection's headers: a copier that has not received a
// header by then knows that the segment had not been captured when its reading arrived. The lock is
// held.
func (s *Intercept) confirm(c *confirmation) {
	whole := c.f != nil && c.f.reading && c.f.whole
	p := s.peerOf(c.peer.copier.owner, s.table.Hash(c.tuple.Client, c.tuple.Target))
	if p == nil {
		p = c.peer
	}
	s.report(p, &wire.Found{
		Kind: wire.FoundConfirmed, Tuple: c.tuple, Serial: c.serial, Whole: whole})
}

// addFollowing makes an entry for a connection that has none.
func (s *Intercept) addFollowing(of pair) *following {
	f := &following{pair: of}
	if s.answers.followed == nil {
		s.answers.followed = make(map[pair]*following)
	}
	s.answers.followed[of] = f
	return f
}

// follow reads or keeps a segment that was routed to its owner. f is the entry of its connection,
// nil if that has none.
func (s *Intercept) follow(now mono.Time, of pair, hash uint32, f *following,
	seg *packet.Segment) {
	if seg.Flags.Has(packet.SYN) {
		f = s.handleSYNACK(now, of, hash, f, seg)
	}
	if f == nil {
		return
	}
	f.hash = hash
	c := s.owners[of.owner]
	switch {
	case seg.Flags.Any(packet.RST) || c == nil || len(c.peers) == 0:
		s.unfollow(f)
	case !f.reading, !f.based() && !seg.Flags.Has(packet.SYN):
		s.keepEarly(now, f, seg)
	default:
		if s.readSegment(now, f, seg) && seg.Flags.Has(packet.SYN) {
			s.readEarly(f)
		}
	}
}

// readSegment reads a segment and reports what is found. It reports whether the connection is still
// followed.
func (s *Intercept) readSegment(now mono.Time, f *following, seg *packet.Segment) bool {
	a, p := &s.answers, s.peerOf(f.owner, f.hash)
	a.results = f.read(now, seg, &a.pool, a.results[:0], &a.scratch)
	for i := range a.results {
		r := &a.results[i]
		if len(r.Bytes) == 0 {
			if r.Digest != nil {
				r.Digest = r.Digest.MoveTo(&a.digest, f.digests)
			}
			s.report(p, &wire.Found{
				Kind: wire.FoundAnswer, Tuple: f.tuple, Answer: r.Answer, Age: r.At.Sub(r.First)})
			continue
		}
		for b := r.Bytes; len(b) > 0; b = b[min(len(b), wire.MaxKept):] {
			s.report(p, &wire.Found{
				Kind: wire.FoundBytes, Tuple: f.tuple, Data: b[:min(len(b), wire.MaxKept)]})
		}
	}
	clear(a.results)
	if f.lost = f.Lost(); f.lost {
		s.report(p, &wire.Found{Kind: wire.FoundLost, Tuple: f.tuple})
	}
	if f.Over() {
		s.unfollow(f)
		return false
	}
	return true
}

// unfollow forgets a connection.
func (s *Intercept) unfollow(f *following) {
	s.answers.freeEarly(f)
	f.Digest(nil)
	f.Close()
	f.Follower = segments.Follower{}
	delete(s.answers.followed, f.pair)
}

// releaseFollowed forgets a connection that its copier has released. The copier may use the same
// tuple again by now: it learns that the answers are lost. The lock is held.
func (s *Intercept) releaseFollowed(owner uint8, t wire.Tuple) {
	f := s.answers.followed[pair{t, owner}]
	if f == nil {
		return
	}
	reading := f.reading
	s.unfollow(f)
	if c := s.owners[owner]; reading && c != nil && len(c.peers) > 0 {
		s.report(c.peers[0], &wire.Found{Kind: wire.FoundLost, Tuple: t})
	}
}

// report appends to a copier's message of answers, which is sent after the headers that were added
// by now. The lock is held.
func (s *Intercept) report(p *peer, f *wire.Found) {
	if len(p.found) == 0 {
		p.found = wire.BeginFrame(p.found, wire.TypeAnswers)
		s.answers.unsent = append(s.answers.unsent, p)
	}
	p.found = wire.AppendFound(p.found, f)
	if len(p.found) > maxFound {
		s.seal(p, s.cfg.Now()) // the headers first
		s.sendFound(p)
	}
}

// sendFoundOf sends what was found so far for the copier's connection to which a tuple with this
// hash belongs, after the headers that were added by now. The lock is held.
func (s *Intercept) sendFoundOf(now mono.Time, owner uint8, hash uint32) {
	if p := s.peerOf(owner, hash); p != nil && len(p.found) > 0 {
		s.seal(p, now)
		s.sendFound(p)
	}
}

// flushFound sends all messages of answers that were begun. The lock is held.
func (s *Intercept) flushFound() {
	for i, p := range s.answers.unsent {
		s.answers.unsent[i] = nil
		if len(p.found) > 0 {
			s.sendFound(p)
		}
	}
	s.answers.unsent = s.answers.unsent[:0]
}

func (s *Intercept) sendFound(p *peer) {
	if !p.put(wire.EndFrame(p.found, 0)) {
		p.end.Close() // what is lost is not sent again; a new connection begins anew
	}
	p.found = p.found[:0]
}

// forgetIdle forgets connections that were silent for long. The lock is held.
func (s *Intercept) forgetIdle(now mono.Time) {
	a := &s.answers
	if len(a.followed) == 0 || now < a.nextSweep {
		return
	}
	a.nextSweep = now + sweepEvery
	for _, f := range a.followed {
		if now-f.lastSeen > followIdle {
			s.unfollow(f)
		}
	}
}

// forgetOwner forgets the connections of a copier that is gone. The lock is held.
func (s *Intercept) forgetOwner(owner uint8) {
	for _, f := range s.answers.followed {
		if f.owner == owner {
			s.unfollow(f)
		}
	}
}
