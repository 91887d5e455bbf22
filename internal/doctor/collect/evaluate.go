package collect

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
)

// probe is a TCP packet whose fate is asked for. Addresses and names that are not valid are not
// known.
type probe struct {
	src, dst     netip.Addr
	sport, dport uint16 // 0: not known
	in, out      string // interfaces
	mark         uint32
	state        uint32 // of conntrack, as a bit
	answer       bool   // a SYN-ACK, else a SYN
	v6           bool
}

// The states of conntrack that rules compare (linux/netfilter/nf_conntrack_common.h).
const (
	stateEstablished = 1 << 1
	stateNew         = 1 << 3
	stateUntracked   = 1 << 6
)

// fate is what a rule, a chain or a firewall does with a packet.
type fate struct {
	action string // accept, drop, reject, unknown; empty: nothing, the next rule decides
	chain  *chain
	handle uint64 // of the rule; 0: the policy
	hits   int
	why    string // of unknown
	// perhaps is what it does if a rule matches of which that is not known; empty: several things.
	perhaps string
}

// certainty is the outcome of a comparison.
type certainty uint8

const (
	no certainty = iota
	yes
	maybe
)

// judge follows the firewall's rules at the hooks, in order. before has the counters as they were
// earlier: a rule that has not counted meanwhile has not matched.
func (s *ruleset) judge(p *probe, before *ruleset, hooks ...*nftables.ChainHook) fate {
	var doubt fate
	for _, hook := range hooks {
		for i := range s.chains {
			c := &s.chains[i]
			if !c.base || c.hook != *hook || !c.filter || !c.applies(p) {
				continue
			}
			f := s.walk(c, p, before, 0)
			f = f.orPolicy(c)
			switch {
			case f.action == "unknown" && f.perhaps != "accept":
				doubt = f
			case f.action == "drop" || f.action == "reject":
				if doubt.action != "" && doubt.perhaps != "drop" && doubt.perhaps != "reject" {
					return doubt
				}
				return f
			}
		}
	}
	if doubt.action != "" {
		return doubt
	}
	return fate{action: "accept"}
}

// orPolicy returns what a base chain does at its end.
func (f fate) orPolicy(c *chain) fate {
	policy := fate{action: "drop", chain: c, hits: -1}
	switch {
	case c.drop && (f.action == "" || f.perhaps == "drop" || f.perhaps == "reject"):
		return policy
	case c.drop && f.action == "unknown":
		f.perhaps = ""
	}
	return f
}

func (c *chain) applies(p *probe) bool {
	switch c.family {
	case nftables.TableFamilyINet:
		return true
	case nftables.TableFamilyIPv4:
		return !p.v6
	case nftables.TableFamilyIPv6:
		return p.v6
	}
	return false
}

const mostJumps = 16

// walk follows the rules of a chain. An empty action means that it came to the chain's end.
func (s *ruleset) walk(c *chain, p *probe, before *ruleset, depth int) fate {
	if c == nil || depth > mostJumps {
		return fate{action: "unknown", why: "a chain is not known"}
	}
	var doubt fate
	for i := range c.rules {
		r := &c.rules[i]
		m := machine{set: s, chain: c, probe: p}
		sure := m.run(r.exprs)
		hits := -1
		if was := before.count(c, r.handle); was >= 0 && r.count >= 0 {
			hits = r.count - was
		}
		if sure == no || m.verdict == nil && !m.reject || sure == maybe && hits == 0 {
			continue
		}
		f := s.follow(&m, before, depth)
		if f.action == "" {
			if m.verdict != nil && m.verdict.Kind == expr.VerdictReturn && sure == yes {
				break
			}
			continue
		}
		if f.chain == nil {
			f.chain, f.handle, f.hits = c, r.handle, hits
		}
		if sure == maybe && f.action != "unknown" {
			f = fate{action: "unknown", perhaps: f.action, why: "whether rule " +
				c.ruleWords(r.handle) + " (" + f.action + ") matches is not known"}
		}
		switch {
		case f.action == "unknown":
			if doubt.action != "" && doubt.perhaps != f.perhaps {
				f.perhaps = ""
			}
			doubt = f
		case doubt.action == "" || doubt.perhaps == f.action:
			return f
		default:
			doubt.perhaps = ""
			return doubt
		}
	}
	return doubt
}

// follow returns what a rule that matches does.
func (s *ruleset) follow(m *machine, before *ruleset, depth int) fate {
	if m.reject {
		return fate{action: "reject"}
	}
	switch m.verdict.Kind {
	case expr.VerdictAccept:
		return fate{action: "accept"}
	case expr.VerdictDrop:
		return fate{action: "drop"}
	case expr.VerdictJump, expr.VerdictGoto:
		return s.walk(s.find(m.chain, m.verdict.Chain), m.probe, before, depth+1)
	case expr.VerdictQueue, expr.VerdictStolen:
		return fate{action: "unknown", why: "another program decides, through a queue"}
	}
	return fate{}
}

// machine runs the expressions of a rule on registers, of which some bytes may not be known.
type machine struct {
	set     *ruleset
	chain   *chain
	probe   *probe
	value   [64]byte
	known   [64]bool
	verdict *expr.Verdict
	reject  bool
}

// at returns the offset of a register.
func at(register uint32) int {
	if register >= 8 {
		return min(int(register-8)*4, 60)
	}
	return min(int(max(register, 1)-1)*16, 48)
}

// put sets a register; nil is not known.
func (m *machine) put(register uint32, v []byte, size int) {
	o := at(register)
	for i := 0; i < max(len(v), size) && o+i < len(m.value); i++ {
		m.known[o+i] = i < len(v)
		if i < len(v) {
			m.value[o+i] = v[i]
		}
	}
}

// get returns a register, and whether all of it is known.
func (m *machine) get(register uint32, size int) (v []byte, known bool) {
	o := at(register)
	end := min(o+size, len(m.value))
	return m.value[o:end], !slices.Contains(m.known[o:end], false)
}

// run runs a rule's expressions, and returns whether it matches.
func (m *machine) run(all []expr.Any) certainty {
	result := yes
	for _, e := range all {
		switch m.step(e) {
		case no:
			return no
		case maybe:
			result = maybe
		}
	}
	return result
}

func (m *machine) step(e expr.Any) certainty {
	switch e := e.(type) {
	case *expr.Meta:
		if !e.SourceRegister {
			m.put(e.Register, m.meta(e.Key), 16)
		}
	case *expr.Payload:
		if e.OperationType == expr.PayloadLoad {
			m.put(e.DestRegister, m.payload(e), int(e.Len))
		}
	case *expr.Ct:
		if !e.SourceRegister {
			m.put(e.Register, m.ct(e.Key), 16)
		}
	case *expr.Bitwise:
		m.bitwise(e)
	case *expr.Cmp:
		return m.compare(e.Op, e.Register, e.Data)
	case *expr.Range:
		low, high := m.compare(expr.CmpOpGte, e.Register, e.FromData),
			m.compare(expr.CmpOpLte, e.Register, e.ToData)
		return negated(both(low, high), e.Op == expr.CmpOpNeq)
	case *expr.Lookup:
		return m.lookup(e)
	case *expr.Verdict:
		m.verdict = e
	case *expr.Reject:
		m.reject = true
	case *expr.Immediate:
		m.put(e.Register, e.Data, len(e.Data))
	case *expr.Target:
		m.reject = e.Name == "REJECT"
		if e.Name == "NFQUEUE" {
			m.verdict = &expr.Verdict{Kind: expr.VerdictQueue}
		}
	case *expr.Match:
		return m.match(e)
	case *expr.Counter, *expr.Log, *expr.Notrack:
	default:
		return maybe
	}
	return yes
}

// meta returns what the kernel knows of the packet besides its bytes; nil: not known.
func (m *machine) meta(k expr.MetaKey) []byte {
	p := m.probe
	switch k {
	case expr.MetaKeyL4PROTO:
		return []byte{6}
	case expr.MetaKeyNFPROTO:
		return []byte{pick[byte](p.v6, 10, 2)}
	case expr.MetaKeyPROTOCOL:
		return binary.BigEndian.AppendUint16(nil, pick[uint16](p.v6, 0x86dd, 0x0800))
	case expr.MetaKeyMARK:
		return binary.NativeEndian.AppendUint32(nil, p.mark)
	case expr.MetaKeyIIFNAME:
		if p.in != "" {
			return device(p.in)
		}
	case expr.MetaKeyOIFNAME:
		if p.out != "" {
			return device(p.out)
		}
	}
	return nil
}

func pick[T any](first bool, a, b T) T {
	if first {
		return a
	}
	return b
}

// ct returns what conntrack knows of the packet; nil: not known.
func (m *machine) ct(k expr.CtKey) []byte {
	if k == expr.CtKeySTATE && m.probe.state != 0 {
		return binary.NativeEndian.AppendUint32(nil, m.probe.state)
	}
	return nil
}

// payload returns bytes of the packet's headers; nil: not known.
func (m *machine) payload(e *expr.Payload) []byte {
	p := m.probe
	addr := func(a netip.Addr) []byte {
		if !a.IsValid() {
			return nil
		}
		return a.AsSlice()[:min(int(e.Len), a.BitLen()/8)]
	}
	port := func(n uint16) []byte {
		if n == 0 {
			return nil
		}
		return binary.BigEndian.AppendUint16(nil, n)
	}
	if e.Base == expr.PayloadBaseTransportHeader {
		switch {
		case e.Offset == 0 && e.Len == 2:
			return port(p.sport)
		case e.Offset == 2 && e.Len == 2:
			return port(p.dport)
		case e.Offset == 13 && e.Len == 1:
			return []byte{pick[byte](p.answer, 0x12, 0x02)}
		}
		return nil
	}
	if e.Base != expr.PayloadBaseNetworkHeader {
		return nil
	}
	source, destination, protocol := uint32(12), uint32(16), uint32(9)
	if p.v6 {
		source, destination, protocol = 8, 24, 6
	}
	switch e.Offset {
	case source:
		return addr(p.src)
	case destination:
		return addr(p.dst)
	case protocol:
		return []byte{6}
	case 6:
		if !p.v6 && e.Len == 2 {
			return []byte{0x40, 0} // no fragment, and it may not become one
		}
	}
	return nil
}

func (m *machine) bitwise(e *expr.Bitwise) {
	v, _ := m.get(e.SourceRegister, int(e.Len))
	o := at(e.SourceRegister)
	var out [64]byte
	known := true
	for i := range v {
		var mask, xor byte
		if i < len(e.Mask) {
			mask = e.Mask[i]
		}
		if i < len(e.Xor) {
			xor = e.Xor[i]
		}
		known = known && (m.known[o+i] || mask == 0)
		out[i] = v[i]&mask ^ xor
	}
	if known {
		m.put(e.DestRegister, out[:len(v)], len(v))
	} else {
		m.put(e.DestRegister, nil, len(v))
	}
}

func (m *machine) compare(op expr.CmpOp, register uint32, data []byte) certainty {
	v, known := m.get(register, len(data))
	if !known {
		return maybe
	}
	c := bytes.Compare(v, data)
	truth := map[expr.CmpOp]bool{
		expr.CmpOpEq: c == 0, expr.CmpOpNeq: c != 0, expr.CmpOpLt: c < 0, expr.CmpOpLte: c <= 0,
		expr.CmpOpGt: c > 0, expr.CmpOpGte: c >= 0,
	}[op]
	return pick(truth, yes, no)
}

// lookup looks a register up in a set. Of a map with verdicts it takes the verdict.
func (m *machine) lookup(e *expr.Lookup) certainty {
	s, ok := m.set.sets[setKey(m.chain.family, m.chain.table, e.SetName)]
	if !ok || s.concatenated || e.IsDestRegSet && e.DestRegister != 0 {
		return maybe
	}
	found := no
	if len(s.elements) > 0 {
		v, known := m.get(e.SourceRegister, len(s.elements[0].Key))
		if !known {
			return maybe
		}
		x := s.find(v)
		found = pick(x != nil, yes, no)
		if x != nil && e.IsDestRegSet {
			if m.verdict = verdictOf(x.Val); m.verdict == nil {
				return maybe
			}
		}
	}
	return negated(found, e.Invert)
}

// verdictOf reads the value of an element of a map of verdicts. It returns nil if it is none.
func verdictOf(value []byte) *expr.Verdict {
	attributes, err := netlink.UnmarshalAttributes(value)
	if err != nil {
		return nil
	}
	const code, chain = 1, 2 // NFTA_VERDICT_CODE, NFTA_VERDICT_CHAIN
	var v *expr.Verdict
	for _, a := range attributes {
		switch {
		case a.Type == code && len(a.Data) == 4:
			v = &expr.Verdict{Kind: expr.VerdictKind(int32(binary.BigEndian.Uint32(a.Data)))}
		case a.Type == chain && v != nil:
			v.Chain = string(bytes.TrimRight(a.Data, "\x00"))
		}
	}
	return v
}

// find returns the element that has the value, or nil. An interval is a pair of elements: its first
// value, and the one after its last, marked as an end.
func (s *set) find(v []byte) *nftables.SetElement {
	var best *nftables.SetElement
	for i := range s.elements {
		x := &s.elements[i]
		switch {
		case !s.interval:
			if bytes.Equal(x.Key, v) {
				return x
			}
		case bytes.Compare(x.Key, v) <= 0:
			if best == nil || bytes.Compare(x.Key, best.Key) > 0 ||
				bytes.Equal(x.Key, best.Key) && best.IntervalEnd {
				best = x
			}
		}
	}
	if best != nil && best.IntervalEnd {
		return nil
	}
	return best
}

func both(a, b certainty) certainty {
	switch {
	case a == no || b == no:
		return no
	case a == maybe || b == maybe:
		return maybe
	}
	return yes
}

func negated(a certainty, really bool) certainty {
	switch {
	case !really || a == maybe:
		return a
	case a == yes:
		return no
	}
	return yes
}
