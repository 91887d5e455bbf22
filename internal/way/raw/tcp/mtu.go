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
	c.trustMTU()
	if !c.phase.synchronized() {
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

// suspectMTU makes the segments smaller when a large one is lost again and again while nothing says why: a
// path whose "packet too big" does not reach us (RFC 4821 §7.6 in its simplest form). First to the half,
// then to what every path carries; if that is not acknowledged either, the target is silent for another
// reason, and the segments are as before.
func (c *Conn) suspectMTU() {
	floor := uint16(c.minSegment())
	if c.bigTimeouts == 0 && uint16(min(c.flight.at(0).end-c.una, 65535)) <= floor-12 {
		return
	}
	if c.bigTimeouts < 255 {
		c.bigTimeouts++
	}
	switch c.bigTimeouts {
	case blackHole:
		c.mtuBefore = c.maxSegment
		c.maxSegment = max(min(c.maxSegment, c.peerMSS)/2, floor)
	case blackHole + 1:
		c.maxSegment = floor
	case blackHole + 2:
		c.maxSegment, c.mtuBefore = c.mtuBefore, 0
	default:
		return
	}
	c.setMSS()
}

// trustMTU takes it that the segments are small enough, or that they never were too large.
func (c *Conn) trustMTU() { c.bigTimeouts, c.mtuBefore = 0, 0 }
