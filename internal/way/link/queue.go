package link

import (
	"net"
	"sync"
	"time"
)

const (
	// keepBuffer is the largest buffer, in bytes, that is kept after a burst.
	keepBuffer = 1 << 20
	// writeAtOnce is how many bytes the peer has writeTimeout to accept: a connection may be slow,
	// as long as it moves.
	writeAtOnce = 32 << 10
	// lastWait is how long the peer has to accept what is written last.
	lastWait = time.Second
)

var writeTimeout = 10 * time.Second // a variable for tests

// queue holds the bytes that wait for an endpoint's writer. Adding to it never blocks.
type queue struct {
	wake chan struct{} // a token: the writer has something to do

	mu      sync.Mutex
	limit   int // put refuses while more than this waits
	pending []byte
	spare   []byte // the writer's other buffer, while it does not write
	ended   bool   // nothing is added any more
	hasty   bool   // the write deadline is set for all that is still to be written
	refused bool   // put has refused a frame since the writer last took what waits
	failure error  // why the writer has given up
}

// put appends a copy of frames. It reports whether there was room, and the queue has not ended.
func (q *queue) put(frames []byte) bool {
	q.mu.Lock()
	if q.ended || len(q.pending) > q.limit {
		q.refused = true
		q.mu.Unlock()
		return false
	}
	q.pending = append(q.pending, frames...)
	q.mu.Unlock()
	q.signal()
	return true
}

// encode lets a message append itself, unless more than limit bytes wait. It reports whether the
// message is queued, and, if it is not, whether the queue has ended.
func (q *queue) encode(limit int, message func([]byte) []byte) (queued, ended bool) {
	q.mu.Lock()
	if q.ended || len(q.pending) > limit {
		defer q.mu.Unlock()
		return false, q.ended
	}
	q.pending = message(q.pending)
	q.mu.Unlock()
	q.signal()
	return true, false
}

// finish appends the last frames, and gives conn's peer lastWait for all that it lacks.
func (q *queue) finish(conn net.Conn, frames []byte) {
	q.mu.Lock()
	if !q.ended {
		q.ended = true
		q.pending = append(q.pending, frames...)
		q.hasten(conn, lastWait)
	}
	q.mu.Unlock()
	q.signal()
}

// hasten sets the deadline of all further writes, a write under way included, unless it is set
// already. The lock is held.
func (q *queue) hasten(conn net.Conn, d time.Duration) {
	if !q.hasty {
		q.hasty = true
		conn.SetWriteDeadline(time.Now().Add(d))
	}
}

// extend moves the write deadline for the next part, unless it is set for the rest.
func (q *queue) extend(conn net.Conn) {
	q.mu.Lock()
	if !q.hasty {
		conn.SetWriteDeadline(time.Now().Add(writeTimeout))
	}
	q.mu.Unlock()
}

// discard drops what waits, and ends the queue.
func (q *queue) discard() {
	q.mu.Lock()
	q.ended, q.pending = true, nil
	q.mu.Unlock()
	q.signal()
}

// fail is discard by the writer, which could not write.
func (q *queue) fail(err error) {
	q.mu.Lock()
	if !q.ended {
		q.failure = err
	}
	q.ended, q.pending = true, nil
	q.mu.Unlock()
}

// failed returns why the writer has given up, if it has.
func (q *queue) failed() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.failure
}

// next hands all that waits to the writer. It reports whether nothing follows (last), and whether
// a frame was refused that there is room for now.
func (q *queue) next() (b []byte, last, room bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	b, last, room = q.pending, q.ended, q.refused && !q.ended
	q.pending, q.spare, q.refused = q.spare[:0], nil, false
	return b, last, room
}

// recycle gives a buffer back that next has handed out.
func (q *queue) recycle(b []byte) {
	if cap(b) <= keepBuffer {
		q.mu.Lock()
		q.spare = b[:0]
		q.mu.Unlock()
	}
}

func (q *queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}
