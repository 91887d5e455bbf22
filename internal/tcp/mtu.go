package tcp

import "net/netip"

const (
	minSegment4 = 536  // RFC 9293 §3.7.1
	minSegment6 = 1220 // RFC 8200 §5: 1280 less headers
	// blackHole is how many timeouts in a row on a large segment make the path suspect (RFC 4821 §7.6).
	blackHole = 3
)

// minSegment is what every path must carry.
func (c *Conn) minSegment() int {
	if is6(c.remote.Addr()) {
		return minSegment6
	}
	return minSegment4
}

func is6(a netip.Addr) bool { return a.Is6() && !a.Is4In6() }

// setMSS computes what a segment's payload is cut at: the lesser of the two bounds, less the timestamps'
// room (RFC 6691).
func (c *Conn) setMSS() {
	m := max(min(c.maxSegment, c.peerMSS), 64)
	if c.tsOK {
		m -= 12
	}
	c.mss = m
}

// SetMTU lowers the payload bound (before TCP options) to what the path is said to carry (RFC 1191, RFC
// 8201). What is in flight and larger is sent again, without loss of speed: it was not congestion. A value
// that no path may have, or one above the bound as it is, changes nothing more than that.
func (c *Conn) SetMTU(payloadMax int) {
	payloadMax = max(payloadMax, c.minSegment())
	if payloadMax >= int(c.maxSegment) {
		return
	}
	c.maxSegment = uint16(payloadMax)
	if c.phase != phaseOpen {
		return
	}
	c.setMSS()
	start := c.una
	for i := 0; i < c.flight.len(); i++ {
		r := c.flight.at(i)
		n := uint32(r.end - start)
		start = r.end
		if n > uint32(c.mss) && r.flags&(segSacked|segLost) == 0 {
			r.flags |= segLost
			c.lost += n
		}
	}
	if !c.sackOK {
		c.countDupAcks()
	}
}

// suspectMTU halves the segments when a large one is lost again and again while nothing says why: a path
// whose "packet too big" does not reach us (RFC 4821 §7.6 in its simplest form).
func (c *Conn) suspectMTU() {
	r := c.flight.at(0)
	floor := c.minSegment()
	if c.tsOK {
		floor -= 12
	}
	if int(r.end-c.una) <= floor {
		c.bigTimeouts = 0
		return
	}
	if c.bigTimeouts++; c.bigTimeouts < blackHole {
		return
	}
	c.bigTimeouts = 0
	c.maxSegment = uint16(max(int(min(c.maxSegment, c.peerMSS))/2, c.minSegment()))
	c.setMSS()
}
