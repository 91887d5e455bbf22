package balance

import (
	"encoding/binary"
	"net/netip"
)

// HashClient returns the hash of a client's address. It is the same in every process.
func HashClient(a netip.Addr) uint64 { return hashAddr(a) }

// HashConnection returns the hash of a connection and of the number of its copy. It is the same in
// every process.
func HashConnection(client, production netip.AddrPort, copy int) uint64 {
	h := hashAddr(client.Addr()) +
		mix(uint64(client.Port())<<32|uint64(production.Port())<<16|uint64(uint16(copy)))
	return mix(h ^ hashAddr(production.Addr())<<1)
}

// Share returns a number in [0, 1) for a hash, to select a share of all that are hashed. Choices
// with different salts are independent.
func Share(hash, salt uint64) float64 {
	return float64(mix(hash^mix(salt))>>11) / (1 << 53)
}

// hashAddr returns the hash of an address.
func hashAddr(a netip.Addr) uint64 {
	b := a.As16()
	return mix(mix(binary.BigEndian.Uint64(b[:8])) ^ binary.BigEndian.Uint64(b[8:]))
}

// mix is the finalizer of splitmix64: each bit of x affects each bit of the result.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
