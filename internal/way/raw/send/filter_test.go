package send_test

import "golang.org/x/net/bpf"

// notMarked is a filter that accepts all packets but those with the mark.
func notMarked(mark uint32) []bpf.RawInstruction {
	const (
		loadWord = 0x20            // BPF_LD | BPF_W | BPF_ABS
		markOff  = 0xfffff000 + 20 // SKF_AD_OFF + SKF_AD_MARK
		jumpEq   = 0x15            // BPF_JMP | BPF_JEQ | BPF_K
		ret      = 0x06            // BPF_RET | BPF_K
	)
	return []bpf.RawInstruction{
		{Op: loadWord, K: markOff},
		{Op: jumpEq, Jt: 0, Jf: 1, K: mark},
		{Op: ret, K: 0},
		{Op: ret, K: 0x40000},
	}
}
