package stream

import (
	"time"

	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/seqnum"
	"tcpcopy/internal/core/shard"
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
	maxEnded    = 1 << 14
	timeWaitFor = 60 * time.Second // Linux's TIME_WAIT
)

// timeWait remembers the last maxEnded connections that have ended.
type timeWait struct {
	m    map[shard.Tuple]connectionEnd
	ring []shard.Tuple // in the order in which they are forgotten, from i on
	i    int
}

func newTimeWait() timeWait { return timeWait{m: make(map[shard.Tuple]connectionEnd)} }

// put remembers a connection.
func (w *timeWait) put(tuple shard.Tuple, end connectionEnd) {
	_, known := w.m[tuple]
	w.m[tuple] = end
	if known {
		return
	}
	if len(w.ring) < maxEnded {
		w.ring = append(w.ring, tuple)
		return
	}
	delete(w.m, w.ring[w.i])
	w.ring[w.i] = tuple
	w.i = (w.i + 1) % maxEnded
}

// get returns the last connection of a tuple, if it is remembered.
func (w *timeWait) get(tuple shard.Tuple) (connectionEnd, bool) {
	end, ok := w.m[tuple]
	return end, ok
}
