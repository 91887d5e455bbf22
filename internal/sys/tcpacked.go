package sys

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// bytesAckedEnd is the size of struct tcp_info up to and with tcpi_bytes_acked.
const bytesAckedEnd = int(unsafe.Offsetof(unix.TCPInfo{}.Bytes_acked) + unsafe.Sizeof(unix.TCPInfo{}.Bytes_acked))

// TCPBytesAcked says how many bytes of what was written to the TCP socket fd its peer has acknowledged. For
// a socket that was accepted that is exact until a FIN of ours is acknowledged, which counts as one.
func TCPBytesAcked(fd int) (uint64, error) {
	// The kernel copies as much as it is given room for: the counters of today stand in the first part.
	var info unix.TCPInfo
	size := uint32(bytesAckedEnd)
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.IPPROTO_TCP, unix.TCP_INFO,
		uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return 0, errno
	}
	return info.Bytes_acked, nil
}
