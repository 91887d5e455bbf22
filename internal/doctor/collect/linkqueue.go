package collect

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"github.com/mdlayher/netlink"

	"tcpcopy/internal/doctor"
)

// From linux/inet_diag.h and linux/tcp.h.
const (
	established    = 1 << 1
	diagInfo       = 2 // INET_DIAG_INFO
	diagByteCode   = 1 // INET_DIAG_REQ_BYTECODE
	sourceAtLeast  = 2 // INET_DIAG_BC_S_GE
	sourceAtMost   = 3
	targetAtLeast  = 4 // INET_DIAG_BC_D_GE
	targetAtMost   = 5
	infoRoundTrip  = 68 // offset of tcpi_rtt
	waitingAt      = 60 // of idiag_wqueue
	mostLinkQueues = 256
)

// linkQueues lists the connections of the links: those to the intercepts, or to the ports on which
// this command listens.
func (c *collector) linkQueues() (all []doctor.LinkQueue, failed string) {
	type end struct {
		port uint16
		here bool
	}
	var ends []end
	for _, a := range c.Intercepts {
		if e := (end{a.Port(), false}); !slices.Contains(ends, e) {
			ends = append(ends, e)
		}
	}
	for _, port := range c.Listens {
		ends = append(ends, end{port, true})
	}
	for _, e := range ends {
		some, err := connections(e.port, e.here)
		if err != nil {
			return nil, err.Error()
		}
		for _, q := range some {
			if (e.here || slices.Contains(c.Intercepts, q.Peer)) && len(all) < mostLinkQueues {
				all = append(all, q)
			}
		}
	}
	return all, ""
}

// connections lists the connections of the thread's namespace with a port at this end, or at the
// other one. The kernel leaves out the others.
func connections(port uint16, here bool) (all []doctor.LinkQueue, err error) {
	c, err := netlink.Dial(netlinkSockDiag, nil)
	if err != nil {
		return nil, fmt.Errorf("list connections: %w", err)
	}
	defer c.Close()
	for _, family := range []byte{syscall.AF_INET, syscall.AF_INET6} {
		request := binary.NativeEndian.AppendUint32(
			[]byte{family, syscall.IPPROTO_TCP, 1 << (diagInfo - 1), 0}, established)
		request = append(request, make([]byte, idLength)...)
		attribute, err := netlink.MarshalAttributes([]netlink.Attribute{
			{Type: diagByteCode, Data: portFilter(port, here)},
		})
		if err != nil {
			return nil, fmt.Errorf("list connections: %w", err)
		}
		messages, err := c.Execute(netlink.Message{
			Header: netlink.Header{Type: byFamily, Flags: netlink.Request | netlink.Dump},
			Data:   append(request, attribute...),
		})
		if errors.Is(err, syscall.ENOENT) && family == syscall.AF_INET6 {
			continue // no IPv6 here
		}
		if err != nil {
			return nil, fmt.Errorf("list connections: %w", err)
		}
		for _, m := range messages {
			if q, ok := parseConnection(m.Data); ok {
				all = append(all, q)
			}
		}
	}
	return all, nil
}

// portFilter returns what selects connections by one port: two comparisons, each an operation with
// where to go on if it holds, and if not, and one with the port. To leave the code by more than its
// length is to leave the connection out.
func portFilter(port uint16, here bool) []byte {
	var b []byte
	op := func(code, yes byte, no uint16) {
		b = binary.NativeEndian.AppendUint16(append(b, code, yes), no)
	}
	atLeast, atMost := byte(targetAtLeast), byte(targetAtMost)
	if here {
		atLeast, atMost = sourceAtLeast, sourceAtMost
	}
	op(atLeast, 8, 20)
	op(0, 0, port)
	op(atMost, 8, 12)
	op(0, 0, port)
	return b
}

// parseConnection reads struct inet_diag_msg with struct tcp_info behind it.
func parseConnection(b []byte) (q doctor.LinkQueue, ok bool) {
	if len(b) < messageLength {
		return q, false
	}
	id := b[4 : 4+idLength]
	a := netip.AddrFrom4([4]byte(id[20:24]))
	if b[0] == syscall.AF_INET6 {
		a = netip.AddrFrom16([16]byte(id[20:36])).Unmap()
	}
	q.Peer = netip.AddrPortFrom(a, binary.BigEndian.Uint16(id[2:]))
	q.Waiting = int(binary.NativeEndian.Uint32(b[waitingAt:]))
	attributes, err := netlink.UnmarshalAttributes(b[messageLength:])
	if err != nil {
		return q, false
	}
	for _, x := range attributes {
		if x.Type == diagInfo && len(x.Data) >= infoRoundTrip+4 {
			q.RTT = time.Duration(binary.NativeEndian.Uint32(x.Data[infoRoundTrip:])) *
				time.Microsecond
			return q, true
		}
	}
	return q, false
}
