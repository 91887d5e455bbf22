package sys

import (
	"fmt"
	"net"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// EtherTypes, in host order, as in RingFrame.
const (
	EthPAll  = unix.ETH_P_ALL
	EthPIP   = unix.ETH_P_IP
	EthPIPv6 = unix.ETH_P_IPV6
)

// Packet types of a captured frame (packet(7), sll_pkttype).
const (
	PacketHost      = unix.PACKET_HOST
	PacketBroadcast = unix.PACKET_BROADCAST
	PacketMulticast = unix.PACKET_MULTICAST
	PacketOtherHost = unix.PACKET_OTHERHOST
	PacketOutgoing  = unix.PACKET_OUTGOING
)

func htons(v uint16) uint16 { return v<<8 | v>>8 }

// openPacket opens an AF_PACKET socket that receives nothing before it is bound: its protocol is 0.
func openPacket() (int, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, needs("open packet socket", CapNetRaw, err)
	}
	return fd, nil
}

// attachFilter gives the socket a classic BPF program; an empty one accepts everything.
func attachFilter(fd int, prog []bpf.RawInstruction) error {
	if len(prog) == 0 {
		return nil
	}
	if len(prog) > unix.BPF_MAXINSNS {
		return fmt.Errorf("attach filter: %d instructions, wanted at most %d",
			len(prog), unix.BPF_MAXINSNS)
	}
	insns := make([]unix.SockFilter, len(prog))
	for i, in := range prog {
		insns[i] = unix.SockFilter{Code: in.Op, Jt: in.Jt, Jf: in.Jf, K: in.K}
	}
	err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER,
		&unix.SockFprog{Len: uint16(len(insns)), Filter: &insns[0]})
	if err != nil {
		return fmt.Errorf("attach filter of %d instructions: %w", len(prog), err)
	}
	return nil
}

// bindPacket binds to one interface, or to all with index 0.
func bindPacket(fd, ifindex int, protocol uint16) error {
	sa := &unix.SockaddrLinklayer{Protocol: htons(protocol), Ifindex: ifindex}
	if err := unix.Bind(fd, sa); err != nil {
		return fmt.Errorf("bind packet socket to interface %d: %w", ifindex, err)
	}
	return nil
}

// interfaceIndex returns the index of an interface in the socket's network namespace, which may
// differ from the calling thread's.
func interfaceIndex(fd int, name string) (int, error) {
	req, err := unix.NewIfreq(name)
	if err != nil {
		return 0, fmt.Errorf("interface %q: %w", name, err)
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, req); err != nil {
		return 0, fmt.Errorf("interface %q: %w", name, err)
	}
	return int(int32(req.Uint32())), nil
}

// setPromiscuous makes the interface receive frames that are not addressed to it, until the socket
// closes.
func setPromiscuous(fd, ifindex int) error {
	mreq := unix.PacketMreq{Ifindex: int32(ifindex), Type: unix.PACKET_MR_PROMISC}
	err := unix.SetsockoptPacketMreq(fd, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP, &mreq)
	if err != nil {
		return fmt.Errorf("set interface %d promiscuous: %w", ifindex, err)
	}
	return nil
}

// InterfaceNames returns the names of the interfaces in the calling thread's network namespace.
func InterfaceNames() []string {
	ifs, err := net.Interfaces()
	if err != nil {
		return nil
	}
	names := make([]string, len(ifs))
	for i := range ifs {
		names[i] = ifs[i].Name
	}
	return names
}

// HWLoopback is the hardware type of a loopback interface (ARPHRD_LOOPBACK).
const HWLoopback = unix.ARPHRD_LOOPBACK

// ErrNoDevice is wrapped by errors about an interface that does not exist.
const ErrNoDevice = unix.ENODEV
