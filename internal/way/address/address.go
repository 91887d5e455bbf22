// Package address chooses the address and port from which a target sees a copy, for the ways that
// connect from the clients' own addresses or from addresses in their place.
//
// It is pure. It does not know which tuples are in use: the way that calls it does.
package address

import (
	"net/netip"

	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/core/mapping"
	"tcpcopy/internal/core/session"
	"tcpcopy/internal/core/shard"
)

// Rules say which addresses and ports copies come from. The zero value is the clients' own.
type Rules struct {
	Clients     *mapping.Pool // addresses that replace the clients'; nil: the clients' own
	LocalhostAs netip.Addr    // replaces the address of a loopback client; invalid: nothing does
	PortShift   int           // added to the clients' ports
}

// Chooser chooses the sources of one shard's copies. The port of each belongs to the shard, so that
// the target's answers find it: see Rules.ClientPort.
type Chooser struct {
	Rules
	Index, Count int // which of how many shards
	// OtherFamily is why a copy is dropped whose address and target are of different IP versions.
	OtherFamily ledger.Reason
}

// OwnPort returns a port of this shard, below those that PortShift changes.
func (c *Chooser) OwnPort() uint16 {
	port := uint16(1)
	for shard.Of(port, c.Count) != c.Index {
		port++
	}
	return port
}

// Owner returns the client connection (client and production server) whose copy uses a tuple at the
// target, and whether one does.
type Owner func(tuple shard.Tuple) (connection shard.Tuple, used bool)

// Choose returns the source of a copy, which spec describes, and None; or why there is none. A
// loopback client has none, unless another address replaces its own. The
// first copy of a connection gets the client's own address and port if these are free, or if they
// belong to an earlier connection from the same client and port, which then has to make way. Any
// other copy gets a free port of that address, or of the pool's.
func (c *Chooser) Choose(spec *session.OpenSpec, owner Owner) (netip.AddrPort, ledger.Reason) {
	addr := spec.Client.Addr()
	if addr.IsLoopback() && c.LocalhostAs.IsValid() {
		addr = c.LocalhostAs
	}
	connection := shard.TupleOf(spec.Client, spec.Production)
	start := connection.Hash()
	var pool mapping.Pool
	if c.Clients != nil {
		if pool = c.Clients.Like(spec.Target.Addr()); pool.Len() == 0 {
			return netip.AddrPort{}, ledger.NoSourceAddress
		}
		addr = pool.At(int(start % uint64(pool.Len())))
	}
	if addr.IsLoopback() {
		// No network carries it. Asked to send it, Linux looks for the next hop from this address,
		// gets no answer, and takes the next hop for dead: production's own packets, too.
		return netip.AddrPort{}, ledger.BadClientAddress
	}
	if addr.Is4() != spec.Target.Addr().Is4() {
		return netip.AddrPort{}, c.OtherFamily
	}
	if spec.Index == 0 {
		own := netip.AddrPortFrom(addr, shift(spec.Client.Port(), c.PortShift))
		by, used := owner(shard.TupleOf(own, spec.Target))
		if !used || by == connection && c.Clients == nil {
			return own, ledger.None
		}
	}
	// Further copies first try ports that systems do not choose for their own connections, so that
	// the first copies of clients' next connections find theirs free. Each client starts at a place
	// of its own: neighbours that started side by side would queue up for the same ports.
	const tries = 768
	for i := range uint64(tries) {
		if c.Clients != nil {
			addr = pool.At(int((start + i) % uint64(pool.Len())))
		}
		place := (start>>16 + uint64(spec.Index)<<16 + i) * 0x9e3779b97f4a7c15
		port := portAt(place>>32, i < tries/3)
		if shard.Of(c.ClientPort(port), c.Count) != c.Index {
			continue
		}
		source := netip.AddrPortFrom(addr, port)
		if _, used := owner(shard.TupleOf(source, spec.Target)); !used {
			return source, ledger.None
		}
	}
	return netip.AddrPort{}, ledger.NoSourceAddress
}

// ClientPort returns the port whose shard (shard.Of) owns the copies that come from port: it undoes
// the port shift.
func (r *Rules) ClientPort(port uint16) uint16 { return shift(port, -r.PortShift) }

// Linux chooses the ports of its own connections from this range (ip_local_port_range), and so do
// most systems.
const ephemeralLow, ephemeralHigh = 32768, 60999

// portAt returns the n-th port, counted in circles, of those that are not reserved; with outside,
// of those that lie outside the ephemeral range as well.
func portAt(n uint64, outside bool) uint16 {
	if !outside {
		return uint16(1024 + n%(65536-1024))
	}
	const below, above = ephemeralLow - 1024, 65535 - ephemeralHigh
	if n %= below + above; n < below {
		return uint16(1024 + n)
	}
	return uint16(ephemeralHigh + 1 + n - below)
}

// shift adds n to a port, modulo the range of ports that are not reserved.
func shift(port uint16, n int) uint16 {
	if n == 0 || port < 1024 {
		return port
	}
	const size = 65536 - 1024
	return uint16(1024 + ((int(port)-1024+n)%size+size)%size)
}
