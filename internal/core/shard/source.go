package shard

import (
	"net/netip"

	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/core/mapping"
	"tcpcopy/internal/core/session"
)

// source chooses the address and port that the target sees for a copy of a client's connection: the
// client's own for the first copy, as far as nothing speaks against it, and else a free one, of that
// address or of the pool's. owner says whose a tuple is, and nil that it is free.
func (sh *Shard) source(e *entry, spec *session.OpenSpec, owner func(Tuple) *entry) (netip.AddrPort, ledger.Reason) {
	raw := &sh.cfg.Raw
	addr := spec.Client.Addr()
	if addr.IsLoopback() && raw.LocalhostAs.IsValid() {
		addr = raw.LocalhostAs
	}
	tuple := TupleOf(spec.Client, spec.Production)
	start := tuple.hash()
	var pool mapping.Pool
	if raw.Clients != nil {
		if pool = raw.Clients.Like(spec.Target.Addr()); pool.Len() == 0 {
			return netip.AddrPort{}, ledger.NoSourceAddress
		}
		addr = pool.At(int(start % uint64(pool.Len())))
	}
	if addr.Is4() != spec.Target.Addr().Is4() {
		if sh.cfg.Sources {
			return netip.AddrPort{}, ledger.BadClientAddress
		}
		return netip.AddrPort{}, ledger.NoSourceAddress
	}
	own := shift(spec.Client.Port(), raw.PortShift)
	if e.index == 0 {
		first := netip.AddrPortFrom(addr, own)
		old := owner(TupleOf(first, spec.Target))
		if old == nil || old.key == e.key && raw.Clients == nil {
			return first, ledger.None // free, or the same client's previous connection, which makes way
		}
	}
	// Ports of this shard, from a place of the client's own, on every address of the pool: at first those that
	// clients do not use by themselves, so that the first copies of their next connections find theirs free.
	const tries = 768
	for i := range tries {
		if raw.Clients != nil {
			addr = pool.At(int((start + uint64(i)) % uint64(pool.Len())))
		}
		place := (start>>16 + uint64(e.index)<<16 + uint64(i)) * 0x9e3779b97f4a7c15 // anywhere: neighbours would queue up
		port := portAt(place>>32, i < tries/3)
		if Of(shift(port, -raw.PortShift), sh.cfg.Count) != sh.cfg.Index {
			continue
		}
		s := netip.AddrPortFrom(addr, port)
		if owner(TupleOf(s, spec.Target)) == nil {
			return s, ledger.None
		}
	}
	return netip.AddrPort{}, ledger.NoSourceAddress
}

// Linux takes the ports of its own connections from here (ip_local_port_range), for one, and so do most.
const ephemeralLow, ephemeralHigh = 32768, 60999

// portAt is a port that is not reserved, the same for the same n; with spared, none of those that systems
// choose for their own connections.
func portAt(n uint64, spared bool) uint16 {
	if !spared {
		return uint16(1024 + n%(65536-1024))
	}
	const below, above = ephemeralLow - 1024, 65535 - ephemeralHigh
	if n %= below + above; n < below {
		return uint16(1024 + n)
	}
	return uint16(ephemeralHigh + 1 + n - below)
}

// shift moves a port by n, staying among the ports that are not reserved.
func shift(port uint16, n int) uint16 {
	if n == 0 || port < 1024 {
		return port
	}
	const size = 65536 - 1024
	return uint16(1024 + ((int(port)-1024+n)%size+size)%size)
}

// ReplyPort is the client port that an answer to port belongs to, for Of: it undoes the port shift.
func (raw *Raw) ReplyPort(port uint16) uint16 { return shift(port, -raw.PortShift) }
