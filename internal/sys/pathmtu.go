package sys

import (
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// PathMTU returns the MTU, in bytes with the IP header, of the path to dst for packets with the
// mark. It is the interface's MTU, or less if the route says so or a router has told the kernel.
// PathMTU sends nothing.
func PathMTU(dst netip.Addr, mark uint32) (int, error) {
	dst = dst.Unmap()
	family, level, discover, mtu := unix.AF_INET, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_MTU
	// Any port will do: connecting a datagram socket sends nothing.
	var sa unix.Sockaddr = &unix.SockaddrInet4{Port: 9}
	if dst.Is4() {
		sa.(*unix.SockaddrInet4).Addr = dst.As4()
	} else {
		family, level = unix.AF_INET6, unix.IPPROTO_IPV6
		discover, mtu = unix.IPV6_MTU_DISCOVER, unix.IPV6_MTU
		sa = &unix.SockaddrInet6{Port: 9, Addr: dst.As16()}
	}
	op := fmt.Sprintf("path MTU to %v", dst)
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", op, err)
	}
	defer unix.Close(fd)
	if mark != 0 {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, int(mark)); err != nil {
			return 0, needs(op, CapNetAdmin, err)
		}
	}
	const always = unix.IP_PMTUDISC_DO // IPv6 has the same value
	if err := unix.SetsockoptInt(fd, level, discover, always); err != nil {
		return 0, fmt.Errorf("%s: %w", op, err)
	}
	if err := unix.Connect(fd, sa); err != nil {
		return 0, fmt.Errorf("%s: %w", op, err)
	}
	n, err := unix.GetsockoptInt(fd, level, mtu)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", op, err)
	}
	return n, nil
}
