package sys

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// OpenTAP creates the TAP device of that name in the calling thread's network namespace and returns
// its file. A read receives one Ethernet frame and a write sends one; both wait as for any os.File.
// The device disappears when the file is closed. OpenTAP needs CAP_NET_ADMIN and access to
// /dev/net/tun.
func OpenTAP(name string) (*os.File, error) {
	req, err := unix.NewIfreq(name)
	if err != nil {
		return nil, fmt.Errorf("open tap %q: %w", name, err)
	}
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open tap %q: open /dev/net/tun: %w", name, err)
	}
	req.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, req); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("open tap %q: %w", name, err)
	}
	return os.NewFile(uintptr(fd), "tap "+name), nil
}
