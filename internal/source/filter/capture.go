package filter

import (
	"errors"
	"fmt"
	"slices"

	"golang.org/x/net/bpf"
)

// MaxCapturePorts is the largest number of ports in a CaptureSpec.
const MaxCapturePorts = 64

// ResponseLen is how many bytes are kept of the server's packets by default: the headers with all
// options, also behind BIG TCP's hop-by-hop header.
const ResponseLen = 128

// CaptureSpec describes what the copier captures: whole packets of clients to the production ports,
// and the headers of the server's packets from those ports.
type CaptureSpec struct {
	Ports []uint16 // one to MaxCapturePorts
	// AnyDirection accepts packets in both directions. Without it, clients' packets are those that
	// come in and the server's those that go out, so that each is seen once, on loopback too. A
	// host that forwards (a bridge, a router, containers) or sees mirrored traffic needs it.
	AnyDirection bool
	// ExcludeMark refuses packets with this mark, which is the copier's own. 0 refuses none.
	ExcludeMark uint32
	// ResponseLen is how many bytes are kept of the server's packets. 0 means the constant
	// ResponseLen.
	ResponseLen uint32
	NoResponses bool // refuse the server's packets
	// Encapsulated also accepts whole GRE packets (ERSPAN among them), and frames with 802.1Q tags
	// besides the one that the kernel removes. Neither the ports nor Expr are tested inside them.
	Encapsulated bool
	// Expr must match too. Nil matches everything.
	Expr Expr
}

// Capture compiles the copier's filter. It matches TCP over IPv4 and IPv6, also behind a hop-by-hop
// header, which BIG TCP has. It refuses fragments, because nothing reassembles them. Capture fails
// for a bad number of ports, and if Expr makes the program longer than MaxInstructions.
func Capture(spec CaptureSpec) (Program, error) {
	spec.Ports = slices.Clone(spec.Ports)
	slices.Sort(spec.Ports)
	spec.Ports = slices.Compact(spec.Ports)
	if len(spec.Ports) == 0 {
		return nil, errors.New("capture filter: no ports, want at least one")
	}
	if len(spec.Ports) > MaxCapturePorts {
		return nil, fmt.Errorf("capture filter: %d ports, want at most %d",
			len(spec.Ports), MaxCapturePorts)
	}
	if spec.ResponseLen == 0 {
		spec.ResponseLen = ResponseLen
	}
	c := captureCompiler{spec: spec}
	c.reject = c.newLabel()
	c.other, c.notTCP = c.reject, c.reject
	if spec.Encapsulated {
		c.other, c.notTCP = c.newLabel(), c.newLabel()
	}
	c.findTCP()
	c.matchPorts()
	c.matchRest()
	c.emit(bpf.LoadScratch{Dst: bpf.RegA, N: 0}, bpf.RetA{})
	if spec.Encapsulated {
		c.matchEncapsulated()
	}
	c.place(c.reject)
	c.emit(bpf.RetConstant{Val: 0})

	p, err := c.assemble()
	if err != nil {
		return nil, fmt.Errorf("capture filter: %w", err)
	}
	return p, nil
}

// captureCompiler emits the program of a CaptureSpec.
type captureCompiler struct {
	assembler
	spec   CaptureSpec
	reject label
	other  label // neither IPv4 nor IPv6; A is the EtherType
	notTCP label // A is the protocol
}

// findTCP loads X with the offset of the TCP header.
func (c *captureCompiler) findTCP() {
	v4, v6, done := c.newLabel(), c.newLabel(), c.newLabel()
	c.families(0, v4, v6, c.other)
	c.place(v4)
	c.emit(bpf.LoadAbsolute{Off: 9, Size: 1})
	c.jump(bpf.JumpEqual, protoTCP, next, c.notTCP)
	c.emit(bpf.LoadAbsolute{Off: 6, Size: 2})
	c.jump(bpf.JumpBitsSet, moreFragments|fragmentOffset, c.reject, next)
	c.emit(bpf.LoadMemShift{Off: 0})
	c.goTo(done)

	c.place(v6)
	hop, direct := c.newLabel(), c.newLabel()
	c.emit(bpf.LoadAbsolute{Off: 6, Size: 1})
	c.jump(bpf.JumpEqual, protoTCP, direct, next)
	c.jump(bpf.JumpEqual, nextHopByHop, hop, c.notTCP)
	c.place(hop)
	c.emit(bpf.LoadAbsolute{Off: 40, Size: 1})
	c.jump(bpf.JumpEqual, protoTCP, next, c.reject)
	c.afterHopByHop()
	c.goTo(done)
	c.place(direct)
	c.emit(bpf.LoadConstant{Dst: bpf.RegX, Val: 40})
	c.place(done)
}

// matchPorts refuses packets of other ports and directions. It stores how many bytes to keep of the
// others in the scratch memory.
func (c *captureCompiler) matchPorts() {
	request, response, accept := c.newLabel(), c.newLabel(), c.newLabel()
	in, out := c.newLabel(), c.newLabel()
	if !c.spec.AnyDirection {
		c.emit(bpf.LoadExtension{Num: bpf.ExtType})
		c.jump(bpf.JumpEqual, packetOutgoing, out, in)
	}
	c.place(in)
	c.emit(bpf.LoadIndirect{Off: 2, Size: 2})
	if c.spec.AnyDirection {
		c.anyPort(c.spec.Ports, request, out)
	} else {
		c.anyPort(c.spec.Ports, request, c.reject)
	}
	c.place(out)
	if c.spec.NoResponses {
		c.goTo(c.reject)
	} else {
		c.emit(bpf.LoadIndirect{Off: 0, Size: 2})
		c.anyPort(c.spec.Ports, response, c.reject)
		c.place(response)
		c.keep(c.spec.ResponseLen)
		c.goTo(accept)
	}
	c.place(request)
	c.keep(WholePacket)
	c.place(accept)
}

// keep stores the number of bytes to keep of a packet.
func (c *captureCompiler) keep(n uint32) {
	c.emit(bpf.LoadConstant{Dst: bpf.RegA, Val: n}, bpf.StoreScratch{Src: bpf.RegA, N: 0})
}

// matchRest refuses packets by their mark and by the expression.
func (c *captureCompiler) matchRest() {
	c.excludeMark(c.spec.ExcludeMark, c.reject)
	if c.spec.Expr != nil {
		matched := c.newLabel()
		c.spec.Expr.gen(&c.assembler, matched, c.reject)
		c.place(matched)
	}
}

// matchEncapsulated accepts GRE packets and frames with a second VLAN tag.
func (c *captureCompiler) matchEncapsulated() {
	whole := c.newLabel()
	c.place(c.other)
	for _, tag := range []uint32{etherTag, etherSTag, etherQinQ} {
		c.jump(bpf.JumpEqual, tag, whole, next)
	}
	c.goTo(c.reject)
	c.place(c.notTCP)
	c.jump(bpf.JumpEqual, protoGRE, next, c.reject)
	c.place(whole)
	c.excludeMark(c.spec.ExcludeMark, c.reject)
	c.emit(bpf.RetConstant{Val: WholePacket})
}

// anyPort jumps to t if A is one of the sorted ports, and to f otherwise. It bisects a long list.
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
