package sys

import (
	"encoding/binary"
	"net/netip"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The calls of this file are those of x/sys/unix, but do not tell Go's scheduler that they enter
// the kernel; for why see Stream. They are for sockets that never block, and for the calls that
// each connection of a copy makes.

func setInt(fd, level, option, value int) error {
	v := int32(value)
	return setOption(fd, level, option, unsafe.Pointer(&v), unsafe.Sizeof(v))
}

func setOption(fd, level, option int, value unsafe.Pointer, size uintptr) error {
	_, _, errno := unix.RawSyscall6(unix.SYS_SETSOCKOPT, uintptr(fd), uintptr(level),
		uintptr(option), uintptr(value), size, 0)
	return errorOf(errno)
}

func getInt(fd, level, option int) (int, error) {
	var v int32
	_, err := getOption(fd, level, option, unsafe.Pointer(&v), unsafe.Sizeof(v))
	return int(v), err
}

// getOption reads an option of at most size bytes, and returns how many it has.
func getOption(fd, level, option int, value unsafe.Pointer, size uintptr) (int, error) {
	n := uint32(size)
	_, _, errno := unix.RawSyscall6(unix.SYS_GETSOCKOPT, uintptr(fd), uintptr(level),
		uintptr(option), uintptr(value), uintptr(unsafe.Pointer(&n)), 0)
	return int(n), errorOf(errno)
}

// name is room for a socket address of either IP version.
type name struct {
	b   [unix.SizeofSockaddrInet6]byte
	len uintptr
}

// put makes n the name of an address and a port; zone is for link-local IPv6 addresses.
func (n *name) put(a netip.AddrPort, zone uint32) {
	n.b = [len(n.b)]byte{}
	binary.BigEndian.PutUint16(n.b[2:], a.Port())
	if a.Addr().Is4() {
		binary.NativeEndian.PutUint16(n.b[0:], unix.AF_INET)
		ip := a.Addr().As4()
		copy(n.b[4:], ip[:])
		n.len = unix.SizeofSockaddrInet4
		return
	}
	binary.NativeEndian.PutUint16(n.b[0:], unix.AF_INET6)
	ip := a.Addr().As16()
	copy(n.b[8:], ip[:])
	binary.NativeEndian.PutUint32(n.b[24:], zone)
	n.len = unix.SizeofSockaddrInet6
}

// address returns the address and port that n names, without a zone; the zero value if it names
// none.
func (n *name) address() netip.AddrPort {
	port := binary.BigEndian.Uint16(n.b[2:])
	switch binary.NativeEndian.Uint16(n.b[0:]) {
	case unix.AF_INET:
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(n.b[4:8])), port)
	case unix.AF_INET6:
		return netip.AddrPortFrom(netip.AddrFrom16([16]byte(n.b[8:24])), port)
	}
	return netip.AddrPort{}
}

// nameOf is getsockname(2). The one of x/sys/unix also asks for the protocol, not quickly.
func nameOf(fd int, n *name) error {
	size := uint32(len(n.b))
	_, _, errno := unix.RawSyscall(unix.SYS_GETSOCKNAME, uintptr(fd),
		uintptr(unsafe.Pointer(&n.b)), uintptr(unsafe.Pointer(&size)))
	return errorOf(errno)
}

// bindTo is bind(2).
func bindTo(fd int, to netip.AddrPort, zone uint32) error {
	var n name
	n.put(to, zone)
	_, _, errno := unix.RawSyscall(unix.SYS_BIND, uintptr(fd), uintptr(unsafe.Pointer(&n.b)), n.len)
	return errorOf(errno)
}

// connectTo is connect(2) of a socket that does not block.
func connectTo(fd int, to netip.AddrPort, zone uint32) error {
	var n name
	n.put(to, zone)
	_, _, errno := unix.RawSyscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&n.b)),
		n.len)
	return errorOf(errno)
}

func closeSocket(fd int) {
	_, _, _ = unix.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0)
}

// errorOf returns an errno as an error, nil where there is none.
func errorOf(errno syscall.Errno) error {
	if errno == 0 {
		return nil
	}
	return errno
}
