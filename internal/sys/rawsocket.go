package sys

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Errors of Send and SendFrames, and of the Open functions, to compare with ==.
const (
	ErrTooBig      = unix.EMSGSIZE     // over the MTU of the interface, or of the path
	ErrForbidden   = unix.EPERM        // a firewall rule dropped it
	ErrNoBuffers   = unix.ENOBUFS      // the interface's queue was full
	ErrAgain       = unix.EAGAIN       // the socket's send buffer is full
	ErrNetUnreach  = unix.ENETUNREACH  // no route
	ErrHostUnreach = unix.EHOSTUNREACH // no answer from the next hop
	ErrNetDown     = unix.ENETDOWN     // the interface is down
	ErrNoInterface = unix.ENXIO        // the interface is gone
	ErrNoFamily    = unix.EAFNOSUPPORT // of Open functions: the host lacks this IP version
)

// SendSocket sends packets whose headers the caller writes. One goroutine may use it.
type SendSocket struct{ fd int }

// SendConfig holds the settings that all kinds of SendSocket share.
type SendConfig struct {
	Mark   uint32 // on every packet (SO_MARK); 0: none
	Buffer int    // bytes of send buffer; without CAP_NET_ADMIN the system's limit holds
}

// OpenRawIPv4 opens a socket for whole IPv4 packets. The kernel routes them, and sets total length,
// header checksum and, where it is 0 and DF is not set, the identification.
func OpenRawIPv4(cfg SendConfig) (*SendSocket, error) {
	return openRaw(cfg, "IPv4", unix.AF_INET, func(fd int) error {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_HDRINCL, 1); err != nil {
			return err
		}
		// Only sockets with this option get ENOBUFS for packets that the interface's queue drops.
		// The receive buffer bounds the error queue, which nothing reads.
		return unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_RECVERR, 1)
	})
}

// OpenRawIPv6 opens a socket for whole IPv6 packets. The kernel routes them and changes nothing.
func OpenRawIPv6(cfg SendConfig) (*SendSocket, error) {
	return openRaw(cfg, "IPv6", unix.AF_INET6, func(fd int) error {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_HDRINCL, 1); err != nil {
			return err
		}
		return unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVERR, 1)
	})
}

func openRaw(
	cfg SendConfig, name string, family int, options func(fd int) error,
) (*SendSocket, error) {
	kind := unix.SOCK_RAW | unix.SOCK_CLOEXEC | unix.SOCK_NONBLOCK
	fd, err := unix.Socket(family, kind, unix.IPPROTO_RAW)
	if err != nil {
		return nil, needs("open raw "+name+" socket", CapNetRaw, err)
	}
	if err := options(fd); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("set up raw %s socket: %w", name, err)
	}
	return sendSocket(fd, cfg)
}

// OpenPacketSender opens a socket for packets that go out at the link layer, past routing,
// conntrack and the firewall.
func OpenPacketSender(cfg SendConfig) (*SendSocket, error) {
	fd, err := openPacket() // protocol 0: it receives nothing
	if err != nil {
		return nil, err
	}
	return sendSocket(fd, cfg)
}

// OpenFrameSender opens a socket for Ethernet frames that the device, or the kernel for it, cuts
// into TCP segments (PACKET_VNET_HDR): see FrameBatch. They go out as those of OpenPacketSender.
func OpenFrameSender(cfg SendConfig) (*SendSocket, error) {
	// Protocol 0: it receives nothing.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, needs("open packet socket", CapNetRaw, err)
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("set up packet socket for large frames: %w", err)
	}
	return sendSocket(fd, cfg)
}

// sendSocket applies the settings to fd, which it closes on an error.
func sendSocket(fd int, cfg SendConfig) (*SendSocket, error) {
	if cfg.Mark != 0 {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, int(cfg.Mark)); err != nil {
			unix.Close(fd)
			return nil, needs(fmt.Sprintf("mark packets with %#x", cfg.Mark), CapNetAdmin, err)
		}
	}
	if cfg.Buffer > 0 &&
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, cfg.Buffer) != nil {
		// A smaller buffer is no error: it drops earlier in a burst, with ErrAgain.
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, cfg.Buffer)
	}
	// It only sends: the receive buffer may be the least possible.
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 1)
	return &SendSocket{fd}, nil
}

// Close closes the socket. A nil one is closed already.
func (s *SendSocket) Close() error {
	if s == nil {
		return nil
	}
	return unix.Close(s.fd)
}
