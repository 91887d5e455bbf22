package sys

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Capability is the name of a Linux capability, as capabilities(7) and setcap(8) write it.
type Capability string

// The capabilities that this program may need.
const (
	CapNetRaw   Capability = "CAP_NET_RAW"
	CapNetAdmin Capability = "CAP_NET_ADMIN"
)

// CapabilityError is a refusal for want of a capability. It satisfies errors.Is(err, os.ErrPermission).
type CapabilityError struct {
	Op   string     // what was tried: "open packet socket"
	Need Capability // what would have allowed it
	Err  error
}

// Error names the operation, the kernel's answer and the capability.
func (e *CapabilityError) Error() string {
	return fmt.Sprintf("%s: %v (needs %s)", e.Op, e.Err, e.Need)
}

// Unwrap returns the kernel's answer.
func (e *CapabilityError) Unwrap() error { return e.Err }

// needs wraps err with the operation, and with the capability where it is one that was missing.
func needs(op string, c Capability, err error) error {
	if errors.Is(err, os.ErrPermission) {
		return &CapabilityError{Op: op, Need: c, Err: err}
	}
	return fmt.Errorf("%s: %w", op, err)
}

// HasNetRaw says whether this thread may open raw and packet sockets in its network namespace. It tries:
// capability bits that are valid in another user namespace only would mislead.
func HasNetRaw() bool {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return false
	}
	unix.Close(fd)
	return true
}

// HasNetAdmin says whether this thread may change the network of its namespace. It tries something
// harmless that needs the capability: a forced buffer size on a socket of its own.
func HasNetAdmin() bool {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<10) == nil
}

// DropThreadCapabilities takes all effective capabilities from the calling thread alone, which the caller
// has locked. It is for tests of what happens without.
func DropThreadCapabilities() error {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData // two: capabilities above 31 are in the second
	if err := unix.Capset(&hdr, &data[0]); err != nil {
		return fmt.Errorf("drop capabilities: %w", err)
	}
	return nil
}
