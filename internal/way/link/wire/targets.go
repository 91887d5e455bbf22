package wire

import (
	"encoding/binary"
	"fmt"
	"net/netip"
)

// Targets replaces the targets of a copier's Hello. An intercept that does not know the message
// ignores it.
type Targets struct {
	List []netip.AddrPort
}

// Append appends the message as a frame. At most MaxHelloList targets are sent.
func (t *Targets) Append(dst []byte) []byte {
	start := len(dst)
	list := t.List[:min(len(t.List), MaxHelloList)]
	dst = binary.BigEndian.AppendUint16(begin(dst, TypeTargets, Skippable), uint16(len(list)))
	for _, a := range list {
		dst = appendAddrPort(dst, a)
	}
	return end(dst, start)
}

// Decode reads the body of a Targets.
func (t *Targets) Decode(body []byte) error {
	c := cursor{b: body}
	*t = Targets{}
	n := int(c.u16())
	if n > MaxHelloList {
		return fmt.Errorf("%w in targets: %d targets, want at most %d", ErrValue, n, MaxHelloList)
	}
	for i := 0; i < n && !c.short && !c.bad; i++ {
		t.List = append(t.List, c.addrPort())
	}
	return c.err(TypeTargets)
}
