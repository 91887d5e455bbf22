package tcp

import "tcpcopy/internal/core/mono"

// initCongestion sets the initial window (RFC 6928).
func (c *Conn) initCongestion() {
	c.cwnd = c.initialWindow()
	if c.retrans > 0 { // RFC 5681 §3.1: a SYN was lost
		c.cwnd = uint32(c.mss)
	}
	c.ssthresh = 1 << 30
}

// initialWindow returns ten segments, or fewer large ones (RFC 6928 §2), in bytes.
func (c *Conn) initialWindow() uint32 {
	m := uint32(c.mss)
	return min(10*m, max(2*m, 14600))
}

// reducedWindow returns what ssthresh becomes after a loss, in bytes.
func (c *Conn) reducedWindow() uint32 {
	flight := uint32(c.nxt - c.una)
	if c.cc == BBR {
		return c.ssthresh
	}
	if c.cc == CUBIC {
		return c.cubic.reduced(max(min(c.cwnd, flight), uint32(c.mss)), uint32(c.mss))
	}
	return renoReduced(min(flight, max(c.cwnd, uint32(c.mss))), uint32(c.mss))
}

// grow increases the congestion window for acked newly acknowledged bytes, if the window limited
// the sender (RFC 5681 §3.1, RFC 2861). In slow start it grows by all of these bytes however few
// ACKs report them, since targets acknowledge many segments at once.
func (c *Conn) grow(now mono.Time, acked uint32) {
	if c.cwnd < c.ssthresh {
		if c.limit != limitCwnd && c.cwnd >= 2*c.polled {
			return
		}
		n := min(acked, c.ssthresh-c.cwnd)
		c.cwnd += n
		acked -= n
	}
	if acked == 0 || c.limit != limitCwnd {
		return
	}
	if c.cc == CUBIC {
		c.cwnd = c.cubic.grow(now, c.cwnd, acked, uint32(c.mss), c.srtt)
		return
	}
	c.cwnd += renoGrowth(c.cwnd, acked, uint32(c.mss))
}

// restart reduces the congestion window after an idle period, as the state of the path is no longer
// known (RFC 5681 §4.1).
func (c *Conn) restart(now mono.Time) {
	if c.cc != BBR && c.una == c.nxt && now.Sub(c.lastSend) > c.rto() {
		c.cwnd = min(c.cwnd, c.initialWindow())
		c.cubic.stop()
	}
}
