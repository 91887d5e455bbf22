package sys

import (
	"fmt"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// ReceiveBatchSize is the most datagrams that one call of Receive returns.
	ReceiveBatchSize = 64
	// maxDatagram is more than the largest payload of a UDP datagram, in bytes.
	maxDatagram = 64 << 10
)

// ReceiveBatch holds the datagrams of one recvmmsg(2). It takes 4 MB: make one and reuse it.
type ReceiveBatch struct {
	msgs [ReceiveBatchSize]mmsghdr
	iovs [ReceiveBatchSize]unix.Iovec
	room []byte
	// controls has the control message of each datagram, which says when the kernel received it.
	controls [ReceiveBatchSize]stampMessage
}

// stampMessage is a control message of type SO_TIMESTAMPNS_NEW, as the kernel writes it.
type stampMessage struct {
	header       unix.Cmsghdr
	seconds, sub int64
}

// NewReceiveBatch returns an empty batch.
func NewReceiveBatch() *ReceiveBatch {
	b := &ReceiveBatch{room: make([]byte, ReceiveBatchSize*maxDatagram)}
	for i := range b.msgs {
		b.iovs[i].Base = &b.room[i*maxDatagram]
		b.iovs[i].SetLen(maxDatagram)
		b.msgs[i].hdr.Iov = &b.iovs[i]
		b.msgs[i].hdr.SetIovlen(1)
		b.msgs[i].hdr.Control = (*byte)(unsafe.Pointer(&b.controls[i]))
	}
	return b
}

// Datagram returns the payload of the i-th received datagram, valid until the next Receive.
func (b *ReceiveBatch) Datagram(i int) []byte {
	at := i * maxDatagram
	n := min(int(b.msgs[i].len), maxDatagram)
	return b.room[at : at+n : at+n]
}

// Stamp returns when the kernel received the i-th datagram: CLOCK_REALTIME, nanoseconds since 1970;
// 0 if it does not say.
func (b *ReceiveBatch) Stamp(i int) int64 {
	c := &b.controls[i]
	if int(b.msgs[i].hdr.Controllen) < int(unsafe.Sizeof(*c)) ||
		c.header.Level != unix.SOL_SOCKET || c.header.Type != unix.SO_TIMESTAMPNS_NEW {
		return 0
	}
	return c.seconds*1e9 + c.sub
}

// UDPSocket receives datagrams, many at a time. One goroutine may receive while others call Drops.
type UDPSocket struct{ fd int }

// ListenUDP opens a socket on a UDP port in the calling thread's network namespace. An invalid
// address stands for all IPv4 addresses and, if the host has IPv6, all IPv6 addresses. buffer is
// how many bytes the kernel may queue. Without CAP_NET_ADMIN the system's limit holds
// (net.core.rmem_max).
func ListenUDP(at netip.AddrPort, buffer int) (*UDPSocket, error) {
	return listenUDP(at, buffer, false)
}

// listenUDP is ListenUDP. shared lets several sockets have the port (SO_REUSEPORT).
func listenUDP(at netip.AddrPort, buffer int, shared bool) (*UDPSocket, error) {
	addr, port := at.Addr(), int(at.Port())
	var fd int
	var err error
	switch {
	case addr.Is4():
		fd, err = bindUDP(unix.AF_INET, &unix.SockaddrInet4{Port: port, Addr: addr.As4()}, shared)
	case addr.IsValid():
		fd, err = bindUDP(unix.AF_INET6, &unix.SockaddrInet6{Port: port, Addr: addr.As16()},
			shared)
	default:
		fd, err = bindUDP(unix.AF_INET6, &unix.SockaddrInet6{Port: port}, shared)
		if err == unix.EAFNOSUPPORT || err == unix.EADDRNOTAVAIL {
			fd, err = bindUDP(unix.AF_INET, &unix.SockaddrInet4{Port: port}, shared)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("listen on UDP port %d: %w", at.Port(), err)
	}
	if buffer > 0 && unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, buffer) != nil {
		// Best effort: a smaller buffer loses datagrams earlier in a burst, and Drops counts them.
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, buffer)
	}
	// Without it Stamp returns 0.
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS_NEW, 1)
	return &UDPSocket{fd}, nil
}

// noCheck6 is UDP_NO_CHECK6_RX, which accepts IPv6 datagrams without a checksum. Tunnels send them
// (RFC 6935).
const noCheck6 = 102

// bindUDP opens and binds a socket.
func bindUDP(family int, sa unix.Sockaddr, shared bool) (int, error) {
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK,
		unix.IPPROTO_UDP)
	if err != nil {
		return -1, err
	}
	if family == unix.AF_INET6 {
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 0)
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_UDP, noCheck6, 1)
	}
	if shared {
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
	}
	if err == nil {
		err = unix.Bind(fd, sa)
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// Watch adds the socket to an Epoll, edge triggered. Call Wait only after Receive has returned 0.
func (s *UDPSocket) Watch(e *Epoll, tag uint64) error { return e.Add(s.fd, tag) }

// Receive fills b with the datagrams that are queued, without waiting, and returns their number.
func (s *UDPSocket) Receive(b *ReceiveBatch) (int, error) {
	for i := range b.msgs { // the kernel has written what it used
		b.msgs[i].hdr.SetControllen(int(unsafe.Sizeof(b.controls[i])))
	}
	for {
		n, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, uintptr(s.fd),
			uintptr(unsafe.Pointer(&b.msgs[0])),
			ReceiveBatchSize, unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			return int(n), nil
		case unix.EINTR:
			continue
		case unix.EAGAIN:
			return 0, nil
		case unix.ECONNREFUSED, unix.EHOSTUNREACH, unix.ENETUNREACH:
			continue // an ICMP error, which does not concern a receiver
		}
		return 0, fmt.Errorf("receive datagrams: %w", errno)
	}
}

// Drops returns how many datagrams the kernel has dropped since the socket was opened, modulo 2^32,
// because the buffer was full or a checksum wrong.
func (s *UDPSocket) Drops() (uint32, error) {
	var info [16]uint32 // SK_MEMINFO_VARS of them are used, 9 so far
	size := uint32(unsafe.Sizeof(info))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(s.fd), unix.SOL_SOCKET,
		unix.SO_MEMINFO,
		uintptr(unsafe.Pointer(&info[0])), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return 0, fmt.Errorf("read the socket's memory information: %w", errno)
	}
	const drops = 8 // SK_MEMINFO_DROPS
	if size < (drops+1)*4 {
		return 0, nil
	}
	return info[drops], nil
}

// LocalAddr returns the address that the socket is bound to.
func (s *UDPSocket) LocalAddr() netip.AddrPort {
	sa, err := unix.Getsockname(s.fd)
	if err != nil {
		return netip.AddrPort{}
	}
	switch a := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(a.Addr).Unmap(), uint16(a.Port))
	}
	return netip.AddrPort{}
}

// Close closes the socket.
func (s *UDPSocket) Close() error { return unix.Close(s.fd) }
