package engine

import (
	"cmp"
	"errors"
	"io"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/core/shard"
	"tcpcopy/internal/source"
)

const (
	// pollEvery bounds how long the reader waits before it checks whether it has to end.
	pollEvery = 200 * time.Millisecond
	// lastWait is how long to wait for the packets in a block that is not full: the kernel hands
	// it over after some milliseconds, by a timer that a busy machine delays.
	lastWait = 20 * time.Millisecond
	// drainRounds bounds how many batches are read after the stop.
	drainRounds = 4096
	// drainLate is how many batches in a row that were captured after the stop, perhaps from
	// several rings, end the reading.
	drainLate = 4

	// What may be on its way to one shard. The ring's blocks go back to the kernel at once, however
	// busy the shards are; this is the room for a burst beyond the ring. It is an eighth of the
	// memory that the sessions may hold, within bounds.
	maxCarriers = 1024
	maxSpare    = 8 // carriers that are kept for the next batches
	leastRoom   = 8 << 20
	mostRoom    = 64 << 20
	packetCost  = 256 // bytes that count for a packet beside its payload
	// An arena begins small and doubles: most packets have little payload.
	minArena = 4 << 10
	maxArena = 256 << 10
)

// carrier takes a share of a captured batch to a shard. The shard's loop sends it home, for reuse.
type carrier struct {
	list  []shard.Packet
	arena []byte // the packets' payloads
	home  chan<- *carrier
}

// lane is the reader's end of the queue to one shard.
type lane struct {
	loop  *shardLoop
	home  chan *carrier // carriers that come back; it has room for all
	spare []*carrier
	out   int      // carriers on their way
	bytes int      // what they hold, and next
	room  int      // bytes that may be on their way
	next  *carrier // that is being filled
}

// reader moves batches from the source to the shards. It copies the packets, so that no shard
// holds up the ring. While too much is on its way to a shard it waits, and the ring fills.
type reader struct {
	source source.Source
	class  classifier
	lanes  []lane
	stop   chan struct{}          // closed: read what is there, and end
	fresh  atomic.Pointer[served] // the mappings from the next batch on; nil: as before
	replay *replay                // nil: the packets are captured live
	shares bool                   // there is no processor for the reader alone

	mu    sync.Mutex // guards count
	count ledger.Packets
}

// newReader returns a reader of the source. memory bounds what all sessions hold, in bytes.
func newReader(source source.Source, class classifier, shards []*shardLoop, memory int64) *reader {
	r := &reader{source: source, class: class, lanes: make([]lane, len(shards)),
		stop: make(chan struct{}), shares: len(shards) >= runtime.GOMAXPROCS(0)}
	room := int(min(max(memory/8/int64(len(shards)), leastRoom), mostRoom))
	for i, l := range shards {
		r.lanes[i] = lane{loop: l, room: room, home: make(chan *carrier, maxCarriers)}
	}
	return r
}

// run reads until stop is closed, and then what the kernel had captured by that time. When it
// returns, the shards have taken in everything, and the source is closed. The end of the source is
// an error: io.EOF if a recording is over. Of a recording, nothing more is read when stop is
// closed.
func (r *reader) run() error {
	defer func() {
		r.source.Close()
		r.source.Next(0) // releases the last batch
	}()
	last := 0 // frames in the last batch
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
		frames, err := r.source.Next(r.patience(last))
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
		last = len(frames)
		r.deal(frames)
		if r.replay != nil {
			r.replay.wait(r.stop)
		}
	}
}

// patience returns how long to wait for packets after a batch of so many. While a shard that may
// share the reader's processor has more to do, the reader does not block when it has read
// everything: Go's scheduler looks for packets only where nothing else can run, or after 10 ms. It
// yields to the shard instead, which yields to it after each step.
func (r *reader) patience(last int) time.Duration {
	if !r.shares {
		return pollEvery
	}
	for i := range r.lanes {
		if r.lanes[i].loop.behind.Load() {
			if last == 0 {
				runtime.Gosched()
			}
			return 0
		}
	}
	return pollEvery
}

// settle waits until the shards have taken in everything that they were dealt.
func (r *reader) settle() {
	for i := range r.lanes {
		for r.lanes[i].out > 0 {
			r.lanes[i].recycle(<-r.lanes[i].home)
		}
	}
}

// drain reads what the kernel had captured when stop was closed.
func (r *reader) drain() error {
	defer r.settle()
	stopped, late := r.lanes[0].loop.now(), 0
	for range drainRounds {
		frames, err := r.source.Next(lastWait)
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

// deal deals out a batch to the shards.
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

// add copies a packet into the next carrier. left is how many packets of the batch are left.
func (l *lane) add(p *shard.Packet, left int) {
	if l.next == nil {
		l.next = l.carrier()
		// at once: growing in steps leaves as much garbage
		l.next.list = slices.Grow(l.next.list, left)
	}
	c := l.next
	if n := len(p.Seg.Payload); n > 0 {
		if len(c.arena)+n > cap(c.arena) { // earlier payloads stay in the old one
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

// carrier returns a free carrier, and waits for one while too much is on its way.
func (l *lane) carrier() *carrier {
	for {
		select {
		case c := <-l.home:
			l.recycle(c)
			continue
		default:
		}
		if l.out >= maxCarriers || l.out > 0 && l.bytes > l.room {
			l.recycle(<-l.home)
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

// recycle takes back a carrier that has come home.
func (l *lane) recycle(c *carrier) {
	l.out--
	for i := range c.list {
		l.bytes -= len(c.list[i].Seg.Payload) + packetCost
	}
	clear(c.list)
	c.list, c.arena = c.list[:0], c.arena[:0]
	if len(l.spare) < maxSpare { // more than that was for a burst
		l.spare = append(l.spare, c)
	}
}

// send sends the next carrier to the shard.
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
