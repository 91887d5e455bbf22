package filter

import (
	"errors"
	"fmt"
	"slices"

	"golang.org/x/net/bpf"
)

// MaxCapturePorts is how many ports a CaptureSpec may have.
const MaxCapturePorts = 64

// ResponseLen is how much is kept of the server's packets where a CaptureSpec does not say: headers with
// all options, also behind BIG TCP's hop-by-hop header.
const ResponseLen = 128

// CaptureSpec says what the copier captures: clients' packets to the production ports, whole, and the
// server's packets from them, of which headers are enough.
type CaptureSpec struct {
	Ports []uint16 // at most MaxCapturePorts, at least one
	// AnyDirection takes packets whichever way they go. Without it clients' packets are those that come
	// in and the server's those that go out, so each is seen once, on loopback too. A host that forwards
	// (a bridge, a router, containers) or sees a mirror of others' traffic needs it.
	AnyDirection bool
	// ExcludeMark refuses packets whose mark is this, the copier's own; 0 refuses none.
	ExcludeMark uint32
	// ResponseLen is how many bytes of the server's packets are kept; 0 means the constant's.
	ResponseLen uint32
	NoResponses bool // leave the server's packets out
	// Encapsulated takes whole packets of GRE (with ERSPAN), and frames with 802.1Q tags within the one that
	// the kernel takes away, besides. What is within them nobody has looked at, Expr neither.
	Encapsulated bool
	// Expr must match as well; nil matches everything.
	Expr Expr
}

// Capture makes the copier's filter. It matches TCP over IPv4 and IPv6 (behind a hop-by-hop header too,
// which BIG TCP has); fragments are refused, since nothing reassembles them. It fails for a bad number of
// ports, and where Expr makes the program longer than MaxInstructions.
func Capture(spec CaptureSpec) (Program, error) {
	ports := slices.Clone(spec.Ports)
	slices.Sort(ports)
	ports = slices.Compact(ports)
	if len(ports) == 0 {
		return nil, errors.New("capture filter: no ports, want at least one")
	}
	if len(ports) > MaxCapturePorts {
		return nil, fmt.Errorf("capture filter: %d ports, want at most %d", len(ports), MaxCapturePorts)
	}
	responseLen := spec.ResponseLen
	if responseLen == 0 {
		responseLen = ResponseLen
	}

	var a assembler
	reject, v4, v6, compare := a.newLabel(), a.newLabel(), a.newLabel(), a.newLabel()
	other, notTCP, whole := reject, reject, reject
	if spec.Encapsulated {
		other, notTCP, whole = a.newLabel(), a.newLabel(), a.newLabel()
	}

	a.families(0, v4, v6, other)
	a.place(v4)
	a.emit(bpf.LoadAbsolute{Off: 9, Size: 1})
	a.jump(bpf.JumpEqual, protoTCP, next, notTCP)
	a.emit(bpf.LoadAbsolute{Off: 6, Size: 2})
	a.jump(bpf.JumpBitsSet, moreFragments|fragmentOffset, reject, next)
	a.emit(bpf.LoadMemShift{Off: 0})
	a.goTo(compare)

	a.place(v6)
	hop, direct := a.newLabel(), a.newLabel()
	a.emit(bpf.LoadAbsolute{Off: 6, Size: 1})
	a.jump(bpf.JumpEqual, protoTCP, direct, next)
	a.jump(bpf.JumpEqual, nextHopByHop, hop, notTCP)
	a.place(hop)
	a.emit(bpf.LoadAbsolute{Off: 40, Size: 1})
	a.jump(bpf.JumpEqual, protoTCP, next, reject)
	a.afterHopByHop()
	a.goTo(compare)
	a.place(direct)
	a.emit(bpf.LoadConstant{Dst: bpf.RegX, Val: 40})

	// X is the offset of the TCP header.
	a.place(compare)
	request, response, accept := a.newLabel(), a.newLabel(), a.newLabel()
	in, out := a.newLabel(), a.newLabel()
	if !spec.AnyDirection {
		a.emit(bpf.LoadExtension{Num: bpf.ExtType})
		a.jump(bpf.JumpEqual, packetOutgoing, out, in)
	}
	a.place(in)
	a.emit(bpf.LoadIndirect{Off: 2, Size: 2})
	if spec.AnyDirection {
		a.anyPort(ports, request, out)
	} else {
		a.anyPort(ports, request, reject)
	}
	a.place(out)
	if spec.NoResponses {
		a.goTo(reject)
	} else {
		a.emit(bpf.LoadIndirect{Off: 0, Size: 2})
		a.anyPort(ports, response, reject)
		a.place(response)
		a.emit(bpf.LoadConstant{Dst: bpf.RegA, Val: responseLen}, bpf.StoreScratch{Src: bpf.RegA, N: 0})
		a.goTo(accept)
	}
	a.place(request)
	a.emit(bpf.LoadConstant{Dst: bpf.RegA, Val: WholePacket}, bpf.StoreScratch{Src: bpf.RegA, N: 0})

	// What is to be returned is in the scratch memory.
	a.place(accept)
	a.excludeMark(spec.ExcludeMark, reject)
	if spec.Expr != nil {
		matched := a.newLabel()
		spec.Expr.gen(&a, matched, reject)
		a.place(matched)
	}
	a.emit(bpf.LoadScratch{Dst: bpf.RegA, N: 0}, bpf.RetA{})
	if spec.Encapsulated {
		a.place(other) // A is the EtherType
		for _, tag := range []uint32{etherTag, etherSTag, etherQinQ} {
			a.jump(bpf.JumpEqual, tag, whole, next)
		}
		a.goTo(reject)
		a.place(notTCP) // A is the protocol
		a.jump(bpf.JumpEqual, protoGRE, next, reject)
		a.place(whole)
		a.excludeMark(spec.ExcludeMark, reject)
		a.emit(bpf.RetConstant{Val: WholePacket})
	}
	a.place(reject)
	a.emit(bpf.RetConstant{Val: 0})

	p, err := a.assemble()
	if err != nil {
		return nil, fmt.Errorf("capture filter: %w", err)
	}
	return p, nil
}

// anyPort goes to t if A is one of the sorted ports, by halving them while there are many.
func (a *assembler) anyPort(ports []uint16, t, f label) {
	const few = 4
	if len(ports) > few {
		half := len(ports) / 2
		low, high := a.newLabel(), a.newLabel()
		a.jump(bpf.JumpGreaterOrEqual, uint32(ports[half]), high, low)
		a.place(low)
		a.anyPort(ports[:half], t, f)
		a.place(high)
		a.anyPort(ports[half:], t, f)
		return
	}
	for _, p := range ports[:len(ports)-1] {
		a.jump(bpf.JumpEqual, uint32(p), t, next)
	}
	a.jump(bpf.JumpEqual, uint32(ports[len(ports)-1]), t, f)
}
