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

// served is the mappings of a moment. It is never changed.
type served struct {
	table *mapping.Table
	named []bool // by mapping: it names the production address
	// remote are the targets, if the packets were captured on other hosts; nil: on this one.
	remote map[netip.AddrPort]struct{}
}

// newServed returns what is served with these mappings, which include those that a reload has
// removed.
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
	if c.From.Remote() && c.Replay == nil { // in a recording, the target may be production
		for _, m := range maps { // those that a reload has removed, too
			for _, t := range m.Targets {
				k.remote[t.Addr] = struct{}{}
			}
		}
		for _, a := range c.OldVersions() {
			k.remote[a] = struct{}{}
		}
	}
	return k, nil
}

// classifier decides which captured frames belong to a mapping. It is the reader's own.
type classifier struct {
	served   *served
	isLocal  func(netip.Addr) bool
	packets  ledger.Packets
	lastAddr netip.Addr // the last argument of isLocal, and its result: addresses come in runs
	lastIs   bool
}

// classify fills p from a frame, and reports whether the frame is to be copied. Why not is counted.
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

// accepts reports whether a frame from or to the production address counts. If the mapping does
// not name that address, it must be this host's own, and the packet must come in from a client or
// go out from the server. If the mapping names it, this host may be a bridge or a router: every
// sighting counts, and the session takes the first of several. Loopback shows each packet twice on
// one interface, so one direction does not count.
//
// Packets from other hosts' interfaces can have any address: the mapping alone decides. Packets to
// a target are our own copies, which a mirror shows as well.
func (c *classifier) accepts(i int, production netip.AddrPort, f *source.Frame,
	fromServer bool) bool {
	if c.served.remote != nil {
		_, target := c.served.remote[production]
		return !target
	}
	if f.Outgoing != fromServer && (f.Loopback || !c.served.named[i]) {
		return false
	}
	return c.served.named[i] || c.local(production.Addr())
}

// local reports whether an address is this host's.
func (c *classifier) local(a netip.Addr) bool {
	if a != c.lastAddr {
		c.lastAddr, c.lastIs = a, c.isLocal(a)
	}
	return c.lastIs
}
