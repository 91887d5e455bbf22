package agent

import "tcpcopy/internal/core/packet"

// toldSlots is how many of the sessions that are left out are remembered at a time.
const toldSlots = 1 << 16

// shedder leaves out whole sessions, by a hash of their clients. A session that was begun and is left out from
// somewhere on would look to the copier like one that is silent; so the first packet of it that is left out goes
// without its payload, which the copier takes for a gap: it ends the copy at once. The same goes for the last
// packets of such a session.
type shedder struct {
	told [toldSlots]uint32 // hashes, with the lowest bit for a session of which the copier knows
}

// fate is what becomes of a packet.
type fate uint8

const (
	whole   fate = iota
	headers      // without payload
	dropped
)

// judge says what becomes of a packet of a session that is to be left out, and whether the session was none
// that was left out before.
func (s *shedder) judge(hash uint32, fromServer bool, seg *packet.Segment) (f fate, fresh bool) {
	slot := &s.told[hash&(toldSlots-1)]
	const known = 1
	same := *slot&^known == hash&^known && *slot != 0
	switch {
	case seg.Flags.Has(packet.SYN):
		if fromServer || same && *slot&known == 0 {
			return dropped, false
		}
		*slot = hash &^ known // from its beginning: the copier never hears of it
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
