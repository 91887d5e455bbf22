package shard

import (
	"encoding/binary"
	"net/netip"

	"tcpcopy/internal/core/balance"
)

// Tuple names a connection by its two ends. It is plain memory, so that a map hashes it fast; IPv4
// addresses are kept as IPv4-mapped ones.
type Tuple struct {
	client, server         [16]byte
	clientPort, serverPort uint16
}

// TupleOf returns the tuple of a connection.
func TupleOf(client, server netip.AddrPort) Tuple {
	return Tuple{client.Addr().As16(), server.Addr().As16(), client.Port(), server.Port()}
}

// Client returns the end that opened the connection.
func (t *Tuple) Client() netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom16(t.client).Unmap(), t.clientPort)
}

// Server returns the other end.
func (t *Tuple) Server() netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom16(t.server).Unmap(), t.serverPort)
}

// Bytes returns the tuple as bytes, for a hash.
func (t *Tuple) Bytes() (b [36]byte) {
	copy(b[:], t.client[:])
	copy(b[16:], t.server[:])
	binary.BigEndian.PutUint16(b[32:], t.clientPort)
	binary.BigEndian.PutUint16(b[34:], t.serverPort)
	return b
}

// Hash returns FNV-1a over the tuple, with a finish that makes its high bits as good as its low
// ones.
func (t *Tuple) Hash() uint64 {
	h := uint64(14695981039346656037)
	mix := func(b byte) { h = (h ^ uint64(b)) * 1099511628211 }
	for i := range t.client {
		mix(t.client[i])
		mix(t.server[i])
	}
	mix(byte(t.clientPort >> 8))
	mix(byte(t.clientPort))
	mix(byte(t.serverPort >> 8))
	mix(byte(t.serverPort))
	h ^= h >> 32
	h *= 0x9e3779b97f4a7c15
	return h ^ h>>29
}

// stable returns the hash by which every process makes the same choice for a connection.
func (t *Tuple) stable() uint64 { return balance.HashConnection(t.Client(), t.Server(), 0) }
