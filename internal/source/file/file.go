// Package file is a source of packets from capture files. It merges several files by their packets'
// times and yields each packet when it is due.
//
// The package decodes link layers and decompresses. The caller decides which packets matter
// (Config.Pick), and package schedule when they are due. The engine's reader goroutine calls Next.
// One goroutine of the source reads ahead, by a few batches at most.
package file

import (
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"filippo.io/age"

	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/source"
	"tcpcopy/internal/source/schedule"
)

// Pick is the decision about a packet.
type Pick uint8

// The decisions of Config.Pick.
const (
	Skip  Pick = iota // do not play the packet
	Keep              // play it
	Opens             // play it; it opens a connection
)

// Config says what to play, and how.
type Config struct {
	Paths      []string // Stdin stands for standard input
	Schedule   schedule.Config
	Passes     int            // how often to play the files; 0: without end
	Duration   time.Duration  // longest duration of the replay, in real time; 0: no limit
	Identities []age.Identity // open encrypted files
	// Pick decides about the packet that b begins, from its IP header on, of wire bytes before any
	// cut. It is called on a goroutine of the source. If Pick is nil, every packet is kept.
	Pick func(b []byte, wire int) Pick
	// Now is the clock of Frame.Time and of the schedule. A frame's time is when Next returned it.
	Now func() mono.Time
}

// State is the progress of a source, with what it left out.
type State struct {
	Size    int64         // bytes of all files, as stored; 0: not known
	Read    int64         // bytes read in all passes, as stored
	Pass    int           // number of the pass, from 1 on
	Packets uint64        // played
	Time    int64         // time of the last packet played, in nanoseconds since 1970; 0: none
	Played  time.Duration // the files' time that has been played

	Opened uint64        // connections opened
	Late   ledger.Delays // how much later than scheduled they were opened

	NotIP       uint64   // packets that are neither IPv4 nor IPv6
	UnknownLink uint64   // packets of a link type that cannot be decoded
	Malformed   uint64   // packets whose link layer is cut off or contradictory
	LeftOut     uint64   // packets that Pick skipped
	OutsidePart uint64   // packets outside of the part that is played
	Backwards   uint64   // times that the files' clock was set back
	Truncated   int      // files that end in the middle of a packet
	Corrupt     []string // files that can be read only in part, with the error
	LostBefore  uint64   // packets lost while the files were recorded
}

// Source is a source.Source over files, made by Open.
type Source struct {
	cfg   Config
	size  int64
	read  atomic.Int64
	feed  *feeder
	batch *batch // that Next reads from
	at    int    // index in batch
	due   mono.Time
	known bool // due is the due time of the packet at that index
	plan  *schedule.Schedule
	start mono.Time
	last  mono.Time // due time of the last frame that Next returned
	out   []source.Frame
	timer *time.Timer

	closed  chan struct{}
	closing sync.Once

	mu    sync.Mutex // guards state
	state State
	pass  uint64 // packets played in this pass
}

var _ source.Source = (*Source)(nil)

// mostFrames bounds the frames that Next returns at once.
const mostFrames = 512

// Open opens the files. It reads nothing yet from input that can be read only once, such as
// standard input; errors of that come from Next.
func Open(cfg Config) (*Source, error) {
	s := &Source{
		cfg: cfg, closed: make(chan struct{}), out: make([]source.Frame, 0, mostFrames),
		timer: time.NewTimer(0), start: mono.Never,
	}
	<-s.timer.C
	plain := true
	for _, path := range cfg.Paths {
		fi, err := os.Stat(path)
		if path == Stdin || err == nil && !fi.Mode().IsRegular() {
			plain = false
		} else if err == nil {
			s.size += fi.Size()
		}
	}
	if !plain {
		s.size = 0
	}
	s.state.Size = s.size
	return s, s.begin(plain)
}

// begin begins a pass.
func (s *Source) begin(openNow bool) error {
	var files *merged
	if openNow {
		var err error
		if files, err = openFiles(&s.cfg, &s.read); err != nil {
			return err
		}
	}
	s.mu.Lock()
	s.state.Pass++
	s.pass = 0
	s.mu.Unlock()
	s.feed = newFeeder(&s.cfg, files, &s.read, s.closed)
	s.batch, s.at, s.known, s.plan = nil, 0, false, nil
	return nil
}

// Again begins the next pass after Next has returned io.EOF. It reports whether there is one: not
// if all passes are done, or if this pass had nothing to play.
func (s *Source) Again() (bool, error) {
	st := s.State()
	if s.pass == 0 || st.Pass == s.cfg.Passes || s.timeUp(s.cfg.Now()) {
		return false, nil
	}
	s.feed.stop()
	return true, s.begin(true)
}

// timeUp reports whether the replay has reached its duration.
func (s *Source) timeUp(now mono.Time) bool {
	return s.cfg.Duration > 0 && s.start != mono.Never && now.Sub(s.start) >= s.cfg.Duration
}

// Next implements source.Source. It returns the frames that are due, and io.EOF at the end of a
// pass. The schedule begins with the first packet.
func (s *Source) Next(wait time.Duration) ([]source.Frame, error) {
	for first := true; ; first = false {
		if s.batch == nil || s.at == len(s.batch.packets) {
			if err := s.nextBatch(wait); err != nil || s.batch == nil {
				return nil, err
			}
			if len(s.batch.packets) == 0 {
				continue // the batch has counts only
			}
		}
		now := s.cfg.Now()
		if s.plan == nil {
			begin := now
			if s.start == mono.Never {
				s.start, s.last = now, now
			} else {
				begin = s.last
			}
			s.plan = schedule.New(s.cfg.Schedule, begin)
		}
		if s.timeUp(now) {
			return nil, io.EOF
		}
		if over := s.collect(now); over && len(s.out) == 0 {
			return nil, io.EOF
		}
		if len(s.out) > 0 {
			return s.out, nil
		}
		if s.at == len(s.batch.packets) {
			continue // no packet of the batch is played
		}
		if wait == 0 || !first {
			return nil, nil
		}
		d := s.due.Sub(now)
		if wait > 0 {
			d = min(d, wait)
		}
		if s.cfg.Duration > 0 {
			d = min(d, s.start.Add(s.cfg.Duration).Sub(now))
		}
		s.timer.Reset(max(d, 0))
		select {
		case <-s.timer.C:
		case <-s.closed:
			return nil, source.ErrClosed
		}
	}
}

// nextBatch returns the current batch to the feeder and takes the next one, if it comes within
// wait.
func (s *Source) nextBatch(wait time.Duration) error {
	if s.batch != nil {
		s.feed.free <- s.batch
		s.batch = nil
	}
	var b *batch
	select {
	case <-s.closed:
		return source.ErrClosed
	case b = <-s.feed.full:
	default:
		if wait == 0 {
			return nil
		}
		var late <-chan time.Time
		if wait > 0 {
			s.timer.Reset(wait)
			late = s.timer.C
		}
		select {
		case b = <-s.feed.full:
		case <-s.closed:
			return source.ErrClosed
		case <-late:
			return nil
		}
	}
	if b == nil {
		return s.feed.err // the feeder has ended
	}
	s.batch, s.at, s.known = b, 0, false
	s.mu.Lock()
	b.report(&s.state)
	s.mu.Unlock()
	return nil
}

// collect moves the packets that are due to s.out. It reports whether the part to play is over.
func (s *Source) collect(now mono.Time) (over bool) {
	s.out = s.out[:0]
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.at < len(s.batch.packets) && len(s.out) < mostFrames {
		p := &s.batch.packets[s.at]
		if !s.known {
			due, verdict := s.plan.Due(p.time, p.opens)
			switch verdict {
			case schedule.Skip:
				s.state.OutsidePart++
				s.at++
				continue
			case schedule.Over:
				over = true
			}
			s.due, s.known = due, true
		}
		if over || s.due > now {
			break
		}
		p.frame.Time = now
		s.out = append(s.out, p.frame)
		s.state.Packets++
		s.pass++
		s.state.Time = p.time
		if p.opens {
			s.state.Opened++
			s.state.Late.Note(now.Sub(s.due))
		}
		s.last = s.due
		s.at++
		s.known = false
	}
	if over {
		s.known = false // the next call gets the verdict again
	}
	s.state.Played, s.state.Backwards = s.plan.Played(), s.plan.Backwards()
	return over
}

// State returns the source's progress. Any goroutine may call it.
func (s *Source) State() State {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.state
	st.Read = s.read.Load()
	return st
}

// Stats implements source.Source. Packets that are not played count as foreign.
func (s *Source) Stats() source.Stats {
	st := s.State()
	foreign := st.NotIP + st.UnknownLink + st.Malformed + st.LeftOut + st.OutsidePart
	return source.Stats{Offered: st.Packets + foreign, Delivered: st.Packets, Foreign: foreign}
}

// Close implements source.Source.
func (s *Source) Close() error {
	s.closing.Do(func() { close(s.closed) })
	return nil
}
