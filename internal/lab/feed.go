package lab

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"

	"tcpcopy/internal/lab/netlab"
)

// feed is how packets come to the copier. If it does not capture them itself, it runs on the
// assistant's host.
type feed uint8

const (
	captures      feed = iota
	mirrorFeed         // production's kernel sends VXLAN
	cutMirrorFeed      // the lab does, and cuts the packets
	agentFeed
)

// The ports and the virtual network of mirrors and agents.
const (
	vxlanPort     = 4789
	mirrorNetwork = 7
	agentPort     = 36525
)

// cutTo is how many bytes of a frame a mirror that cuts sends: all headers, and little more.
const cutTo = 90

// copierHost returns the host on which the copier runs.
func (b *Broken) copierHost() *netlab.Namespace {
	if b.options.Fault.feed != captures {
		return b.net.Assistant
	}
	return b.net.Production
}

// CopierHost returns the name of that host.
func (b *Broken) CopierHost() string { return b.copierHost().Name }

// Copies reports whether a copy runs beside the doctor.
func (b *Broken) Copies() bool { return b.copier != nil }

// productionTest returns production's address on the test net.
func (b *Broken) productionTest() netip.Addr {
	if b.options.IPv6 {
		return netlab.ProductionTest6
	}
	return netlab.ProductionTest4
}

// feedArgs returns the copier's arguments that say where packets come from.
func (b *Broken) feedArgs() []string {
	switch b.options.Fault.feed {
	case mirrorFeed, cutMirrorFeed:
		return []string{
			"--from", fmt.Sprintf("vxlan://:%d", vxlanPort), "--from-peers",
			b.productionTest().String(),
		}
	case agentFeed:
		return []string{"--from", fmt.Sprintf("agent://:%d", agentPort), "--key", b.file("key")}
	}
	return nil
}

// agentArgs returns the arguments of an agent as it should be.
func (b *Broken) agentArgs() []string {
	_, assistant, _ := b.addresses()
	return []string{
		"capture", "-x", fmt.Sprint(productionPort), "--to", assistant.String(), "--key",
		b.file("key"),
	}
}

// vxlanMirror returns commands that have production's kernel send what its interface towards the
// clients sees, both ways, to the assistant.
func vxlanMirror() []HostCommand {
	var all []HostCommand
	for _, c := range []string{
		fmt.Sprintf("ip link add mirror type vxlan id %d local {production} remote {assistant} "+
			"dstport %d", mirrorNetwork, vxlanPort),
		"ip link set mirror up",
		"nft add table netdev mirror",
		"nft 'add chain netdev mirror in { type filter hook ingress device eth0 priority 0; }'",
		"nft 'add chain netdev mirror out { type filter hook egress device eth0 priority 0; }'",
		"nft add rule netdev mirror in meta protocol {ip} meta l4proto tcp dup to mirror",
		"nft add rule netdev mirror out meta protocol {ip} meta l4proto tcp dup to mirror",
	} {
		all = append(all, HostCommand{OnProduction, c})
	}
	return all
}

// mirrorCut mirrors production's interface towards the clients to the assistant, and cuts longer
// frames, until the lab is closed.
func (b *Broken) mirrorCut(ctx context.Context) error {
	_, assistant, _ := b.addresses()
	var out net.Conn
	err := b.net.Production.Try(func() error {
		device, err := net.InterfaceByName(netlab.ProductionClientDevice)
		if err != nil {
			return err
		}
		const everything = 3 << 8 // ETH_P_ALL, in the network's order
		fd, err := syscall.Socket(syscall.AF_PACKET,
			syscall.SOCK_RAW|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, everything)
		if err != nil {
			return err
		}
		b.mirror = os.NewFile(uintptr(fd), "mirror")
		at := &syscall.SockaddrLinklayer{Protocol: everything, Ifindex: device.Index}
		if err := syscall.Bind(fd, at); err != nil {
			return err
		}
		out, err = net.Dial("udp", netip.AddrPortFrom(assistant, vxlanPort).String())
		return err
	})
	if err != nil {
		return fmt.Errorf("lab: mirror: %w", err)
	}
	b.clients.Go(func() {
		defer out.Close()
		header := []byte{8, 0, 0, 0, 0, 0, mirrorNetwork, 0}
		packet := append(header, make([]byte, 1<<16)...)
		for ctx.Err() == nil {
			n, err := b.mirror.Read(packet[len(header):])
			if err != nil {
				return
			}
			_, _ = out.Write(packet[:len(header)+min(n, cutTo)]) // what is lost is lost
		}
	})
	return nil
}

func feedFaults() []Fault {
	aside := []string{Socket, Tunnel}
	return []Fault{
		{
			Name: "mirror-port", Help: "the mirror sends VXLAN, and --from names GENEVE's port",
			Ways: aside, Finds: found(OnAssistant, "TC0110"), feed: mirrorFeed, Make: vxlanMirror(),
			copy: replacing("vxlan://:4789", "geneve://:6081"),
		},
		{
			Name: "mirror-network", Help: "--vni names another virtual network than the mirror's",
			Ways: aside, Finds: found(OnAssistant, "TC0110"), feed: mirrorFeed, Make: vxlanMirror(),
			copy: adding("--vni", "9"),
		},
		{
			Name: "mirror-mapping", Help: "-x names another port than the mirror's packets have",
			Ways: aside, Finds: found(OnAssistant, "TC0110"), feed: mirrorFeed, Make: vxlanMirror(),
			copy: replacing("80-", "81-"),
		},
		{
			Name: "mirror-cuts", Help: "the mirror sends the first 90 bytes of a frame only",
			Ways: aside, Finds: found(OnAssistant, "TC0111"), feed: cutMirrorFeed, Unmended: true,
		},
		{
			Name: "no-agent", Help: "no agent runs",
			Ways: aside, Finds: found(OnAssistant, "TC0112"), feed: agentFeed, Unmended: true,
		},
		{
			Name: "agent-filter", Help: "the agent's -F matches no packet",
			Ways: aside, Finds: found(OnAssistant, "TC0112"), feed: agentFeed, Unmended: true,
			agent: adding("-F", "port 81"),
		},
		{
			Name: "agent-key", Help: "agent and copier have different keys",
			Ways: aside, Finds: found(OnAssistant, "TC0112"), feed: agentFeed, Unmended: true,
			agent: replacing("/key", "/other"),
		},
	}
}
