// Package schedule says when a recorded packet is due: it turns the times of a capture file into times of a
// replay. It is pure: it knows neither files nor clocks, and whoever waits does so elsewhere.
//
// Every due time is computed from the beginning of the file, never from the packet before, so nothing adds
// up: an hour into a replay the error is still that of one multiplication.
package schedule

import (
	"time"

	"tcpcopy/internal/core/mono"
)

// Config is how a file is played.
type Config struct {
	Speed    float64       // times as fast as recorded; 0: as fast as can be
	GapLimit time.Duration // silences longer than this are shortened to it, in the file's time; 0: as they are
	Rate     float64       // new connections a second at most: time stretches where there are more; 0: no bound
	// From and To cut a part out of the file: times since its first packet, To of which is not played. To 0
	// is its end.
	From, To time.Duration
	// Since and Until are the same as times of the file's clock, nanoseconds since 1970; 0: not given.
	Since, Until int64
}

// backStep is how far a file's clock may go back before it counts as set back: packets of several processors
// are written a little out of order.
const backStep = int64(time.Second)

// Schedule plays one file, or several merged, once. New makes one.
type Schedule struct {
	cfg   Config
	start mono.Time // of the replay

	begun   bool
	first   int64 // of the file: its first packet
	last    int64 // the latest time that was seen, on the file's clock as it was set first
	set     int64 // what must be added to the file's clock, which was set back
	removed int64 // silence that was left out
	origin  int64 // the first time that is played
	playing bool

	held  time.Duration // by how much Rate has stretched time so far
	begin mono.Time     // when the next connection may begin

	backwards uint64
}

// New returns a schedule that begins at start.
func New(cfg Config, start mono.Time) *Schedule {
	return &Schedule{cfg: cfg, start: start, begin: start}
}

// Verdict says what to do with a packet.
type Verdict uint8

// The verdicts.
const (
	Play Verdict = iota
	Skip         // before the part that is played
	Over         // behind it: nothing more is played
)

// Due says when the packet with that time (nanoseconds since 1970) is to be played. opens says that it opens a
// connection. Due times never fall.
func (s *Schedule) Due(at int64, opens bool) (mono.Time, Verdict) {
	if !s.begun {
		s.begun, s.first, s.last = true, at, at
	}
	now := at + s.set
	if now < s.last {
		if s.last-now > backStep { // the clock was set back: go on from where it was
			s.backwards++
			s.set += s.last - now
		}
		now = s.last
	}
	gap := now - s.last
	s.last = now
	switch {
	case s.cfg.Since > 0 && now < s.cfg.Since, now-s.first < int64(s.cfg.From):
		return 0, Skip
	case s.cfg.Until > 0 && now >= s.cfg.Until, s.cfg.To > 0 && now-s.first >= int64(s.cfg.To):
		return 0, Over
	case !s.playing:
		s.playing, s.origin = true, now
	case s.cfg.GapLimit > 0 && gap > int64(s.cfg.GapLimit):
		s.removed += gap - int64(s.cfg.GapLimit)
	}
	due := s.start.Add(s.held)
	if s.cfg.Speed > 0 {
		due = due.Add(time.Duration(float64(now-s.origin-s.removed) / s.cfg.Speed))
	}
	if s.cfg.Rate > 0 && opens {
		if due < s.begin {
			s.held += s.begin.Sub(due)
			due = s.begin
		}
		s.begin = due.Add(time.Duration(float64(time.Second) / s.cfg.Rate))
	}
	return due, Play
}

// Backwards is how often the file's clock was set back by more than a second.
func (s *Schedule) Backwards() uint64 { return s.backwards }

// Played is how much of the file's time has been played, silences that were left out included.
func (s *Schedule) Played() time.Duration {
	if !s.playing {
		return 0
	}
	return time.Duration(s.last - s.origin)
}
