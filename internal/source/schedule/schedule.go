// Package schedule computes when a recorded packet is due: it maps the times of a capture file to
// times of a replay. It is pure; its caller has the files, the clock and the waiting.
//
// Every due time is computed from the beginning of the file and not from the previous packet, so
// errors do not add up.
package schedule

import (
	"time"

	"tcpcopy/internal/core/mono"
)

// Config says how a file is played.
type Config struct {
	Speed    float64       // a multiple of the recorded speed; 0: as fast as possible
	GapLimit time.Duration // longer silences are shortened to this, in the file's time; 0: never
	Rate     float64       // new connections a second, at most; more stretch time; 0: no limit
	// From and To select a part of the file, in time since its first packet. A packet at To is not
	// played. A To of 0 is the end of the file.
	From, To time.Duration
	// Since and Until do the same in the file's clock, nanoseconds since 1970; 0: not given.
	Since, Until int64
}

// backStep is how far times may decrease before the clock counts as set back. Packets of several
// processors are written slightly out of order.
const backStep = int64(time.Second)

// Schedule plays one file, or several merged ones, once. New makes one.
type Schedule struct {
	cfg   Config
	start mono.Time // beginning of the replay

	begun   bool
	first   int64 // time of the file's first packet
	last    int64 // latest time seen, corrected by set
	set     int64 // correction of the file's clock, by which it was set back
	removed int64 // silence left out so far
	origin  int64 // time of the first packet played
	playing bool

	held  time.Duration // how much Rate has stretched time so far
	begin mono.Time     // when the next connection may open

	backwards uint64
}

// New returns a schedule that begins at start.
func New(cfg Config, start mono.Time) *Schedule {
	return &Schedule{cfg: cfg, start: start, begin: start}
}

// Verdict is the decision about a packet.
type Verdict uint8

// The verdicts of Due.
const (
	Play Verdict = iota // play the packet when it is due
	Skip                // the packet lies before the part that is played
	Over                // it lies behind that part: nothing more is played
)

// Due returns when a packet is to be played. at is its time in nanoseconds since 1970; opens
// reports whether it opens a connection. Due times never decrease.
func (s *Schedule) Due(at int64, opens bool) (mono.Time, Verdict) {
	if !s.begun {
		s.begun, s.first, s.last = true, at, at
	}
	now := at + s.set
	if now < s.last {
		if s.last-now > backStep { // the clock was set back: continue from the latest time
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

// Backwards returns how often the file's clock was set back by more than a second.
func (s *Schedule) Backwards() uint64 { return s.backwards }

// Played returns how much of the file's time has been played, with the silences that were left out.
func (s *Schedule) Played() time.Duration {
	if !s.playing {
		return 0
	}
	return time.Duration(s.last - s.origin)
}
