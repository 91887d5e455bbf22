package e2e

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"tcpcopy/internal/lab/netlab"
)

// TestOwnCopies has production and target be the same server on the same host. The copier's own
// packets must not be copied.
func TestOwnCopies(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, mapping string }{
		{"same port over loopback", "80-127.0.0.1:80"},
		{"same port, the address that clients use", "80-10.77.1.1:80"},
		{"same port, another address of the host", "80-10.77.2.1:80"},
		{"production address named", "10.77.1.1:80-10.77.2.1:80"},
		{"another port over loopback", "80-127.0.0.1:8080"},
		{"over loopback, IPv6", "80-[::1]:80"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newStand(t, setting{way: socket})
			server := serveAt(t, s.net.Production, ":80")
			other := serveAt(t, s.net.Production, ":8080")
			c := s.copy("-x", test.mapping)
			s.talk(productionPort, "own", 20, 10)
			eventually(t, "all lines arrive twice",
				func() bool { return server.lineCount()+other.lineCount() >= 400 })
			r := c.end()
			opened, lines, bytes := server.counts()
			opened2, lines2, bytes2 := other.counts()
			if opened+opened2 != 40 || lines+lines2 != 400 {
				t.Errorf("%d connections and %d lines, wanted 40 and 400", opened+opened2,
					lines+lines2)
			}
			expectComplete(t, r, 20, (bytes+bytes2)/2)
		})
	}
}

// TestSamePort has the target listen on production's port, on another host.
func TestSamePort(t *testing.T) {
	t.Parallel()
	eachWay(t, func(t *testing.T, way string) {
		s := newStand(t, setting{way: way})
		p := pair{serveAt(t, s.net.Production, ":80"), serveAt(t, s.net.Target, ":80")}
		c := s.copy("-x", s.mapping(80, 80))
		s.talk(productionPort, "port", 20, 10)
		p.caughtUp(t)
		r := c.end()
		p.expectSame(t)
		opened, _, bytes := p.target.counts()
		expectComplete(t, r, opened, bytes)
	})
}

// TestInterfaces checks that -i selects interfaces, and that packets of other interfaces are not
// copied.
func TestInterfaces(t *testing.T) {
	t.Parallel()
	for i, test := range []struct {
		name   string
		args   []string
		copied int
	}{
		{"all", nil, 20},
		{"the clients'", []string{"-i", netlab.ProductionClientDevice}, 20},
		{"both", []string{"-i", netlab.ProductionClientDevice + "," +
			netlab.ProductionTestDevice}, 20},
		{"another", []string{"-i", netlab.ProductionTestDevice}, 0},
		{"loopback", []string{"-i", "lo"}, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			inTurn(t, i, func(t *testing.T, way string) {
				t.Parallel()
				s := newStand(t, setting{way: way})
				p := s.pair()
				c := s.copyPair(test.args...)
				s.talk(productionPort, "interface", 20, 5)
				r := c.end()
				opened, lines, bytes := p.target.counts()
				if opened != test.copied || lines != 5*test.copied {
					t.Errorf("%d connections and %d lines at the target, wanted %d and %d", opened,
						lines, test.copied, 5*test.copied)
				}
				expectComplete(t, r, test.copied, bytes)
			})
		})
	}
}

// TestForwardedTraffic runs the copier on a host that forwards to a container. Without a production
// address in the mapping only packets addressed to the host count. With the container's address its
// packets count, and count once, though they are seen on several interfaces.
func TestForwardedTraffic(t *testing.T) {
	t.Parallel()
	container := netip.MustParseAddr("10.88.0.2")
	for b, bridge := range []bool{false, true} {
		for i, test := range []struct {
			name   string
			named  bool
			args   []string
			copied int
		}{
			{"not named", false, nil, 0},
			{"named", true, nil, 20},
			{"named, one interface", true, []string{"-i", netlab.ProductionClientDevice}, 20},
			{"named, the other interface", true, []string{"-i", "veth0"}, 20},
		} {
			t.Run(fmt.Sprintf("%s, bridge %v", test.name, bridge), func(t *testing.T) {
				inTurn(t, i+b, func(t *testing.T, way string) {
					t.Parallel()
					s := newStand(t, setting{way: way})
					inside := s.container(bridge)
					production := serveAt(t, inside, ":80")
					target := s.serve(s.net.Target, targetPort)
					mapping := s.mapping(productionPort, targetPort)
					if test.named {
						mapping = fmt.Sprintf("%s:%s", container, mapping)
					}
					c := s.copy(append([]string{"-x", mapping}, test.args...)...)
					s.production = container
					s.talk(productionPort, "forwarded", 20, 5)
					within(patience/6, func() bool { return target.lineCount() >= 5*test.copied })
					r := c.end()
					if opened, lines, _ := production.counts(); opened != 20 || lines != 100 {
						t.Fatalf("%d connections and %d lines at production, wanted 20 and 100",
							opened, lines)
					}
					opened, lines, bytes := target.counts()
					if opened != test.copied || lines != 5*test.copied {
						t.Errorf("%d connections and %d lines at the target, wanted %d and %d",
							opened, lines, test.copied, 5*test.copied)
					}
					expectComplete(t, r, test.copied, bytes)
				})
			})
		}
	}
}

// container makes a host behind the production host, which forwards to it, by way of a bridge if
// wanted.
func (s *stand) container(bridge bool) *netlab.Namespace {
	s.t.Helper()
	// A second net gives a namespace that is free; only its target is used.
	other, err := netlab.New(netlab.Config{})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { other.Close() })
	inside := other.Target
	must := func(err error) {
		s.t.Helper()
		if err != nil {
			s.t.Fatal(err)
		}
	}
	var handle netns.NsHandle
	must(inside.Try(func() (err error) { handle, err = netns.Get(); return err }))
	defer handle.Close()
	gateway := "veth0"
	must(s.net.Production.Try(func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = "veth0"
		if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "inside0",
			PeerNamespace: netlink.NsFd(handle)}); err != nil {
			return err
		}
		if bridge {
			gateway = "br0"
			attrs := netlink.NewLinkAttrs()
			attrs.Name = gateway
			br := &netlink.Bridge{LinkAttrs: attrs}
			if err := netlink.LinkAdd(br); err != nil {
				return err
			}
			port, err := netlink.LinkByName("veth0")
			if err != nil {
				return err
			}
			if err := netlink.LinkSetMaster(port, br); err != nil {
				return err
			}
			if err := netlink.LinkSetUp(port); err != nil {
				return err
			}
		}
		if err := addressed(gateway, "10.88.0.1/24"); err != nil {
			return err
		}
		return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0)
	}))
	must(inside.Try(func() error {
		if err := addressed("inside0", "10.88.0.2/24"); err != nil {
			return err
		}
		// the other net's: it would answer for the clients' net
		eth0, err := netlink.LinkByName(netlab.Device)
		if err != nil {
			return err
		}
		if err := netlink.LinkSetDown(eth0); err != nil {
			return err
		}
		return netlink.RouteAdd(&netlink.Route{Gw: net.IPv4(10, 88, 0, 1)})
	}))
	must(s.net.Client.Try(func() error {
		_, dst, _ := net.ParseCIDR("10.88.0.0/24")
		return netlink.RouteAdd(&netlink.Route{Dst: dst, Gw: netlab.ProductionAddr4.AsSlice()})
	}))
	return inside
}

// addressed gives a device an address and sets it up.
func addressed(device, address string) error {
	link, err := netlink.LinkByName(device)
	if err != nil {
		return err
	}
	addr, err := netlink.ParseAddr(address)
	if err != nil {
		return err
	}
	if err := netlink.AddrAdd(link, addr); err != nil {
		return err
	}
	return netlink.LinkSetUp(link)
}
