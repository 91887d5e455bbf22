package file

import (
	"io"
	"slices"
	"sync/atomic"

	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/source"
)

const (
	batches     = 4         // read ahead, at most
	batchFrames = 512       // in one batch, at most
	batchBytes  = 256 << 10 // of packets in one batch, unless one packet is larger
)

// recorded is a packet of a file, ready to be played.
type recorded struct {
	frame source.Frame
	time  int64 // of the file, nanoseconds since 1970
	opens bool  // the packet opens a connection
}

// batch holds packets, whose bytes lie in arena, and the counts up to them.
type batch struct {
	packets []recorded
	arena   []byte

	notIP, unknownLink, malformed, leftOut uint64 // since the previous batch

	lostBefore uint64 // in the pass so far
	truncated  int
	corrupt    []string
}

// report adds the batch's counts to a state.
func (b *batch) report(s *State) {
	s.NotIP += b.notIP
	s.UnknownLink += b.unknownLink
	s.Malformed += b.malformed
	s.LeftOut += b.leftOut
	// These are the same in every pass.
	s.LostBefore = max(s.LostBefore, b.lostBefore)
	s.Truncated = max(s.Truncated, b.truncated)
	s.Corrupt = b.corrupt
}

// feeder reads files ahead of the times at which their packets are due.
type feeder struct {
	full, free chan *batch // full is closed at the end; err then says why
	err        error
	quit       chan struct{}
	closed     <-chan struct{} // of the source
	live       bool            // the input is being written: each packet goes on at once
}

// newFeeder starts to read. If files is nil, the feeder opens them itself.
func newFeeder(cfg *Config, files *merged, read *atomic.Int64, closed <-chan struct{}) *feeder {
	f := &feeder{
		full: make(chan *batch, batches), free: make(chan *batch, batches+1),
		quit: make(chan struct{}), closed: closed, live: files == nil,
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

// stop makes the feeder end. It does not wait for that, as the feeder may be waiting for standard
// input.
func (f *feeder) stop() { close(f.quit) }

func (f *feeder) run(cfg *Config, files *merged, read *atomic.Int64) error {
	if files == nil {
		var err error
		if files, err = openFiles(cfg, read); err != nil {
			return err
		}
	}
	defer files.close()
	b := f.batch()
	for b != nil {
		in, err := files.next()
		if err == nil {
			b.add(cfg.Pick, in)
			// Regular files fill batches. Input that is still being written is handed on at once.
			if !f.live && len(b.packets) < batchFrames && len(b.arena) < batchBytes {
				continue
			}
		}
		b.lostBefore, b.truncated, b.corrupt = files.counts.Dropped, files.truncated,
			slices.Clone(files.corrupt)
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

// batch returns an empty batch as soon as one is free, or nil when the feeder must end.
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

// add copies the next packet of a file to the batch if it is to be played.
func (b *batch) add(pick func([]byte, int) Pick, in *input) {
	p := &in.head
	if !packet.LinkKnown(uint16(p.Link)) {
		b.unknownLink++
		return
	}
	var ip packet.Inner
	err := packet.DecodeLink(uint16(p.Link), p.Data, &ip)
	if err == nil {
		// A segment that the kernel had not yet cut may carry no length. The record's length counts
		// then.
		ip.Wire = max(ip.Wire, p.Wire-(len(p.Data)-len(ip.Data)))
		var within bool
		within, err = packet.Unwrap(&ip)
		if err == packet.ErrFragment && !within { //nolint:errorlint // never wrapped
			err = nil // the caller decides
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
	verdict := Keep
	if pick != nil {
		verdict = pick(ip.Data, ip.Wire)
	}
	if verdict == Skip {
		b.leftOut++
		return
	}
	at := len(b.arena)
	if at+len(ip.Data) > cap(b.arena) { // packets in the old arena stay there
		b.arena = make([]byte, 0, max(len(ip.Data), batchBytes+1<<16))
		at = 0
	}
	b.arena = append(b.arena, ip.Data...)
	b.packets = append(b.packets, recorded{
		frame: source.Frame{
			Data: b.arena[at:len(b.arena):len(b.arena)], Wire: ip.Wire, VLAN: ip.VLAN,
			PktType: source.OtherHost,
			// Two files, or two interfaces of a file, count as two interfaces.
			Ifindex: int32(in.index)<<12 | int32(p.Interface)&0xfff + 1,
		},
		time: p.Time, opens: verdict == Opens,
	})
}
