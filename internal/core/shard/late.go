package shard

import (
	"time"

	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/session"
)

// lateness is what a copy that lives later than its client has still to live: its packets, in order, with
// their payload from the shard's pool.
type lateness struct {
	by    time.Duration
	queue []latePacket
	head  int
}

type latePacket struct {
	Packet
	// superseded: not a packet, but that the client has opened another connection from the same port.
	superseded bool
}

// put keeps a packet for later.
func (l *lateness) put(sh *Shard, p *Packet) {
	kept := latePacket{Packet: *p}
	kept.Seg.Payload = nil
	if n := len(p.Seg.Payload); n > 0 {
		kept.Seg.Payload = append(sh.pool.Get(n)[:0], p.Seg.Payload...)
	}
	kept.At = p.At.Add(l.by)
	l.queue = append(l.queue, kept)
}

// drop gives the payload back.
func (p *latePacket) drop(sh *Shard) {
	if p.Seg.Payload != nil {
		sh.pool.Put(p.Seg.Payload)
		p.Seg.Payload = nil
	}
}

// due is when the next packet's time has come.
func (l *lateness) due() mono.Time {
	if l.head == len(l.queue) {
		return mono.Never
	}
	return l.queue[l.head].At
}

// relive has a late copy live what is due at now, and returns when the next of it is.
func (sh *Shard) relive(now mono.Time, e *entry) mono.Time {
	l := e.late
	if l == nil {
		return mono.Never
	}
	for l.due().Reached(now) {
		p := &l.queue[l.head]
		l.head++
		sh.pass(e, p)
		p.drop(sh)
	}
	if l.head == len(l.queue) {
		l.queue, l.head = l.queue[:0], 0
	} else if l.head >= 64 && 2*l.head >= len(l.queue) {
		l.queue = append(l.queue[:0], l.queue[l.head:]...)
		l.head = 0
	}
	return l.due()
}

// pass hands a packet to the session of a late copy.
func (sh *Shard) pass(e *entry, p *latePacket) {
	switch {
	case e.State() == session.Gone:
	case p.superseded:
		e.Superseded()
	case p.FromServer:
		e.FromServer(&p.Seg, p.At)
	default:
		sh.client(e, &p.Packet)
	}
}

// hurryUp has a late copy live all that it has left, now: nothing more is captured.
func (sh *Shard) hurryUp(now mono.Time, e *entry) {
	if e.late != nil {
		for i := e.late.head; i < len(e.late.queue); i++ {
			e.late.queue[i].At = min(e.late.queue[i].At, now)
		}
		sh.relive(now, e)
	}
}

// free gives back what a copy that has ended will not live any more.
func (l *lateness) free(sh *Shard) {
	for ; l.head < len(l.queue); l.head++ {
		l.queue[l.head].drop(sh)
	}
	l.queue, l.head = nil, 0
}
