package e2e

import (
	le "encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"

	"tcpcopy/internal/lab/netlab"
	"tcpcopy/internal/sys"
)

// dump captures at a host's device with tcpdump.
type dump struct {
	*process
	path string
}

func startDump(t testing.TB, host *netlab.Namespace, device, filter string) *dump {
	t.Helper()
	path := filepath.Join(t.TempDir(), "dump.pcap")
	d := &dump{start(t, host, "tcpdump", find(t, "tcpdump"), "-i", device, "-s", "96",
		"--immediate-mode", "-B", "65536", "-w", path, "-U", filter), path}
	d.awaitOutput("listening on")
	return d
}

// lengths ends the capture and returns the length of each captured frame as it travelled.
func (d *dump) lengths() []int {
	d.t.Helper()
	d.stop(syscall.SIGINT)
	b, err := os.ReadFile(d.path)
	if err != nil || len(b) < 24 {
		d.t.Fatalf("read the capture: %d bytes, %v", len(b), err)
	}
	var all []int
	for b = b[24:]; len(b) >= 16; {
		kept, wire := le.LittleEndian.Uint32(b[8:]), le.LittleEndian.Uint32(b[12:])
		all = append(all, int(wire))
		b = b[min(16+int(kept), len(b)):]
	}
	return all
}

func most(list []int) (m int) {
	for _, n := range list {
		m = max(m, n)
	}
	return m
}

const ethernetHeader = 14

// TestFramesStayBelowMTU checks that the target receives no frame larger than the path carries,
// though production receives frames of up to 64 KB.
func TestFramesStayBelowMTU(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		ipv6  bool
		mtu   int // of all devices
		route int // of the production host's route to the target; 0: the device's
	}{
		{"1500", false, 1500, 0},
		{"1280", false, 1280, 0},
		{"1280, IPv6", true, 1280, 0},
		{"9000", false, 9000, 0},
		{"path of 1280 beyond a device of 1500", false, 1500, 1280},
		{"path of 1280 beyond a device of 1500, IPv6", true, 1500, 1280},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := newStand(t, setting{way: raw, ipv6: test.ipv6, net: netlab.Config{MTU: test.mtu}})
			// With offloads a veth passes large packets whole; a real device cuts them, as the
			// kernel does here.
			if err := s.net.Production.Try(func() error {
				return sys.SetOffloads(netlab.ProductionTestDevice, false)
			}); err != nil {
				t.Fatal(err)
			}
			limit := test.mtu
			if test.route > 0 {
				limit = test.route
				if err := s.net.Production.Try(func() error {
					return routeMTU(s,
						test.route)
				}); err != nil {
					t.Fatal(err)
				}
			}
			atProduction := startDump(t, s.net.Production, netlab.ProductionClientDevice,
				fmt.Sprintf("tcp dst port %d", productionPort))
			atTarget := startDump(t, s.net.Target, netlab.Device, fmt.Sprintf("tcp dst port %d",
				targetPort))
			webRun(t, s, "", func() { s.webLoad(webLoad{conns: 10, requests: 20, uploads: true}) })
			if got := most(atProduction.lengths()); got < 10_000 {
				t.Errorf("the largest frame at production has %d bytes: this tests nothing", got)
			}
			if got := most(atTarget.lengths()); got > limit+ethernetHeader || got < limit/2 {
				t.Errorf("the largest frame at the target has %d bytes, wanted %d at most, and "+
					"not much less", got, limit+ethernetHeader)
			}
		})
	}
}

// routeMTU gives the way to the target a smaller MTU than its device has.
func routeMTU(s *stand, mtu int) error {
	link, err := netlink.LinkByName(netlab.ProductionTestDevice)
	if err != nil {
		return err
	}
	bits := s.target.BitLen()
	dst, err := netlink.ParseIPNet(fmt.Sprintf("%s/%d", s.target, bits))
	if err != nil {
		return err
	}
	return netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: dst, MTU: mtu})
}
