package socket

import (
	"encoding/binary"
	"net/netip"
	"strconv"
)

// proxySignature begins a header of version 2.
const proxySignature = "\r\n\r\n\x00\r\nQUIT\n"

// appendProxyHeader appends the PROXY protocol header that says that client has connected to
// production (proxy-protocol.txt §2.1 and §2.2). Where one of them is IPv4 and the other IPv6, the
// first is written as an IPv4-mapped IPv6 address. Unknown addresses make a header that says so.
func appendProxyHeader(b []byte, v Proxy, client, production netip.AddrPort) []byte {
	src, dst := client.Addr().Unmap().WithZone(""), production.Addr().Unmap().WithZone("")
	known := src.IsValid() && dst.IsValid()
	v4 := known && src.Is4() && dst.Is4()
	if known && !v4 {
		src, dst = netip.AddrFrom16(src.As16()), netip.AddrFrom16(dst.As16())
	}
	if v == ProxyV1 {
		switch {
		case !known:
			return append(b, "PROXY UNKNOWN\r\n"...)
		case v4:
			b = append(b, "PROXY TCP4 "...)
		default:
			b = append(b, "PROXY TCP6 "...)
		}
		b = append(src.AppendTo(b), ' ')
		b = append(dst.AppendTo(b), ' ')
		b = append(strconv.AppendUint(b, uint64(client.Port()), 10), ' ')
		return append(strconv.AppendUint(b, uint64(production.Port()), 10), "\r\n"...)
	}
	const proxied = 0x21 // version 2, command PROXY
	const local = 0x20   // version 2, command LOCAL: no addresses
	b = append(b, proxySignature...)
	switch {
	case !known:
		return append(b, local, 0x00, 0, 0)
	case v4:
		b = append(b, proxied, 0x11, 0, 12) // TCP over IPv4
	default:
		b = append(b, proxied, 0x21, 0, 36) // TCP over IPv6
	}
	b = append(b, src.AsSlice()...)
	b = append(b, dst.AsSlice()...)
	b = binary.BigEndian.AppendUint16(b, client.Port())
	return binary.BigEndian.AppendUint16(b, production.Port())
}
