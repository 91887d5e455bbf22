package sys

import (
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// BindTransparent binds the socket to an address and port that need not be this host's
// (IP_TRANSPARENT in ip(7)). Other sockets may have the same address and port: those that are
// connected elsewhere, and a server that listens on that port on all addresses. If the capability
// is missing, the error is a *CapabilityError.
func BindTransparent(fd int, from netip.AddrPort) error {
	level, option := unix.IPPROTO_IP, unix.IP_TRANSPARENT
	if from.Addr().Is6() {
		level, option = unix.IPPROTO_IPV6, unix.IPV6_TRANSPARENT
	}
	if err := setInt(fd, level, option, 1); err != nil {
		return needs("set IP_TRANSPARENT", CapNetAdmin, err)
	}
	if err := setReuseAddr(fd); err != nil {
		return err
	}
	err := bindTo(fd, from, 0)
	if err == unix.EADDRINUSE {
		err = bindBesideServer(fd, from)
	}
	if err != nil {
		return fmt.Errorf("bind %v: %w", from, err)
	}
	return nil
}

// bindBesideServer binds the socket although another one listens on the port. bind(2) refuses
// that even with SO_REUSEADDR, except while the socket is in repair mode. The mode ends before
// the socket connects: whether a connection with the same two ends exists is checked by
// connect(2).
func bindBesideServer(fd int, from netip.AddrPort) error {
	if setInt(fd, unix.IPPROTO_TCP, unix.TCP_REPAIR, unix.TCP_REPAIR_ON) != nil {
		return unix.EADDRINUSE // not permitted, as SO_REUSEADDR alone
	}
	bound := bindTo(fd, from, 0)
	err := setInt(fd, unix.IPPROTO_TCP, unix.TCP_REPAIR, unix.TCP_REPAIR_OFF)
	if err != nil {
		return fmt.Errorf("end TCP_REPAIR: %w", err)
	}
	if err := setReuseAddr(fd); err != nil { // which the end of the mode has cleared
		return err
	}
	return bound
}

func setReuseAddr(fd int) error {
	if err := setInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return fmt.Errorf("set SO_REUSEADDR: %w", err)
	}
	return nil
}
