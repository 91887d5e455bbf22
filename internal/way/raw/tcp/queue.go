package tcp

import "tcpcopy/internal/core/mono"

// sent is a segment in flight. It begins where the one before it ends, the first at una.
type sent struct {
	end uint64    // position after it
	at  mono.Time // when it was last sent
	// For the delivery rate (see rate), at that time: bytes delivered, modulo 2³²; microseconds
	// since the last of these arrived; and since the newest of these had been sent.
	delivered     uint32
	sinceDelivery uint32
	sinceSent     uint32
	flags         sentFlags
}

// sentFlags are what is known of a segment in flight.
type sentFlags uint8

const (
	segSacked  sentFlags = 1 << iota // a SACK block shows that it arrived
	segLost                          // believed lost, and not sent again yet
	segResent                        // sent more than once
	segLimited                       // sent when less was available than the path could take
)

// maxFlight bounds the segments in flight, and with these the memory and work of one connection.
const maxFlight = 8192

// idleFlight is how many records an idle connection keeps allocated at most.
const idleFlight = 32

// queue holds the segments in flight in order of their positions.
type queue struct {
	recs []sent
	head int
}

// len returns the number of segments in flight.
func (q *queue) len() int { return len(q.recs) - q.head }

// at returns the segment i, 0 being the oldest. It is valid until the next push or pop.
func (q *queue) at(i int) *sent { return &q.recs[q.head+i] }

// start returns the position of the segment i, given where the first begins.
func (q *queue) start(i int, una uint64) uint64 {
	if i == 0 {
		return una
	}
	return q.recs[q.head+i-1].end
}

// push appends a segment.
func (q *queue) push(s sent) {
	if q.head > 0 && len(q.recs) == cap(q.recs) { // use the room at the front before growing
		n := copy(q.recs, q.recs[q.head:])
		q.recs = q.recs[:n]
		q.head = 0
	}
	q.recs = append(q.recs, s)
}

// pop removes the oldest segment.
func (q *queue) pop() {
	q.head++
	if q.head < len(q.recs) {
		return
	}
	q.head = 0
	if cap(q.recs) > idleFlight {
		q.recs = nil
		return
	}
	q.recs = q.recs[:0]
}

// split cuts the segment i in two at the position end.
func (q *queue) split(i int, end uint64) {
	q.push(sent{})
	k := q.head + i // after the push, which may move the head
	copy(q.recs[k+1:], q.recs[k:])
	q.recs[k].end = end
}

// find returns the index of the first segment that begins at pos or later.
func (q *queue) find(pos, una uint64) int {
	if pos <= una {
		return 0
	}
	lo, hi := 0, q.len() // the first whose end >= pos; the one after it begins there
	for lo < hi {
		mid := int(uint(lo+hi) / 2)
		if q.at(mid).end < pos {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo + 1
}
