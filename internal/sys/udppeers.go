package sys

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// MaxUDPPeers is the most networks that ListenUDPPeers tells from others.
const MaxUDPPeers = 256

// ListenUDPPeers is ListenUDP for datagrams from some networks only. The kernel puts those of
// others into a socket of their own, whose buffer has room for one or two, so that they take none
// of the first one's. What that drops is counted there.
func ListenUDPPeers(at netip.AddrPort, buffer int, peers []netip.Prefix) (
	known, others *UDPSocket, err error) {
	if len(peers) > MaxUDPPeers {
		return nil, nil, fmt.Errorf("listen on UDP port %d: %d networks, want at most %d",
			at.Port(), len(peers), MaxUDPPeers)
	}
	// The two sockets share the port. No other program's may: this one sees that nobody has it.
	alone, err := ListenUDP(at, 0)
	if err != nil {
		return nil, nil, err
	}
	bound := alone.LocalAddr()
	alone.Close()
	if at.Port() == 0 {
		at = netip.AddrPortFrom(at.Addr(), bound.Port())
	}
	if others, err = listenUDP(at, 1, true); err != nil {
		return nil, nil, err
	}
	// Before the other socket is there, the choice of the second one falls back to the first.
	if err = others.choose(peers); err == nil {
		known, err = listenUDP(at, buffer, true)
	}
	if err != nil {
		return nil, nil, errors.Join(err, others.Close())
	}
	return known, others, nil
}

// choose makes the kernel give the datagrams from peers to the second of the sockets that share the
// port, and all others to the first.
func (s *UDPSocket) choose(peers []netip.Prefix) error {
	prog, err := bpf.Assemble(choice(peers))
	if err != nil {
		return fmt.Errorf("choose by senders: %w", err)
	}
	insns := make([]unix.SockFilter, len(prog))
	for i, in := range prog {
		insns[i] = unix.SockFilter{Code: in.Op, Jt: in.Jt, Jf: in.Jf, K: in.K}
	}
	fprog := unix.SockFprog{Len: uint16(len(insns)), Filter: &insns[0]}
	err = unix.SetsockoptSockFprog(s.fd, unix.SOL_SOCKET, unix.SO_ATTACH_REUSEPORT_CBPF, &fprog)
	if err != nil {
		return os.NewSyscallError("choose by senders: setsockopt", err)
	}
	return nil
}

// choice returns the program that yields 1 for peers, and 0 for others. It runs on the datagram's
// payload; the IP header is at ipHeader.
func choice(peers []netip.Prefix) (prog []bpf.Instruction) {
	const ipHeader = 0xfff00000 // SKF_NET_OFF
	var v4, v6 []bpf.Instruction
	for _, p := range peers {
		if a := p.Addr(); a.Is4() {
			v4 = appendMatch(v4, ipHeader+12, a.AsSlice(), p.Bits())
		} else {
			v6 = appendMatch(v6, ipHeader+8, a.AsSlice(), p.Bits())
		}
	}
	v4, v6 = append(v4, bpf.RetConstant{Val: 0}), append(v6, bpf.RetConstant{Val: 0})
	prog = append(prog, bpf.LoadAbsolute{Off: ipHeader, Size: 1},
		bpf.ALUOpConstant{Op: bpf.ALUOpShiftRight, Val: 4},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: 4, SkipTrue: 1},
		bpf.Jump{Skip: uint32(len(v4))})
	return append(append(prog, v4...), v6...)
}

// appendMatch appends a test of an address in the packet, at off, which returns 1 if its first bits
// are those of addr.
func appendMatch(prog []bpf.Instruction, off uint32, addr []byte, bits int) []bpf.Instruction {
	words := (bits + 31) / 32
	for i := range words {
		mask := ^uint32(0) << max(0, 32*(i+1)-bits)
		left := words - 1 - i // words that are still to be tested: three instructions each
		prog = append(prog, bpf.LoadAbsolute{Off: off + uint32(4*i), Size: 4},
			bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: mask},
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: binary.BigEndian.Uint32(addr[4*i:]) & mask,
				SkipFalse: uint8(3*left + 1)})
	}
	return append(prog, bpf.RetConstant{Val: 1})
}

// Sender takes a datagram that is queued, and returns where it came from. It reports false if none
// is.
func (s *UDPSocket) Sender() (netip.Addr, bool) {
	var b [1]byte
	_, from, err := unix.Recvfrom(s.fd, b[:], unix.MSG_DONTWAIT|unix.MSG_TRUNC)
	if err != nil {
		return netip.Addr{}, false
	}
	switch a := from.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrFrom4(a.Addr), true
	case *unix.SockaddrInet6:
		return netip.AddrFrom16(a.Addr).Unmap(), true
	}
	return netip.Addr{}, true
}
