package filter

import (
	"fmt"

	"golang.org/x/net/bpf"
)

// label is a place in a program that is known only once the code up to it is written.
type label int

// next is the instruction after the jump.
const next label = -1

// assembler collects instructions with jumps to labels. Jumps only go forward, as the kernel demands. A
// conditional jump reaches 255 instructions; one that must go further gets an unconditional one, which
// has no such limit, to land on.
type assembler struct {
	nodes  []node
	labels []int // the index in nodes of what follows the label
}

type nodeKind uint8

const (
	plain nodeKind = iota
	branch
	always
)

type node struct {
	kind         nodeKind
	op           bpf.Instruction // of plain
	cond         bpf.JumpTest    // of branch, with val
	val          uint32
	jt, jf       label // always uses jt
	longT, longF bool  // the jump needs one to land on
}

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

func (a *assembler) newLabel() label {
	a.labels = append(a.labels, -1)
	return label(len(a.labels) - 1)
}

// place puts l before the instruction that is emitted next.
func (a *assembler) place(l label) { a.labels[l] = len(a.nodes) }

func (a *assembler) emit(ops ...bpf.Instruction) {
	for _, op := range ops {
		a.nodes = append(a.nodes, node{op: op})
	}
}

// jump goes to jt if A passes the test against val, else to jf.
func (a *assembler) jump(cond bpf.JumpTest, val uint32, jt, jf label) {
	a.nodes = append(a.nodes, node{kind: branch, cond: cond, val: val, jt: jt, jf: jf})
}

func (a *assembler) goTo(l label) { a.nodes = append(a.nodes, node{kind: always, jt: l}) }

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

// layOut finds out which jumps are long and returns each node's place; the last is the program's length.
// Making one jump long can make another so; it ends because none ever becomes short again.
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

// distance is how many instructions lie between at and the label.
func (a *assembler) distance(pos []int, at int, l label) int {
	if l == next {
		return 0
	}
	return pos[a.labels[l]] - at
}

func tooLong(n int) error {
	return fmt.Errorf("the program has at least %d instructions, want at most %d: use fewer or simpler terms", n, MaxInstructions)
}
