package stream

import (
	"time"

	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/seqnum"
)

// ending is how a connection has ended at our side.
type ending uint8

const (
	endedInOrder ending = iota
	endedAborted        // by us: whatever the target says is answered by a reset
	endedTaken          // given up for another copier's, before the target had answered
)

// connectionEnd is what is remembered of a connection. Its tuple may be in TIME-WAIT at the
// target, and a new connection must begin above its numbers.
type connectionEnd struct {
	next seqnum.Value // above every sequence number that it has used
	ts   uint32       // above every timestamp
	at   mono.Time    // when it ended
	how  ending
}

const (
	timeWaitFor = 60 * time.Second // Linux's TIME_WAIT
	// maxEnded bounds the connections that all tables remember: those of timeWaitFor, at 34,000
	// connections a second. Each costs some 70 bytes.
	maxEnded = 1 << 21
	// forgetAtOnce is how many connections are forgotten at once, so that no call takes long. It is
	// more than one, because they come one at a time.
	forgetAtOnce = 16
	// keptEnded is for how many connections room is kept while there are none.
	keptEnded = 1024
)

// timeWait remembers the connections that have ended within timeWaitFor, and no more than most of
// them, the last ones. A tuple is named by its keyed hash (see identify).
type timeWait struct {
	most   int
	queue  []endedTuple      // in the order of their ends, from head on
	head   int               // those before it are forgotten
	first  uint32            // the number of the one at head; numbers may wrap
	latest map[uint64]uint32 // the number of a tuple's last connection
}

// endedTuple is a connection that has ended, and its tuple.
type endedTuple struct {
	tuple uint64
	connectionEnd
}

func newTimeWait(most int) timeWait {
	return timeWait{most: most, latest: make(map[uint64]uint32)}
}

// put remembers a connection that ends now, which is end.at.
func (w *timeWait) put(tuple uint64, end connectionEnd) {
	if w.len() == w.most {
		w.forget()
	}
	if len(w.queue) == cap(w.queue) && w.head > len(w.queue)/4 {
		n := copy(w.queue, w.queue[w.head:])
		w.queue, w.head = w.queue[:n], 0
	}
	w.latest[tuple] = w.first + uint32(w.len())
	w.queue = append(w.queue, endedTuple{tuple, end})
}

// get returns the last connection of a tuple, if that ended within timeWaitFor.
func (w *timeWait) get(now mono.Time, tuple uint64) (connectionEnd, bool) {
	n, ok := w.latest[tuple]
	if !ok {
		return connectionEnd{}, false
	}
	end := w.queue[w.head+int(n-w.first)].connectionEnd
	return end, now.Sub(end.at) < timeWaitFor
}

// expire forgets connections that ended too long ago, some at a time.
func (w *timeWait) expire(now mono.Time) {
	for range forgetAtOnce {
		if w.len() == 0 || now.Sub(w.queue[w.head].at) < timeWaitFor {
			return
		}
		w.forget()
	}
}

// forget forgets the connection that ended first.
func (w *timeWait) forget() {
	tuple := w.queue[w.head].tuple
	if w.latest[tuple] == w.first { // else the tuple was used again
		delete(w.latest, tuple)
	}
	w.head++
	w.first++
	if w.len() > 0 {
		return
	}
	if w.head = 0; cap(w.queue) > keptEnded {
		*w = newTimeWait(w.most)
	}
	w.queue = w.queue[:0]
}

// len returns how many connections are remembered.
func (w *timeWait) len() int { return len(w.queue) - w.head }
