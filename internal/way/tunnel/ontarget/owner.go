package ontarget

import "tcpcopy/internal/core/mono"

const (
	// linger is how long the two ends of a stream that has ended stay its copier's: another
	// copier, which is behind, would else repeat at the target what the first has done.
	linger  = 2e9 // ns
	maxPast = 1 << 16
)

// pastOwners remembers whose the streams were that ended last.
type pastOwners struct {
	by    map[tuple]pastOwner
	queue []tuple // in the order of their ends, from head on
	head  int
}

type pastOwner struct {
	instance Instance
	until    mono.Time
}

func (p *pastOwners) put(now mono.Time, t tuple, instance Instance) {
	if p.by == nil {
		p.by = make(map[tuple]pastOwner)
	}
	for p.head < len(p.queue) && (len(p.queue)-p.head >= maxPast || p.by[p.queue[p.head]].until.Reached(now)) {
		delete(p.by, p.queue[p.head])
		p.head++
	}
	if p.head > len(p.queue)/2 {
		p.queue = append(p.queue[:0], p.queue[p.head:]...)
		p.head = 0
	}
	p.by[t] = pastOwner{instance, now.Add(linger)}
	p.queue = append(p.queue, t)
}

// owner is whose the tuple was a moment ago; false: nobody's.
func (p *pastOwners) owner(now mono.Time, t tuple) (Instance, bool) {
	o, ok := p.by[t]
	return o.instance, ok && !o.until.Reached(now)
}

// claim enters a stream as the owner of its two ends. It returns the one that has them already,
// if any; free says that nobody else has, or had a moment ago and is still there: who is gone
// leaves its clients' next requests to others.
func (l *Landing) claim(now mono.Time, s *stream) (old *stream, free bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if old := l.tuples[s.tuple]; old != nil && old != s {
		return old, false
	}
	if had, ok := l.past.owner(now, s.tuple); ok && had != s.port.instance && l.owners[had] > 0 {
		return nil, false
	}
	l.tuples[s.tuple] = s
	return nil, true
}

func (l *Landing) release(s *stream) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.tuples[s.tuple] != s {
		return
	}
	delete(l.tuples, s.tuple)
	if len(l.owners) > 1 {
		l.past.put(l.cfg.Now(), s.tuple, s.port.instance)
	}
}

// enter counts a copier's connection in, or out.
func (l *Landing) enter(instance Instance, n int) {
	l.copiers.Add(int64(n))
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.owners[instance] += n; l.owners[instance] == 0 {
		delete(l.owners, instance)
	}
}
