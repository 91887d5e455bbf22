package export

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"tcpcopy/internal/core/ledger"
)

// Histogram is the JSON form of a ledger.Delays. It loses nothing, so histograms of several nodes
// add up exactly.
type Histogram struct {
	Count uint64 `json:"count"`
	Sum   int64  `json:"sum_ns"`
	Most  int64  `json:"most_ns"`
	Slots Slots  `json:"slots"`
}

// Slots are the index and the count of each slot that is not empty. In JSON they are one string,
// such as "12:4 13:9", which stays one line where the report is indented.
type Slots [][2]uint64

// MarshalText returns the slots as they stand in JSON.
func (s Slots) MarshalText() ([]byte, error) {
	var text []byte
	for i, slot := range s {
		if i > 0 {
			text = append(text, ' ')
		}
		text = strconv.AppendUint(text, slot[0], 10)
		text = append(text, ':')
		text = strconv.AppendUint(text, slot[1], 10)
	}
	return text, nil
}

// UnmarshalText reads what MarshalText returns.
func (s *Slots) UnmarshalText(text []byte) error {
	*s = nil
	for _, word := range strings.Fields(string(text)) {
		index, count, _ := strings.Cut(word, ":")
		i, err := strconv.ParseUint(index, 10, 16)
		if err != nil {
			return fmt.Errorf("histogram: slot %q: %w", word, err)
		}
		n, err := strconv.ParseUint(count, 10, 64)
		if err != nil {
			return fmt.Errorf("histogram: slot %q: %w", word, err)
		}
		*s = append(*s, [2]uint64{i, n})
	}
	return nil
}

// NewHistogram returns the JSON form of h, or nil if h is empty.
func NewHistogram(h *ledger.Delays) *Histogram {
	if h.Count == 0 {
		return nil
	}
	g := &Histogram{Count: h.Count, Sum: int64(h.Sum), Most: int64(h.Most)}
	for i, n := range h.Slots() {
		g.Slots = append(g.Slots, [2]uint64{uint64(i), n})
	}
	return g
}

// Delays returns the histogram that g was made of, or an error if g contradicts itself. Those of a
// nil g are empty.
func (g *Histogram) Delays() (ledger.Delays, error) {
	if g == nil {
		return ledger.Delays{}, nil
	}
	h := ledger.Delays{Count: g.Count, Sum: time.Duration(g.Sum), Most: time.Duration(g.Most)}
	var sum uint64
	for _, s := range g.Slots {
		if s[0] >= ledger.NumSlots || !h.PutSlot(int(s[0]), s[1]) {
			return ledger.Delays{}, fmt.Errorf("histogram: no slot %d", s[0])
		}
		sum += s[1]
	}
	if sum != g.Count {
		return ledger.Delays{}, fmt.Errorf("histogram: %d in the slots, %d in all", sum, g.Count)
	}
	return h, nil
}

// Histograms are the histograms of a report; nil where there is nothing to count.
type Histograms struct {
	// Requests after they were captured, or due.
	Behind *Histogram `json:"behind,omitempty"`
	// The target's answers: to the first byte.
	TargetFirst     *Histogram `json:"target_first,omitempty"`
	TargetWhole     *Histogram `json:"target_whole,omitempty"`     // and to the last
	ProductionFirst *Histogram `json:"production_first,omitempty"` // production's answers
	ProductionWhole *Histogram `json:"production_whole,omitempty"`
	Late            *Histogram `json:"late,omitempty"` // a replay's sessions after their time
}

// histograms leaves out production's in a replay, where time may run faster.
func histograms(s *Snapshot) Histograms {
	q := &s.Counters.Requests
	h := Histograms{
		Behind:      NewHistogram(&s.Counters.Behind),
		TargetFirst: NewHistogram(&q.First), TargetWhole: NewHistogram(&q.Whole),
	}
	if s.Replay != nil {
		h.Late = NewHistogram(&s.Replay.Late)
	} else {
		h.ProductionFirst = NewHistogram(&q.Production.First)
		h.ProductionWhole = NewHistogram(&q.Production.Whole)
	}
	return h
}
