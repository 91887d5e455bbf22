package sys

import (
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// BindTransparent binds the socket to an address and port that need not be this host's
// (IP_TRANSPARENT in ip(7)). Other sockets of ours may have the same address and port if they are
// connected elsewhere. If the capability is missing, the error is a *CapabilityError.
func BindTransparent(fd int, from netip.AddrPort) error {
	level, option := unix.IPPROTO_IP, unix.IP_TRANSPARENT
	if from.Addr().Is6() {
		level, option = unix.IPPROTO_IPV6, unix.IPV6_TRANSPARENT
	}
	if err := unix.SetsockoptInt(fd, level, option, 1); err != nil {
		return needs("set IP_TRANSPARENT", CapNetAdmin, err)
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return fmt.Errorf("set SO_REUSEADDR: %w", err)
	}
	if err := unix.Bind(fd, sockaddr(from, 0)); err != nil {
		return fmt.Errorf("bind %v: %w", from, err)
	}
	return nil
}
