package config

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"

	"tcpcopy/internal/sys"
)

// Host answers questions about the machine. The zero value asks the real one.
type Host struct {
	// Interfaces returns the names of the network interfaces.
	Interfaces func() ([]string, error)
	// IPv6 reports whether the machine has IPv6.
	IPv6 func() bool
	// Local reports whether a program on the machine may bind to an address.
	Local func(netip.Addr) bool
	// Ports returns how many ports an address has for connections to one target; 0: not known.
	Ports func() int
}

func (h Host) ports() int {
	if h.Ports != nil {
		return h.Ports()
	}
	low, high := sys.PortRange()
	if low == 0 {
		return 0
	}
	return int(high-low) + 1
}

func (h Host) local(a netip.Addr) bool {
	if h.Local != nil {
		return h.Local(a)
	}
	l, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(a, 0)))
	if err != nil {
		return !errors.Is(err, syscall.EADDRNOTAVAIL) // other errors do not tell
	}
	l.Close()
	return true
}

func (h Host) ipv6() bool {
	if h.IPv6 != nil {
		return h.IPv6()
	}
	l, err := net.ListenPacket("udp6", "[::1]:0")
	if err != nil {
		return false
	}
	l.Close()
	return true
}

func (h Host) interfaces() ([]string, error) {
	if h.Interfaces != nil {
		return h.Interfaces()
	}
	all, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("list network interfaces: %w", err)
	}
	names := make([]string, len(all))
	for i, ifi := range all {
		names[i] = ifi.Name
	}
	return names, nil
}

// devices parses a list of interfaces, which must exist. If any is true, "any" stands for all of
// them, and gives an empty list.
func (h Host) devices(s string, any bool) ([]string, error) {
	names, err := list(s)
	if err != nil {
		return nil, err
	}
	if any && slices.Equal(names, []string{"any"}) {
		return nil, nil
	}
	have, err := h.interfaces()
	if err != nil {
		return nil, err
	}
	for _, n := range names {
		if slices.Contains(have, n) {
			continue
		}
		p := wanted("no interface %q here: wanted %s", n, some(have))
		p.Value = asIs
		return nil, p
	}
	return names, nil
}

// captureFiles parses a list of capture files, as TCPCopy takes them for -i. It returns nil if the
// first name is not a capture file.
func captureFiles(s string) ([]string, error) {
	names, err := list(s)
	if err != nil {
		return nil, err
	}
	for i, n := range names {
		if fi, err := os.Stat(n); err == nil && fi.Mode().IsRegular() ||
			strings.HasSuffix(n, ".pcap") || strings.HasSuffix(n, ".pcapng") {
			continue
		}
		if i == 0 {
			return nil, nil
		}
		p := wanted("%q is not a capture file: wanted files, or interfaces, but not both", n)
		p.Value = asIs
		return nil, p
	}
	return names, nil
}

// kernelWords returns the kernel's error about a file, without the path.
func kernelWords(err error) string {
	if pe := (*fs.PathError)(nil); errors.As(err, &pe) {
		return pe.Err.Error()
	}
	return err.Error()
}

// some lists names, but only the first few of many.
func some(names []string) string {
	const most = 8
	if len(names) == 0 {
		return "one, but this host has none"
	}
	if len(names) > most {
		return strings.Join(names[:most], ", ") + " …"
	}
	return orList(names)
}
