package app

import (
	"bytes"
	"fmt"
	"sync"
	"time"

	"tcpcopy/internal/account/export"
	"tcpcopy/internal/account/fleet"
	"tcpcopy/internal/account/history"
	"tcpcopy/internal/account/page"
	"tcpcopy/internal/config"
	"tcpcopy/internal/core/balance"
)

// courseEvery is how often the state of a copy is noted for its course.
const courseEvery = time.Second

// course numbers the states of a copy, and follows them.
type course struct {
	seen    *sequence
	wanted  float64 // copies of each session; 0: not the same for all
	ungated bool

	view  *liveView    // nil: none
	fleet *fleet.Fleet // of the dashboard; nil: none

	mu    sync.Mutex // guards track
	track history.Track
}

func newCourse(c *config.Copy, seen *sequence) *course {
	f := &course{seen: seen}
	for i := range c.Mappings {
		m := c.Of(i)
		wanted := m.Copies
		if m.Balance == balance.All {
			wanted *= float64(len(c.Mappings[i].Targets))
		}
		if i > 0 && wanted != f.wanted {
			f.wanted = 0
			break
		}
		f.wanted = wanted
	}
	for i := range c.Mappings {
		f.ungated = f.ungated || c.Of(i).Wait == config.WaitNone
	}
	f.track.Want(f.wanted)
	return f
}

// stamp numbers a state, and adds what is known of its course.
func (f *course) stamp(s *export.Snapshot) {
	s.Sequence, s.Wanted, s.Ungated = f.seen.next(), f.wanted, f.ungated
	s.Findings = f.seen.findings()
	f.mu.Lock()
	s.Curves = f.track.Curves()
	f.mu.Unlock()
}

// note stamps a state, and follows it.
func (f *course) note(s *export.Snapshot) *export.Report {
	f.stamp(s)
	r := export.NewReport(s)
	f.mu.Lock()
	f.track.Add(r)
	f.mu.Unlock()
	if f.view != nil || f.fleet != nil {
		n := ownNode(s, r)
		f.view.add("", &n, nil)
		if f.fleet != nil {
			f.fleet.Add("", &n, nil, s.Now)
		}
	}
	return r
}

// end stamps the last state, and adds the course to it. The view, if there is one, is over.
func (f *course) end(s *export.Snapshot) {
	f.view.end()
	s.Final = true
	f.note(s)
	f.mu.Lock()
	s.Curves, s.Course = f.track.Curves(), f.track.Course()
	f.mu.Unlock()
}

// pace says when something is due that is done at most so often. Every 0: never.
type pace struct {
	every time.Duration
	last  time.Time
}

// due reports whether it is time at the state s, and notes that it was. Ticks come a little early
// and late.
func (p *pace) due(s *export.Snapshot) bool {
	since := s.Elapsed()
	if !p.last.IsZero() {
		since = s.Now.Sub(p.last)
	}
	if p.every <= 0 || since < p.every-min(p.every, courseEvery)/2 {
		return false
	}
	p.last = s.Now
	return true
}

// watchClosely has the state of the copy told often enough for its course, and returns how often
// the user wants to be told.
func watchClosely(c *config.Copy) *pace {
	p := &pace{every: c.Stats}
	if c.Stats == 0 || c.Stats > courseEvery {
		c.Stats = courseEvery
	}
	return p
}

// writePage writes the page of a report to a file, whole or not at all.
func writePage(path string, r *export.Report) error {
	var b bytes.Buffer
	if err := page.Write(&b, r); err != nil {
		return err
	}
	if err := export.WriteFile(path, b.Bytes()); err != nil {
		return fmt.Errorf("write page %q: %w", path, err)
	}
	return nil
}
