package sys

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// NetnsCookie returns the cookie of the calling thread's network namespace, or 0 if the kernel
// (before 5.14) has none. Unlike the inode's number, no other namespace gets it until the host
// restarts.
func NetnsCookie() (uint64, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("open socket: %w", err)
	}
	defer unix.Close(fd)
	n, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	if err == unix.ENOPROTOOPT {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read the cookie of the network namespace: %w", err)
	}
	return n, nil
}
