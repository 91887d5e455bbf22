package collect

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/xt"

	"tcpcopy/internal/sys"
)

// legacyRules adds the tables of iptables' older kind, which are not kept in nftables.
func (s *ruleset) legacyRules() error {
	for _, v6 := range []bool{false, true} {
		file, command := "ip_tables_names", "iptables"
		if v6 {
			file, command = "ip6_tables_names", "ip6tables"
		}
		names, err := os.ReadFile("/proc/thread-self/net/" + file)
		if err != nil {
			continue // its module is not loaded
		}
		command = legacyCommand(command, "")
		for _, name := range strings.Fields(string(names)) {
			t, err := sys.ReadIPTable(name, v6)
			if err != nil {
				return err
			}
			chains, err := legacyChains(name, command, v6, t)
			if err != nil {
				return fmt.Errorf("read the table %s of %s: %w", name, command, err)
			}
			s.chains = append(s.chains, chains...)
		}
	}
	return nil
}

// legacyCommand returns the name of a command of iptables' older kind: another than its plain name
// where both kinds are installed.
func legacyCommand(kind, what string) string {
	if _, err := exec.LookPath(kind + "-legacy" + what); err == nil {
		return kind + "-legacy" + what
	}
	return kind + what
}

// layout is where a rule of iptables has what: struct ipt_entry, or struct ip6t_entry.
type layout struct {
	address                 int // bytes of one; at 0 are source, destination, and their masks
	in                      int // interface that packets come in on, the other one, their masks
	protocol, flags, invert int
	target, counters, end   int
}

var (
	layout4 = layout{4, 16, 80, 82, 83, 88, 96, 112}
	layout6 = layout{16, 64, 128, 131, 132, 140, 152, 168}
)

// From linux/netfilter/x_tables.h, ip_tables.h and ip6_tables.h.
const (
	flagFragment         = 1 // of IPv4
	flagGoto4, flagGoto6 = 2, 4
	// what a rule inverts
	invertIn, invertSource, invertDestination, invertProtocol = 1, 8, 0x10, 0x40

	deviceName = 16
	// a match or a target: its size, its name, its revision, then its own bytes
	extensionName, extensionNameLength, extensionRevision, extensionHeader = 2, 29, 31, 32

	verdictDrop, verdictAccept, verdictQueue, verdictReturn = -1, -2, -4, -5
)

var (
	legacyHooks = [5]*nftables.ChainHook{
		nftables.ChainHookPrerouting, nftables.ChainHookInput, nftables.ChainHookForward,
		nftables.ChainHookOutput, nftables.ChainHookPostrouting,
	}
	legacyNames = [5]string{"PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"}
	// legacyOrder are the priorities of the tables at a hook.
	legacyOrder = map[string]int{"raw": -300, "mangle": -150, "nat": -100, "security": 50}
)

// legacyReader reads the rules of one table.
type legacyReader struct {
	table, command string
	v6             bool
	at             *layout
	t              *sys.IPTable
	chains         []chain
	starts         map[int]string // of chains, by the offset of their first rule
	open           bool           // a chain has begun, and its end has not come
	jumps          []jump
}

// jump is a rule that jumps to the chain that begins at an offset.
type jump struct {
	verdict *expr.Verdict
	to      int
}

// legacyChains returns a table's chains, with rules as nftables would have them.
func legacyChains(name, command string, v6 bool, t *sys.IPTable) ([]chain, error) {
	r := legacyReader{
		table: name, command: command, v6: v6, at: &layout4, t: t, starts: map[int]string{},
	}
	if v6 {
		r.at = &layout6
	}
	for o := 0; o < len(t.Entries); {
		e := t.Entries[o:]
		if len(e) < r.at.end {
			return nil, fmt.Errorf("a rule at %d of %d bytes is cut", o, len(t.Entries))
		}
		target := int(binary.NativeEndian.Uint16(e[r.at.target:]))
		next := int(binary.NativeEndian.Uint16(e[r.at.target+2:]))
		if target < r.at.end || next < target+extensionHeader || next > len(e) {
			return nil, fmt.Errorf("a rule at %d has its target at %d, and ends at %d", o, target,
				next)
		}
		r.entry(o, e[:next], target)
		o += next
	}
	for _, j := range r.jumps { // some lead forward
		j.verdict.Chain = r.starts[j.to]
	}
	return r.chains, nil
}

// entry reads one rule, which may begin or end a chain.
func (r *legacyReader) entry(o int, e []byte, target int) {
	for h := range r.t.HookEntry {
		if r.t.Hooks&(1<<h) != 0 && int(r.t.HookEntry[h]) == o {
			c := r.chain(o, legacyNames[h])
			c.base, c.hook, c.filter = true, *legacyHooks[h], r.table != "nat"
			c.prio = legacyOrder[r.table]
		}
	}
	name := text(e[target+extensionName:], extensionNameLength)
	if name == "ERROR" { // a chain of the user's begins behind it; the last one ends the table
		r.chain(o+len(e), text(e[target+extensionHeader:], len(e)))
		return
	}
	if len(r.chains) == 0 || !r.open {
		return
	}
	c := &r.chains[len(r.chains)-1]
	for h := range r.t.Underflow {
		if c.base && r.t.Hooks&(1<<h) != 0 && int(r.t.Underflow[h]) == o {
			c.drop = standard(e[target:]) == verdictDrop
			r.open = false
			return
		}
	}
	x := rule{
		handle: uint64(len(c.rules) + 1),
		count:  int(binary.NativeEndian.Uint64(e[r.at.counters:])),
	}
	if r.v6 || e[r.at.flags]&flagFragment == 0 { // else it matches no packet with ports
		x.exprs = append(r.header(e), r.extensions(e[r.at.end:target])...)
		x.exprs = append(x.exprs, r.target(e, e[target:], name))
	}
	c.rules = append(c.rules, x)
}

// chain begins a chain.
func (r *legacyReader) chain(o int, name string) *chain {
	family := nftables.TableFamilyIPv4
	if r.v6 {
		family = nftables.TableFamilyIPv6
	}
	r.starts[o], r.open = name, true
	r.chains = append(r.chains, chain{
		family: family, table: r.table, name: name, legacy: r.command,
	})
	return &r.chains[len(r.chains)-1]
}

// header returns what the rule asks of addresses, interfaces and the protocol.
func (r *legacyReader) header(e []byte) (all []expr.Any) {
	inverted := e[r.at.invert]
	compare := func(v, mask []byte, invert bool) {
		v = bytes.Clone(v)
		for i := range v {
			v[i] &= mask[i]
		}
		op := expr.CmpOpEq
		if invert {
			op = expr.CmpOpNeq
		}
		all = append(all,
			&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: uint32(len(v)), Mask: mask,
				Xor: make([]byte, len(v))},
			&expr.Cmp{Op: op, Register: 1, Data: v})
	}
	n := r.at.address
	first := uint32(12) // of the addresses in the packet's header
	if r.v6 {
		first = 8
	}
	for i, flag := range []byte{invertSource, invertDestination} {
		v, mask := e[i*n:(i+1)*n], e[(i+2)*n:(i+3)*n]
		if selects(mask) {
			all = append(all, &expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader,
				Offset: first + uint32(i*n), Len: uint32(n)})
			compare(v, mask, inverted&flag != 0)
		}
	}
	for i, key := range []expr.MetaKey{expr.MetaKeyIIFNAME, expr.MetaKeyOIFNAME} {
		o := r.at.in + i*deviceName
		v, mask := e[o:o+deviceName], e[o+2*deviceName:o+3*deviceName]
		if selects(mask) {
			all = append(all, &expr.Meta{Key: key, Register: 1})
			compare(v, mask, inverted&(invertIn<<i) != 0)
		}
	}
	if p := binary.NativeEndian.Uint16(e[r.at.protocol:]); p != 0 {
		all = append(all, &expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1})
		compare([]byte{byte(p)}, []byte{0xff}, inverted&invertProtocol != 0)
	}
	return all
}

// extensions returns what the rule's matches ask.
func (r *legacyReader) extensions(b []byte) (all []expr.Any) {
	family := xt.TableFamily(nftables.TableFamilyIPv4)
	if r.v6 {
		family = xt.TableFamily(nftables.TableFamilyIPv6)
	}
	for len(b) >= extensionHeader {
		size := int(binary.NativeEndian.Uint16(b))
		if size < extensionHeader || size > len(b) {
			return append(all, &expr.Match{Name: "a match that cannot be read"})
		}
		m := &expr.Match{
			Name: text(b[extensionName:], extensionNameLength), Rev: uint32(b[extensionRevision]),
		}
		info, err := xt.Unmarshal(m.Name, family, m.Rev, b[extensionHeader:size])
		if err == nil {
			m.Info = info
		}
		all = append(all, m)
		b = b[size:]
	}
	return all
}

// target returns what the rule does.
func (r *legacyReader) target(e, target []byte, name string) expr.Any {
	if name != "" {
		x := &expr.Target{Name: name, Rev: uint32(target[extensionRevision])}
		if name == "DNAT" || name == "REDIRECT" {
			x.Info = legacyRange(target[extensionHeader:], r.v6, !r.v6 && x.Rev == 0)
		}
		return x
	}
	v := standard(target)
	switch {
	case v == verdictAccept:
		return &expr.Verdict{Kind: expr.VerdictAccept}
	case v == verdictDrop:
		return &expr.Verdict{Kind: expr.VerdictDrop}
	case v == verdictReturn:
		return &expr.Verdict{Kind: expr.VerdictReturn}
	case v < 0:
		return &expr.Verdict{Kind: expr.VerdictQueue}
	}
	kind, goes := expr.VerdictJump, byte(flagGoto4)
	if r.v6 {
		goes = flagGoto6
	}
	if e[r.at.flags]&goes != 0 {
		kind = expr.VerdictGoto
	}
	j := jump{&expr.Verdict{Kind: kind}, v}
	r.jumps = append(r.jumps, j)
	return j.verdict
}

// standard returns the verdict of a target that has no name; below 0, or the offset of a chain.
func standard(target []byte) int {
	if len(target) < extensionHeader+4 {
		return verdictQueue
	}
	return int(int32(binary.NativeEndian.Uint32(target[extensionHeader:])))
}

// text returns a text that ends at a zero.
func text(b []byte, most int) string {
	b = b[:min(most, len(b))]
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	return string(b)
}

// selects reports whether a mask selects anything.
func selects(mask []byte) bool { return len(bytes.Trim(mask, "\x00")) > 0 }
