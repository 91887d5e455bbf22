package shard

import (
	"time"

	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/core/seqnum"
)

// foundUnderWay holds connections whose SYN was not captured. Their client has sent data, and
// nothing shows that production knows of them: anyone can send a segment from any address. Such a
// connection becomes a session when production's server acknowledges it, or when its client goes on
// for a while and the server does not object. What the client sends meanwhile is kept, within
// bounds. Where the older ones cannot be kept they are forgotten.
type foundUnderWay struct {
	halfOpens // isn is the number before the first one that was captured
	held      map[int32]*foundSegments
	// Segments that are kept, and bytes of the pool, and how many there may be.
	packets, bytes         int
	mostPackets, mostBytes int

	weak int // live sessions that began without production's word
}

// foundSegments is what the client of a connection has sent.
type foundSegments struct {
	queue []Packet
	next  seqnum.Value // after the last byte
}

const (
	// foundLife is how long a connection is kept after the client's last segment.
	foundLife = time.Minute
	// foundProof is for how long a client has to go on where production's server says nothing.
	foundProof = time.Second
	// maxFoundSegments bounds the segments that are kept of a connection, foundPackets those of
	// all, and foundBytes their payloads.
	maxFoundSegments = 64
	foundPackets     = 1 << 14
	foundBytes       = 8 << 20
	// weakShare is the share of the sessions that may begin without production's word.
	weakShare = 4
)

func (t *foundUnderWay) init(cfg *Config) {
	t.halfOpens.init(cfg)
	t.held = make(map[int32]*foundSegments)
	t.mostPackets = int(min(foundPackets, cfg.MaxMemory/32/delayedCost))
	t.mostBytes = int(min(foundBytes, cfg.MaxMemory/32))
}

// memory returns what the bound on memory counts, without the payloads.
func (t *foundUnderWay) memory() int64 {
	return t.halfOpens.memory() + int64(t.packets)*delayedCost
}

// findUnderWay takes in a segment of a client that belongs to no session, and is not a SYN. It
// returns the first session of the connection, which was given what was kept; or nil, where the
// segment was kept or dropped.
func (sh *Shard) findUnderWay(key *Tuple, p *Packet) *entry {
	t, svc := &sh.found, sh.cfg.Services[p.Service]
	h := t.get(key)
	if h != nil && !near(p.Seg.Seq, h.isn+1) {
		sh.lose(h) // of an older connection, or a stranger's
		h = nil
	}
	switch {
	case h == nil && (p.Seg.Len == 0 || p.Seg.Flags.Any(packet.RST|packet.FIN)), svc.Closed,
		svc.leftOut(sh.now, key) != ledger.None, sh.marks.get(key) != ledger.None:
		return sh.admit(*key, p) // which counts why not
	case p.Seg.Flags.Has(packet.RST):
		sh.lose(h)
		return nil
	case !svc.answers && !sh.cfg.BothSides:
		return sh.admitWeak(key, p, p) // nothing shows what production says
	case h == nil:
		if len(t.byTuple) == t.most {
			sh.lose(&t.list[t.oldest])
		}
		h = t.add(key)
		h.at, h.heard, h.isn, h.service = sh.now, sh.now, p.Seg.Seq-1, p.Service
	case h.answered: // production knows it
		return sh.begin(h, p)
	case sh.now.Sub(h.at) >= foundProof && t.goesOn(h, p):
		if e := sh.admitWeak(key, sh.firstOf(h, p), p); e != nil {
			return sh.give(h, e)
		}
		return nil
	default:
		t.refresh(h, sh.now)
	}
	sh.keepFound(h, p)
	return nil
}

// answered takes in a segment of production's server that belongs to no session. It returns the
// first session of the connection, if that was found under way before and is one.
func (sh *Shard) answered(key *Tuple, p *Packet) *entry {
	h := sh.found.get(key)
	switch {
	case h == nil || p.Seg.Flags.Has(packet.SYN):
		return nil
	case p.Seg.Flags.Has(packet.RST):
		sh.lose(h)
		return nil
	case !p.Seg.Flags.Has(packet.ACK) || !near(p.Seg.Ack, h.isn+1):
		return nil
	}
	h.answered = true
	if sh.found.of(h) == nil {
		return nil // nothing was kept: it begins with the client's next segment
	}
	return sh.begin(h, nil)
}

// near reports whether a number is about as far as another one.
func near(v, w seqnum.Value) bool { return within(v, w) || within(w, v) }

// of returns what is kept of a connection; nil if nothing is.
func (t *foundUnderWay) of(h *halfOpen) *foundSegments { return t.held[t.byTuple[h.key]] }

// goesOn reports whether a segment follows what the client has sent before.
func (t *foundUnderWay) goesOn(h *halfOpen, p *Packet) bool {
	s := t.of(h)
	return s != nil && within(p.Seg.Seq, s.next)
}

// firstOf returns the first segment of a connection: p if none was kept.
func (sh *Shard) firstOf(h *halfOpen, p *Packet) *Packet {
	if s := sh.found.of(h); s != nil {
		return &s.queue[0]
	}
	return p
}

// begin makes the sessions of a connection that production knows, and gives them what was kept. p
// is the client's segment at hand, if any.
func (sh *Shard) begin(h *halfOpen, p *Packet) *entry {
	return sh.give(h, sh.admit(h.key, sh.firstOf(h, p)))
}

// admitWeak is admit for a connection of which production has said nothing. Of these there may be a
// share of all sessions only. first is its first segment, p the one at hand.
func (sh *Shard) admitWeak(key *Tuple, first, p *Packet) *entry {
	if sh.found.weak >= max(1, sh.cfg.MaxSessions/weakShare) {
		shed(&sh.count, p, ledger.OverSessions, 1)
		return nil
	}
	head := sh.admit(*key, first)
	for e := head; e != nil; e = e.copy {
		e.weak = true
		sh.found.weak++
	}
	return head
}

// prove takes in that production has answered the connection of e.
func (sh *Shard) prove(e *entry) {
	for ; e != nil && e.weak; e = e.copy {
		e.weak = false
		sh.found.weak--
	}
}

// keepFound keeps a copy of a segment, if there is room; older connections give way.
func (sh *Shard) keepFound(h *halfOpen, p *Packet) {
	t := &sh.found
	i := t.byTuple[h.key]
	for t.packets >= t.mostPackets || t.bytes+len(p.Seg.Payload) > t.mostBytes {
		if t.oldest == i {
			return
		}
		sh.lose(&t.list[t.oldest])
	}
	s := t.held[i]
	if s == nil {
		s = &foundSegments{next: p.Seg.Seq}
		t.held[i] = s
	}
	if len(s.queue) == maxFoundSegments {
		return
	}
	kept := *p
	kept.Seg.Payload = nil
	if n := len(p.Seg.Payload); n > 0 {
		kept.Seg.Payload = append(sh.pool.Get(n)[:0], p.Seg.Payload...)
		t.bytes += cap(kept.Seg.Payload)
	}
	s.queue = append(s.queue, kept)
	t.packets++
	if end := p.Seg.Seq.Add(p.Seg.Len); s.next.Less(end) {
		s.next = end
	}
}

// give gives a connection's sessions, of which e is the first, what was kept, and forgets it. If
// there are none, the first segment was counted, and the others are as they would be if they came
// now.
func (sh *Shard) give(h *halfOpen, e *entry) *entry {
	for i, s := 0, sh.found.of(h); s != nil && i < len(s.queue); i++ {
		if e == nil && i > 0 {
			e = sh.admit(h.key, &s.queue[i])
		}
		sh.hand(e, &s.queue[i])
	}
	sh.drop(h)
	return e
}

// lose counts a connection that was none, and forgets it.
func (sh *Shard) lose(h *halfOpen) {
	sh.count.NoHandshake++
	sh.drop(h)
}

// drop forgets a connection.
func (sh *Shard) drop(h *halfOpen) {
	t := &sh.found
	i := t.byTuple[h.key]
	if s := t.held[i]; s != nil {
		for k := range s.queue {
			if b := s.queue[k].Seg.Payload; b != nil {
				t.bytes -= cap(b)
				sh.pool.Put(b)
			}
		}
		t.packets -= len(s.queue)
		delete(t.held, i)
	}
	t.remove(h)
}

// expireFound forgets the connections that were kept for too long, and returns when it has to be
// called again.
func (sh *Shard) expireFound() mono.Time {
	for {
		h, wake := sh.found.overdue(sh.now, foundLife)
		if h == nil {
			return wake
		}
		sh.lose(h)
	}
}

// endFound forgets all connections that are kept. It is called when the capture has ended.
func (sh *Shard) endFound() {
	for sh.found.oldest != none {
		sh.lose(&sh.found.list[sh.found.oldest])
	}
}
