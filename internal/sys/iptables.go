package sys

import (
	"encoding/binary"
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// IPTable is a table of iptables' older kind, which is not kept in nftables (struct ipt_getinfo and
// struct ipt_get_entries of linux/netfilter_ipv4/ip_tables.h, and those of IPv6).
type IPTable struct {
	Hooks      uint32    // that have a chain, as bits
	HookEntry  [5]uint32 // offset in Entries of each hook's first rule
	Underflow  [5]uint32 // and of its policy
	EntryCount uint32
	Entries    []byte
}

// Both are the same for IPv4 and IPv6.
const (
	getTableInfo    = 64
	getTableEntries = 65
)

const (
	tableName      = 32
	tableInfoSize  = tableName + 4*(1+5+5+1+1)
	entriesHeader  = 40
	mostTableBytes = 64 << 20
)

// ReadIPTable reads a table of iptables' older kind in the network namespace of the calling thread.
// It needs CAP_NET_ADMIN.
func ReadIPTable(table string, ipv6 bool) (*IPTable, error) {
	op := "read the table " + table + " of iptables"
	family, level := unix.AF_INET, unix.IPPROTO_IP
	if ipv6 {
		op = "read the table " + table + " of ip6tables"
		family, level = unix.AF_INET6, unix.IPPROTO_IPV6
	}
	if len(table) >= tableName {
		return nil, fmt.Errorf("%s: the name is too long", op)
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", op, err)
	}
	defer unix.Close(fd)
	for range 3 { // a table that changes meanwhile is read anew
		var t *IPTable
		if t, err = readIPTable(fd, level, table); !errors.Is(err, unix.EAGAIN) {
			if err != nil {
				return nil, needs(op, CapNetAdmin, err)
			}
			return t, nil
		}
	}
	return nil, fmt.Errorf("%s: %w", op, err)
}

func readIPTable(fd, level int, table string) (*IPTable, error) {
	info := make([]byte, tableInfoSize)
	copy(info, table)
	if err := getBytes(fd, level, getTableInfo, info); err != nil {
		return nil, err
	}
	word := func(i int) uint32 { return binary.NativeEndian.Uint32(info[tableName+4*i:]) }
	t := &IPTable{Hooks: word(0), EntryCount: word(11)}
	for h := range t.HookEntry {
		t.HookEntry[h], t.Underflow[h] = word(1+h), word(6+h)
	}
	size := word(12)
	if size > mostTableBytes {
		return nil, fmt.Errorf("it has %d bytes, more than %d", size, mostTableBytes)
	}
	b := make([]byte, entriesHeader+int(size))
	copy(b, table)
	binary.NativeEndian.PutUint32(b[tableName:], size)
	if err := getBytes(fd, level, getTableEntries, b); err != nil {
		return nil, err
	}
	t.Entries = b[entriesHeader:]
	return t, nil
}

// getBytes reads an option into b, which also tells the kernel what is asked for.
func getBytes(fd, level, option int, b []byte) error {
	n := uint32(len(b))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), uintptr(level), uintptr(option),
		uintptr(unsafe.Pointer(&b[0])), uintptr(unsafe.Pointer(&n)), 0)
	return errorOf(errno)
}
