package file

import (
	"io"
	"slices"
	"sync/atomic"

	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/source"
)

const (
	batches     = 4 // read ahead at most
	batchFrames = 512
	batchBytes  = 256 << 10 // of packets, if it is more than one
)

// recorded is a packet of a file, ready to be played.
type recorded struct {
	frame source.Frame
	time  int64 // in the file
	opens bool
}

// batch is some packets that lie in its arena, and what was met before them.
type batch struct {
	packets []recorded
	arena   []byte

	notIP, unknownLink, malformed, leftOut uint64 // since the batch before

	lostBefore uint64 // of the pass so far
	truncated  int
	corrupt    []string
}

// report adds what was met to a state.
func (b *batch) report(s *State) {
	s.NotIP += b.notIP
	s.UnknownLink += b.unknownLink
	s.Malformed += b.malformed
	s.LeftOut += b.leftOut
	// Of every pass the same.
	s.LostBefore, s.Truncated, s.Corrupt = max(s.LostBefore, b.lostBefore), max(s.Truncated, b.truncated), b.corrupt
}

// feeder reads files ahead of the time at which their packets are due.
type feeder struct {
	full, free chan *batch // full is closed at the end, and err says why
	err        error
	quit       chan struct{}
	closed     <-chan struct{} // of the source
	live       bool            // somebody else writes what is read: nothing is held back
}

// newFeeder starts to read. Where files is nil, it opens them itself.
func newFeeder(cfg *Config, files *merged, read *atomic.Int64, closed <-chan struct{}) *feeder {
	f := &feeder{
		full: make(chan *batch, batches), free: make(chan *batch, batches+1), quit: make(chan struct{}), closed: closed, live: files == nil,
	}
	for range batches {
		f.free <- &batch{packets: make([]recorded, 0, batchFrames)}
	}
	go func() {
		defer close(f.full)
		f.err = f.run(cfg, files, read)
	}()
	return f
}

// stop has the feeder end, and does not wait for it: it may be waiting for standard input.
func (f *feeder) stop() { close(f.quit) }

func (f *feeder) run(cfg *Config, files *merged, read *atomic.Int64) error {
	if files == nil {
		var err error
		if files, err = openFiles(cfg.Paths, read); err != nil {
			return err
		}
	}
	defer files.close()
	b := f.batch()
	for b != nil {
		in, err := files.next()
		if err == nil {
			b.add(cfg.Pick, in)
			// Files give large batches; of what is being written just now nothing waits for more to come.
			if !f.live && len(b.packets) < batchFrames && len(b.arena) < batchBytes {
				continue
			}
		}
		b.lostBefore, b.truncated, b.corrupt = files.counts.Dropped, files.truncated, slices.Clone(files.corrupt)
		select {
		case f.full <- b:
		case <-f.quit:
			return io.EOF
		case <-f.closed:
			return io.EOF
		}
		if err != nil {
			return err
		}
		b = f.batch()
	}
	return io.EOF
}

// batch returns an empty one when there is one; nil when the feeder is to end.
func (f *feeder) batch() *batch {
	select {
	case b := <-f.free:
		*b = batch{packets: b.packets[:0], arena: b.arena[:0]}
		return b
	case <-f.quit:
	case <-f.closed:
	}
	return nil
}

// add copies the head of a file to the batch, if it is to be played.
func (b *batch) add(pick func([]byte, int) Pick, in *input) {
	p := &in.head
	if !packet.LinkKnown(uint16(p.Link)) {
		b.unknownLink++
		return
	}
	var ip packet.Inner
	err := packet.DecodeLink(uint16(p.Link), p.Data, &ip)
	if err == nil {
		// Segments that the kernel had not cut yet may carry no length: then the record's counts.
		ip.Wire = max(ip.Wire, p.Wire-(len(p.Data)-len(ip.Data)))
		var within bool
		within, err = packet.Unwrap(&ip)
		if err == packet.ErrFragment && !within { //nolint:errorlint // never wrapped
			err = nil // whose it is, is the caller's to say
		}
	}
	switch {
	case err == packet.ErrNotIP: //nolint:errorlint // never wrapped
		b.notIP++
		return
	case err != nil:
		b.malformed++
		return
	}
	what := Keep
	if pick != nil {
		what = pick(ip.Data, ip.Wire)
	}
	if what == Leave {
		b.leftOut++
		return
	}
	at := len(b.arena)
	if at+len(ip.Data) > cap(b.arena) { // what lies in the old one stays there
		b.arena = make([]byte, 0, max(len(ip.Data), batchBytes+1<<16))
		at = 0
	}
	b.arena = append(b.arena, ip.Data...)
	b.packets = append(b.packets, recorded{
		frame: source.Frame{
			Data: b.arena[at:len(b.arena):len(b.arena)], Wire: ip.Wire, VLAN: ip.VLAN, PktType: source.OtherHost,
			// The number tells sightings of one packet apart, as an interface's does.
			Ifindex: int32(in.index)<<12 | int32(p.Interface)&0xfff + 1,
		},
		time: p.Time, opens: what == Opens,
	})
}
