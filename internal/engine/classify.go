package engine

import (
	"errors"
	"net/netip"

	"tcpcopy/internal/capture"
	"tcpcopy/internal/ledger"
	"tcpcopy/internal/mapping"
	"tcpcopy/internal/packet"
	"tcpcopy/internal/shard"
)

// classifier says which captured frames are a mapping's, and whose they are. It belongs to the reader.
type classifier struct {
	table    *mapping.Table
	named    []bool // by mapping: the online address was given
	isLocal  func(netip.Addr) bool
	remote   map[netip.AddrPort]struct{} // the targets, where the packets are other hosts'; nil: they are this one's
	packets  ledger.Packets
	lastAddr netip.Addr // of the last question to isLocal: clients come in runs
	lastIs   bool
}

// classify fills p from a frame; false if the frame is not to be copied, for a reason that was counted.
func (c *classifier) classify(f *capture.Frame, p *shard.Packet) bool {
	if err := packet.Decode(f.Data, f.Wire, &p.Seg); err != nil {
		if errors.Is(err, packet.ErrMalformed) {
			c.packets.Malformed++
		} else {
			c.packets.NotOurs++
		}
		return false
	}
	p.At, p.Ifindex = f.Time, f.Ifindex
	if i, ok := c.table.Lookup(p.Seg.Dst); ok && c.accepts(i, p.Seg.Dst, f, false) {
		p.Service, p.FromServer = int32(i), false
		return true
	}
	if i, ok := c.table.Lookup(p.Seg.Src); ok && c.accepts(i, p.Seg.Src, f, true) {
		p.Service, p.FromServer = int32(i), true
		return true
	}
	c.packets.NotOurs++
	return false
}

// accepts says whether a frame from or to the online address counts. Where the mapping does not name it,
// it must be this host's own, and the packet must come in from a client or go out from the server. Where
// it does, the host may be a bridge or a router, and any sighting counts; the session takes the first of
// several. Loopback shows every packet twice on one interface, and one direction is left out.
//
// Packets that come from other hosts' interfaces are addressed to anybody: what is the online server's is
// what the mapping says. What goes to a target is our own copies, which a mirror shows too.
func (c *classifier) accepts(i int, online netip.AddrPort, f *capture.Frame, fromServer bool) bool {
	if c.remote != nil {
		_, target := c.remote[online]
		return !target
	}
	if f.Outgoing != fromServer && (f.Loopback || !c.named[i]) {
		return false
	}
	return c.named[i] || c.local(online.Addr())
}

func (c *classifier) local(a netip.Addr) bool {
	if a != c.lastAddr {
		c.lastAddr, c.lastIs = a, c.isLocal(a)
	}
	return c.lastIs
}
