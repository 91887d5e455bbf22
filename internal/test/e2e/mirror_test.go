package e2e

import (
	"context"
	enc "encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"tcpcopy/internal/lab"
	"tcpcopy/internal/lab/netlab"
	"tcpcopy/internal/source"
	"tcpcopy/internal/source/afpacket"
	"tcpcopy/internal/source/filter"
)

// commands runs command lines on a host, in order. Words are split at blanks.
func commands(host *netlab.Namespace, lines ...string) error {
	for _, l := range lines {
		w := strings.Fields(l)
		if out, err := host.Command(context.Background(), w[0],
			w[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", l, err, out)
		}
	}
	return nil
}

// vxlanMirror has the kernel mirror what production's interface sees, both ways, to the assistant.
func vxlanMirror(n *netlab.Net) error {
	return commands(n.Production,
		fmt.Sprintf("ip link add mirror type vxlan id 7 local %s remote %s dstport 4789",
			netlab.ProductionTest4, netlab.AssistantAddr4),
		"ip link set mirror up",
		"nft add table netdev mirror",
		"nft add chain netdev mirror in { type filter hook ingress device eth0 priority 0 ; }",
		"nft add chain netdev mirror out { type filter hook egress device eth0 priority 0 ; }",
		"nft add rule netdev mirror in ip protocol tcp dup to mirror",
		"nft add rule netdev mirror out ip protocol tcp dup to mirror",
	)
}

// portMirror has the switch mirror production's port, both ways, to the assistant's.
func portMirror(n *netlab.Net) error {
	all := n.Namespaces()
	return commands(all[len(all)-1],
		"nft add table netdev mirror",
		"nft add chain netdev mirror clients { type filter hook ingress device c-client "+
			"priority 0 ; }",
		"nft add chain netdev mirror production { type filter hook ingress device c-production "+
			"priority 0 ; }",
		"nft add rule netdev mirror clients ip protocol tcp dup to t-assistant",
		"nft add rule netdev mirror production ip protocol tcp dup to t-assistant",
	)
}

// encapsulator is a mirror of ours, for encapsulations that this kernel may not have.
type encapsulator struct {
	network string // to send with: "udp4", "ip4:47"
	port    string // of udp4
	header  func(n uint32) []byte
	late    int // every so many packets one comes after the one that follows it; 0: none
	cut     int // longer packets are cut to this; 0: none
	lose    int // every so many packets one is lost; 0: none
}

// geneveMirror sends bare IP packets, as Google's mirror does, every other with an option.
var geneveMirror = encapsulator{
	network: "udp4", port: ":6081", late: 20,
	header: func(n uint32) []byte {
		if n%2 == 0 {
			return []byte{0, 0, 0x08, 0, 0, 0, 7, 0}
		}
		return []byte{1, 0, 0x08, 0, 0, 0, 7, 0, 1, 2, 3, 0}
	},
}

// erspanMirror is a switch's: type II and III in turn.
var erspanMirror = encapsulator{
	network: "ip4:47",
	header: func(n uint32) []byte {
		b := enc.BigEndian.AppendUint32([]byte{0x10, 0, 0x88, 0xbe}, n)
		b = append(b, 0x10, 5, 8, 100, 0, 0, 0, 0)
		if n%2 == 0 {
			b = enc.BigEndian.AppendUint32([]byte{0x10, 0, 0x22, 0xeb}, n)
			b = append(b, 0x20, 5, 8, 100, 0, 0, 0, 0, 0, 0, 0x80, 0)
		}
		return append(b, 2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x08, 0)
	},
}

// start mirrors production's port 80 from the clients' side until the test ends.
func (e encapsulator) start(t testing.TB, n *netlab.Net) error {
	return n.Production.Try(func() error {
		prog, err := filter.Compile("tcp port 80", filter.Options{})
		if err != nil {
			return err
		}
		source, err := afpacket.Open(afpacket.Config{
			Interfaces: []string{netlab.ProductionClientDevice}, Filter: prog, Memory: 64 << 20})
		if err != nil {
			return err
		}
		out, err := net.Dial(e.network, netlab.AssistantAddr4.String()+e.port)
		if err != nil {
			source.Close()
			return err
		}
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			e.run(source, out)
		}()
		t.Cleanup(func() {
			source.Close()
			<-ended
			out.Close()
		})
		return nil
	})
}

func (e encapsulator) run(source source.Source, out net.Conn) {
	var held []byte
	for count := uint32(1); ; {
		frames, err := source.Next(-1)
		if err != nil {
			return
		}
		for i := range frames {
			data := frames[i].Data
			if e.cut > 0 {
				data = data[:min(len(data), e.cut)]
			}
			packet := append(e.header(count), data...)
			count++
			if e.lose > 0 && count%uint32(e.lose) == 0 {
				continue
			}
			if e.late > 0 && count%uint32(e.late) == 0 && held == nil && i+1 < len(frames) {
				held = packet
				continue
			}
			out.Write(packet) // what is lost shows in the result
			if held != nil {
				out.Write(held)
				held = nil
			}
		}
	}
}

// fromMirror are the arguments of a copier that say where the mirrors of these tests are.
var fromMirror = []string{"--from-peers", "10.77.0.0/16"}

// TestMirror feeds a copier beside production from a mirror. It must copy like one on the
// production host.
func TestMirror(t *testing.T) {
	for _, tc := range []struct {
		name     string
		scenario string
		from     []string
		peers    []string // what the mirror's senders are; none: frames have no sender
		setup    func(*testing.T, *netlab.Net) error
		plain    bool // packets as on a wire
		mtu      int  // 0: Ethernet's
	}{
		{"VXLAN, keepalive connections", "keepalive", []string{"--from", "vxlan://:4789", "--vni",
			"7"}, fromMirror,
			func(_ *testing.T, n *netlab.Net) error { return vxlanMirror(n) }, false, 0},
		{"VXLAN, short connections", "short", []string{"--from", "vxlan://"}, fromMirror,
			func(_ *testing.T, n *netlab.Net) error { return vxlanMirror(n) }, false, 0},
		{"VXLAN, uploads in jumbo frames", "upload", []string{"--from", "vxlan://"}, fromMirror,
			func(_ *testing.T, n *netlab.Net) error { return vxlanMirror(n) }, true, 9001},
		{"GENEVE, keepalive connections", "keepalive", []string{"--from", "geneve://:6081"},
			fromMirror,
			func(t *testing.T, n *netlab.Net) error { return geneveMirror.start(t, n) }, true, 0},
		{"GENEVE, short connections", "short", []string{"--from", "geneve://"}, fromMirror,
			func(t *testing.T, n *netlab.Net) error { return geneveMirror.start(t, n) }, true, 0},
		{"ERSPAN at a mirror port", "keepalive", []string{"--from", "mirror:eth0"}, fromMirror,
			func(t *testing.T, n *netlab.Net) error { return erspanMirror.start(t, n) }, true, 0},
		{"a mirror port", "short", []string{"--from", "mirror:eth0"}, nil,
			func(_ *testing.T, n *netlab.Net) error { return portMirror(n) }, false, 0},
	} {
		// By a mirror port short connections come in a short run as well.
		if testing.Short() && tc.scenario == "short" && tc.peers != nil {
			continue
		}
		t.Run(tc.name, func(t *testing.T) {
			o := lab.Options{
				Scenario: tc.scenario, Aside: true, NoOffloads: tc.plain, MTU: tc.mtu,
				CopyArgs: slices.Concat(tc.from, tc.peers),
				Setup:    func(n *netlab.Net) error { return tc.setup(t, n) },
			}
			if tc.scenario == "short" {
				o.Load = shortLoad(t)
			} else {
				o.Duration = labDuration
			}
			playLab(t, o)
		})
	}
}

// shortLoad is the lab's short connections, fewer of them.
func shortLoad(t *testing.T) *lab.Scenario {
	t.Helper()
	s, err := lab.FindScenario("short")
	if err != nil {
		t.Fatal(err)
	}
	s.Total = 1000
	return &s
}

// TestMirrorCuts checks that a request that the mirror has truncated does not reach the target, and
// that those before and after it do.
func TestMirrorCuts(t *testing.T) {
	s := newStand(t, setting{way: socket, net: netlab.Config{NoOffloads: true}})
	p := s.pair()
	cutting := geneveMirror
	cutting.cut, cutting.late = 400, 0
	if err := cutting.start(t, s.net); err != nil {
		t.Fatal(err)
	}
	c := s.copyOn(s.net.Assistant, "-x", s.mapping(productionPort, targetPort), "--from",
		"geneve://:6081", fromMirror[0], fromMirror[1])
	cl := dial(t, s.net.Client, netip.Addr{}, netip.AddrPortFrom(s.production, productionPort))
	long := strings.Repeat("long ", 200)
	for _, line := range []string{"one", "two", long, "three", "four"} {
		if err := cl.ask(line); err != nil {
			t.Fatal(err)
		}
	}
	// What follows the gap may be the rest of a request; what the client says after the next answer
	// is not.
	eventually(t, "a line after the cut one",
		func() bool { return strings.Contains(strings.Join(p.target.said(), ""), "four") })
	if err := cl.finish(); err != nil {
		t.Fatal(err)
	}
	r := c.end()
	got := strings.Join(p.target.said(), "")
	if strings.Contains(got, "long") || !strings.Contains(got, "one|two|") {
		t.Errorf("the target received %.200q", got)
	}
	if r.Sessions.Dropped["capture_gap"] != 1 || r.Bytes.Delivered != uint64(len("one two four ")) {
		t.Errorf("the account: %+v, %+v", r.Sessions, r.Bytes)
	}
}
