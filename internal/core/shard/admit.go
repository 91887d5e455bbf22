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
		e = sh.admit(key, p)
	}
	sh.hand(e, p)
}

// serverPacket takes in a captured segment of the production server.
func (sh *Shard) serverPacket(p *Packet) {
	key := TupleOf(p.Seg.Dst, p.Seg.Src)
	e := sh.flows[key]
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
	if why := sh.refusal(svc, &key, n); why != ledger.None {
		sh.shed(p, why, uint64(n))
		return nil
	}
	var head, tail *entry
	for i := range n {
		if i > 0 && sh.full() {
			sh.shed(p, ledger.OverSessions, 1)
			continue
		}
		e := sh.entry()
		e.key, e.index, e.current, e.counted = key, i/len(targets), true, true
		e.service, e.first = svc, i == 0
		if e.target = targets[i%len(targets)]; e.target != nil {
			e.fixed = true
		}
		at := p.At
		if svc.Stagger > 0 && e.index > 0 {
			e.delayed = &delayQueue{by: time.Duration(e.index) * svc.Stagger}
			at = at.Add(e.delayed.by)
		}
		sh.nextID++
		sh.count.Live++
		sh.byID[sh.nextID] = e
		sh.places.add(e)
		spec := session.OpenSpec{ID: sh.nextID, Client: p.Seg.Src, Production: p.Seg.Dst,
			Further: i > 0}
		midTurn := p.At.Sub(sh.cfg.Start) < session.Lull
		e.Init(&sh.env, svc.Session, &spec, at, &p.Seg, midTurn)
		if head == nil {
			head = e
			sh.flows[key] = e
			e.leads = true
		} else {
			tail.copy = e
		}
		tail = e
	}
	return head
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
func (sh *Shard) shed(p *Packet, why ledger.Reason, copies uint64) {
	if p.Seg.Flags.Has(packet.SYN) {
		sh.count.Sessions.Captured += copies
		sh.count.Sessions.Drop(why, copies)
	}
	n := uint64(p.Seg.Len) * copies
	sh.count.Bytes.Captured += n
	sh.count.Bytes.Drop(why, n)
}
