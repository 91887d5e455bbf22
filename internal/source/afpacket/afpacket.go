// Package afpacket captures the packets of this host's interfaces: source.Source over packet socket
// rings that the kernel fills, one for all interfaces or one for each that is named.
//
// It copies nothing, starts no goroutine, and has no opinion about packets beyond the filter that it is
// given. The engine opens it; its reader goroutine calls Next.
package afpacket

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/bpf"

	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/source"
	"tcpcopy/internal/sys"
)

// maxBatch is the most frames that one Next returns: few enough to stay in the processor's cache.
const maxBatch = 512

// rebindEvery is how often a ring whose interface is gone looks for it again.
const rebindEvery = time.Second

// Config says what to capture.
type Config struct {
	Interfaces     []string // names; none, or "any": all there are and all that come, loopback too
	Filter         []bpf.RawInstruction
	IgnoreOutgoing bool // leave out packets that this host sends
	Promiscuous    bool // named interfaces: also frames addressed to others
	// Memory is the size of each ring in bytes; 0: 16 MB. It is rounded up to blocks of BlockSize, and made
	// smaller where the kernel cannot give as much.
	Memory int
	// BlockSize is in bytes; 0: 128 KB, the least, or twice the largest frame that an interface may hand
	// up (BIG TCP). A frame larger than a block is cut.
	BlockSize int
	// BlockTimeout is how long a frame may wait for more to come; 0: 3 ms. The reader may pause for as
	// many of them as the ring has blocks (by default 384 ms), however few packets there are, before some
	// are lost.
	BlockTimeout time.Duration
	// Immediate has a frame returned as soon as it is there, however long ago the last batch was; with Pause, at
	// the earliest that long after the last batch, so that a stream of frames does not cost a wake for each. The
	// reader may then be away until the ring is full: it takes a packet of up to 1,900 bytes for 2 KB.
	Immediate bool
	Pause     time.Duration
	// Now is the clock of Frame.Time, the engine's. Nil: a clock that starts with Open.
	Now func() mono.Time
}

// Source is a source.Source over packet socket rings.
type Source struct {
	now     func() mono.Time
	rings   []*ring
	wait    *sys.RingWait
	batch   []source.Frame
	current *ring // the ring whose block is the caller's now, or nil
	turn    int   // the ring to look at first

	immediate bool
	pause     time.Duration
	batched   mono.Time    // when the last batch was taken, if immediate
	hurry     atomic.Int64 // until when there is no pause, a mono.Time

	delivered, foreign, downs, corrupt atomic.Uint64

	mu      sync.Mutex // guards what follows, and the rings against being freed while Stats reads them
	total   source.Stats
	closed  bool // Close was called
	inNext  bool
	holding bool // the caller has a batch that refers to a ring
	freed   bool
}

type ring struct {
	*sys.Ring
	clock  stampClock
	reader sys.BlockReader
	down   bool
	retry  time.Time // when down: when to look for the interface again
}

var _ source.Source = (*Source)(nil)

// Open starts capturing, in the network namespace of the calling thread. An error for want of CAP_NET_RAW
// satisfies errors.Is(err, os.ErrPermission).
func Open(cfg Config) (*Source, error) {
	now := cfg.Now
	if now == nil {
		start := time.Now()
		now = func() mono.Time { return mono.Time(time.Since(start)) }
	}
	s := &Source{now: now, batch: make([]source.Frame, 0, maxBatch), immediate: cfg.Immediate, pause: cfg.Pause}
	s.batched = now().Add(-cfg.Pause)
	names := slices.Clone(cfg.Interfaces)
	slices.Sort(names)
	names = slices.Compact(names)
	if len(names) == 0 || slices.Contains(names, "any") {
		names = []string{""}
	}
	var plain []*sys.Ring
	for _, name := range names {
		r, err := openRing(name, &cfg)
		if err != nil {
			s.free()
			return nil, err
		}
		s.rings = append(s.rings, &ring{Ring: r, clock: stampClock{floor: now()}})
		plain = append(plain, r)
	}
	wait, err := sys.NewRingWait(plain)
	if err != nil {
		s.free()
		return nil, fmt.Errorf("capture: %w", err)
	}
	s.wait = wait
	return s, nil
}

func openRing(name string, cfg *Config) (*sys.Ring, error) {
	blockSize := cfg.BlockSize
	if blockSize <= 0 {
		blockSize = max(sys.DefaultBlockSize, 2*largestFrame())
	}
	memory := cfg.Memory
	if memory <= 0 {
		memory = sys.DefaultBlockSize * sys.DefaultBlocks
	}
	r, err := sys.OpenRing(sys.RingConfig{
		Interface: name, Filter: cfg.Filter,
		BlockSize: blockSize, Blocks: (memory + blockSize - 1) / blockSize, BlockTimeout: cfg.BlockTimeout, Immediate: cfg.Immediate,
		IgnoreOutgoing: cfg.IgnoreOutgoing, Promiscuous: cfg.Promiscuous,
	})
	switch {
	case err == nil:
		return r, nil
	case name != "" && errors.Is(err, sys.ErrNoDevice):
		return nil, fmt.Errorf("capture: %w; wanted one of %s", err, strings.Join(sys.InterfaceNames(), ", "))
	}
	return nil, fmt.Errorf("capture: %w", err)
}

// Next implements source.Source.
func (s *Source) Next(wait time.Duration) ([]source.Frame, error) {
	if !s.enter() {
		return nil, source.ErrClosed
	}
	frames, err := s.next(wait)
	if !s.leave(len(frames) > 0) && len(frames) == 0 {
		return nil, source.ErrClosed
	}
	return frames, err
}

// enter takes the reader in, unless the source is closed: then the batch that the reader held is done
// with, and the rings can go.
func (s *Source) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.holding = false
	if s.closed {
		s.free()
		return false
	}
	s.inNext = true
	return true
}

// leave lets the reader out; false if the source was closed meanwhile.
func (s *Source) leave(holding bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.inNext, s.holding = false, holding
	if s.closed && !holding {
		s.free()
	}
	return !s.closed
}

func (s *Source) next(wait time.Duration) ([]source.Frame, error) {
	if s.immediate {
		s.rest(wait)
	}
	var deadline time.Time // of a bounded wait, once it has begun
	for {
		s.rebind()
		if frames := s.take(); len(frames) > 0 {
			return frames, nil
		}
		if wait == 0 || s.isClosed() {
			return nil, nil
		}
		left := wait
		if wait > 0 {
			if deadline.IsZero() {
				deadline = time.Now().Add(wait)
			} else if left = time.Until(deadline); left <= 0 {
				return nil, nil
			}
		}
		if s.anyDown() && (left < 0 || left > rebindEvery) {
			left = rebindEvery
		}
		failed, err := s.wait.Wait(left)
		if err != nil {
			return nil, fmt.Errorf("capture: %w", err)
		}
		if failed >= 0 {
			s.fault(s.rings[failed])
		}
	}
}

// take returns the next frames that are there: the rest of the block in hand, or a new one's first.
func (s *Source) take() []source.Frame {
	if s.immediate {
		return s.takeSlots()
	}
	if s.current != nil {
		if frames := s.fill(s.current); len(frames) > 0 {
			return frames
		}
	}
	for range s.rings {
		r := s.rings[s.turn]
		if s.turn++; s.turn == len(s.rings) {
			s.turn = 0
		}
		seen := s.now()
		for block := r.Block(); block != nil; block = r.Block() {
			r.reader = sys.ReadBlock(block)
			r.clock.read(s.now(), time.Now().UnixNano())
			s.current = r
			if frames := s.fill(r); len(frames) > 0 {
				return frames
			}
			seen = s.now()
		}
		r.clock.empty(seen)
	}
	return nil
}

// fill makes a batch of the block in hand. When nothing is left in it, the block goes back to the kernel.
func (s *Source) fill(r *ring) []source.Frame {
	batch := s.batch[:0]
	var f sys.RingFrame
	for len(batch) < maxBatch && r.reader.Next(&f) {
		if !untag(&f) {
			s.foreign.Add(1)
			continue
		}
		batch = append(batch, r.frame(&f))
	}
	if len(batch) == 0 {
		if r.reader.Corrupt() {
			s.corrupt.Add(1)
		}
		r.Release()
		s.current = nil
		return nil
	}
	s.delivered.Add(uint64(len(batch)))
	return batch
}

func (r *ring) frame(f *sys.RingFrame) source.Frame {
	return source.Frame{
		Data: f.Data, Wire: f.Wire, Time: r.clock.at(f.Nanos), Ifindex: f.Ifindex, VLAN: f.VLAN,
		PktType: f.PktType, Outgoing: f.PktType == source.Outgoing, Loopback: f.HWType == sys.HWLoopback,
	}
}

// fault takes note that a ring's socket has an error: its interface went down. One that is only down
// comes back by itself; one that was removed must be found again under its name.
func (s *Source) fault(r *ring) {
	if err := r.TakeError(); err == nil {
		return
	}
	s.downs.Add(1)
	r.down, r.retry = true, time.Now().Add(rebindEvery)
}

func (s *Source) anyDown() bool {
	return slices.ContainsFunc(s.rings, func(r *ring) bool { return r.down })
}

// rebind looks for the interfaces that are gone, once in a while.
func (s *Source) rebind() {
	for _, r := range s.rings {
		if r.down && !time.Now().Before(r.retry) {
			r.retry = time.Now().Add(rebindEvery)
			r.down = r.Rebind() != nil
		}
	}
}

// Stats implements source.Source.
func (s *Source) Stats() source.Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.readStats()
	st := s.total
	st.Delivered, st.Foreign = s.delivered.Load(), s.foreign.Load()
	st.Downs, st.Corrupt = s.downs.Load(), s.corrupt.Load()
	return st
}

// readStats adds what the kernel counted since the last time; mu is held.
func (s *Source) readStats() {
	if s.freed {
		return
	}
	for _, r := range s.rings {
		if st, err := r.Stats(); err == nil {
			s.total.Offered += uint64(st.Packets)
			s.total.Dropped += uint64(st.Drops)
			s.total.Stalls += uint64(st.Freezes)
		}
	}
}

// SetFilter replaces the filter of what is captured from now on.
func (s *Source) SetFilter(prog []bpf.RawInstruction) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return source.ErrClosed
	}
	for _, r := range s.rings {
		if err := r.SetFilter(prog); err != nil {
			return fmt.Errorf("capture: %w", err)
		}
	}
	return nil
}

func (s *Source) isClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

// Close implements source.Source.
func (s *Source) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	if s.inNext {
		s.wait.Wake()
	} else if !s.holding {
		return s.free()
	}
	return nil
}

// free unmaps and closes everything; nobody may be reading, and mu is held once the source is in use.
func (s *Source) free() error {
	if s.freed {
		return nil
	}
	s.readStats()
	s.freed = true
	var errs []error
	for _, r := range s.rings {
		errs = append(errs, r.Close())
	}
	if s.wait != nil {
		errs = append(errs, s.wait.Close())
	}
	return errors.Join(errs...)
}
