package engine

import (
	"errors"
	"net/netip"

	"tcpcopy/internal/config"
	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/core/mapping"
	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/core/shard"
	"tcpcopy/internal/source"
)

// served is the mappings that there are, by index. It is never changed.
type served struct {
	table *mapping.Table
	named []bool // the production address was given
	// remote are the targets, where the packets are other hosts'; nil: they are this one's.
	remote map[netip.AddrPort]struct{}
}

// newServed is of all mappings that there are or were.
func newServed(c *config.Copy, maps []mapping.Mapping) (*served, error) {
	table, err := mapping.NewTable(maps)
	if err != nil {
		return nil, err
	}
	k := &served{table: table, named: make([]bool, len(maps))}
	for i, m := range maps {
		k.named[i] = m.Named()
	}
	if c.From.Remote() {
		k.remote = make(map[netip.AddrPort]struct{}, len(maps))
	}
	if c.From.Remote() && c.Replay == nil { // a recording may have been made where the target is production
		for _, m := range maps {
			for _, t := range m.Targets {
				k.remote[t.Addr] = struct{}{}
			}
		}
	}
	return k, nil
}

// classifier says which captured frames are a mapping's, and whose they are. It belongs to the reader.
type classifier struct {
	served   *served
	isLocal  func(netip.Addr) bool
	packets  ledger.Packets
	lastAddr netip.Addr // of the last question to isLocal: clients come in runs
	lastIs   bool
}

// classify fills p from a frame; false if the frame is not to be copied, for a reason that was counted.
func (c *classifier) classify(f *source.Frame, p *shard.Packet) bool {
	if err := packet.Decode(f.Data, f.Wire, &p.Seg); err != nil {
		if errors.Is(err, packet.ErrMalformed) {
			c.packets.Malformed++
		} else {
			c.packets.NotOurs++
		}
		return false
	}
	p.At, p.Ifindex = f.Time, f.Ifindex
	if i, ok := c.served.table.Lookup(p.Seg.Dst); ok && c.accepts(i, p.Seg.Dst, f, false) {
		p.Service, p.FromServer = int32(i), false
		return true
	}
	if i, ok := c.served.table.Lookup(p.Seg.Src); ok && c.accepts(i, p.Seg.Src, f, true) {
		p.Service, p.FromServer = int32(i), true
		return true
	}
	c.packets.NotOurs++
	return false
}

// accepts says whether a frame from or to the production address counts. Where the mapping does not name it,
// it must be this host's own, and the packet must come in from a client or go out from the server. Where
// it does, the host may be a bridge or a router, and any sighting counts; the session takes the first of
// several. Loopback shows every packet twice on one interface, and one direction is left out.
//
// Packets that come from other hosts' interfaces are addressed to anybody: what is the production server's is
// what the mapping says. What goes to a target is our own copies, which a mirror shows too.
func (c *classifier) accepts(i int, production netip.AddrPort, f *source.Frame, fromServer bool) bool {
	if c.served.remote != nil {
		_, target := c.served.remote[production]
		return !target
	}
	if f.Outgoing != fromServer && (f.Loopback || !c.served.named[i]) {
		return false
	}
	return c.served.named[i] || c.local(production.Addr())
}

func (c *classifier) local(a netip.Addr) bool {
	if a != c.lastAddr {
		c.lastAddr, c.lastIs = a, c.isLocal(a)
	}
	return c.lastIs
}
