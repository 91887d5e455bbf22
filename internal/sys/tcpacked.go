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
	_, err := getOption(fd, unix.IPPROTO_TCP, unix.TCP_INFO, unsafe.Pointer(&info),
		uintptr(bytesAckedEnd))
	return info.Bytes_acked, err
}
