package sys

import (
	"errors"
	"net"
	"net/netip"
	"syscall"
	"testing"
)

func TestPortRange(t *testing.T) {
	low, high := PortRange()
	if low == 0 || high <= low {
		t.Fatalf("the host's ports are %d to %d", low, high)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, r := range [][2]uint16{{low, low + 9}, {high - 9, high}} {
		fd, err := OpenTCP(false)
		if err != nil {
			t.Fatal(err)
		}
		defer ResetTCP(fd)
		if err := SetPortRange(fd, r[0], r[1]); errors.Is(err, syscall.ENOPROTOOPT) {
			return // a kernel before 6.3
		} else if err != nil {
			t.Fatal(err)
		}
		if err := ConnectTCP(fd, netip.MustParseAddrPort(l.Addr().String()), 0); err != nil {
			t.Fatal(err)
		}
		if port := LocalAddr(fd).Port(); port < r[0] || port > r[1] {
			t.Errorf("connected from port %d, wanted one of %d to %d", port, r[0], r[1])
		}
	}
}
