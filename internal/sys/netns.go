package sys

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// NetnsCookie is the number of the calling thread's network namespace that no other one has as long as the
// machine runs, unlike the inode's; 0 where the kernel (before 5.14) gives none.
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
		return 0, fmt.Errorf("number of network namespace: %w", err)
	}
	return n, nil
}
