package tcp

import "tcpcopy/internal/core/mono"

// sent is a segment in flight. It begins where the one before it ends, the first at una.
type sent struct {
	end uint64    // position after it
	at  mono.Time // when it was last sent
	// What the delivery rate is measured by (see rate), as it was then: bytes delivered, modulo 2³², and the
	// microseconds since the last of them arrived, and since the newest of them had been sent.
	delivered     uint32
	sinceDelivery uint32
	sinceSent     uint32
	flags         sentFlags
}

type sentFlags uint8

const (
	segSacked  sentFlags = 1 << iota // arrived, by a SACK block
	segLost                          // believed lost, and not sent again yet
	segResent                        // sent more than once
	segLimited                       // sent when there was no more to send
)

// maxFlight bounds the segments in flight, and with it the memory and work that one connection can cost.
const maxFlight = 8192

// idleFlight is how many records an idle connection may keep allocated.
const idleFlight = 32

// queue holds the segments in flight in order of their positions.
type queue struct {
	recs []sent
	head int
}

func (q *queue) len() int       { return len(q.recs) - q.head }
func (q *queue) at(i int) *sent { return &q.recs[q.head+i] }

// start returns the position of the segment i, given where the first begins.
func (q *queue) start(i int, una uint64) uint64 {
	if i == 0 {
		return una
	}
	return q.recs[q.head+i-1].end
}

func (q *queue) push(s sent) {
	if q.head > 0 && len(q.recs) == cap(q.recs) { // room at the front: use that before growing
		n := copy(q.recs, q.recs[q.head:])
		q.recs = q.recs[:n]
		q.head = 0
	}
	q.recs = append(q.recs, s)
}

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
