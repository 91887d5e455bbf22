package tcp

import (
	"net/netip"

	"tcpcopy/internal/core/seqnum"
)

const (
	minSegment4 = 536  // RFC 9293 §3.7.1
	minSegment6 = 1220 // RFC 8200 §5: 1280 less headers
	// blackHole is how many timeouts in a row of a large segment suggest a black hole (RFC 4821
	// §7.6).
	blackHole = 3
)

// minSegment returns the payload that every path must carry.
func (c *Conn) minSegment() int {
	if is6(c.remote.Addr()) {
		return minSegment6
	}
	return minSegment4
}

// is6 reports whether packets to a are IPv6.
func is6(a netip.Addr) bool { return a.Is6() && !a.Is4In6() }

// setMSS sets the largest payload of a segment: the lesser of the two bounds, less the room for
// timestamps (RFC 6691).
func (c *Conn) setMSS() {
	m := max(min(c.maxSegment, c.peerMSS), 64)
	if c.tsOK {
		m -= 12
	}
	c.mss = m
}

// SetMTU lowers the bound on payloads, without TCP options, to payloadMax bytes: what the path is
// said to carry (RFC 1191, RFC 8201). Larger segments in flight are sent again, and the congestion
// window stays as it is, since congestion was not the cause. A value below what every path must
// carry counts as that; one that is not below the present bound changes nothing.
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

// InFlight reports whether the byte with a sequence number was sent and is not acknowledged.
func (c *Conn) InFlight(seq seqnum.Value) bool {
	return c.phase.alive() && uint32(seq-c.seq(c.una)) < uint32(c.nxt-c.una)
}

// suspectMTU reduces the size of segments when a large one is lost repeatedly for no known reason,
// as on a path whose "packet too big" does not reach us (RFC 4821 §7.6 in its simplest form): first
// to half, then to what every path must carry. If that is not acknowledged either, the target is
// silent for another reason, and the size is restored.
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

// trustMTU notes that segments of the present size arrive.
func (c *Conn) trustMTU() { c.bigTimeouts, c.mtuBefore = 0, 0 }
