package sys

import (
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// offloads are the features that SetOffloads switches, in the order in which they can be switched
// on: segmentation needs checksums.
var offloads = []struct {
	name string
	set  uint32 // ETHTOOL_S… (linux/ethtool.h)
}{
	{"rx checksum", 0x15},
	{"tx checksum", 0x17},
	{"scatter-gather", 0x19},
	{"tso", 0x1f},
	{"gso", 0x24},
	{"gro", 0x2c},
}

// ethtoolValue is struct ethtool_value.
type ethtoolValue struct {
	cmd, data uint32
}

// ifreqPointer is struct ifreq where its union holds a pointer.
type ifreqPointer struct {
	name [unix.IFNAMSIZ]byte
	data unsafe.Pointer
	_    [16]byte
}

// SetOffloads switches checksum and segmentation offloads of the device on or off, in the calling
// thread's network namespace, where it needs CAP_NET_ADMIN.
func SetOffloads(device string, on bool) error {
	if len(device) >= unix.IFNAMSIZ {
		return fmt.Errorf("set offloads: device name %q is longer than %d bytes",
			device, unix.IFNAMSIZ-1)
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("set offloads of %s: %w", device, err)
	}
	defer unix.Close(fd)
	for i := range offloads {
		o := offloads[i]
		if !on {
			o = offloads[len(offloads)-1-i]
		}
		value := ethtoolValue{cmd: o.set}
		if on {
			value.data = 1
		}
		req := ifreqPointer{data: unsafe.Pointer(&value)}
		copy(req.name[:], device)
		_, _, errno := unix.Syscall(
			unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&req)))
		runtime.KeepAlive(&value)
		if errno != 0 {
			return fmt.Errorf("set offloads of %s: %s to %v: %w", device, o.name, on, errno)
		}
	}
	return nil
}
