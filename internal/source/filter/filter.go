// Package filter compiles classic BPF programs that select which packets are captured.
//
// Compile accepts a subset of pcap's filter expressions (see Parse) and refuses everything else,
// quoting the word. Capture compiles the copier's own filter from ports, without an expression. The
// programs are for packet sockets of type SOCK_DGRAM: a packet starts with its IP header, and the
// program asks the kernel for its Ethernet type, direction, mark and VLAN tag. Program.Match runs a
// program on packets from elsewhere, such as a file.
//
// The package attaches no program; the source does. Code that takes a filter from a user (package
// config) calls Parse or Compile, to refuse a bad one early.
package filter

import (
	"fmt"

	"golang.org/x/net/bpf"
)

// MaxInstructions is the longest program that the kernel accepts (BPF_MAXINSNS). It may refuse a
// shorter one with ENOMEM because of net.core.optmem_max: the default of 128 KB holds 2,500
// instructions.
const MaxInstructions = 4096

// WholePacket is a length that no packet exceeds; it is tcpdump's.
const WholePacket = 262144

// Options modify a compiled filter. The zero value is the expression alone, and accepts whole
// packets.
type Options struct {
	// ExcludeMark refuses packets with this mark (SO_MARK). 0 refuses none.
	ExcludeMark uint32
	// ExcludeOutgoing refuses packets that this host sends.
	ExcludeOutgoing bool
	// AcceptLen is how many bytes of a packet are kept. 0 means WholePacket.
	AcceptLen uint32
	// Whole selects accepted packets that are kept whole regardless of AcceptLen. Nil selects none.
	Whole Expr
}

// Program is a classic BPF program for a packet socket of type SOCK_DGRAM, of at most
// MaxInstructions. It returns how many bytes of a packet to keep; 0 refuses the packet.
type Program []bpf.RawInstruction

// Compile compiles a filter expression. Its errors are those of Parse and CompileExpr.
func Compile(expr string, o Options) (Program, error) {
	e, err := Parse(expr)
	if err != nil {
		return nil, err
	}
	return CompileExpr(e, o)
}

// CompileExpr compiles an Expr. It fails if the program is longer than MaxInstructions.
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

// excludeMark refuses packets with the mark. 0 refuses none.
func (a *assembler) excludeMark(mark uint32, reject label) {
	if mark != 0 {
		a.emit(bpf.LoadExtension{Num: bpf.ExtMark})
		a.jump(bpf.JumpEqual, mark, reject, next)
	}
}
