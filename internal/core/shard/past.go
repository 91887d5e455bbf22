package shard

import (
	"time"

	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/seqnum"
)

// past is what a connection leaves behind: its tuple is in TIME-WAIT at the target, perhaps, and a new
// connection must begin above it.
type past struct {
	next seqnum.Value // the next sequence number that it would have used
	ts   uint32       // and the next timestamp
	at   mono.Time    // when it ended
	// aborted: by us, so that whatever else the target has to say is answered by a reset.
	aborted bool
	// taken: given up for another copier's before the target had answered.
	taken bool
}

const (
	maxPast  = 1 << 14
	timeWait = 60 * time.Second // Linux's TIME_WAIT
)

// pastTuples remembers the connections that ended last.
type pastTuples struct {
	m    map[Tuple]past
	ring []Tuple
	i    int
}

func (p *pastTuples) init() { p.m = make(map[Tuple]past) }

func (p *pastTuples) put(t Tuple, v past) {
	_, known := p.m[t]
	p.m[t] = v
	if known {
		return
	}
	if len(p.ring) < maxPast {
		p.ring = append(p.ring, t)
		return
	}
	delete(p.m, p.ring[p.i])
	p.ring[p.i] = t
	p.i = (p.i + 1) % maxPast
}

func (p *pastTuples) get(t Tuple) (past, bool) {
	v, ok := p.m[t]
	return v, ok
}
