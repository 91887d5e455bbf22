package intercept

import (
	"net/netip"

	"tcpcopy/internal/source"
	"tcpcopy/internal/way/link"
	"tcpcopy/internal/way/raw/route"
)

// FrameStats count captured frames. Those that none of the other counters has went to the table,
// which has counters of its own.
type FrameStats struct {
	Seen        uint64
	Outgoing    uint64 // this host's own
	Probes      uint64 // answers to the doctor's probes
	Local       uint64 // addressed to this host itself
	Passed      uint64 // to clients of Config.Pass
	NotTCP      uint64
	Fragments   uint64
	Malformed   uint64
	ICMP        uint64 // ICMP errors reported to a copier
	ICMPUnowned uint64 // ICMP errors about connections of no copier
	ICMPOver    uint64 // ICMP errors that came too often to be reported
}

// ConnStats count connections to the intercept.
type ConnStats = link.AcceptStats

// CopierStats is the account of one copier.
type CopierStats struct {
	Slot     uint8
	Addr     netip.Addr
	Software string
	Key      string // the name of its key; empty: there is one key, or none
	Conns    int    // connections now; 0: it is gone
	Headers  uint64 // queued for it
	Dropped  uint64 // headers that it did not read fast enough for
	Away     uint64 // headers that came while it was not connected
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
	out := Snapshot{Conns: s.server.Stats()}
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
		out.Copiers = append(out.Copiers, CopierStats{
			Slot: c.slot, Addr: c.addr, Software: c.software, Key: c.key,
			Conns:   len(c.peers),
			Headers: c.headers, Dropped: c.dropped, Away: c.away, Bytes: c.bytes.Load()})
	}
	return out
}
