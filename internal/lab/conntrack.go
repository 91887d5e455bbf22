package lab

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"syscall"

	"github.com/mdlayher/netlink"

	"tcpcopy/internal/lab/netlab"
)

// From linux/netfilter/nfnetlink.h, nfnetlink_conntrack.h and nf_conntrack_common.h.
const (
	netlinkNetfilter = 12
	newConntrack     = 1 << 8 // of the subsystem for conntrack
	trackOriginal    = 1
	trackReply       = 2
	trackStatus      = 3
	trackTimeout     = 7
	tupleIP          = 1
	tupleProtocol    = 2
	ipSource         = 1
	ipDestination    = 2
	protocolNumber   = 1
	sourcePort       = 2
	destinationPort  = 3

	// a confirmed entry for both directions, which no other may replace
	trackedForGood = 1<<3 | 1<<2 | 1<<1
)

// mostTracked bounds how many entries the lab adds to a table: they take memory of the kernel's.
const mostTracked = 1 << 20

// fillConntrack fills a host's table with connections between networks for documentation. The size
// of the table is the same in all namespaces, and the entries are a namespace's own.
func (b *Broken) fillConntrack(host *netlab.Namespace) error {
	text, err := os.ReadFile("/proc/sys/net/netfilter/nf_conntrack_max")
	if err != nil {
		return fmt.Errorf("lab: fill conntrack: %w", err)
	}
	most, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || most > mostTracked {
		return fmt.Errorf("lab: fill conntrack: the table may have %s entries, wanted at most %d",
			bytes.TrimSpace(text), mostTracked)
	}
	b.Steps = append(b.Steps, fmt.Sprintf("%s: %d connections are tracked", host.Name, most))
	message, err := trackMessage()
	if err != nil {
		return fmt.Errorf("lab: fill conntrack: %w", err)
	}
	err = host.Try(func() error { return track(message, most) })
	if err != nil {
		return fmt.Errorf("lab: fill conntrack: %w", err)
	}
	return nil
}

// The addresses and the first port of the entries, by which they are found in a message.
var (
	trackedFrom = netip.MustParseAddr("192.0.2.1")
	trackedTo   = netip.MustParseAddr("198.51.100.1")
)

const trackedPort = 0xabcd

// trackMessage returns the request for one entry.
func trackMessage() ([]byte, error) {
	attributes := netlink.NewAttributeEncoder()
	tuple := func(from, to netip.Addr, sport, dport uint16) func(*netlink.AttributeEncoder) error {
		return func(a *netlink.AttributeEncoder) error {
			a.Nested(tupleIP, func(a *netlink.AttributeEncoder) error {
				a.Bytes(ipSource, from.AsSlice())
				a.Bytes(ipDestination, to.AsSlice())
				return nil
			})
			a.Nested(tupleProtocol, func(a *netlink.AttributeEncoder) error {
				a.Uint8(protocolNumber, syscall.IPPROTO_UDP)
				a.Bytes(sourcePort, binary.BigEndian.AppendUint16(nil, sport))
				a.Bytes(destinationPort, binary.BigEndian.AppendUint16(nil, dport))
				return nil
			})
			return nil
		}
	}
	const port = 9
	attributes.Nested(trackOriginal, tuple(trackedFrom, trackedTo, trackedPort, port))
	attributes.Nested(trackReply, tuple(trackedTo, trackedFrom, port, trackedPort))
	attributes.Bytes(trackStatus, binary.BigEndian.AppendUint32(nil, trackedForGood))
	attributes.Bytes(trackTimeout, binary.BigEndian.AppendUint32(nil, 600))
	body, err := attributes.Encode()
	if err != nil {
		return nil, err
	}
	m := netlink.Message{
		Header: netlink.Header{
			Length: uint32(16 + 4 + len(body)), Type: newConntrack,
			Flags: netlink.Request | netlink.Create | netlink.Excl,
		},
		Data: append([]byte{syscall.AF_INET, 0, 0, 0}, body...),
	}
	return m.MarshalBinary()
}

// track requests entries that differ in the client's address and port, many at a time. It reads no
// answers: none come unless something fails, and the last request asks for one.
func track(message []byte, entries int) error {
	const batch, perAddress = 256, 1 << 14
	fd, err := syscall.Socket(syscall.AF_NETLINK, syscall.SOCK_RAW|syscall.SOCK_CLOEXEC,
		netlinkNetfilter)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer syscall.Close(fd)
	kernel := &syscall.SockaddrNetlink{Family: syscall.AF_NETLINK}
	for n := 0; n < entries; {
		var all []byte
		for range min(batch, entries-n) {
			from := trackedFrom.As4()
			from[3] += byte(n / perAddress)
			m := bytes.ReplaceAll(message, trackedFrom.AsSlice(), from[:])
			m = bytes.ReplaceAll(m, binary.BigEndian.AppendUint16(nil, trackedPort),
				binary.BigEndian.AppendUint16(nil, uint16(1024+n%perAddress)))
			if n++; n == entries { // this one is to be acknowledged
				flags := binary.NativeEndian.Uint16(m[6:]) | uint16(netlink.Acknowledge)
				binary.NativeEndian.PutUint16(m[6:], flags)
			}
			all = append(all, m...)
		}
		if err := syscall.Sendto(fd, all, 0, kernel); err != nil {
			return os.NewSyscallError("sendto", err)
		}
	}
	answer := make([]byte, 1<<16)
	size, _, err := syscall.Recvfrom(fd, answer, 0)
	if err != nil {
		return os.NewSyscallError("recvfrom", err)
	}
	if size >= 20 && binary.NativeEndian.Uint16(answer[4:]) == syscall.NLMSG_ERROR {
		if code := -int32(binary.NativeEndian.Uint32(answer[16:])); code != 0 {
			return fmt.Errorf("the kernel refuses an entry: %w", syscall.Errno(code))
		}
	}
	return nil
}
