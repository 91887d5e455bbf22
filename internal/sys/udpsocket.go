package sys

import (
	"fmt"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// ReceiveBatchSize is how many datagrams one call takes from the kernel.
	ReceiveBatchSize = 64
	// maxDatagram is the largest payload of UDP, and some.
	maxDatagram = 64 << 10
)

// ReceiveBatch has room for the datagrams of one recvmmsg(2). It is large, 4 MB: make one and use it again.
type ReceiveBatch struct {
	msgs [ReceiveBatchSize]mmsghdr
	iovs [ReceiveBatchSize]unix.Iovec
	room []byte
}

// NewReceiveBatch returns an empty batch.
func NewReceiveBatch() *ReceiveBatch {
	b := &ReceiveBatch{room: make([]byte, ReceiveBatchSize*maxDatagram)}
	for i := range b.msgs {
		b.iovs[i].Base = &b.room[i*maxDatagram]
		b.iovs[i].SetLen(maxDatagram)
		b.msgs[i].hdr.Iov = &b.iovs[i]
		b.msgs[i].hdr.SetIovlen(1)
	}
	return b
}

// Datagram is the payload of the i-th datagram that Receive has put there, until the next Receive.
func (b *ReceiveBatch) Datagram(i int) []byte {
	at := i * maxDatagram
	n := min(int(b.msgs[i].len), maxDatagram)
	return b.room[at : at+n : at+n]
}

// UDPSocket receives datagrams, many at a time. One goroutine receives; Drops may be called beside it.
type UDPSocket struct{ fd int }

// ListenUDP opens a socket for what is sent to a port of this host, in the calling thread's network
// namespace. An address that is not valid stands for all, of IPv4 and, where the host has it, IPv6.
// buffer is how many bytes may wait; without CAP_NET_ADMIN the system's limit (net.core.rmem_max) holds.
func ListenUDP(at netip.AddrPort, buffer int) (*UDPSocket, error) {
	addr := at.Addr()
	var fd int
	var err error
	switch {
	case addr.Is4():
		fd, err = bindUDP(unix.AF_INET, &unix.SockaddrInet4{Port: int(at.Port()), Addr: addr.As4()})
	case addr.IsValid():
		fd, err = bindUDP(unix.AF_INET6, &unix.SockaddrInet6{Port: int(at.Port()), Addr: addr.As16()})
	default:
		fd, err = bindUDP(unix.AF_INET6, &unix.SockaddrInet6{Port: int(at.Port())})
		if err == unix.EAFNOSUPPORT || err == unix.EADDRNOTAVAIL {
			fd, err = bindUDP(unix.AF_INET, &unix.SockaddrInet4{Port: int(at.Port())})
		}
	}
	if err != nil {
		return nil, fmt.Errorf("listen on UDP port %d: %w", at.Port(), err)
	}
	if buffer > 0 && unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, buffer) != nil {
		// Best effort: a smaller buffer loses datagrams earlier under a burst, and Drops says so.
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, buffer)
	}
	return &UDPSocket{fd}, nil
}

// noCheck6 is UDP_NO_CHECK6_RX: take datagrams over IPv6 that have no checksum, as tunnels send them
// (RFC 6935).
const noCheck6 = 102

func bindUDP(family int, sa unix.Sockaddr) (int, error) {
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.IPPROTO_UDP)
	if err != nil {
		return -1, err
	}
	if family == unix.AF_INET6 {
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 0)
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_UDP, noCheck6, 1)
	}
	if err := unix.Bind(fd, sa); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// Watch adds the socket to an Epoll, edge triggered: wait only after Receive has returned none.
func (s *UDPSocket) Watch(e *Epoll, tag uint64) error { return e.Add(s.fd, tag) }

// Receive takes what is there, and never waits; 0 if there is nothing.
func (s *UDPSocket) Receive(b *ReceiveBatch) (int, error) {
	for {
		n, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, uintptr(s.fd), uintptr(unsafe.Pointer(&b.msgs[0])),
			ReceiveBatchSize, unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			return int(n), nil
		case unix.EINTR:
			continue
		case unix.EAGAIN:
			return 0, nil
		case unix.ECONNREFUSED, unix.EHOSTUNREACH, unix.ENETUNREACH:
			continue // somebody's ICMP error, which says nothing to who only receives
		}
		return 0, fmt.Errorf("receive datagrams: %w", errno)
	}
}

// Drops is how many datagrams the kernel has dropped since the socket was opened, modulo 2^32: for want of
// room, or with a bad checksum.
func (s *UDPSocket) Drops() (uint32, error) {
	var info [16]uint32 // SK_MEMINFO_VARS of them, 9 today
	size := uint32(unsafe.Sizeof(info))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(s.fd), unix.SOL_SOCKET, unix.SO_MEMINFO,
		uintptr(unsafe.Pointer(&info[0])), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return 0, fmt.Errorf("read socket's memory information: %w", errno)
	}
	const drops = 8 // SK_MEMINFO_DROPS
	if size < (drops+1)*4 {
		return 0, nil
	}
	return info[drops], nil
}

// LocalAddr is where the socket is bound.
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
