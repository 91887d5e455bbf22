package shard

import (
	"time"

	"tcpcopy/internal/core/balance"
	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/core/session"
)

// packet takes in a captured segment.
func (sh *Shard) packet(p *Packet) {
	if p.FromServer {
		sh.serverPacket(p)
		return
	}
	key := TupleOf(p.Seg.Src, p.Seg.Dst)
	e := sh.flows[key]
	if p.Seg.Flags.Has(packet.SYN) && (e == nil || e.ISN() != p.Seg.Seq) {
		sh.halfOpen(&key, p, e)
		return
	}
	if h := sh.rivalOf(&key, e); h != nil {
		switch h.fromClient(&p.Seg) {
		case complete:
			e = sh.establish(h, e)
		case failed:
			sh.forget(h)
			return
		case waits:
			return
		}
	}
	if e == nil {
		e = sh.findUnderWay(&key, p)
	}
	sh.hand(e, p)
}

// serverPacket takes in a captured segment of the production server.
func (sh *Shard) serverPacket(p *Packet) {
	key := TupleOf(p.Seg.Dst, p.Seg.Src)
	e := sh.flows[key]
	sh.cfg.Services[p.Service].answers = true
	if h := sh.rivalOf(&key, e); h != nil {
		switch h.fromServer(&p.Seg, e != nil && e.State() != session.Gone) {
		case complete:
			e = sh.establish(h, e)
			if p.Seg.Flags.Has(packet.SYN) {
				return // establish has handed it on
			}
		case failed:
			sh.forget(h)
			return
		case waits:
			return
		}
	}
	if e == nil {
		e = sh.answered(&key, p)
	}
	sh.prove(e)
	sh.hand(e, p)
}

// hand hands a segment to the sessions of its connection, of which e is the first; nil: there are
// none.
func (sh *Shard) hand(e *entry, p *Packet) {
	for ; e != nil; e = e.copy {
		switch {
		case e.State() == session.Gone:
			continue
		case e.delayed != nil:
			e.delayed.put(sh, p)
		case p.FromServer:
			e.FromServer(&p.Seg, p.At)
		default:
			sh.fromClient(e, p)
		}
		e.noteEnd(p.At)
		e.Touch()
	}
}

// fromClient hands a segment of the client to its session, and refuses the session where the
// segment exceeds the bandwidth.
func (sh *Shard) fromClient(e *entry, p *Packet) {
	if p.Seg.Len > 0 && e.State() != session.Refused &&
		e.service.bandwidth.spend(sh.now, float64(p.Seg.Len)) {
		e.Refuse(sh.now, ledger.OverBandwidth)
	}
	e.FromClient(sh.now, &p.Seg, p.At, p.Ifindex)
}

// supersede unlinks the copies of an old connection, because the client has opened a new one from
// the same port. The old copies end once what the client had sent on them has arrived.
func (sh *Shard) supersede(e *entry) {
	for e != nil {
		next := e.copy
		if q := e.delayed; q != nil {
			q.queue = append(q.queue, delayedPacket{
				Packet: Packet{At: sh.now.Add(q.by)}, superseded: true,
			})
			sh.queued++
		} else {
			e.Superseded()
			e.noteEnd(sh.now)
		}
		sh.unlink(e)
		e.Touch()
		e = next
	}
}

// admit makes the sessions of a client connection, and returns the first of them; or nil if the
// connection is not copied. p is the connection's SYN, once its handshake has completed; or the
// first segment with data that is seen of a connection that was open already.
func (sh *Shard) admit(key Tuple, p *Packet) *entry {
	syn := p.Seg.Flags.Has(packet.SYN)
	switch {
	case syn:
	case p.Seg.Flags.Any(packet.RST | packet.FIN):
		sh.marks.remove(&key)
		return nil // the end of a connection that was never seen
	case p.Seg.Len == 0:
		// Nothing to copy yet. It may be the last ACK of a connection that has ended.
		return nil
	}
	svc := sh.cfg.Services[p.Service]
	if svc.Closed {
		return nil
	}
	if syn {
		sh.marks.remove(&key)
	}
	each := svc.copies(&key)
	targets := []*balance.Target{nil} // nil: chosen when the copy begins
	if svc.Targets.Method() == balance.All {
		targets = svc.Targets.Targets()
	}
	n := each * len(targets)
	old := 0
	if svc.Opposed {
		old = 1
	}
	if why := sh.refusal(svc, &key, n+old); why != ledger.None {
		shed(&sh.count, p, why, uint64(n))
		shed(&sh.baselineCount, p, why, uint64(old))
		return nil
	}
	var all copies
	for i := range n {
		if i > 0 && sh.full() {
			shed(&sh.count, p, ledger.OverSessions, 1)
			continue
		}
		e := sh.entry()
		e.key, e.index, e.service, e.first = key, i/len(targets), svc, i == 0
		e.target = targets[i%len(targets)]
		all.add(e)
		sh.enter(e, p, &sh.env, session.OpenSpec{Further: i > 0})
	}
	switch {
	case old == 0:
	case sh.full():
		shed(&sh.baselineCount, p, ledger.OverSessions, 1)
	default:
		e := sh.entry()
		e.key, e.service, e.old = key, svc, true
		e.target = svc.Baseline.Targets()[0]
		all.add(e)
		sh.enter(e, p, &sh.baselineEnv, session.OpenSpec{Further: true,
			BaselineOf: &all.head.Session})
	}
	sh.flows[key] = all.head
	all.head.leads = true
	return all.head
}

// copies are the entries of one client connection.
type copies struct{ head, tail *entry }

func (c *copies) add(e *entry) {
	if c.head == nil {
		c.head = e
	} else {
		c.tail.copy = e
	}
	c.tail = e
}

// enter makes the session of an entry, whose connection began with p.
func (sh *Shard) enter(e *entry, p *Packet, env *session.Env, spec session.OpenSpec) {
	e.current, e.counted, e.fixed = true, true, e.target != nil
	at := p.At
	if e.service.Stagger > 0 && e.index > 0 {
		e.delayed = &delayQueue{by: time.Duration(e.index) * e.service.Stagger}
		at = at.Add(e.delayed.by)
	}
	sh.nextID++
	e.count().Live++
	sh.byID[sh.nextID] = e
	sh.places.add(e)
	spec.ID, spec.Client, spec.Production = sh.nextID, p.Seg.Src, p.Seg.Dst
	midTurn := p.At.Sub(sh.cfg.Start) < session.Lull
	e.Init(env, e.service.Session, &spec, at, &p.Seg, midTurn)
	e.connect(e.service.lane(sh, e.target), at)
}

// entry returns a new entry, or a spare one.
func (sh *Shard) entry() *entry {
	e := sh.spare
	if e == nil {
		return &entry{shard: sh}
	}
	sh.spare = e.copy
	sh.spares--
	*e = entry{Session: e.Session, shard: sh}
	return e
}

func (sh *Shard) full() bool { return sh.Live() >= sh.cfg.MaxSessions }

// refusal returns why a new connection, of which there would be n copies, is not copied; or None.
func (sh *Shard) refusal(svc *Service, key *Tuple, n int) ledger.Reason {
	if why := svc.leftOut(sh.now, key); why != ledger.None {
		return why
	}
	if why := sh.marks.get(key); why != ledger.None {
		return why
	}
	why := ledger.None
	switch {
	case sh.full():
		return ledger.OverSessions
	case sh.Memory() > sh.cfg.MaxMemory:
		return ledger.OverMemory
	case !svc.bandwidth.has(sh.now):
		why = ledger.OverBandwidth
	case !svc.rate.trySpend(sh.now, float64(n)):
		why = ledger.OverRate
	default:
		return ledger.None
	}
	sh.marks.add(key, why)
	return why
}

// shed counts a segment of a connection that is not copied. Its SYN counts as the connection.
func shed(c *ledger.Counters, p *Packet, why ledger.Reason, copies uint64) {
	if p.Seg.Flags.Has(packet.SYN) {
		c.Sessions.Captured += copies
		c.Sessions.Drop(why, copies)
	}
	n := uint64(p.Seg.Len) * copies
	c.Bytes.Captured += n
	c.Bytes.Drop(why, n)
}
