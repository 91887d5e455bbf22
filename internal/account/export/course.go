package export

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Course is how a run went, interval by interval. All columns have the same length. In intervals at
// which nothing was measured a column has NaN.
type Course struct {
	At       Column `json:"at_seconds"` // the ends of the intervals, since the start
	Sessions Column `json:"sessions_per_second"`
	Turns    Column `json:"turns_per_second"`
	Dropped  Column `json:"sessions_dropped_per_second"`

	ProductionOpen Column `json:"production_open"` // connections, at the end of the interval
	TargetOpen     Column `json:"target_open"`

	ProductionAnswers Column `json:"production_answers_per_second"`
	TargetAnswers     Column `json:"target_answers_per_second"`
	ProductionMedian  Column `json:"production_median_ms"` // times to the last byte of an answer
	ProductionP99     Column `json:"production_p99_ms"`
	TargetMedian      Column `json:"target_median_ms"`
	TargetP99         Column `json:"target_p99_ms"`
	BehindP99         Column `json:"behind_p99_ms"`
}

// Column is numbers in the order of time. In JSON it is one string, so that it stays one line where
// the report is indented; - stands for NaN.
type Column []float64

// MarshalText returns the numbers as they stand in JSON, in five digits.
func (c Column) MarshalText() ([]byte, error) {
	var text []byte
	for i, f := range c {
		if i > 0 {
			text = append(text, ' ')
		}
		if math.IsNaN(f) {
			text = append(text, '-')
			continue
		}
		text = strconv.AppendFloat(text, f, 'g', 5, 64)
	}
	return text, nil
}

// UnmarshalText reads what MarshalText returns.
func (c *Column) UnmarshalText(text []byte) error {
	*c = nil
	for _, word := range strings.Fields(string(text)) {
		f := math.NaN()
		if word != "-" {
			var err error
			if f, err = strconv.ParseFloat(word, 64); err != nil || math.IsInf(f, 0) ||
				math.IsNaN(f) {
				return fmt.Errorf("course: %q is no number", word)
			}
		}
		*c = append(*c, f)
	}
	return nil
}

// Check returns an error if the columns are not of the same length.
func (c *Course) Check() error {
	for i, column := range []Column{
		c.Sessions, c.Turns, c.Dropped, c.ProductionOpen, c.TargetOpen, c.ProductionAnswers,
		c.TargetAnswers,
		c.ProductionMedian, c.ProductionP99, c.TargetMedian, c.TargetP99, c.BehindP99,
	} {
		if len(column) != len(c.At) {
			return fmt.Errorf(
				"course: column %d has %d numbers, wanted %d",
				i+1,
				len(column),
				len(c.At),
			)
		}
	}
	return nil
}
