package engine

import (
	"cmp"
	"errors"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/core/shard"
	"tcpcopy/internal/source"
)

const (
	// pollEvery bounds how long the reader waits without looking whether it has to end.
	pollEvery = 200 * time.Millisecond
	// lastLook is how long to wait for what the kernel still has in a block that is not full: it hands
	// those over after a millisecond or some, by a timer that a busy machine delays.
	lastLook = 20 * time.Millisecond
	// drainRounds bounds what is read after the stop.
	drainRounds = 4096
	// drainLate is how many batches of traffic that came after the stop, perhaps of several rings, end it.
	drainLate = 4

	// What may be under way to one shard: the ring goes back to the kernel at once, whatever the shards
	// are busy with, and this is how much more of a burst there is room for.
	maxCarriers  = 256
	maxSpare     = 8 // that are kept for the next batches
	carrierBytes = 8 << 20
	packetCost   = 256 // bytes that a packet costs beside its payload
	// An arena begins small and doubles, for most packets have little payload.
	minArena = 4 << 10
	maxArena = 256 << 10
)

// carrier takes a share of a captured batch to a shard, and comes back for the next one.
type carrier struct {
	list  []shard.Packet
	arena []byte // what the packets' payloads lie in
	home  chan<- *carrier
}

// lane is the reader's side of the way to one shard.
type lane struct {
	loop  *shardLoop
	home  chan *carrier // carriers that come back; all of them find room
	spare []*carrier
	out   int // carriers under way
	bytes int // and what they hold
	next  *carrier
}

// reader moves batches from the capture to the shards. It copies what it hands on, so that no shard holds
// up the ring; where too much is under way, it waits, and the ring fills.
type reader struct {
	source source.Source
	class  classifier
	lanes  []lane
	stop   chan struct{}          // closed: read what is there, and end
	fresh  atomic.Pointer[served] // mappings that the classifier is to know from the next batch on
	replay *replay                // nil: the packets are captured as they come

	mu    sync.Mutex // guards count
	count ledger.Packets
}

func newReader(source source.Source, class classifier, shards []*shardLoop) *reader {
	r := &reader{source: source, class: class, lanes: make([]lane, len(shards)), stop: make(chan struct{})}
	for i, l := range shards {
		r.lanes[i] = lane{loop: l, home: make(chan *carrier, maxCarriers)}
	}
	return r
}

// run reads until stop is closed, and then what the kernel had captured by that time; when it returns, the
// shards have taken in all of it. It closes the source; an end of the source by itself is an error: io.EOF where
// a recording is over. What was recorded and is not read yet when stop is closed is left.
func (r *reader) run() error {
	defer func() {
		r.source.Close()
		r.source.Next(0) // lets go of the last batch
	}()
	for {
		select {
		case <-r.stop:
			if r.replay != nil {
				r.settle()
				return nil
			}
			return r.drain()
		default:
		}
		frames, err := r.source.Next(pollEvery)
		if err != nil {
			r.settle()
			if r.replay != nil && errors.Is(err, io.EOF) {
				more, failed := r.replay.again()
				if more {
					continue
				}
				err = cmp.Or(failed, err)
			}
			return err
		}
		r.deal(frames)
		if r.replay != nil {
			r.replay.wait(r.stop)
		}
	}
}

// settle waits until the shards have taken in all that they were dealt.
func (r *reader) settle() {
	for i := range r.lanes {
		for r.lanes[i].out > 0 {
			r.lanes[i].take(<-r.lanes[i].home)
		}
	}
}

func (r *reader) drain() error {
	defer r.settle()
	stopped, late := r.lanes[0].loop.now(), 0
	for range drainRounds {
		frames, err := r.source.Next(lastLook)
		if err != nil {
			return err
		}
		if len(frames) == 0 {
			return nil
		}
		r.deal(frames)
		if frames[0].Time <= stopped {
			late = 0
		} else if late++; late == drainLate {
			return nil
		}
	}
	return nil
}

// deal hands a batch out.
func (r *reader) deal(frames []source.Frame) {
	if k := r.fresh.Swap(nil); k != nil {
		r.class.served = k
	}
	for i := range frames {
		var p shard.Packet
		if !r.class.classify(&frames[i], &p) {
			continue
		}
		port := p.Seg.Src.Port()
		if p.FromServer {
			port = p.Seg.Dst.Port()
		}
		r.lanes[shard.Of(port, len(r.lanes))].add(&p, len(frames)-i)
	}
	for i := range r.lanes {
		r.lanes[i].send()
	}
	r.class.packets.Seen += uint64(len(frames))
	r.mu.Lock()
	r.count = r.class.packets
	r.mu.Unlock()
}

// add copies a packet to the carrier that goes next, of a batch with so many packets left.
func (l *lane) add(p *shard.Packet, left int) {
	if l.next == nil {
		l.next = l.carrier()
		l.next.list = slices.Grow(l.next.list, left) // at once: what grows bit by bit leaves as much behind
	}
	c := l.next
	if n := len(p.Seg.Payload); n > 0 {
		if len(c.arena)+n > cap(c.arena) { // what lies in the old one stays there
			c.arena = make([]byte, 0, max(n, minArena, min(2*cap(c.arena), maxArena)))
		}
		at := len(c.arena)
		c.arena = append(c.arena, p.Seg.Payload...)
		p.Seg.Payload = c.arena[at:len(c.arena):len(c.arena)]
		l.bytes += n
	}
	l.bytes += packetCost
	c.list = append(c.list, *p)
}

// carrier returns one that is free, and waits for one while too much is under way.
func (l *lane) carrier() *carrier {
	for {
		select {
		case c := <-l.home:
			l.take(c)
			continue
		default:
		}
		if l.out >= maxCarriers || l.out > 0 && l.bytes > carrierBytes {
			l.take(<-l.home)
			continue
		}
		if n := len(l.spare); n > 0 {
			c := l.spare[n-1]
			l.spare = l.spare[:n-1]
			return c
		}
		return &carrier{home: l.home}
	}
}

// take takes back a carrier that the shard has done with.
func (l *lane) take(c *carrier) {
	l.out--
	for i := range c.list {
		l.bytes -= len(c.list[i].Seg.Payload) + packetCost
	}
	clear(c.list)
	c.list, c.arena = c.list[:0], c.arena[:0]
	if len(l.spare) < maxSpare { // the rest was for a burst
		l.spare = append(l.spare, c)
	}
}

func (l *lane) send() {
	if l.next != nil {
		l.out++
		l.loop.captured <- l.next
		l.next = nil
	}
}

// packets returns the account of the packets so far.
func (r *reader) packets() ledger.Packets {
	r.mu.Lock()
	p := r.count
	r.mu.Unlock()
	s := r.source.Stats()
	p.Seen += s.Foreign + s.Malformed
	p.NotOurs += s.Foreign
	p.Malformed += s.Malformed
	p.KernelDrop, p.Shed, p.Lost = s.Dropped, s.Shed, s.Lost
	p.Offered = p.Seen + s.Dropped + s.Shed + s.Lost
	return p
}
