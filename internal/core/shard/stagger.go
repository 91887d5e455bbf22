package shard

import (
	"time"

	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/session"
)

// delayQueue holds the packets of a staggered copy until they are due. The payloads are owned by
// the shard's pool.
type delayQueue struct {
	by    time.Duration
	queue []delayedPacket
	head  int
	bytes int // of the pool
}

// delayedCost is the memory that the bound counts for a packet in a queue beside its payload, in
// bytes.
const delayedCost = 256

// held returns how many bytes the queue holds; 0 for nil.
func (q *delayQueue) held() int {
	if q == nil {
		return 0
	}
	return q.bytes + (len(q.queue)-q.head)*delayedCost
}

type delayedPacket struct {
	Packet // At: when it is due
	// superseded: no packet, but the client's next connection from the same port.
	superseded bool
}

// put queues a copy of a packet.
func (q *delayQueue) put(sh *Shard, p *Packet) {
	kept := delayedPacket{Packet: *p}
	kept.Seg.Payload = nil
	if n := len(p.Seg.Payload); n > 0 {
		kept.Seg.Payload = append(sh.pool.Get(n)[:0], p.Seg.Payload...)
	}
	kept.At = p.At.Add(q.by)
	q.queue = append(q.queue, kept)
	sh.queued++
	q.bytes += cap(kept.Seg.Payload)
}

// drop drops a packet of the queue, and returns its payload to the pool.
func (q *delayQueue) drop(sh *Shard, p *delayedPacket) {
	sh.queued--
	if p.Seg.Payload != nil {
		q.bytes -= cap(p.Seg.Payload)
		sh.pool.Put(p.Seg.Payload)
		p.Seg.Payload = nil
	}
}

// due returns when the next packet is due.
func (q *delayQueue) due() mono.Time {
	if q.head == len(q.queue) {
		return mono.Never
	}
	return q.queue[q.head].At
}

// deliverDelayed delivers the packets of a staggered copy that are due at now, and returns when the
// next one is.
func (sh *Shard) deliverDelayed(now mono.Time, e *entry) mono.Time {
	q := e.delayed
	if q == nil {
		return mono.Never
	}
	for q.due().Reached(now) {
		p := &q.queue[q.head]
		q.head++
		sh.deliver(e, p)
		q.drop(sh, p)
	}
	if q.head == len(q.queue) {
		q.queue, q.head = q.queue[:0], 0
	} else if q.head >= 64 && 2*q.head >= len(q.queue) {
		q.queue = append(q.queue[:0], q.queue[q.head:]...)
		q.head = 0
	}
	return q.due()
}

// deliver hands a packet to the session of a staggered copy.
func (sh *Shard) deliver(e *entry, p *delayedPacket) {
	switch {
	case e.State() == session.Gone:
	case p.superseded:
		e.Superseded()
	case p.FromServer:
		e.FromServer(&p.Seg, p.At)
	default:
		sh.fromClient(e, &p.Packet)
	}
	e.noteEnd(p.At)
}

// flushDelayed delivers all queued packets now. It is called when the capture has ended.
func (sh *Shard) flushDelayed(now mono.Time, e *entry) {
	if e.delayed != nil {
		for i := e.delayed.head; i < len(e.delayed.queue); i++ {
			e.delayed.queue[i].At = min(e.delayed.queue[i].At, now)
		}
		sh.deliverDelayed(now, e)
	}
}

// free drops what is left in the queue.
func (q *delayQueue) free(sh *Shard) {
	for ; q.head < len(q.queue); q.head++ {
		q.drop(sh, &q.queue[q.head])
	}
	q.queue, q.head = nil, 0
}
