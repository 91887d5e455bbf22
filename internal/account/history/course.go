package history

import (
	"math"

	"tcpcopy/internal/account/export"
)

// Course returns the course of the run for a report; nil if there are no two points.
func (t *Track) Course() *export.Course { return CourseOf(t.Points()) }

// CourseOf returns the course that points of one run make; nil if there are no two.
func CourseOf(points []Point) *export.Course {
	intervals := Intervals(points)
	if len(intervals) == 0 {
		return nil
	}
	c := new(export.Course)
	for i := range intervals {
		v := &intervals[i]
		put := func(column *export.Column, value float64) { *column = append(*column, value) }
		put(&c.At, v.To.At)
		put(&c.Sessions, v.Rate(func(p *Point) uint64 { return p.Sessions }))
		put(&c.Turns, v.Rate(func(p *Point) uint64 { return p.Turns }))
		put(&c.Dropped, v.Rate(func(p *Point) uint64 { return p.Dropped }))
		put(&c.ProductionOpen, float64(v.To.Open))
		put(&c.TargetOpen, float64(v.To.TargetOpen))
		put(&c.ProductionAnswers, v.ifAny(func(p *Point) uint64 { return p.ProductionAnswers }))
		put(&c.TargetAnswers, v.ifAny(func(p *Point) uint64 { return p.TargetAnswers }))
		median, p99 := v.Production.Milliseconds()
		put(&c.ProductionMedian, median)
		put(&c.ProductionP99, p99)
		median, p99 = v.Target.Milliseconds()
		put(&c.TargetMedian, median)
		put(&c.TargetP99, p99)
		_, p99 = v.Behind.Milliseconds()
		put(&c.BehindP99, p99)
	}
	return c
}

// ifAny returns the rate of a total; NaN if there never was any, as of answers that are not read.
func (i *Interval) ifAny(of func(*Point) uint64) float64 {
	if of(i.To) == 0 {
		return math.NaN()
	}
	return i.Rate(of)
}

// Milliseconds returns the median and the 99th percentile in milliseconds, NaN where there are
// none.
func (q Quantile) Milliseconds() (median, p99 float64) {
	if q.Count == 0 {
		return math.NaN(), math.NaN()
	}
	return q.Median.Seconds() * 1e3, q.P99.Seconds() * 1e3
}
