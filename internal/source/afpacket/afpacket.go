// Package afpacket captures the packets of this host's interfaces. It is a source.Source over
// packet socket rings that the kernel fills: one for all interfaces, or one for each that is named.
//
// It copies no packet, starts no goroutine, and chooses packets by the filter that it is given
// alone. The engine opens it; the engine's reader goroutine calls Next.
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

// Config configures a capture.
type Config struct {
	// Interfaces are names; none, or "any": all, also those that come later, loopback included.
	Interfaces     []string
	Filter         []bpf.RawInstruction
	IgnoreOutgoing bool // do not capture packets that this host sends
	Promiscuous    bool // named interfaces: capture also frames addressed to others
	// Memory is the size of each ring in bytes; 0: 16 MB. It is rounded up to blocks of BlockSize,
	// and is less if the kernel cannot give as much.
	Memory int
	// BlockSize is in bytes; 0: 128 KB, the least, or twice the largest frame of an interface (BIG
	// TCP). A frame larger than a block is cut. Larger blocks hold less of a burst unless it fills
	// each within BlockTimeout: see sys.DefaultBlockSize.
	BlockSize int
	// BlockTimeout is how long a frame may wait for the end of its block; 0: 3 ms. The reader may
	// be away for as many of them as the ring has blocks (by default 384 ms), however few packets
	// there are, before some are lost.
	BlockTimeout time.Duration
	// Immediate makes Next return a frame as soon as it has come, at the earliest Pause after the
	// last batch, so that a stream of frames does not cost a wake-up for each. The reader may be
	// away until the ring is full, which takes Slot bytes for a packet of any size.
	Immediate bool
	Slot      int // a power of two of at least 256; 0: 2,048
	Pause     time.Duration
	// PauseAbove is how many frames a second have to come before there are pauses; 0: there are
	// always.
	PauseAbove int
	// Queue is how many bytes of packets that are larger than a slot less 80 bytes an Immediate
	// source may have waiting, in the kernel's memory, which it takes when there are some; 0: 8 MB.
	// Beyond it they are cut (see Load), or, with Whole, count as dropped. Whole needs
	// CAP_NET_ADMIN in the first user namespace, or else a Queue that every process may have:
	// otherwise Open returns ErrQueue.
	Queue int
	Whole bool
	// Now is the clock of Frame.Time, the engine's. If nil, it is a clock that starts with Open.
	Now func() mono.Time
}

// ErrQueue is wrapped by the error of Open where Config.Queue cannot be had.
var ErrQueue = errors.New("the queue for large packets may not be as large")

// Source is a source.Source over packet socket rings.
type Source struct {
	now     func() mono.Time
	rings   []*ring
	wait    *sys.RingWait
	batch   []source.Frame
	current *ring // the ring whose block the caller's batch refers to, or nil
	turn    int   // the ring to look at first

	immediate bool
	whole     bool
	pace      pace
	sleeper   *sys.Sleeper // nil: there are no pauses
	batched   mono.Time    // when the last batch was taken, if immediate
	hurry     atomic.Int64 // until when there is no pause, a mono.Time

	delivered, foreign, downs, corrupt, cut atomic.Uint64

	// mu guards what follows, and the rings against being freed while Stats reads them.
	mu      sync.Mutex
	total   source.Stats
	closed  bool // Close was called
	inNext  bool
	holding bool // the caller has a batch that refers to a ring
	freed   bool
}

type ring struct {
	*sys.Ring
	clock  source.StampClock
	reader sys.BlockReader
	down   bool
	retry  time.Time // when down: when to look for the interface again
}

var _ source.Source = (*Source)(nil)

// Open starts capturing, in the network namespace of the calling thread. An error for want of
// CAP_NET_RAW satisfies errors.Is(err, os.ErrPermission).
func Open(cfg Config) (*Source, error) {
	now := cfg.Now
	if now == nil {
		start := time.Now()
		now = func() mono.Time { return mono.Time(time.Since(start)) }
	}
	s := &Source{
		now: now, batch: make([]source.Frame, 0, maxBatch),
		immediate: cfg.Immediate, whole: cfg.Whole,
		pace: pace{pause: cfg.Pause, above: cfg.PauseAbove, since: now()},
	}
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
		s.rings = append(s.rings, &ring{Ring: r, clock: source.NewStampClock(now())})
		plain = append(plain, r)
	}
	wait, err := sys.NewRingWait(plain)
	if err != nil {
		s.free()
		return nil, fmt.Errorf("capture: %w", err)
	}
	s.wait = wait
	if cfg.Immediate && cfg.Pause > 0 {
		if s.sleeper, err = sys.NewSleeper(); err != nil {
			s.free()
			return nil, fmt.Errorf("capture: %w", err)
		}
	}
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
		BlockSize: blockSize, Blocks: (memory + blockSize - 1) / blockSize,
		BlockTimeout: cfg.BlockTimeout,
		Immediate:    cfg.Immediate, Slot: cfg.Slot, Queue: cfg.Queue,
		IgnoreOutgoing: cfg.IgnoreOutgoing, Promiscuous: cfg.Promiscuous,
	})
	switch {
	case err == nil && cfg.Immediate && cfg.Whole && r.Queue() < cfg.Queue:
		err := fmt.Errorf("capture: %w: %d bytes, wanted %d", ErrQueue, r.Queue(), cfg.Queue)
		return nil, errors.Join(err, r.Close())
	case err == nil:
		return r, nil
	case name != "" && errors.Is(err, sys.ErrNoDevice):
		all := strings.Join(sys.InterfaceNames(), ", ")
		return nil, fmt.Errorf("capture: %w; wanted one of %s", err, all)
	}
	return nil, fmt.Errorf("capture: %w", err)
}

// Next implements source.Source.
func (s *Source) Next(wait time.Duration) ([]source.Frame, error) {
	if !s.enter() {
		return nil, source.ErrClosed
	}
	frames, err := s.next(wait)
	if !s.exit(len(frames) > 0) && len(frames) == 0 {
		return nil, source.ErrClosed
	}
	return frames, err
}

// enter starts a Next, which ends the use of the last batch. It returns false if the source is
// closed, and then frees the rings.
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

// exit ends a Next that returns a batch, or none. It returns false if the source was closed
// meanwhile.
func (s *Source) exit(holding bool) bool {
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
		if err := s.releaseSlots(wait); err != nil {
			return nil, fmt.Errorf("capture: %w", err)
		}
	}
	var deadline time.Time // of a bounded wait, once it has begun
	for {
		s.rebind()
		if frames := s.ready(); len(frames) > 0 {
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

// ready returns the next frames that have come: the rest of the current block, or the first of a
// new one.
func (s *Source) ready() []source.Frame {
	if s.immediate {
		return s.readySlots()
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
			r.clock.Read(s.now(), time.Now().UnixNano())
			s.current = r
			if frames := s.fill(r); len(frames) > 0 {
				return frames
			}
			seen = s.now()
		}
		r.clock.Empty(seen)
	}
	return nil
}

// fill makes a batch of the current block, which goes back to the kernel when nothing is left in
// it.
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
		Data: f.Data, Wire: f.Wire, Time: r.clock.At(f.Nanos), Ifindex: f.Ifindex, VLAN: f.VLAN,
		PktType: f.PktType, Outgoing: f.PktType == source.Outgoing,
		Loopback: f.HWType == sys.HWLoopback,
	}
}

// fault notes that a ring's socket has an error: its interface went down. If it was removed, the
// ring must be bound to the interface that has its name next.
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

// rebind looks for the interfaces that are gone, every rebindEvery.
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
	if s.whole {
		st.Dropped += s.cut.Load()
	}
	return st
}

// Load is how much of a source's memory holds frames that wait for the reader, or are its.
type Load struct {
	Used, Size int    // of all rings, in blocks, or in slots if the source is Immediate
	Cut        uint64 // Immediate: frames that were cut since Open, for want of room in Queue
}

// Load returns the current load. Only the goroutine that calls Next may call it. After Close it
// returns only Cut.
func (s *Source) Load() Load {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := Load{Cut: s.cut.Load()}
	if s.freed {
		return l
	}
	for _, r := range s.rings {
		used, size := r.Used()
		l.Used += used
		l.Size += size
	}
	return l
}

// readStats adds what the kernel has counted since the last call; mu is held.
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

// SetFilter replaces the filter, for frames that are captured from now on.
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

// free unmaps and closes the rings. No Next may be under way; mu is held once the source is in use.
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
	if s.sleeper != nil {
		s.sleeper.Close()
	}
	return errors.Join(errs...)
}
