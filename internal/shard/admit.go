package shard

import (
	"tcpcopy/internal/ledger"
	"tcpcopy/internal/packet"
	"tcpcopy/internal/session"
)

// packet takes one captured segment.
func (sh *Shard) packet(p *Packet) {
	if p.FromServer {
		for e := sh.flows[TupleOf(p.Seg.Dst, p.Seg.Src)]; e != nil; e = e.copy {
			if e.State() != session.Gone {
				e.FromServer(&p.Seg, p.At)
				sh.touch(e)
			}
		}
		return
	}
	key := TupleOf(p.Seg.Src, p.Seg.Dst)
	e := sh.flows[key]
	if syn := p.Seg.Flags.Has(packet.SYN); e != nil && syn && e.ISN() != p.Seg.Seq {
		sh.supersede(e) // the client uses its port again
		e = nil
	}
	if e == nil {
		e = sh.admit(key, p)
	}
	for ; e != nil; e = e.copy {
		if e.State() == session.Gone {
			continue
		}
		if sh.pool.InUse() > sh.cfg.MaxMemory && p.Seg.Len > 0 {
			e.Refuse(sh.now, ledger.OverMemory)
		}
		e.FromClient(sh.now, &p.Seg, p.At, p.Ifindex)
		sh.touch(e)
	}
}

// supersede takes the copies of an old connection out of the way of a new one from the same client and
// port. The old ones end in their own time: what the client had sent on them still has to arrive.
func (sh *Shard) supersede(e *entry) {
	for e != nil {
		next := e.copy
		e.Superseded()
		sh.unlink(e)
		sh.touch(e)
		e = next
	}
}

// admit makes the sessions of a client connection that is seen for the first time, and returns the
// first of them; nil if it is not to be copied.
func (sh *Shard) admit(key Tuple, p *Packet) *entry {
	syn := p.Seg.Flags.Has(packet.SYN)
	if !syn && p.Seg.Flags.Any(packet.RST|packet.FIN) {
		return nil // the end of something that we never saw
	}
	if why := sh.refusal(key); why != ledger.None {
		sh.shed(p, why, uint64(sh.cfg.Copies))
		return nil
	}
	var head, tail *entry
	for i := range sh.cfg.Copies {
		if i > 0 && sh.full() {
			sh.shed(p, ledger.OverSessions, 1)
			continue
		}
		e := sh.entry()
		e.key, e.index, e.current, e.counted = key, i, true, true
		sh.nextID++
		sh.count.Live++
		sh.byID[sh.nextID] = e
		spec := session.OpenSpec{ID: sh.nextID, Client: p.Seg.Src, Online: p.Seg.Dst}
		midTurn := p.At.Sub(sh.cfg.Start) < session.Lull
		e.Init(&sh.env, sh.cfg.Services[p.Service], &spec, p.At, &p.Seg, midTurn)
		if head == nil {
			head = e
			sh.flows[key] = e
		} else {
			tail.copy = e
		}
		tail = e
	}
	return head
}

// entry returns a fresh entry, or one used before.
func (sh *Shard) entry() *entry {
	e := sh.spare
	if e == nil {
		return new(entry)
	}
	sh.spare = e.copy
	sh.spares--
	*e = entry{Session: e.Session}
	return e
}

func (sh *Shard) full() bool { return sh.Live() >= sh.cfg.MaxSessions }

// refusal says why a new connection is not copied.
func (sh *Shard) refusal(key Tuple) ledger.Reason {
	switch {
	case !sh.sampled(key):
		return ledger.SampledOut
	case sh.full():
		return ledger.OverSessions
	case sh.Memory() > sh.cfg.MaxMemory:
		return ledger.OverMemory
	default:
		return ledger.None
	}
}

// shed accounts for a segment of a connection that is not copied. A connection is counted by its SYN.
func (sh *Shard) shed(p *Packet, why ledger.Reason, copies uint64) {
	if p.Seg.Flags.Has(packet.SYN) {
		sh.count.Sessions.Captured += copies
		sh.count.Sessions.Drop(why, copies)
	}
	n := uint64(p.Seg.Len) * copies
	sh.count.Bytes.Captured += n
	sh.count.Bytes.Drop(why, n)
}

// sampled says whether the connection is of the share that is copied. The choice is a hash of both ends,
// the same in every process, so that every packet of a connection meets the same answer.
func (sh *Shard) sampled(key Tuple) bool {
	share := sh.cfg.Sample
	if sh.cfg.Ramp > 0 {
		share *= min(1, float64(sh.now.Sub(sh.cfg.Start))/float64(sh.cfg.Ramp))
	}
	if share >= 1 {
		return true
	}
	return float64(key.hash()>>11)/(1<<53) < share
}

// hash is FNV-1a over the tuple, finished so that its high bits are good too.
func (t *Tuple) hash() uint64 {
	h := uint64(14695981039346656037)
	mix := func(b byte) { h = (h ^ uint64(b)) * 1099511628211 }
	for i := range t.client {
		mix(t.client[i])
		mix(t.server[i])
	}
	mix(byte(t.clientPort >> 8))
	mix(byte(t.clientPort))
	mix(byte(t.serverPort >> 8))
	mix(byte(t.serverPort))
	h ^= h >> 32
	h *= 0x9e3779b97f4a7c15
	return h ^ h>>29
}
