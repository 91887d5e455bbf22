package collect

import (
	"encoding/binary"

	"github.com/google/nftables/expr"
	"github.com/google/nftables/xt"
)

// match runs a match of iptables. Of most only the name is known.
func (m *machine) match(e *expr.Match) certainty {
	switch x := e.Info.(type) {
	case *xt.Tcp:
		return m.matchTCP(x)
	case *xt.ConntrackMtinfo1:
		return m.matchState(&x.ConntrackMtinfoBase, uint32(x.StateMask))
	case *xt.ConntrackMtinfo2:
		return m.matchState(&x.ConntrackMtinfoBase, uint32(x.StateMask))
	case *xt.ConntrackMtinfo3:
		return m.matchState(&x.ConntrackMtinfoBase, uint32(x.StateMask))
	case *xt.Unknown:
		switch {
		case e.Name == "state" && len(*x) >= 4:
			return m.matchState(nil, binary.NativeEndian.Uint32(*x))
		case e.Name == "multiport" && e.Rev == 1:
			return m.matchPorts(*x)
		}
	}
	if e.Name == "comment" {
		return yes
	}
	return maybe
}

// within compares a port, which is 0 if it is not known, with a range.
func within(n uint16, low, high uint16) certainty {
	switch {
	case low == 0 && high == 0xffff:
		return yes
	case n == 0:
		return maybe
	}
	return pick(n >= low && n <= high, yes, no)
}

func (m *machine) matchTCP(t *xt.Tcp) certainty {
	p := m.probe
	result := both(
		negated(within(p.sport, t.SrcPorts[0], t.SrcPorts[1]), t.InvFlags&xt.TcpInvSrcPorts != 0),
		negated(within(p.dport, t.DstPorts[0], t.DstPorts[1]), t.InvFlags&xt.TcpInvDestPorts != 0))
	if t.FlagsMask != 0 {
		flags := pick[byte](p.answer, 0x12, 0x02)
		result = both(result, negated(pick(t.FlagsCmp == flags&t.FlagsMask, yes, no),
			t.InvFlags&xt.TcpInvFlags != 0))
	}
	if t.Option != 0 {
		result = both(result, maybe)
	}
	return result
}

// matchState compares the state of conntrack. The bits of iptables are those of nftables, but for
// packets that are not tracked.
func (m *machine) matchState(x *xt.ConntrackMtinfoBase, states uint32) certainty {
	const untracked = 1 << 8
	const known = uint16(xt.ConntrackState | xt.ConntrackStateAlias)
	state := m.probe.state
	switch {
	case x != nil && x.MatchFlags&^known != 0, state == 0:
		return maybe
	case state == stateUntracked:
		state = untracked
	}
	return negated(pick(states&state != 0, yes, no),
		x != nil && x.InvertFlags&uint16(xt.ConntrackState) != 0)
}

// matchPorts runs struct xt_multiport_v1: flags, count, 15 ports, 15 marks of a range's begin, and
// whether it is inverted.
func (m *machine) matchPorts(b []byte) certainty {
	const ports, marks, invert, size = 2, 32, 47, 48
	const source, destination = 0, 1 // else either
	if len(b) < size {
		return maybe
	}
	one := func(n uint16) certainty {
		result := no
		for i := 0; i < int(min(b[1], 15)); i++ {
			low := binary.NativeEndian.Uint16(b[ports+2*i:])
			high := low
			if b[marks+i] != 0 && i+1 < 15 {
				i++
				high = binary.NativeEndian.Uint16(b[ports+2*i:])
			}
			result = max(result, within(n, low, high))
		}
		return result
	}
	var result certainty
	switch b[0] {
	case source:
		result = one(m.probe.sport)
	case destination:
		result = one(m.probe.dport)
	default:
		result = max(one(m.probe.sport), one(m.probe.dport))
	}
	return negated(result, b[invert] != 0)
}
