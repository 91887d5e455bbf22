package sys

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// bytesAckedEnd is the size in bytes of struct tcp_info up to and including tcpi_bytes_acked.
const bytesAckedEnd = int(unsafe.Offsetof(unix.TCPInfo{}.Bytes_acked) +
	unsafe.Sizeof(unix.TCPInfo{}.Bytes_acked))

// TCPBytesAcked returns how many bytes written to the TCP socket fd its peer has acknowledged. For
// an accepted socket that is exact until the peer acknowledges our FIN, which counts as one byte.
func TCPBytesAcked(fd int) (uint64, error) {
	// The kernel copies as much as there is room for. Only the first part is needed.
	var info unix.TCPInfo
	size := uint32(bytesAckedEnd)
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.IPPROTO_TCP, unix.TCP_INFO,
		uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return 0, errno
	}
	return info.Bytes_acked, nil
}
