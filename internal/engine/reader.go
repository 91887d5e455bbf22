package engine

import (
	"sync"
	"time"

	"tcpcopy/internal/capture"
	"tcpcopy/internal/ledger"
	"tcpcopy/internal/shard"
)

// pollEvery bounds how long the reader waits without looking whether it has to end.
const pollEvery = 200 * time.Millisecond

// packets is a share of a captured batch on its way to a shard. What it refers to is the capture's, and
// stays valid until the shard says that it is done.
type packets struct {
	list []shard.Packet
	done chan<- struct{}
}

// reader moves batches from the capture to the shards, and keeps each batch until all of them have
// stepped: a shard copies what it keeps.
type reader struct {
	source capture.Source
	class  classifier
	shards []*shardLoop
	shares []packets
	done   chan struct{}
	stop   chan struct{} // closed: read what is there, and end

	mu    sync.Mutex // guards count
	count ledger.Packets
}

func newReader(source capture.Source, class classifier, shards []*shardLoop) *reader {
	r := &reader{source: source, class: class, shards: shards, done: make(chan struct{}, len(shards)), stop: make(chan struct{})}
	r.shares = make([]packets, len(shards))
	for i := range r.shares {
		r.shares[i].done = r.done
	}
	return r
}

// run reads until stop is closed, and then what the kernel had captured by that time. It closes the
// source; an end of the source by itself is an error.
func (r *reader) run() error {
	defer func() {
		r.source.Close()
		r.source.Next(0) // lets go of the last batch
	}()
	for {
		select {
		case <-r.stop:
			return r.drain()
		default:
		}
		frames, err := r.source.Next(pollEvery)
		if err != nil {
			return err
		}
		r.deal(frames)
	}
}

const (
	// drainWait is longer than the kernel keeps a frame back for more to come.
	drainWait = 20 * time.Millisecond
	// drainRounds bounds what is read after the stop.
	drainRounds = 4096
	// drainLate is how many batches of later traffic, perhaps of several rings, end the reading.
	drainLate = 4
)

// drain reads what was on its way when the stop came: a client that has its answer by then has been
// captured, though the kernel may not have handed it over yet.
func (r *reader) drain() error {
	stopped, late := r.shards[0].now(), 0
	for range drainRounds {
		frames, err := r.source.Next(drainWait)
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

// deal hands a batch out and waits until nobody looks at it any more.
func (r *reader) deal(frames []capture.Frame) {
	for i := range r.shares {
		r.shares[i].list = r.shares[i].list[:0]
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
		share := &r.shares[shard.Of(port, len(r.shards))]
		share.list = append(share.list, p)
	}
	r.class.packets.Seen += uint64(len(frames))
	waiting := 0
	for i := range r.shares {
		if len(r.shares[i].list) > 0 {
			r.shards[i].captured <- &r.shares[i]
			waiting++
		}
	}
	for range waiting {
		<-r.done
	}
	r.mu.Lock()
	r.count = r.class.packets
	r.mu.Unlock()
}

// packets returns the account of the packets so far.
func (r *reader) packets() ledger.Packets {
	r.mu.Lock()
	p := r.count
	r.mu.Unlock()
	s := r.source.Stats()
	p.KernelDrop = s.Dropped
	p.Offered = p.Seen + s.Dropped
	return p
}
