package history

import (
	"encoding/json"
	"math"
	"runtime"
	"testing"
	"time"

	"tcpcopy/internal/account/export"
	"tcpcopy/internal/core/ledger"
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// run is a copy of 100 sessions and 1,000 turns a second.
type run struct {
	s export.Snapshot
	n int
}

// step is the report after a further second, in which answers took about d.
func (r *run) step(d time.Duration) *export.Report {
	r.n++
	s := &r.s
	s.Start, s.Now, s.Sequence = start, start.Add(time.Duration(r.n)*time.Second), uint64(r.n)
	s.Targets = []export.TargetState{{Count: ledger.Target{Live: 30}}}
	c := &s.Counters
	c.Sessions.Captured += 100
	c.Sessions.Delivered += 99
	c.Sessions.Drop(ledger.CaptureGap, 1)
	c.Turns += 1000
	c.Open = 40
	for i := range 100 {
		c.Requests.Whole.Note(d * time.Duration(1+i%40) / 20)
		c.Requests.Production.Whole.Note(d * time.Duration(1+i%40) / 40)
		c.Behind.Note(d * time.Duration(1+i%40))
		c.Requests.Answered++
	}
	return export.NewReport(s)
}

// Eight hours fit in little memory, no count is lost, and the course covers all of it.
func TestLongRun(t *testing.T) {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	track, r := new(Track), new(run)
	seconds := 8 * 3600
	if testing.Short() {
		seconds = 3600
	}
	var last *export.Report
	for i := range seconds {
		d := time.Millisecond
		if i%100 == 0 {
			d = time.Second // many slots are in use
		}
		last = r.step(d)
		track.Add(last)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if used := int64(after.HeapAlloc) - int64(before.HeapAlloc); used > 4<<20 {
		t.Errorf("8 h take %d bytes", used)
	}
	points := track.Points()
	if len(points) > MaxPoints+1 || len(points) < MaxPoints/2 {
		t.Errorf("%d points", len(points))
	}
	var sessions float64
	intervals := Intervals(points)
	for i := range intervals {
		v := &intervals[i]
		sessions += v.Rate(func(p *Point) uint64 { return p.Sessions }) * v.Seconds
	}
	if want := float64(last.Sessions.Captured - 100); math.Abs(sessions-want) > 1 {
		t.Errorf("the intervals have %v sessions, want %v", sessions, want)
	}
	if to := points[len(points)-1].At; to != float64(seconds) {
		t.Errorf("ends at %v s", to)
	}
	c := track.Course()
	text, err := json.Marshal(c)
	if err != nil || len(text) > 200<<10 {
		t.Errorf("%d bytes, %v", len(text), err)
	}
	if err := c.Check(); err != nil {
		t.Error(err)
	}
	runtime.KeepAlive(track)
}

// The curves' areas are exact, whatever was forgotten.
func TestCurves(t *testing.T) {
	track, r := new(Track), new(run)
	for range 2001 {
		track.Add(r.step(time.Millisecond))
	}
	if c := track.Curves(); c.Production != 2000*40 || c.Apart != 2000*10 {
		t.Errorf("%+v", c)
	}
	double := new(Track)
	double.Want(2)
	r = new(run)
	for range 11 {
		double.Add(r.step(time.Millisecond))
	}
	if c := double.Curves(); c.Production != 10*80 || c.Apart != 10*50 {
		t.Errorf("two copies of each: %+v", c)
	}
}

// Percentiles are of an interval, not of all that was.
func TestQuantilesOfAnInterval(t *testing.T) {
	track, r := new(Track), new(run)
	for _, d := range []time.Duration{time.Millisecond, time.Millisecond, 100 * time.Millisecond} {
		track.Add(r.step(d))
	}
	all := Intervals(track.Points())
	if len(all) != 2 {
		t.Fatalf("%d intervals", len(all))
	}
	for i, want := range []time.Duration{time.Millisecond, 100 * time.Millisecond} {
		if got := all[i].Target.Median; got < want*8/10 || got > want*12/10 ||
			all[i].Target.Count != 100 {
			t.Errorf("interval %d: median %v of %d, want %v", i, got, all[i].Target.Count, want)
		}
	}
}

// A state that comes twice, or too late, changes nothing; a node that began again has no negative
// rate.
func TestOddReports(t *testing.T) {
	track, r := new(Track), new(run)
	if track.Course() != nil || track.Last() != nil || len(track.Points()) != 0 {
		t.Error("an empty track has something")
	}
	first := r.step(time.Millisecond)
	second := r.step(time.Millisecond)
	for _, x := range []*export.Report{first, second, second, first} {
		track.Add(x)
	}
	if n := len(track.Points()); n != 2 {
		t.Errorf("%d points", n)
	}
	again := new(run).step(time.Millisecond)
	again.Now = again.Start.Add(time.Minute)
	track.Add(again)
	all := Intervals(track.Points())
	if v := all[1].Rate(func(p *Point) uint64 { return p.Sessions }); v != 0 {
		t.Errorf("%v sessions a second after a new start", v)
	}
}

func TestColumns(t *testing.T) {
	track, r := new(Track), new(run)
	for range 3 {
		x := r.step(time.Millisecond)
		x.Histograms.ProductionWhole = nil
		track.Add(x)
	}
	text, err := json.Marshal(track.Course())
	if err != nil {
		t.Fatal(err)
	}
	var c export.Course
	if err := json.Unmarshal(text, &c); err != nil {
		t.Fatal(err)
	}
	if len(c.At) != 2 || c.Turns[1] != 1000 || c.TargetOpen[0] != 30 ||
		!math.IsNaN(c.ProductionP99[0]) {
		t.Errorf("%s", text)
	}
	c.At = c.At[1:]
	if c.Check() == nil {
		t.Error("columns of different lengths are taken")
	}
	for _, bad := range []string{"x", "NaN", "Inf", "1,2"} {
		if err := new(export.Column).UnmarshalText([]byte(bad)); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}
