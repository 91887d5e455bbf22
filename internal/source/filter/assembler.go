package filter

import (
	"fmt"

	"golang.org/x/net/bpf"
)

// label is a position in a program, which is known once the code before it has been emitted.
type label int

// next is the label of the instruction after the jump.
const next label = -1

// assembler collects instructions and jumps to labels. Jumps go forward only, as the kernel
// demands. A conditional jump reaches 255 instructions. One that must go further lands on an
// unconditional jump, which has no such limit.
type assembler struct {
	nodes  []node
	labels []int // for each label, the index in nodes of what follows it
}

// nodeKind is the kind of a node: an instruction, a conditional jump, or an unconditional one.
type nodeKind uint8

const (
	plain nodeKind = iota
	branch
	always
)

// node is an instruction or a jump.
type node struct {
	kind         nodeKind
	op           bpf.Instruction // of a plain node
	cond         bpf.JumpTest    // of a branch, with val
	val          uint32
	jt, jf       label // an always node uses jt
	longT, longF bool  // the branch needs a second jump to get there
}

// size returns the number of instructions that the node becomes.
func (n *node) size() int {
	size := 1
	if n.longT {
		size++
	}
	if n.longF {
		size++
	}
	return size
}

// newLabel returns a label that place must put somewhere.
func (a *assembler) newLabel() label {
	a.labels = append(a.labels, -1)
	return label(len(a.labels) - 1)
}

// place puts the label before the next instruction that is emitted.
func (a *assembler) place(l label) { a.labels[l] = len(a.nodes) }

// emit appends instructions.
func (a *assembler) emit(ops ...bpf.Instruction) {
	for _, op := range ops {
		a.nodes = append(a.nodes, node{op: op})
	}
}

// jump appends a jump to jt if A passes the test against val, and to jf otherwise.
func (a *assembler) jump(cond bpf.JumpTest, val uint32, jt, jf label) {
	a.nodes = append(a.nodes, node{kind: branch, cond: cond, val: val, jt: jt, jf: jf})
}

// goTo appends a jump to l.
func (a *assembler) goTo(l label) { a.nodes = append(a.nodes, node{kind: always, jt: l}) }

// assemble returns the program.
func (a *assembler) assemble() (Program, error) {
	if len(a.nodes) > MaxInstructions {
		return nil, tooLong(len(a.nodes))
	}
	pos := a.layOut()
	total := pos[len(a.nodes)]
	if total > MaxInstructions {
		return nil, tooLong(total)
	}
	ops := make([]bpf.Instruction, 0, total)
	for i, n := range a.nodes {
		at := pos[i] + 1
		t, f := a.distance(pos, at, n.jt), a.distance(pos, at, n.jf)
		switch n.kind {
		case plain:
			ops = append(ops, n.op)
		case always:
			ops = append(ops, bpf.Jump{Skip: uint32(t)})
		case branch:
			// A second jump for true comes first, then the one for false, then what follows.
			// A trampoline for true comes first, then the one for false, then what follows.
			j := bpf.JumpIf{Cond: n.cond, Val: n.val}
			extra := n.size() - 1
			switch {
			case n.longT:
				j.SkipTrue = 0
			case n.jt == next:
				j.SkipTrue = uint8(extra)
			default:
				j.SkipTrue = uint8(t)
			}
			switch {
			case n.longF:
				j.SkipFalse = uint8(extra - 1)
			case n.jf == next:
				j.SkipFalse = uint8(extra)
			default:
				j.SkipFalse = uint8(f)
			}
			ops = append(ops, j)
			if n.longT {
				ops = append(ops, bpf.Jump{Skip: uint32(t - 1)})
			}
			if n.longF {
				ops = append(ops, bpf.Jump{Skip: uint32(f - extra)})
			}
		}
	}
	raw, err := bpf.Assemble(ops)
	if err != nil {
		return nil, fmt.Errorf("assemble: %w", err)
	}
	return raw, nil
}

// layOut determines which jumps are long, and returns the position of each node. The last element
// is the program's length. Making one jump long can make another one long. It ends because no jump
// becomes short again.
func (a *assembler) layOut() []int {
	pos := make([]int, len(a.nodes)+1)
	for {
		for i := range a.nodes {
			pos[i+1] = pos[i] + a.nodes[i].size()
		}
		changed := false
		for i := range a.nodes {
			n := &a.nodes[i]
			if n.kind != branch {
				continue
			}
			at := pos[i] + 1
			if !n.longT && a.distance(pos, at, n.jt) > 255 {
				n.longT, changed = true, true
			}
			if !n.longF && a.distance(pos, at, n.jf) > 255 {
				n.longF, changed = true, true
			}
		}
		if !changed {
			return pos
		}
	}
}

// distance returns the number of instructions between at and the label.
func (a *assembler) distance(pos []int, at int, l label) int {
	if l == next {
		return 0
	}
	return pos[a.labels[l]] - at
}

func tooLong(n int) error {
	return fmt.Errorf("the program has at least %d instructions, want at most %d: use fewer or "+
		"simpler terms", n, MaxInstructions)
}
