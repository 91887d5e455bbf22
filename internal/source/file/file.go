// Package file reads capture files as a source of packets: several files in the order of their times, each
// packet when its time has come.
//
// It knows link layers and compression. Which packets matter the caller says (Config.Pick), and when they are
// due package schedule. The engine's reader goroutine calls Next; one goroutine of the source's own reads
// ahead, and no further than a few batches, whatever the files' size.
package file

import (
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/source"
	"tcpcopy/internal/source/schedule"
)

// Pick is what is to become of a packet.
type Pick uint8

// What Config.Pick answers.
const (
	Leave Pick = iota // not to be played
	Keep
	Opens // to be played: it opens a connection
)

// Config says what to play, and how.
type Config struct {
	Paths    []string // Stdin is standard input
	Schedule schedule.Config
	Passes   int           // how often; 0: without end
	Duration time.Duration // of the replay, in real time; 0: without bound
	// Pick says what is to become of the packet that b begins, from its IP header on, of wire bytes before any
	// cut. It is called on a goroutine of the source's. Nil: Keep.
	Pick func(b []byte, wire int) Pick
	// Now is the clock of Frame.Time and of the schedule. A frame's time is when it was handed out.
	Now func() mono.Time
}

// State is how far a source has come, and what it met.
type State struct {
	Size    int64 // of the files of one pass, in bytes as they lie on the disk; 0: not known
	Read    int64 // of the bytes of all passes
	Pass    int   // from 1 on
	Packets uint64
	Time    int64 // of the packet that was played last, nanoseconds since 1970; 0: none was
	Played  time.Duration

	Opened uint64        // connections that began
	Late   ledger.Delays // by how much they began later than the schedule wanted

	NotIP       uint64 // packets that are neither IPv4 nor IPv6
	UnknownLink uint64 // packets of link types that cannot be read
	Malformed   uint64 // packets whose link layer is cut off or contradicts itself
	LeftOut     uint64 // packets that Pick left out
	OutsidePart uint64 // packets before the part that is played
	Backwards   uint64 // times that a clock was set back
	Truncated   int    // files that end in the middle of a packet
	Corrupt     []string
	LostBefore  uint64 // packets that the recorders say they lost
}

// Source is a source.Source over files. Open makes one.
type Source struct {
	cfg   Config
	size  int64
	read  atomic.Int64
	feed  *feeder
	batch *batch // what Next hands out from
	at    int    // place in it
	due   mono.Time
	known bool // due is that of the packet at that place
	plan  *schedule.Schedule
	start mono.Time
	last  mono.Time // due time of what was handed out last
	out   []source.Frame
	timer *time.Timer

	closed  chan struct{}
	closing sync.Once

	mu    sync.Mutex // guards state
	state State
	pass  uint64 // packets of this pass
}

var _ source.Source = (*Source)(nil)

// mostFrames is how many frames Next returns at most.
const mostFrames = 512

// Open opens the files. What can only be read once, standard input for one, is looked at later: an error of
// it comes from Next.
func Open(cfg Config) (*Source, error) {
	s := &Source{
		cfg: cfg, closed: make(chan struct{}), out: make([]source.Frame, 0, mostFrames), timer: time.NewTimer(0), start: mono.Never,
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
		if files, err = openFiles(s.cfg.Paths, &s.read); err != nil {
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

// Again begins the next pass, if there is to be one: after Next has said io.EOF, and if this one had
// something to play.
func (s *Source) Again() (bool, error) {
	st := s.State()
	if s.pass == 0 || st.Pass == s.cfg.Passes || s.timeUp(s.cfg.Now()) {
		return false, nil
	}
	s.feed.stop()
	return true, s.begin(true)
}

func (s *Source) timeUp(now mono.Time) bool {
	return s.cfg.Duration > 0 && s.start != mono.Never && now.Sub(s.start) >= s.cfg.Duration
}

// Next returns the packets that are due, as source.Source says; io.EOF when there is no more. The schedule
// begins with the first packet.
func (s *Source) Next(wait time.Duration) ([]source.Frame, error) {
	for first := true; ; first = false {
		if s.batch == nil || s.at == len(s.batch.packets) {
			if err := s.turn(wait); err != nil || s.batch == nil {
				return nil, err
			}
			if len(s.batch.packets) == 0 {
				continue // only counts
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
		if over := s.take(now); over && len(s.out) == 0 {
			return nil, io.EOF
		}
		if len(s.out) > 0 {
			return s.out, nil
		}
		if s.at == len(s.batch.packets) {
			continue // nothing of it was to be played
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

// turn gives the batch back that has been handed out, and takes the next one, if it comes in time.
func (s *Source) turn(wait time.Duration) error {
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

// take moves what is due to s.out; true if nothing more is to be played.
func (s *Source) take(now mono.Time) (over bool) {
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
		s.known = false // the verdict is asked for again
	}
	s.state.Played, s.state.Backwards = s.plan.Played(), s.plan.Backwards()
	return over
}

// State returns how far the source has come. It may be called from any goroutine.
func (s *Source) State() State {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.state
	st.Read = s.read.Load()
	return st
}

// Stats counts the packets of the files.
func (s *Source) Stats() source.Stats {
	st := s.State()
	foreign := st.NotIP + st.UnknownLink + st.Malformed + st.LeftOut + st.OutsidePart
	return source.Stats{Offered: st.Packets + foreign, Delivered: st.Packets, Foreign: foreign}
}

// Close ends the source, and a Next that is waiting.
func (s *Source) Close() error {
	s.closing.Do(func() { close(s.closed) })
	return nil
}
