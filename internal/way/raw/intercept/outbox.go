package intercept

import (
	"net"
	"slices"
	"sync"
	"time"
)

// outbox holds the bytes that wait for a connection's writer, up to a bound. put never blocks.
type outbox struct {
	conn    net.Conn
	mu      sync.Mutex
	pending []byte
	spare   []byte // the writer's, while it does not write
	limit   int
	ended   bool
	wake    chan struct{}
	bytes   uint64 // written
}

func newOutbox(conn net.Conn, limit int) *outbox {
	return &outbox{conn: conn, limit: limit, wake: make(chan struct{}, 1)}
}

// put appends frames, which are copied. It returns false, and drops them, where they do not fit.
func (o *outbox) put(b []byte) bool {
	o.mu.Lock()
	if o.ended || len(o.pending)+len(b) > o.limit {
		o.mu.Unlock()
		return false
	}
	o.pending = append(o.pending, b...)
	o.mu.Unlock()
	o.signal()
	return true
}

// finish appends the last frame; the writer closes the connection after it, or when the peer has
// taken nothing for lastWait, however much it still lacks.
func (o *outbox) finish(b []byte) {
	o.mu.Lock()
	if !o.ended {
		o.ended = true
		o.pending = append(o.pending, b...)
		o.conn.SetWriteDeadline(time.Now().Add(lastWait)) // for a write that is under way
	}
	o.mu.Unlock()
	o.signal()
}

func (o *outbox) signal() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

const (
	// keepBuffer is how large a buffer stays after a burst.
	keepBuffer = 1 << 20
	// writeAtOnce is what has writeTimeout to be taken: a link may be slow, as long as it moves.
	writeAtOnce = 32 << 10
	lastWait    = time.Second
)

// write sends what comes until finish, an error, or a peer that takes nothing for writeTimeout, and
// closes the connection. Whatever came while one write was under way goes with the next.
func (o *outbox) write() {
	defer o.conn.Close()
	for range o.wake {
		o.mu.Lock()
		b, ended := o.pending, o.ended
		o.pending, o.spare = o.spare[:0], nil
		o.mu.Unlock()
		for part := range slices.Chunk(b, writeAtOnce) {
			if !o.writePart(part) {
				o.stop()
				return
			}
		}
		o.mu.Lock()
		o.bytes += uint64(len(b))
		if cap(b) <= keepBuffer {
			o.spare = b[:0]
		}
		o.mu.Unlock()
		if ended {
			return
		}
	}
}

func (o *outbox) writePart(b []byte) bool {
	o.mu.Lock()
	if !o.ended { // else finish has set the deadline
		o.conn.SetWriteDeadline(time.Now().Add(writeTimeout))
	}
	o.mu.Unlock()
	_, err := o.conn.Write(b)
	return err == nil
}

// stop refuses all that comes from now on.
func (o *outbox) stop() {
	o.mu.Lock()
	o.ended, o.pending = true, nil
	o.mu.Unlock()
}
