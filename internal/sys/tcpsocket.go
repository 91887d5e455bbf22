package sys

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// capMark names the capabilities that SO_MARK needs.
const capMark = CapNetAdmin + ", or since Linux 5.17 " + CapNetRaw

// OpenTCP opens a non-blocking TCP socket with Nagle's algorithm off.
func OpenTCP(ipv6 bool) (int, error) {
	family := unix.AF_INET
	if ipv6 {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC,
		unix.IPPROTO_TCP)
	if err != nil {
		return -1, fmt.Errorf("open TCP socket: %w", err)
	}
	if err := setInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
		closeSocket(fd)
		return -1, fmt.Errorf("set TCP_NODELAY: %w", err)
	}
	return fd, nil
}

// SetMark sets the mark of the packets that the socket sends. If the capability is missing, the
// error is a *CapabilityError.
func SetMark(fd int, mark uint32) error {
	if err := setInt(fd, unix.SOL_SOCKET, unix.SO_MARK, int(mark)); err != nil {
		return needs(fmt.Sprintf("set SO_MARK %#x", mark), capMark, err)
	}
	return nil
}

// SetUserTimeout bounds how long sent bytes may stay unacknowledged, or unaccepted by a peer with a
// closed window, before the connection fails with ETIMEDOUT (TCP_USER_TIMEOUT, RFC 5482).
func SetUserTimeout(fd int, d time.Duration) error {
	ms := int(d / time.Millisecond)
	if err := setInt(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, ms); err != nil {
		return fmt.Errorf("set TCP_USER_TIMEOUT %v: %w", d, err)
	}
	return nil
}

// AckNow sends a delayed acknowledgment now and disables delaying for the next ones (TCP_QUICKACK
// in tcp(7)). The kernel returns to delaying by itself, so AckNow must be called again after reads.
func AckNow(fd int) {
	_ = setInt(fd, unix.IPPROTO_TCP, unix.TCP_QUICKACK, 1)
}

// BindLocal sets the address to connect from and leaves the port to ConnectTCP, which can then use
// one port for several targets.
func BindLocal(fd int, addr netip.Addr, zone uint32) error {
	if err := setInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1); err != nil {
		return fmt.Errorf("set IP_BIND_ADDRESS_NO_PORT: %w", err)
	}
	if err := bindTo(fd, netip.AddrPortFrom(addr, 0), zone); err != nil {
		return fmt.Errorf("bind %v: %w", addr, err)
	}
	return nil
}

// SetPortRange restricts the port that ConnectTCP chooses to low to high, as far as these are in
// the host's own range (PortRange). Kernels before 6.3 return ENOPROTOOPT.
func SetPortRange(fd int, low, high uint16) error {
	ports := int(high)<<16 | int(low)
	if err := setInt(fd, unix.IPPROTO_IP, unix.IP_LOCAL_PORT_RANGE, ports); err != nil {
		return fmt.Errorf("set IP_LOCAL_PORT_RANGE: %w", err)
	}
	return nil
}

// PortRange returns the host's ip_local_port_range, from which the kernel takes the ports of
// connections, or zeros if it is not known.
func PortRange() (low, high uint16) {
	b, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range") // for IPv6, too
	if err != nil {
		return 0, 0
	}
	if n, _ := fmt.Sscan(string(b), &low, &high); n < 2 || high < low {
		return 0, 0
	}
	return low, high
}

// ConnectTCP begins a connection. It returns nil if the attempt is under way or has succeeded. An
// Epoll reports the result.
func ConnectTCP(fd int, to netip.AddrPort, zone uint32) error {
	err := connectTo(fd, to, zone)
	if err == nil || err == unix.EINPROGRESS || err == unix.EINTR {
		return nil
	}
	return fmt.Errorf("connect to %v: %w", to, err)
}

// LocalAddr returns the socket's own address and port, or the zero value if it has none.
func LocalAddr(fd int) netip.AddrPort {
	var n name
	if nameOf(fd, &n) != nil {
		return netip.AddrPort{}
	}
	return n.address()
}

// TakeError returns and clears the socket's error, which is 0 if there is none.
func TakeError(fd int) syscall.Errno {
	n, err := getInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err != nil {
		var errno syscall.Errno
		errors.As(err, &errno)
		return errno
	}
	return syscall.Errno(n)
}

// TCPStatus is the kernel's state of a connection.
type TCPStatus struct {
	// Over means that the connection is closed, reset or in TIME-WAIT: nothing more can come from
	// the peer.
	Over bool
	// Acked is how many sequence numbers the peer has acknowledged: the bytes, and one each for SYN
	// and FIN.
	Acked uint64
}

// StatusTCP returns a connection's state (TCP_INFO in tcp(7)).
func StatusTCP(fd int) TCPStatus {
	const closed, timeWait = 7, 6 // TCP_CLOSE, TCP_TIME_WAIT in netinet/tcp.h
	var info unix.TCPInfo
	_, err := getOption(fd, unix.IPPROTO_TCP, unix.TCP_INFO, unsafe.Pointer(&info),
		uintptr(bytesAckedEnd))
	if err != nil {
		return TCPStatus{Over: true}
	}
	return TCPStatus{Over: info.State == closed || info.State == timeWait, Acked: info.Bytes_acked}
}

// Unacked returns how many bytes that were written to the socket the peer has not acknowledged; a
// FIN counts as one (SIOCOUTQ in tcp(7)). Once the connection is reset, the number stays.
func Unacked(fd int) int {
	var n int32
	_, _, errno := unix.RawSyscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCOUTQ,
		uintptr(unsafe.Pointer(&n)))
	if errno != 0 {
		return 0
	}
	return int(n)
}

// ShutdownWrite sends a FIN after the bytes written so far.
func ShutdownWrite(fd int) {
	_, _, _ = unix.RawSyscall(unix.SYS_SHUTDOWN, uintptr(fd), unix.SHUT_WR, 0)
}

// ResetTCP closes the descriptor. If the connection has not ended, it is reset (RST) and unsent
// bytes are discarded.
func ResetTCP(fd int) {
	linger := unix.Linger{Onoff: 1}
	_ = setOption(fd, unix.SOL_SOCKET, unix.SO_LINGER, unsafe.Pointer(&linger),
		unsafe.Sizeof(linger))
	closeSocket(fd)
}

// scrap is the buffer that a system call to discard bytes names. Linux does not copy into it, so it
// takes address space but no memory.
var scrap [1 << 20]byte

// MaxDiscard is the most bytes that one call of Discard discards.
const MaxDiscard = len(scrap)

// Discard discards at most most received bytes, and at most MaxDiscard, without copying them
// (MSG_TRUNC in tcp(7)). It returns their number: 0 at the end of the stream, and EAGAIN if there
// are none now.
func Discard(fd, most int) (int, syscall.Errno) {
	return receive(fd, scrap[:most], unix.MSG_TRUNC)
}

// Receive reads received bytes into b, which must not be empty. It returns like Discard.
func Receive(fd int, b []byte) (int, syscall.Errno) { return receive(fd, b, 0) }

func receive(fd int, b []byte, flags uintptr) (int, syscall.Errno) {
	for {
		n, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd),
			uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)),
			flags|unix.MSG_DONTWAIT, 0, 0)
		if errno != unix.EINTR {
			if errno != 0 {
				return 0, errno
			}
			return int(n), 0
		}
	}
}

// Gather collects views of bytes, up to 64 KB, and sends them with one system call, which keeps the
// processor (see Stream). The zero value is empty. One goroutine at a time may use it.
type Gather struct {
	iov [64]unix.Iovec
	hdr unix.Msghdr
	n   int
	len int // total bytes
}

// Add appends a view, which must not change until Send or Reset. It reports whether there was room.
// Of a view for all of which there is no room it appends the beginning, and no other view after it.
func (g *Gather) Add(view []byte) bool {
	if g.n == len(g.iov) || g.len == maxAtOnce {
		return false
	}
	if len(view) > 0 {
		n := min(len(view), maxAtOnce-g.len)
		g.iov[g.n].Base = &view[0]
		g.iov[g.n].SetLen(n)
		g.n++
		g.len += n
	}
	return true
}

// Send writes the collected bytes to a stream socket and forgets them. It returns how many bytes
// the kernel accepted, which may be fewer, and EAGAIN if it accepts none now.
func (g *Gather) Send(fd int) (int, syscall.Errno) {
	const flags = unix.MSG_NOSIGNAL | unix.MSG_DONTWAIT
	defer g.Reset()
	for {
		var n uintptr
		var errno syscall.Errno
		if g.n == 1 { // most requests; cheaper
			n, _, errno = unix.RawSyscall6(unix.SYS_SENDTO, uintptr(fd),
				uintptr(unsafe.Pointer(g.iov[0].Base)),
				uintptr(g.iov[0].Len), flags, 0, 0)
		} else {
			g.hdr.Iov = &g.iov[0]
			g.hdr.SetIovlen(g.n)
			n, _, errno = unix.RawSyscall(unix.SYS_SENDMSG, uintptr(fd),
				uintptr(unsafe.Pointer(&g.hdr)), flags)
		}
		if errno != unix.EINTR {
			if errno != 0 {
				return 0, errno
			}
			return int(n), 0
		}
	}
}

// Reset discards the collected views.
func (g *Gather) Reset() {
	clear(g.iov[:g.n])
	g.n, g.len = 0, 0
}

// RaiseFileLimit raises the process's limit of open descriptors to want, or as far as allowed, and
// returns the limit.
func RaiseFileLimit(want uint64) (uint64, error) {
	var lim unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &lim); err != nil {
		return 0, fmt.Errorf("read file limit: %w", err)
	}
	if lim.Cur >= want {
		return lim.Cur, nil
	}
	more := unix.Rlimit{Cur: want, Max: max(want, lim.Max)} // above lim.Max needs CAP_SYS_RESOURCE
	if unix.Setrlimit(unix.RLIMIT_NOFILE, &more) == nil {
		return want, nil
	}
	if lim.Cur < lim.Max {
		lim.Cur = lim.Max
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &lim); err != nil {
			return 0, fmt.Errorf("raise file limit to %d: %w", lim.Max, err)
		}
	}
	return lim.Cur, nil
}

func epollPoll(fd int, evs []EpollEvent) (int, syscall.Errno) {
	n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(fd),
		uintptr(unsafe.Pointer(&evs[0])), uintptr(len(evs)), 0, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}
