package send_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"slices"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/source/afpacket"
	"tcpcopy/internal/sys"
	"tcpcopy/internal/test/testnet"
	"tcpcopy/internal/way/raw/send"
)

// outputs are the kinds of interface that a copier's packets leave by: each makes "out" of the veth
// that newPath has made, and keeps its address.
var outputs = []struct {
	name    string
	grouped bool // segments can be
	make    func(t *testing.T, p *path)
}{
	{"veth", true, func(*testing.T, *path) {}},
	{"bridge", true, func(t *testing.T, p *path) {
		over(t, p, func(lower netlink.Link, attrs netlink.LinkAttrs) netlink.Link {
			br := &netlink.Bridge{LinkAttrs: attrs}
			must(t, netlink.LinkAdd(br))
			must(t, netlink.LinkSetMaster(lower, br))
			return br
		})
	}},
	{"macvlan", false, func(t *testing.T, p *path) {
		over(t, p, func(lower netlink.Link, attrs netlink.LinkAttrs) netlink.Link {
			attrs.ParentIndex = lower.Attrs().Index
			l := &netlink.Macvlan{LinkAttrs: attrs, Mode: netlink.MACVLAN_MODE_BRIDGE}
			must(t, netlink.LinkAdd(l))
			return l
		})
	}},
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// upper makes an interface with the attributes above another.
type upper func(lower netlink.Link, attrs netlink.LinkAttrs) netlink.Link

// over makes "out" an interface above the veth.
func over(t *testing.T, p *path, make upper) {
	t.Helper()
	move(t, "out", "lower", make)
}

// move renames an interface, puts another with its name above it, and gives that its addresses.
func move(t *testing.T, name, lower string, make upper) {
	t.Helper()
	l, err := netlink.LinkByName(name)
	must(t, err)
	addrs, err := netlink.AddrList(l, netlink.FAMILY_ALL)
	must(t, err)
	for i := range addrs {
		must(t, netlink.AddrDel(l, &addrs[i]))
	}
	must(t, netlink.LinkSetDown(l))
	must(t, netlink.LinkSetName(l, lower))
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	upper := make(l, attrs)
	must(t, netlink.LinkSetUp(l))
	must(t, netlink.LinkSetUp(upper))
	for _, a := range addrs {
		if !a.IP.IsLinkLocalUnicast() {
			testnet.Address(t, name, a.IPNet.String())
		}
	}
}

// seen returns the packets from the client that the target receives until so many have had the flag
// FIN.
func seen(t *testing.T, src *afpacket.Source, p *path, fins uint64) (all [][]byte) {
	t.Helper()
	for end := time.Now().Add(deadline); time.Now().Before(end); {
		frames, err := src.Next(100 * time.Millisecond)
		must(t, err)
		for i := range frames {
			var s packet.Segment
			if packet.Decode(frames[i].Data, frames[i].Wire, &s) != nil || s.Src != p.client {
				continue
			}
			all = append(all, bytes.Clone(frames[i].Data))
			if !s.Flags.Has(packet.FIN) {
				continue
			}
			if fins--; fins == 0 {
				return all
			}
		}
	}
	t.Fatalf("%d FINs more were due after %d packets", fins, len(all))
	return nil
}

// withoutID returns an IPv4 packet with identification 0, which is what a segment with DF may have
// (RFC 6864 §4.1): offload counts it on.
func withoutID(b []byte) []byte {
	if b[0]>>4 != 4 {
		return b
	}
	b = bytes.Clone(b)
	id := binary.BigEndian.Uint16(b[4:])
	binary.BigEndian.PutUint16(b[4:], 0)
	sum := uint32(^binary.BigEndian.Uint16(b[10:])) + uint32(^id)
	binary.BigEndian.PutUint16(b[10:], ^uint16(sum+sum>>16))
	return b
}

// mixed is segments of one connection, some of which can be grouped, with borders of every kind.
func mixed(p *path) []packet.Segment {
	full := 1448
	if p.client.Addr().Is6() {
		full = 1428
	}
	segs := upload(p, 70_000, full)                // more than a group holds, a short one last
	segs = append(segs, segs[2], segs[3], segs[7]) // some sent again
	next := segs[0].Seq.Add(70_000)
	add := func(change func(s *packet.Segment), n int) {
		s := segs[0]
		s.Seq, s.Payload, s.Len = next, pattern(n), n
		change(&s)
		segs = append(segs, s)
		next = next.Add(n)
	}
	none := func(*packet.Segment) {}
	psh := func(s *packet.Segment) { s.Flags |= packet.PSH }
	ack := func(s *packet.Segment) { s.Ack += 9 }
	add(none, full)
	add(psh, full) // the end of a group
	add(none, 700) // shorter: the end of another
	add(none, 700)
	add(none, full) // longer: a new one
	add(ack, full)  // other fields, each time alone
	add(func(s *packet.Segment) { s.Window++ }, full)
	add(func(s *packet.Segment) { s.TTL = 9 }, full)
	add(func(s *packet.Segment) { s.Opts.TSVal++ }, full)
	add(func(s *packet.Segment) {
		s.Opts.NSACK = 1
		s.Opts.SACK[0] = packet.SACKBlock{First: 1, End: 2}
	}, full-48)
	add(func(s *packet.Segment) { s.Flags |= packet.URG; s.Urgent = 3 }, full)
	add(none, full)
	add(func(s *packet.Segment) { s.Flags |= packet.CWR }, full)
	add(none, full)
	add(none, 0)
	for range 130 { // more segments than one group has
		add(none, 50)
	}
	add(none, 1)
	add(none, 2)
	add(none, 2)
	add(func(s *packet.Segment) { s.Flags |= packet.FIN | packet.PSH }, 1)
	return segs
}

// TestGroupsAreExact: what the target receives of groups is what it receives of single segments,
// byte for byte, whether the sender's kernel cuts them or they pass whole.
func TestGroupsAreExact(t *testing.T) {
	for _, out := range outputs {
		for _, ipv6 := range []bool{false, true} {
			for _, kind := range []string{"routed", "device"} {
				t.Run(fmt.Sprintf("%s/ipv6=%v/%s", out.name, ipv6, kind), func(t *testing.T) {
					p := newPath(t, ipv6)
					must(t, sys.SetOffloads("out", false))
					p.target.Do(func() { must(t, sys.SetOffloads("in", false)) })
					out.make(t, p)
					var src *afpacket.Source
					p.target.Do(func() {
						var err error
						src, err = afpacket.Open(afpacket.Config{
							Interfaces: []string{"in"}, IgnoreOutgoing: true,
						})
						must(t, err)
					})
					t.Cleanup(func() { src.Close(); src.Next(0) })
					all := senders(t, p)
					single, grouping := all[kind+"/single"], all[kind+"/groups"]
					probe := upload(p, 3000, 1000)
					probe[2].Flags |= packet.FIN
					if out.grouped {
						groups(t, grouping, probe)
					} else {
						singly(t, grouping, probe)
					}
					seen(t, src, p, grouping.Stats().Sent/uint64(len(probe)))

					segs := mixed(p)
					if sent, big := single.Send(segs); sent != len(segs) {
						t.Fatalf("sent %d of %d, too big %v", sent, len(segs), big)
					}
					want := seen(t, src, p, 1)
					before := grouping.Stats().Grouped
					if sent, big := grouping.Send(segs); sent != len(segs) {
						t.Fatalf("sent %d of %d, too big %v: %+v",
							sent, len(segs), big, grouping.Stats())
					}
					if n := grouping.Stats().Grouped - before; out.grouped && n < 150 {
						t.Errorf("%d of %d segments were grouped", n, len(segs))
					}
					got := seen(t, src, p, 1)
					if len(got) != len(want) || len(want) != len(segs) {
						t.Fatalf("%d packets, and %d of single segments; want %d",
							len(got), len(want), len(segs))
					}
					for i := range want {
						if !bytes.Equal(withoutID(got[i]), want[i]) {
							t.Fatalf("packet %d:\n%x, want\n%x", i, got[i], want[i])
						}
						if !packet.ChecksumOK(got[i]) {
							t.Errorf("packet %d has a wrong checksum", i)
						}
					}
				})
			}
		}
	}
}

// TestKernelAcceptsGroups: a connection's bytes reach a server in groups, which pass a veth whole.
func TestKernelAcceptsGroups(t *testing.T) {
	for _, out := range outputs {
		for _, ipv6 := range []bool{false, true} {
			if !out.grouped {
				continue
			}
			t.Run(fmt.Sprintf("%s/ipv6=%v", out.name, ipv6), func(t *testing.T) {
				p := newPath(t, ipv6)
				out.make(t, p)
				capture, err := afpacket.Open(afpacket.Config{
					Interfaces: []string{"out"}, IgnoreOutgoing: true,
				})
				must(t, err)
				t.Cleanup(func() { capture.Close(); capture.Next(0) })
				p.capture = capture
				all := senders(t, p)
				client := p.client.Port()
				for i, kind := range []string{"routed", "device"} {
					s := all[kind+"/groups"]
					p.client = netip.AddrPortFrom(p.client.Addr(), 0) // no connection
					groups(t, s, upload(p, 3000, 1000))
					p.client = netip.AddrPortFrom(p.client.Addr(), client+uint16(i))
					before := s.Stats().Grouped
					p.exchange(t, s, pattern(60_001)) // less than the window of a new connection
					if n := s.Stats().Grouped - before; n < 40 {
						t.Errorf("%s: %d segments were grouped", kind, n)
					}
				}
			})
		}
	}
}

// TestGroupsOverTheMTU: segments that are too big for interface or route are reported by index,
// whether or not they could be a group, and those that fit are grouped.
func TestGroupsOverTheMTU(t *testing.T) {
	for _, tt := range []struct {
		name, network, gateway, dst string
		ipv6                        bool
		headers                     int
	}{
		{"ipv4", "10.99.0.0/16", "10.9.0.2", "10.99.0.1:80", false, 52},
		{"ipv6", "fd99::/64", "fd09::2", "[fd99::1]:80", true, 72},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newPath(t, tt.ipv6)
			const mtu = 1300
			testnet.RouteMTU(t, "out", tt.network, tt.gateway, mtu)
			s := senders(t, p)["routed/groups"]
			for _, to := range []struct {
				server netip.AddrPort
				mtu    int
			}{{p.server, 1500}, {netip.MustParseAddrPort(tt.dst), mtu}} {
				p.server = to.server
				size := to.mtu - tt.headers
				fits := upload(p, 10*size, size)
				groups(t, s, fits)
				over := upload(p, 3*size+3, size+1)
				segs := slices.Concat(fits[:4], over, fits[4:])
				before := s.Stats()
				sent, tooBig := s.Send(segs)
				slices.Sort(tooBig)
				after := s.Stats()
				if sent != 10 || !slices.Equal(tooBig, []int{4, 5, 6}) {
					t.Errorf("to %v: sent %d, too big %v; want 10, [4 5 6]",
						to.server, sent, tooBig)
				}
				if after.Grouped-before.Grouped != 10 || after.TooBig-before.TooBig != 3 {
					t.Errorf("to %v: %+v, before %+v", to.server, after, before)
				}
			}
		})
	}
}

// TestFirewallAndGroups: where the host may do something to packets on their way out, segments go
// singly, so that it does.
func TestFirewallAndGroups(t *testing.T) {
	if _, err := exec.LookPath("nft"); err != nil {
		t.Skip("nft is not installed")
	}
	const (
		masquerade = "add table ip nat;" +
			" add chain ip nat post { type nat hook postrouting priority 100; };" +
			" add rule ip nat post masquerade"
		output = "add table inet fw;" +
			" add chain inet fw out { type filter hook output priority 0; }; "
	)
	for _, tt := range []struct {
		name, rules string
		exempt      bool // NoTrack's rule stands
		want        bool // segments are grouped
	}{
		{"nothing", "", false, true},
		{"the exemption", "", true, true},
		{"masquerade and the exemption", masquerade, true, true},
		{"masquerade", masquerade, false, false},
		{"a chain without rules", output, true, true},
		{"a chain that drops", output + "add chain inet fw out { policy drop; }", true, false},
		{"a rule", output + "add rule inet fw out tcp dport 1 drop", true, false},
		{"a rule for invalid packets",
			output + "add rule inet fw out ct state invalid drop", true, false},
		{"another exemption", output + "add rule inet fw out meta mark 7 notrack", false, true},
		{"masquerade and another exemption",
			masquerade + ";" + output + "add rule inet fw out meta mark 7 notrack", false, false},
		{"a rule for what comes in",
			"add table inet fw; add chain inet fw in { type filter hook input priority 0; };" +
				" add rule inet fw in drop", false, true},
		{"a rule of IPv6", "add table ip6 fw;" +
			" add chain ip6 fw out { type filter hook output priority 0; };" +
			" add rule ip6 fw out drop", false, true},
		{"a rule that changes packets",
			"add table ip mangle;" +
				" add chain ip mangle out { type route hook output priority -150; };" +
				" add rule ip mangle out ip ttl set 3", true, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newPath(t, false)
			if tt.rules != "" {
				out, err := exec.Command("nft", tt.rules).CombinedOutput()
				if err != nil {
					t.Fatalf("nft %s: %v: %s", tt.rules, err, out)
				}
			}
			if tt.exempt {
				e, err := send.NoTrack(mark)
				must(t, err)
				if e == nil {
					t.Skip("connection tracking is not loaded")
				}
				defer e.Close()
			}
			s := senders(t, p)["routed/groups"]
			segs := upload(p, 10_000, 1000)
			if tt.want {
				groups(t, s, segs)
				return
			}
			singly(t, s, segs)
		})
	}
}

// TestRoutesAndGroups: segments go singly where not every packet to the destination takes one way.
func TestRoutesAndGroups(t *testing.T) {
	const network, dst = "10.99.0.0/16", "10.99.0.1"
	_, prefix, err := net.ParseCIDR(network)
	must(t, err)
	for _, tt := range []struct {
		name  string
		setUp func(t *testing.T, out int)
		want  bool
	}{
		{"a gateway", func(t *testing.T, out int) {
			testnet.Route(t, "out", network, "10.9.0.2")
		}, true},
		{"a rule for the mark", func(t *testing.T, out int) {
			r := netlink.NewRule()
			r.Mark, r.Table, r.Priority = mark, 99, 100
			must(t, netlink.RuleAdd(r))
			must(t, netlink.RouteAdd(&netlink.Route{
				LinkIndex: out, Dst: prefix, Gw: net.ParseIP("10.9.0.2"), Table: 99,
			}))
			testnet.Route(t, "lo", network, "")
		}, true},
		{"a rule for ports", func(t *testing.T, out int) {
			testnet.Route(t, "out", network, "10.9.0.2")
			r := netlink.NewRule()
			r.Dport, r.Table, r.Priority = netlink.NewRulePortRange(1, 9), 254, 100
			must(t, netlink.RuleAdd(r))
		}, false},
		{"two next hops", func(t *testing.T, out int) {
			must(t, netlink.RouteAdd(&netlink.Route{Dst: prefix, MultiPath: []*netlink.NexthopInfo{
				{LinkIndex: out, Gw: net.ParseIP("10.9.0.2")},
				{LinkIndex: out, Gw: net.ParseIP("10.9.0.3")},
			}}))
		}, false},
		{"a local address", func(t *testing.T, out int) {
			testnet.Address(t, "lo", dst+"/32")
		}, false},
		{"no route", func(*testing.T, int) {}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newPath(t, false)
			l, err := netlink.LinkByName("out")
			must(t, err)
			tt.setUp(t, l.Attrs().Index)
			s := senders(t, p)["routed/groups"]
			p.server = netip.AddrPortFrom(netip.MustParseAddr(dst), 80)
			segs := upload(p, 10_000, 1000)
			if tt.want {
				groups(t, s, segs)
				return
			}
			singly(t, s, segs)
		})
	}
}

// TestGroupsWhenTheInterfaceGoes: every segment is in the account, and sending goes on singly.
func TestGroupsWhenTheInterfaceGoes(t *testing.T) {
	p := newPath(t, false)
	segs := upload(p, 10_000, 1000)
	all := senders(t, p)
	for _, kind := range []string{"routed", "device"} {
		groups(t, all[kind+"/groups"], segs)
	}
	testnet.Delete(t, "out")
	for _, kind := range []string{"routed", "device"} {
		s := all[kind+"/groups"]
		before := s.Stats()
		sent, tooBig := s.Send(segs)
		after := s.Stats()
		if sent != 0 || len(tooBig) > 0 || after.NoRoute-before.NoRoute != uint64(len(segs)) {
			t.Errorf("%s: sent %d, too big %v: %+v, before %+v", kind, sent, tooBig, after, before)
		}
	}
}
