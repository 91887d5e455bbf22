package stream

import (
	"net/netip"
	"time"

	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/seqnum"
	"tcpcopy/internal/core/shard"
)

// pathLasts is how long it is believed that a path is narrow: then it may have changed (RFC 1191
// §6.3, RFC 8201 §5.3).
const pathLasts = 10 * time.Minute

// narrowPaths are the bounds on payload, in bytes, that routers have told of the paths to targets.
// Each connection to a target keeps to them: a router tells of one packet in a second at most.
type narrowPaths map[netip.Addr]narrowPath

type narrowPath struct {
	payload int
	until   mono.Time
}

// bound returns the lesser of most and what the path to a target is known to carry.
func (p narrowPaths) bound(now mono.Time, target netip.Addr, most int) int {
	if n, ok := p[target]; ok && !n.until.Reached(now) {
		return min(most, n.payload)
	}
	return most
}

// SetPathMTU bounds the payload of the segments of a connection, in bytes. This host's kernel has
// said so.
func (t *Table) SetPathMTU(tuple shard.Tuple, payload int) {
	if st := t.streams[tuple]; st != nil {
		st.conn.SetMTU(payload)
		st.copy.Touch()
	}
}

// PacketTooBig takes in an ICMP message which says that the segment with a sequence number was too
// big for the path. Anyone can send one. It is believed where that segment is in flight, as its
// sender must have seen it (RFC 5927 §4.1). Then it holds for all connections to the target.
func (t *Table) PacketTooBig(now mono.Time, tuple shard.Tuple, seq seqnum.Value, payload int) {
	if st := t.streams[tuple]; st == nil || !st.conn.InFlight(seq) {
		return
	}
	target := tuple.Server().Addr()
	if known := t.paths.bound(now, target, payload+1); payload >= known {
		t.SetPathMTU(tuple, payload) // it has begun before that was known
		return
	}
	t.paths[target] = narrowPath{payload, now.Add(pathLasts)}
	for other := range t.streams {
		if other.Server().Addr() == target {
			t.SetPathMTU(other, payload)
		}
	}
}
