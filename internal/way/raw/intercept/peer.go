package intercept

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"tcpcopy/internal/proto"
	"tcpcopy/internal/way"
	"tcpcopy/internal/way/link"
	"tcpcopy/internal/way/link/key"
	"tcpcopy/internal/way/link/wire"
	"tcpcopy/internal/way/raw/route"
)

// copier is one run of a copier, with its connections. Guarded by Intercept.mu.
type copier struct {
	owner, slot uint8
	instance    wire.Instance
	software    string
	key         string // the name of its key; empty: that of the only one
	addr        netip.Addr
	peers       []*peer // in the order of their index
	headers     uint64
	dropped     uint64
	away        uint64
	bytes       atomic.Uint64               // written to it
	reads       map[netip.AddrPort]struct{} // the targets whose answers it has read
	digesting   *proto.Digesting            // nil: it compares no answers
}

// peer is one connection of a copier.
type peer struct {
	end    *link.Endpoint
	put    func(frames []byte) bool // end.Put
	copier *copier
	holder *key.Holder // whose key it proved; nil without a ring
	addr   netip.Addr
	slot   uint8
	index  uint8
	// witness reports that it is no copier's: it answers examinations.
	witness bool
	batch   wire.HeaderBatch // guarded by Intercept.mu
	found   []byte           // a message of answers, begun; guarded by Intercept.mu
	// streams carries out the copier's operations; nil: the intercept does not stand on the target.
	// It belongs to the goroutine that serves the connection.
	streams StreamHandler
}

// admit decides on a copier's connection, and returns what serves it.
func (s *Intercept) admit(end *link.Endpoint, body []byte) (func() error, *wire.Refuse) {
	h := new(wire.Hello)
	if err := h.Decode(body); err != nil {
		return nil, &wire.Refuse{Code: wire.CodeMalformed, Text: err.Error()}
	}
	if r := s.objection(h); r != nil {
		return nil, r
	}
	p := &peer{end: end, put: end.Put, addr: end.Host(), slot: h.Slot, index: h.Conn,
		witness: h.Capabilities.Has(wire.Probes | wire.Witness)}
	if r := s.permit(p); r != nil {
		return nil, r
	}
	if r := s.join(p, h); r != nil {
		return nil, r
	}
	args := []any{"from", p.addr, "slot", h.Slot,
		"connection", fmt.Sprintf("%d/%d", h.Conn+1, h.Conns), "software", h.Software}
	if p.holder != nil {
		args = append(args, "key", p.holder.Name)
	}
	s.log.Info("intercept: copier connected", args...)
	return func() error { return s.serve(p, h) }, nil
}

// permit finds whose key the copier has proved, and returns why that one may not be served; nil if
// it may.
func (s *Intercept) permit(p *peer) *wire.Refuse {
	if s.cfg.Keys == nil {
		return nil
	}
	if state, ok := p.end.TLS(); ok {
		p.holder = s.cfg.Keys.Holder(state)
	}
	if p.holder == nil {
		return &wire.Refuse{Code: wire.CodeRights, Text: "the key has been removed"}
	}
	rights := p.holder.Rights()
	switch {
	case s.cfg.Streams != nil && !rights.Open:
		return &wire.Refuse{Code: wire.CodeRights, Text: fmt.Sprintf(
			"the key %q may not open connections", p.holder.Name)}
	case s.cfg.Streams == nil && !rights.Read:
		return &wire.Refuse{Code: wire.CodeRights, Text: fmt.Sprintf(
			"the key %q may not read answers", p.holder.Name)}
	}
	return nil
}

// objection returns why a copier cannot be admitted, whatever its slot; nil if it can.
func (s *Intercept) objection(h *wire.Hello) *wire.Refuse {
	if h.Conns > maxConnsEach {
		return &wire.Refuse{Code: wire.CodeFull, Text: fmt.Sprintf(
			"%d parallel connections, want at most %d", h.Conns, maxConnsEach)}
	}
	if s.cfg.Local != nil {
		for _, a := range s.cfg.Local.All() {
			for _, p := range h.Clients {
				if p.Contains(a.Unmap()) {
					return &wire.Refuse{Code: wire.CodeLocalClient, Text: fmt.Sprintf(
						"client address %s (of %s) is the intercept host's own: "+
							"its kernel would reset the copies", a, p)}
				}
			}
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, c := range s.owners {
		if c != nil && len(c.peers) > 0 {
			if c.instance == h.Instance {
				return nil
			}
			n++
		}
	}
	if n >= s.cfg.MaxCopiers {
		return &wire.Refuse{Code: wire.CodeFull, Text: fmt.Sprintf(
			"%d copiers are connected, and no more are allowed", n)}
	}
	return nil
}

// join gives a copier's connection its place, and queues the welcome before anything else can be
// queued. It returns why it cannot.
func (s *Intercept) join(p *peer, h *wire.Hello) *wire.Refuse {
	welcome := s.welcome(p.holder, h)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.table.Expire(s.cfg.Now()) // without sources nobody else does
	owner, err := s.table.Join(route.Instance(h.Instance), h.Slot, h.Targets)
	if err == nil {
		p.put(welcome.Append(nil))
		s.enter(p, owner, h)
		return nil
	}
	r := &wire.Refuse{Code: wire.CodeFull, Text: "no room for another copier"}
	if errors.Is(err, route.ErrSlot) {
		r.Code, r.Text = wire.CodeSlot, fmt.Sprintf("slot %d is another copier's", h.Slot)
	}
	for i := 1; i < 256; i++ {
		if s.table.SlotTaken(uint8(i)) {
			r.Slots.Add(uint8(i))
		}
	}
	return r
}

// welcome returns the answer to a hello.
func (s *Intercept) welcome(holder *key.Holder, h *wire.Hello) *wire.Welcome {
	w := &wire.Welcome{Version: wire.Version, Way: wire.WayRaw, Slot: h.Slot,
		HoldMillis: uint16(s.cfg.Route.Hold / time.Millisecond), Software: s.cfg.Software}
	w.Capabilities = wire.Probes
	if s.cfg.Streams != nil {
		w.Way = wire.WayTunnel
		w.Capabilities |= wire.TakesLate
	}
	if s.cfg.Streams != nil || s.canRead() {
		w.Capabilities |= wire.ReadsAnswers | wire.Digests | wire.Names
	}
	if s.cfg.Serves != nil {
		for _, t := range h.Targets {
			if !s.cfg.Serves(holder, t) {
				w.Forbidden = append(w.Forbidden, t)
			}
		}
	}
	return w
}

// enter adds a connection to those of its copier. It replaces an older one of the same index. The
// lock is held.
func (s *Intercept) enter(p *peer, owner uint8, h *wire.Hello) {
	c := s.owners[owner]
	if c == nil || c.instance != h.Instance {
		c = &copier{owner: owner, instance: h.Instance}
		if d := h.Digesting(); d != nil {
			c.digesting = d()
			c.digesting.Buffers = new(way.Buffers)
		}
		s.owners[owner] = c
	}
	c.slot, c.software, c.addr = h.Slot, h.Software, p.addr
	if p.holder != nil {
		c.key = p.holder.Name
	}
	p.copier = c
	p.end.CountBytes(&c.bytes)
	// The connections are in the order of their index, so that a tuple stays on the same one when a
	// connection comes back.
	at := 0
	for at < len(c.peers) && c.peers[at].index < p.index {
		at++
	}
	if at < len(c.peers) && c.peers[at].index == p.index {
		c.peers[at].end.Finish((&wire.Bye{Reason: wire.ByeReplaced}).Append(nil))
		c.peers[at] = p
	} else {
		c.peers = slices.Insert(c.peers, at, p)
	}
}

// serve carries out a copier's requests until its connection ends.
func (s *Intercept) serve(p *peer, h *wire.Hello) error {
	if p.holder != nil {
		defer context.AfterFunc(p.holder.Valid(), p.end.Close)()
	}
	err := s.attach(p, h)
	for r := new(requests); err == nil; {
		var f wire.Frame
		if f, err = p.end.Receive(); err == nil {
			err = s.handle(p, f, r)
		}
	}
	s.remove(p)
	if p.streams != nil {
		p.streams.Close()
	}
	if wire.Malformed(err) {
		s.server.Complain(p.addr, "a copier's message cannot be read", "error", err)
	}
	if !s.server.Closing() {
		s.log.Info("intercept: copier's connection ended",
			"from", p.addr, "slot", p.slot, "why", err)
	}
	return err
}

// attach makes the handler of the connection's streams, on a target.
func (s *Intercept) attach(p *peer, h *wire.Hello) (err error) {
	if s.cfg.Streams == nil {
		return nil
	}
	if p.streams, err = s.cfg.Streams(h, p.holder, p.put, p.end.Close); err != nil {
		s.server.Complain(p.addr, "a copier cannot be served", "error", err)
	}
	return err
}

// remove removes a connection from the table: nothing more is queued for it.
func (s *Intercept) remove(p *peer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := p.copier
	s.leaveExams(p)
	if i := slices.Index(c.peers, p); i >= 0 {
		c.peers = slices.Delete(c.peers, i, i+1)
		if len(c.peers) == 0 && s.owners[c.owner] == c {
			s.table.Leave(s.cfg.Now(), c.owner)
			s.forgetOwner(c.owner)
			s.narrow(c)
		}
	}
}

// requests is memory for a connection's messages, used again for each.
type requests struct {
	tuples, refused []wire.Tuple
	answer          []byte
}

// handle carries out one request.
func (s *Intercept) handle(p *peer, f wire.Frame, r *requests) (err error) {
	owner := p.copier.owner
	r.answer = r.answer[:0]
	switch f.Type {
	case wire.TypeClaim:
		if r.tuples, err = wire.DecodeTuples(r.tuples[:0], f.Type, f.Body); err != nil {
			return err
		}
		if r.refused = s.claim(owner, r.tuples, r.refused[:0]); len(r.refused) > 0 {
			r.answer = wire.AppendTuples(r.answer, wire.TypeClaimRefused, r.refused)
		}
	case wire.TypeRelease:
		if r.tuples, err = wire.DecodeTuples(r.tuples[:0], f.Type, f.Body); err == nil {
			s.release(owner, r.tuples)
		}
	case wire.TypeQuery:
		var q wire.Query
		if err = q.Decode(f.Body); err == nil {
			o := wire.Owner{ID: q.ID, Tuple: q.Tuple, Owner: s.ownership(owner, q.Tuple)}
			r.answer = o.Append(r.answer)
		}
	case wire.TypeSeek:
		var q wire.Seek
		if err = q.Decode(f.Body); err == nil {
			o := wire.Owner{ID: q.ID, Tuple: q.Tuple, Owner: s.seek(owner, &q)}
			r.answer = o.Append(r.answer)
		}
	case wire.TypeTargets:
		var to wire.Targets
		if err = to.Decode(f.Body); err == nil {
			s.mu.Lock()
			s.table.Retarget(owner, to.List)
			s.narrow(p.copier)
			s.mu.Unlock()
		}
	case wire.TypeHurry:
		if s.cfg.Hurry != nil {
			s.cfg.Hurry(wire.HurryFor)
		}
	case wire.TypeReadAnswers:
		err = s.readAnswers(p, f)
	case wire.TypeLook:
		var q wire.Look
		if err = q.Decode(f.Body); err == nil {
			r.answer = s.look(p, &q).Append(r.answer)
		}
	case wire.TypeSeen:
		var seen wire.Seen
		if err = seen.Decode(f.Body); err == nil {
			s.testify(p, &seen)
		}
	case wire.TypeOperations:
		if p.streams == nil {
			return f.Unexpected()
		}
		err = p.streams.Operations(f.Body)
	default:
		err = f.Unexpected()
	}
	if err == nil && len(r.answer) > 0 {
		p.put(r.answer) // where there is no room: a copier that does not read needs no answer
	}
	return err
}
