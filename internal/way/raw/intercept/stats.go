package intercept

import (
	"maps"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"tcpcopy/internal/source"
	"tcpcopy/internal/way/raw/route"
)

// FrameStats count captured frames. What is in none of the other counters went to the table, whose
// own counts say what became of it.
type FrameStats struct {
	Seen        uint64
	Outgoing    uint64 // this host's own
	Local       uint64 // addressed to this host itself
	Passed      uint64 // for clients that are to be left alone
	NotTCP      uint64
	Fragments   uint64
	Malformed   uint64
	ICMP        uint64 // ICMP errors reported to a copier
	ICMPUnowned uint64 // ICMP errors about nobody's connections
}

// ConnStats count connections to the intercept.
type ConnStats struct {
	Accepted     uint64
	AcceptErrors uint64
	Welcomed     uint64
	Refused      uint64 // version, slot, room, local client address
	WrongKey     uint64 // handshakes that did not prove the key
	NeedsKey     uint64 // no key where one is wanted
	NoKey        uint64 // a key where there is none
	Garbage      uint64 // not this protocol
	Malformed    uint64 // this protocol, but not to be understood
	Silent       uint64 // said nothing at all
	Crowded      uint64 // closed before they had introduced themselves: too many strangers
	Dead         uint64 // copiers that fell silent
}

type connCounters struct {
	accepted, acceptErrors, welcomed, refused, wrongKey, needsKey, noKey, garbage, malformed, silent, crowded, dead atomic.Uint64
}

// CopierStats is the account of one copier.
type CopierStats struct {
	Slot     uint8
	Addr     netip.Addr
	Software string
	Conns    int    // connections now; 0: it is gone
	Headers  uint64 // handed to its connections
	Dropped  uint64 // it did not read fast enough
	Away     uint64 // its own, but it was not connected
	Bytes    uint64 // written to it
}

// Snapshot is the intercept's account.
type Snapshot struct {
	Frames  FrameStats
	Capture source.Stats // summed over the sources
	Route   route.Stats
	Conns   ConnStats
	Copiers []CopierStats
}

// Snapshot returns the account at this moment.
func (s *Intercept) Snapshot() Snapshot {
	c := &s.conns
	out := Snapshot{Conns: ConnStats{
		Accepted: c.accepted.Load(), AcceptErrors: c.acceptErrors.Load(), Welcomed: c.welcomed.Load(), Refused: c.refused.Load(),
		WrongKey: c.wrongKey.Load(), NeedsKey: c.needsKey.Load(), NoKey: c.noKey.Load(), Garbage: c.garbage.Load(),
		Malformed: c.malformed.Load(), Silent: c.silent.Load(), Crowded: c.crowded.Load(), Dead: c.dead.Load(),
	}}
	for _, src := range s.cfg.Sources {
		st := src.Stats()
		out.Capture.Offered += st.Offered
		out.Capture.Dropped += st.Dropped
		out.Capture.Delivered += st.Delivered
		out.Capture.Foreign += st.Foreign
		out.Capture.Stalls += st.Stalls
		out.Capture.Downs += st.Downs
		out.Capture.Corrupt += st.Corrupt
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	out.Frames, out.Route = s.frames, s.table.Stats()
	for _, c := range s.owners {
		if c == nil {
			continue
		}
		one := CopierStats{Slot: c.slot, Addr: c.addr, Software: c.software, Conns: len(c.peers),
			Headers: c.headers, Dropped: c.dropped, Away: c.away, Bytes: c.bytes}
		for _, p := range c.peers {
			p.out.mu.Lock()
			one.Bytes += p.out.bytes
			p.out.mu.Unlock()
		}
		out.Copiers = append(out.Copiers, one)
	}
	return out
}

// complaints keeps strangers from filling the log: one line of a kind for each address in a while.
type complaints struct {
	mu   sync.Mutex
	last map[complaint]time.Time
}

type complaint struct {
	from netip.Addr
	msg  string
}

const (
	complainEvery = 10 * time.Minute
	complainKeep  = 1024
)

func (s *Intercept) complain(from netip.Addr, msg string, args ...any) {
	l := &s.logged
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if t, ok := l.last[complaint{from, msg}]; ok && now.Sub(t) < complainEvery {
		return
	}
	if l.last == nil {
		l.last = make(map[complaint]time.Time)
	}
	if len(l.last) >= complainKeep {
		maps.DeleteFunc(l.last, func(_ complaint, at time.Time) bool { return now.Sub(at) >= complainEvery })
		if len(l.last) >= complainKeep {
			return // as many addresses as somebody likes: the counters tell
		}
	}
	l.last[complaint{from, msg}] = now
	s.log.Warn(msg, args...)
}
