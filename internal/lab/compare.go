package lab

import (
	"fmt"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// lagMost is the largest lag that the histogram distinguishes.
const lagMost = 10 * time.Minute

// Side is what one server counted.
type Side struct {
	Requests   int64 // sound ones, all that arrived
	Reordered  int64 // arrived on their connection after a later one
	Corrupted  int64
	Early      int64         // arrived before the answers that their client had seen were there
	Bytes      int64         // of requests
	Opened     int64         // connections
	MostOpen   int64         // connections at the same time
	MostAfter  time.Duration // from the first connection to that moment
	LeftOpen   int64         // connections still open when the copier was told to stop
	Duplicated int64         // arrivals of a request that had arrived before

	Examples []string // the first findings, in words
}

// Comparison is what became of production's requests at the target, matched by connection and
// number.
type Comparison struct {
	Compared   int64 // production's requests that had to arrive
	Missing    int64
	Unexpected int64 // arrived at the target, but not at production

	Lag *hdrhistogram.Histogram // from arrival at production to arrival at the target, in µs
	// Starts are the lags of the connections' first requests, in no order.
	Starts []time.Duration
}

// place is where and when a request arrived first.
type place struct {
	at   time.Duration
	come bool
}

// index is a server's record by connection and number.
type index map[uint32][]place

// summarize evaluates one server's record. Order and duplicates are counted for requests that
// wanted selects. The server must be closed.
func summarize(r *record, wanted func(arrival) bool) (Side, index) {
	side := Side{
		Requests: r.requests.Load(), Corrupted: r.corrupted.Load(), Bytes: r.bytes.Load(),
		Opened: r.opened.Load(), MostOpen: r.mostOpen.Load(),
		MostAfter: time.Duration(r.mostAt.Load() - r.firstAt.Load()),
		Examples:  r.examples,
	}
	found := index{}
	for _, stream := range r.streams {
		last := map[uint32]uint32{} // of each connection in this stream: there should be one
		for _, a := range stream {
			places := found[a.conn]
			for len(places) <= int(a.num) && len(places) < mostNumbers {
				places = append(places, place{})
			}
			found[a.conn] = places
			if int(a.num) >= len(places) {
				continue // no client of ours counts so far; it is missing where it should be
			}
			again := places[a.num].come
			if !again {
				places[a.num] = place{a.at, true}
			}
			if !wanted(a) {
				continue
			}
			if a.early {
				side.Early++
			}
			highest, begun := last[a.conn]
			switch {
			case again:
				side.Duplicated++
				side.example("duplicated: connection %d request %d", a.conn, a.num)
			case begun && a.num < highest:
				side.Reordered++
				side.example("reordered: connection %d request %d after %d", a.conn, a.num, highest)
			}
			if !begun || a.num > highest {
				last[a.conn] = a.num
			}
		}
	}
	return side, found
}

// mostNumbers bounds the numbers of requests.
const mostNumbers = 1 << 24

func (s *Side) example(format string, args ...any) {
	if len(s.Examples) < 2*maxExamples {
		s.Examples = append(s.Examples, fmt.Sprintf(format, args...))
	}
}

// compare matches the target's record against production's. Requests that production received from
// the time from on must have arrived at the target; earlier ones may have. Both servers must be
// closed.
func compare(production, target *record, from time.Duration) (on, at Side, c Comparison) {
	on, produced := summarize(production, func(arrival) bool { return true })
	at, copied := summarize(target, func(a arrival) bool {
		p, ok := produced.find(a.conn, a.num)
		return !ok || p.at >= from
	})
	c.Lag = hdrhistogram.New(1, lagMost.Microseconds(), 3)
	for conn, places := range produced {
		for num, p := range places {
			if !p.come || p.at < from {
				continue
			}
			c.Compared++
			arrived, ok := copied.find(conn, uint32(num))
			if !ok {
				c.Missing++
				at.example("missing: connection %d request %d, which production received at %v",
					conn, num, p.at)
				continue
			}
			if num == 0 {
				c.Starts = append(c.Starts, arrived.at-p.at)
			}
			c.Lag.RecordValue(max(min(arrived.at-p.at, lagMost-time.Millisecond), 0).Microseconds())
		}
	}
	for conn, places := range copied {
		for num, p := range places {
			if !p.come {
				continue
			}
			if _, ok := produced.find(conn, uint32(num)); !ok {
				c.Unexpected++
				at.example("unexpected: connection %d request %d, which production did not receive",
					conn, num)
			}
		}
	}
	return on, at, c
}

func (x index) find(conn, num uint32) (place, bool) {
	if places := x[conn]; int(num) < len(places) {
		return places[num], places[num].come
	}
	return place{}, false
}
