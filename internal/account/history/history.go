// Package history keeps the course of a run in bounded memory, from its first report to its last.
//
// A Track holds the totals of some moments. When it is full, it forgets every second one, so a long
// run has coarser intervals and no lost counts: what happened between two moments is the difference
// of their totals. Percentiles of an interval come from the difference of two histograms.
//
// The package does no I/O and reads no clock.
package history

import (
	"time"

	"tcpcopy/internal/account/export"
	"tcpcopy/internal/core/ledger"
)

// MaxPoints bounds the moments that a Track holds.
const MaxPoints = 512

// Point is the totals of one moment.
type Point struct {
	At       float64 // seconds since the start of the run
	Sequence uint64

	Sessions, Delivered, Dropped     uint64
	Bytes, BytesDelivered            uint64
	Turns                            uint64
	KernelDrop                       uint64
	Open, TargetOpen, Live           uint64 // at that moment
	TargetAnswers, ProductionAnswers uint64
	TargetFailed, ProductionFailed   uint64
	LinksUp, Links                   int
	behind, target, production       slots
}

// slots are a histogram's slots that are not empty.
type slots []slot

type slot struct {
	n     uint64
	index uint8
}

// Track is the course of one run.
type Track struct {
	points []Point
	every  float64 // seconds between two points, at least
	last   *Point  // the newest, which may come too soon after the last of points
	curves export.Curves
	wanted float64
}

// Add adds the state of a run. Reports come in the order in which they were made; one that is as
// old as the last is left out.
func (t *Track) Add(r *export.Report) {
	p := point(r)
	if t.last != nil {
		dt := p.At - t.last.At
		if dt <= 0 {
			return
		}
		t.area(t.last, dt)
	}
	t.last = &p
	if n := len(t.points); n > 0 && p.At-t.points[n-1].At < t.every {
		return
	}
	if len(t.points) == MaxPoints {
		t.halve()
	}
	t.points = append(t.points, p)
}

// halve forgets every second point, and has later ones come half as often.
func (t *Track) halve() {
	kept := t.points[:0]
	for i, p := range t.points {
		if i%2 == 0 {
			kept = append(kept, p)
		}
	}
	clear(t.points[len(kept):])
	t.points = kept
	// A little less than the mean, so that a state that comes a moment early is not left out.
	t.every = 0.98 * (kept[len(kept)-1].At - kept[0].At) / float64(len(kept)-1)
}

// area adds an interval of dt seconds, in which the connections were as p has them, to the curves.
func (t *Track) area(p *Point, dt float64) {
	want := max(t.wanted, 1)
	production, target := float64(p.Open)*want, float64(p.TargetOpen)
	t.curves.Production += production * dt
	t.curves.Apart += max(production-target, target-production) * dt
}

// Curves returns the areas of the curves of open connections so far.
func (t *Track) Curves() export.Curves { return t.curves }

// Want says how many copies of each connection there are to be; 1 if it is not called.
func (t *Track) Want(copies float64) { t.wanted = copies }

// Points returns the points, oldest first, the newest included.
func (t *Track) Points() []Point {
	n := len(t.points)
	if t.last == nil || n > 0 && t.points[n-1].At == t.last.At {
		return t.points[:n:n]
	}
	return append(t.points[:n:n], *t.last)
}

// Last returns the newest point; nil if there is none.
func (t *Track) Last() *Point { return t.last }

func point(r *export.Report) Point {
	p := Point{
		At: r.Now.Sub(r.Start).Seconds(), Sequence: r.Sequence,
		Sessions: r.Sessions.Captured, Delivered: r.Sessions.Delivered,
		Dropped: sum(r.Sessions.Dropped),
		Bytes:   r.Bytes.Captured, BytesDelivered: r.Bytes.Delivered, Turns: r.Gate.Turns,
		KernelDrop: r.Packets.KernelDrop, Open: r.Open, Live: r.Live,
		TargetAnswers: r.Protocol.Answered, TargetFailed: r.Protocol.Failed,
		ProductionAnswers: r.Protocol.Production.Answered,
		ProductionFailed:  r.Protocol.Production.Failed,
		Links:             len(r.Links),
		behind:            slotsOf(r.Histograms.Behind), target: slotsOf(r.Histograms.TargetWhole),
		production: slotsOf(r.Histograms.ProductionWhole),
	}
	for i := range r.Targets {
		p.TargetOpen += r.Targets[i].Live
	}
	for i := range r.Links {
		if r.Links[i].Up {
			p.LinksUp++
		}
	}
	return p
}

func sum(m map[string]uint64) (n uint64) {
	for _, v := range m {
		n += v
	}
	return n
}

func slotsOf(h *export.Histogram) (s slots) {
	if h == nil {
		return nil
	}
	s = make(slots, 0, len(h.Slots))
	for _, x := range h.Slots {
		if x[0] < ledger.NumSlots {
			s = append(s, slot{x[1], uint8(x[0])})
		}
	}
	return s
}

// Quantile is a median and a 99th percentile. Count 0: there is none.
type Quantile struct {
	Count       uint64
	Median, P99 time.Duration
}

// between returns the quantiles of what was added to a histogram from one state to a later one.
func between(from, to slots) Quantile {
	var h ledger.Delays
	for _, s := range to {
		h.PutSlot(int(s.index), s.n)
		h.Count += s.n
	}
	var old ledger.Delays
	for _, s := range from {
		old.PutSlot(int(s.index), s.n)
		old.Count += s.n
	}
	h.Sub(&old)
	if h.Count == 0 {
		return Quantile{}
	}
	h.Most = ledger.SlotEnd(ledger.NumSlots - 1)
	return Quantile{Count: h.Count, Median: h.At(0.5), P99: h.At(0.99)}
}

// Interval is what happened between two points.
type Interval struct {
	From, To *Point
	Seconds  float64

	Behind, Target, Production Quantile
}

// Between returns the interval between two points of one run.
func Between(from, to *Point) Interval {
	return Interval{
		From: from, To: to, Seconds: to.At - from.At,
		Behind: between(from.behind, to.behind), Target: between(from.target, to.target),
		Production: between(from.production, to.production),
	}
}

// Rate returns how much of a total was added a second; 0 where it fell, as it does when a node
// begins again.
func (i *Interval) Rate(of func(*Point) uint64) float64 {
	was, is := of(i.From), of(i.To)
	if i.Seconds <= 0 || is < was {
		return 0
	}
	return float64(is-was) / i.Seconds
}

// Intervals returns the intervals of points, oldest first.
func Intervals(points []Point) []Interval {
	var all []Interval
	for i := 1; i < len(points); i++ {
		all = append(all, Between(&points[i-1], &points[i]))
	}
	return all
}
