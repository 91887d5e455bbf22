package shard

import "net/netip"

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

// Client is the end that opened the connection.
func (t *Tuple) Client() netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom16(t.client).Unmap(), t.clientPort)
}

// Server is the other end.
func (t *Tuple) Server() netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom16(t.server).Unmap(), t.serverPort)
}
