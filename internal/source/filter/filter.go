// Package filter makes the classic BPF programs that choose what is captured.
//
// Compile reads a declared subset of pcap's filter expressions (see Parse) and refuses everything else by
// name. Capture makes the copier's own filter from ports, without an expression. Both are for packet
// sockets of the kind SOCK_DGRAM: a packet starts with its IP header, and its Ethernet type, direction,
// mark and VLAN tag are asked of the kernel. Program.Match runs a program on packets that come from
// elsewhere, a file for instance.
//
// The package attaches nothing to anything; the capture does. Whoever takes a filter from a user (the
// configuration) calls Parse or Compile to refuse a bad one early.
package filter

import (
	"fmt"

	"golang.org/x/net/bpf"
)

// MaxInstructions is how long a program the kernel takes (BPF_MAXINSNS). Before that it may refuse one
// with ENOMEM (net.core.optmem_max): 128 KB, the default, held 2,500 instructions here.
const MaxInstructions = 4096

// WholePacket is an accept length that no packet exceeds: tcpdump's own.
const WholePacket = 262144

// Options say what a compiled filter looks at beside the expression. The zero value is the expression
// alone, accepting whole packets.
type Options struct {
	// ExcludeMark refuses packets whose mark (SO_MARK) is this; 0 refuses none.
	ExcludeMark uint32
	// ExcludeOutgoing refuses packets that the host itself sends.
	ExcludeOutgoing bool
	// AcceptLen is how many bytes of a packet are kept; 0 means WholePacket.
	AcceptLen uint32
	// Whole, where it is set, matches those of the packets that are kept whole all the same.
	Whole Expr
}

// Program is a classic BPF program for a SOCK_DGRAM packet socket, at most MaxInstructions long. It
// returns how many bytes of a packet are to be kept: 0 refuses it.
type Program []bpf.RawInstruction

// Compile makes a program of a filter expression. Its errors are those of Parse and CompileExpr.
func Compile(expr string, o Options) (Program, error) {
	e, err := Parse(expr)
	if err != nil {
		return nil, err
	}
	return CompileExpr(e, o)
}

// CompileExpr is Compile for an expression that was parsed or put together. It fails where the program
// would be longer than MaxInstructions.
func CompileExpr(e Expr, o Options) (Program, error) {
	var a assembler
	accept, reject := a.newLabel(), a.newLabel()
	a.excludeMark(o.ExcludeMark, reject)
	if o.ExcludeOutgoing {
		a.emit(bpf.LoadExtension{Num: bpf.ExtType})
		a.jump(bpf.JumpEqual, packetOutgoing, reject, next)
	}
	e.gen(&a, accept, reject)
	a.place(accept)
	keep := o.AcceptLen
	if keep == 0 {
		keep = WholePacket
	}
	if o.Whole != nil {
		whole, part := a.newLabel(), a.newLabel()
		o.Whole.gen(&a, whole, part)
		a.place(whole)
		a.emit(bpf.RetConstant{Val: WholePacket})
		a.place(part)
	}
	a.emit(bpf.RetConstant{Val: keep})
	a.place(reject)
	a.emit(bpf.RetConstant{Val: 0})
	p, err := a.assemble()
	if err != nil {
		return nil, fmt.Errorf("compile filter: %w", err)
	}
	return p, nil
}

// excludeMark refuses packets with the mark; 0 stands for none.
func (a *assembler) excludeMark(mark uint32, reject label) {
	if mark != 0 {
		a.emit(bpf.LoadExtension{Num: bpf.ExtMark})
		a.jump(bpf.JumpEqual, mark, reject, next)
	}
}
