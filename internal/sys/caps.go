package sys

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Capability is the name of a Linux capability, as in capabilities(7) and setcap(8).
type Capability string

// The capabilities that this program may need.
const (
	CapNetRaw   Capability = "CAP_NET_RAW"
	CapNetAdmin Capability = "CAP_NET_ADMIN"
)

// CapabilityError is the error of an operation for which a capability is missing. It satisfies
// errors.Is(err, os.ErrPermission).
type CapabilityError struct {
	Op   string     // the operation: "open packet socket"
	Need Capability // the capability that allows it
	Err  error      // the kernel's error
}

// Error returns the operation, the kernel's error and the capability.
func (e *CapabilityError) Error() string {
	return fmt.Sprintf("%s: %v (needs %s)", e.Op, e.Err, e.Need)
}

// Unwrap returns the kernel's error.
func (e *CapabilityError) Unwrap() error { return e.Err }

// needs wraps err with the operation, and with the capability if err says that permission is
// missing.
func needs(op string, c Capability, err error) error {
	if errors.Is(err, os.ErrPermission) {
		return &CapabilityError{Op: op, Need: c, Err: err}
	}
	return fmt.Errorf("%s: %w", op, err)
}

// HasNetRaw reports whether this thread may open raw and packet sockets in its network namespace.
// It opens one, because capability bits may hold in another user namespace only.
func HasNetRaw() bool {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return false
	}
	unix.Close(fd)
	return true
}

// HasNetAdmin reports whether this thread may configure its network namespace. It tries a harmless
// operation that needs the capability: to force a buffer size on a socket.
func HasNetAdmin() bool {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<10) == nil
}

// DropThreadCapabilities removes all effective capabilities from the calling thread, which the
// caller has locked. It is for tests.
func DropThreadCapabilities() error {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData // two: capabilities above 31 are in the second
	if err := unix.Capset(&hdr, &data[0]); err != nil {
		return fmt.Errorf("drop capabilities: %w", err)
	}
	return nil
}
