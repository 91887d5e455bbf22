package localroute

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"syscall"

	"github.com/mdlayher/netlink"
)

// From linux/rtnetlink.h and linux/fib_rules.h.
const (
	netlinkRoute = 0
	newRoute     = 24
	delRoute     = 25
	getRoute     = 26
	newRule      = 32
	delRule      = 33
	getRule      = 34

	rtnLocal     = 2
	rtnBlackhole = 6
	scopeHost    = 254
	toTable      = 1 // FR_ACT_TO_TBL

	rtaOif, rtaPriority, rtaTable = 4, 6, 15

	fraSrc, fraIif, fraPriority, fraFwmark   = 2, 3, 6, 10
	fraTable, fraFwmask, fraProtocol         = 15, 16, 21
	fraIPProto, fraSportRange, fraSuppressed = 22, 23, 14
	protoTCP                                 = 6
	loopbackIndex                            = 1 // every namespace's lo
)

// kernel is a netlink connection to the kernel's routing, in the namespace in which it was opened.
type kernel struct{ c *netlink.Conn }

func openKernel() (*kernel, error) {
	c, err := netlink.Dial(netlinkRoute, nil)
	if err != nil {
		return nil, fmt.Errorf("open netlink: %w", err)
	}
	return &kernel{c}, nil
}

func (k *kernel) close() { k.c.Close() }

// message returns the request that adds or deletes a route or rule. A deletion has all
// attributes, so that it matches ours only.
func (c *Change) message(add bool) (netlink.Message, error) {
	m := netlink.Message{Header: netlink.Header{Flags: netlink.Request | netlink.Acknowledge}}
	if add {
		m.Header.Flags |= netlink.Create | netlink.Excl
	}
	family := byte(syscall.AF_INET)
	if c.IPv6 {
		family = syscall.AF_INET6
	}
	ae := netlink.NewAttributeEncoder()
	ae.Uint32(rtaTable, c.Table)
	if c.Kind == Route {
		m.Header.Type = delRoute
		if add {
			m.Header.Type = newRoute
		}
		kind, scope := byte(rtnLocal), byte(scopeHost)
		if c.Blackhole {
			kind, scope = rtnBlackhole, 0
			ae.Uint32(rtaPriority, blackholeMetric)
		} else {
			ae.Uint32(rtaOif, loopbackIndex)
		}
		m.Data = []byte{family, 0, 0, 0, 0, protocol, scope, kind, 0, 0, 0, 0}
	} else {
		m.Header.Type = delRule
		if add {
			m.Header.Type = newRule
		}
		bits := byte(0)
		if c.From.IsValid() {
			bits = byte(c.From.Bits())
			ae.Bytes(fraSrc, c.From.Addr().AsSlice())
		} else {
			ae.Uint32(fraFwmark, c.Mark)
			ae.Uint32(fraFwmask, 0xffffffff)
		}
		ae.String(fraIif, "lo")
		ae.Uint32(fraPriority, c.Priority)
		ae.Uint8(fraProtocol, protocol)
		ae.Uint8(fraIPProto, protoTCP)
		if c.Port != 0 {
			first := binary.NativeEndian.AppendUint16(nil, c.Port)
			ae.Bytes(fraSportRange, binary.NativeEndian.AppendUint16(first, c.Port))
		}
		m.Data = []byte{family, 0, bits, 0, 0, 0, 0, toTable, 0, 0, 0, 0}
	}
	attrs, err := ae.Encode()
	if err != nil {
		return m, err
	}
	m.Data = append(m.Data, attrs...)
	return m, nil
}

// apply makes the change.
func (k *kernel) apply(c *Change) error {
	if c.Kind == Sysctl {
		return writeSysctl(c.Name, c.New)
	}
	return k.execute(c, true)
}

// revert reverts a change, if it is still ours. gone reports that it was no longer there.
func (k *kernel) revert(c *Change) (gone bool, err error) {
	if c.Kind == Sysctl {
		now, err := readSysctl(c.Name)
		if err != nil || now != c.New {
			return true, nil
		}
		return false, writeSysctl(c.Name, c.Old)
	}
	err = k.execute(c, false)
	if errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.ESRCH) {
		return true, nil
	}
	return false, err
}

func (k *kernel) execute(c *Change, add bool) error {
	m, err := c.message(add)
	if err == nil {
		_, err = k.c.Execute(m)
	}
	if err == nil {
		return nil
	}
	what := c.Do()
	if !add {
		what = c.Undo()
	}
	return fmt.Errorf("%s: %w", what, err)
}

// rule is a routing rule of this host, as far as it matters here.
type rule struct {
	ipv6       bool
	priority   uint32
	table      uint32
	mark, mask uint32
	protocol   uint8
}

func (k *kernel) rules() ([]rule, error) {
	var all []rule
	for _, family := range []byte{syscall.AF_INET, syscall.AF_INET6} {
		list, err := k.dump(getRule, family)
		if err != nil {
			if family == syscall.AF_INET6 {
				continue // a kernel without IPv6
			}
			return nil, fmt.Errorf("list routing rules: %w", err)
		}
		for _, m := range list {
			if len(m.Data) < 12 {
				continue
			}
			r := rule{ipv6: family == syscall.AF_INET6, table: uint32(m.Data[4])}
			attributes(m.Data[12:], func(kind uint16, v []byte) {
				switch {
				case kind == fraProtocol && len(v) >= 1:
					r.protocol = v[0]
				case len(v) < 4:
				case kind == fraPriority:
					r.priority = binary.NativeEndian.Uint32(v)
				case kind == fraTable:
					r.table = binary.NativeEndian.Uint32(v)
				case kind == fraFwmark:
					r.mark = binary.NativeEndian.Uint32(v)
				case kind == fraFwmask:
					r.mask = binary.NativeEndian.Uint32(v)
				}
			})
			all = append(all, r)
		}
	}
	return all, nil
}

// tables returns the routing tables that are not empty.
func (k *kernel) tables() (map[uint32]bool, error) {
	used := map[uint32]bool{}
	for _, family := range []byte{syscall.AF_INET, syscall.AF_INET6} {
		list, err := k.dump(getRoute, family)
		if err != nil {
			if family == syscall.AF_INET6 {
				continue
			}
			return nil, fmt.Errorf("list routes: %w", err)
		}
		for _, m := range list {
			if len(m.Data) < 12 {
				continue
			}
			table := uint32(m.Data[4])
			attributes(m.Data[12:], func(kind uint16, v []byte) {
				if kind == rtaTable && len(v) >= 4 {
					table = binary.NativeEndian.Uint32(v)
				}
			})
			used[table] = true
		}
	}
	return used, nil
}

func (k *kernel) dump(kind netlink.HeaderType, family byte) ([]netlink.Message, error) {
	return k.c.Execute(netlink.Message{
		Header: netlink.Header{Type: kind, Flags: netlink.Request | netlink.Dump},
		Data:   append([]byte{family}, make([]byte, 11)...),
	})
}

// attributes calls f for each attribute in b.
func attributes(b []byte, f func(kind uint16, value []byte)) {
	ad, err := netlink.NewAttributeDecoder(b)
	if err != nil {
		return
	}
	for ad.Next() {
		f(ad.Type(), ad.Bytes())
	}
}

func sysctlPath(name string) string { return "/proc/sys/" + strings.ReplaceAll(name, ".", "/") }

func readSysctl(name string) (string, error) {
	b, err := os.ReadFile(sysctlPath(name))
	if err != nil {
		return "", fmt.Errorf("read sysctl %s: %w", name, err)
	}
	return strings.TrimSpace(string(b)), nil
}

func writeSysctl(name, value string) error {
	if err := os.WriteFile(sysctlPath(name), []byte(value), 0); err != nil {
		return fmt.Errorf("set sysctl %s to %s: %w", name, value, err)
	}
	return nil
}

// addrOf returns an address of a family, from the 16 bytes of the kernel's.
func addrOf(family byte, b []byte) netip.Addr {
	if family == syscall.AF_INET {
		return netip.AddrFrom4([4]byte(b[:4]))
	}
	return netip.AddrFrom16([16]byte(b[:16]))
}
