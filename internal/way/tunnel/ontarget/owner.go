package ontarget

import (
	"time"

	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/way/link/wire"
)

const (
	// linger is how long the two ends of a stream that has ended remain its copier's: a copier that
	// is behind would else repeat at the target what the first one has done.
	linger = 2 * time.Second
	// keepRecent is how long the owner is remembered, for copies that are known to begin late.
	keepRecent = 5 * time.Second
	maxRecent  = 1 << 16
)

// recentOwners remembers the owners of the streams that ended last.
type recentOwners struct {
	by    map[tuple]recentOwner
	queue []recentEnd // in the order of their ends, from head on
	head  int
}

type recentOwner struct {
	instance wire.Instance
	ended    mono.Time
}

type recentEnd struct {
	tuple tuple
	ended mono.Time
}

func (r *recentOwners) add(now mono.Time, t tuple, instance wire.Instance) {
	if r.by == nil {
		r.by = make(map[tuple]recentOwner)
	}
	for r.head < len(r.queue) {
		oldest := &r.queue[r.head]
		if len(r.queue)-r.head < maxRecent && now.Sub(oldest.ended) < keepRecent {
			break
		}
		if r.by[oldest.tuple].ended == oldest.ended { // else a later stream had the same tuple
			delete(r.by, oldest.tuple)
		}
		r.head++
	}
	if r.head > len(r.queue)/2 {
		r.queue = append(r.queue[:0], r.queue[r.head:]...)
		r.head = 0
	}
	r.by[t] = recentOwner{instance, now}
	r.queue = append(r.queue, recentEnd{t, now})
}

// owner returns who owned a tuple at the time since, or just before, and whether anybody did.
func (r *recentOwners) owner(since mono.Time, t tuple) (wire.Instance, bool) {
	o, ok := r.by[t]
	return o.instance, ok && since.Sub(o.ended) < linger
}

// claim makes a stream the owner of its two ends, and returns true. If another stream owns them, it
// returns that. If another copier, which is still connected, owned them when the stream's client
// began, or just before, it returns false: the requests of clients of a copier that is gone may be
// copied by others.
func (s *Server) claim(st *stream) (old *stream, claimed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if old := s.tuples[st.tuple]; old != nil && old != st {
		return old, false
	}
	last, ok := s.recent.owner(st.since, st.tuple)
	if ok && last != st.peer.instance && s.owners[last] > 0 {
		return nil, false
	}
	s.tuples[st.tuple] = st
	return nil, true
}

// release makes the two ends of a stream free for others.
func (s *Server) release(st *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tuples[st.tuple] != st {
		return
	}
	delete(s.tuples, st.tuple)
	if len(s.owners) > 1 {
		s.recent.add(s.cfg.Now(), st.tuple, st.peer.instance)
	}
}

// countPeer adds n to the connections of a copier.
func (s *Server) countPeer(instance wire.Instance, n int) {
	s.copiers.Add(int64(n))
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.owners[instance] += n; s.owners[instance] == 0 {
		delete(s.owners, instance)
	}
}
