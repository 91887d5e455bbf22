package agent

import "tcpcopy/internal/core/packet"

// shedSlots is how many sessions that are left out are remembered at a time.
const shedSlots = 1 << 16

// shedder leaves out whole sessions, by a hash of their clients. A session that is left out after
// it began would seem silent to the copier. So the first request that is left out is sent without
// its payload. The copier takes that for a gap, and ends the copy at once. The last packets of
// such a session are sent in the same way.
type shedder struct {
	slots [shedSlots]uint32 // hashes; the lowest bit is set if the copier knows the session
}

// fate is what becomes of a packet.
type fate uint8

const (
	whole   fate = iota
	headers      // sent without payload
	dropped
)

// decide returns the fate of a packet of a session that is to be left out. fresh reports whether
// the session was not left out before.
func (s *shedder) decide(hash uint32, fromServer bool, seg *packet.Segment) (f fate, fresh bool) {
	slot := &s.slots[hash&(shedSlots-1)]
	const known = 1
	same := *slot&^known == hash&^known && *slot != 0
	switch {
	case seg.Flags.Has(packet.SYN):
		if fromServer || same && *slot&known == 0 {
			return dropped, false
		}
		*slot = hash &^ known // from its beginning: the copier never learns of it
		return dropped, true
	case same && *slot&known == 0:
		return dropped, false
	case seg.Flags.Any(packet.FIN | packet.RST):
		return headers, false
	case same || fromServer || seg.Len == 0:
		return dropped, false
	}
	*slot = hash | known
	return headers, true
}
