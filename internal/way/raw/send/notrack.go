package send

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/mdlayher/netlink"

	"tcpcopy/internal/sys"
)

// Exemption exempts our packets from connection tracking until it is closed.
type Exemption struct {
	conn  *netlink.Conn
	table string
}

// Table returns the name of the nftables table (family inet) that holds the rule.
func (e *Exemption) Table() string { return e.table }

// Close removes the rule. The kernel removes it when the process ends: the table has an owner.
func (e *Exemption) Close() error { return e.conn.Close() }

// NoTrack exempts packets with the mark from connection tracking, in the network namespace of the
// calling thread. To conntrack, a copy is half a connection, without any answer: all its packets
// but the SYN are invalid, so that `ct state invalid drop` drops them, and masquerade rewrites
// their source. If conntrack is not loaded, NoTrack returns nil, nil. An error means that a
// firewall with such rules would harm the copies, not that there is one.
func NoTrack(mark uint32) (*Exemption, error) {
	if mark == 0 {
		return nil, errors.New("notrack rule: mark 0, wanted one that is ours")
	}
	_, err := os.Stat("/proc/sys/net/netfilter/nf_conntrack_max")
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if !sys.HasNetAdmin() { // below, EPERM would also mean that the table is another copier's
		return nil, &sys.CapabilityError{
			Op: "notrack rule", Need: sys.CapNetAdmin, Err: os.ErrPermission,
		}
	}
	const most = 64 // copiers in one namespace, each with its own table
	for i := 1; ; i++ {
		name := "tcpcopy"
		if i > 1 {
			name += strconv.Itoa(i)
		}
		conn, err := install(name, mark)
		switch {
		case err == nil:
			return &Exemption{conn, name}, nil
		case i == most || !errors.Is(err, os.ErrExist) && !errors.Is(err, os.ErrPermission):
			return nil, fmt.Errorf("notrack rule in table %s: %w", name, err)
		}
	}
}

// From linux/netfilter/nfnetlink.h and nf_tables.h. google/nftables cannot set a table's flags, and
// without an owner the table would outlive a killed process.
const (
	batchBegin = 0x10
	batchEnd   = 0x11
	subsystem  = 10 << 8   // NFNL_SUBSYS_NFTABLES
	newTable   = subsystem // | NFT_MSG_NEWTABLE, which is 0
	newChain   = subsystem | 3
	newRule    = subsystem | 6

	familyInet = 1 // NFPROTO_INET
	tableOwner = 2 // NFT_TABLE_F_OWNER
	hookOutput = 3 // NF_INET_LOCAL_OUT
	rawFirst   = -300
	chainName  = "output"
)

// install makes table, chain and rule in one transaction, and returns the connection that owns
// them:
//
//	table inet NAME {
//		flags owner
//		chain output { type filter hook output priority raw; meta mark MARK notrack }
//	}
func install(table string, mark uint32) (*netlink.Conn, error) {
	messages, err := transaction(table, mark)
	if err != nil {
		return nil, err
	}
	const netfilter = 12 // NETLINK_NETFILTER
	conn, err := netlink.Dial(netfilter, nil)
	if err != nil {
		return nil, err
	}
	err = conn.SetDeadline(time.Now().Add(answerWithin))
	if err == nil {
		_, err = conn.SendMessages(messages)
	}
	for acks := 0; err == nil && acks < len(messages)-2; { // none for begin and end
		var replies []netlink.Message
		replies, err = conn.Receive()
		acks += len(replies)
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// answerWithin bounds the wait for the kernel's answers.
const answerWithin = 5 * time.Second

func transaction(table string, mark uint32) ([]netlink.Message, error) {
	type attrs = netlink.AttributeEncoder
	messages := []netlink.Message{message(batchBegin, 0, 0, subsystem>>8, nil)}
	var failed error
	add := func(kind netlink.HeaderType, flags netlink.HeaderFlags, fill func(ae *attrs)) {
		ae := netlink.NewAttributeEncoder()
		ae.ByteOrder = binary.BigEndian
		fill(ae)
		data, err := ae.Encode()
		failed = errors.Join(failed, err)
		flags |= netlink.Acknowledge | netlink.Create
		messages = append(messages, message(kind, flags, familyInet, 0, data))
	}
	nested := func(ae *attrs, kind uint16, fill func(ae *attrs)) {
		ae.Nested(kind, func(in *attrs) error {
			in.ByteOrder = binary.BigEndian
			fill(in)
			return nil
		})
	}
	add(newTable, netlink.Excl, func(ae *attrs) {
		ae.String(1, table)      // NFTA_TABLE_NAME
		ae.Uint32(2, tableOwner) // NFTA_TABLE_FLAGS
	})
	add(newChain, 0, func(ae *attrs) {
		ae.String(1, table)     // NFTA_CHAIN_TABLE
		ae.String(3, chainName) // NFTA_CHAIN_NAME
		nested(ae, 4, func(ae *attrs) {
			ae.Uint32(1, hookOutput) // NFTA_HOOK_HOOKNUM
			ae.Int32(2, rawFirst)    // NFTA_HOOK_PRIORITY
		})
		ae.String(7, "filter") // NFTA_CHAIN_TYPE
	})
	add(newRule, netlink.Append, func(ae *attrs) {
		ae.String(1, table)     // NFTA_RULE_TABLE
		ae.String(2, chainName) // NFTA_RULE_CHAIN
		nested(ae, 4, func(ae *attrs) {
			expression := func(name string, fill func(ae *attrs)) {
				nested(ae, 1, func(ae *attrs) { // NFTA_LIST_ELEM
					ae.String(1, name)  // NFTA_EXPR_NAME
					nested(ae, 2, fill) // NFTA_EXPR_DATA
				})
			}
			const register = 1
			expression("meta", func(ae *attrs) {
				ae.Uint32(1, register) // NFTA_META_DREG
				ae.Uint32(2, 3)        // NFTA_META_KEY: NFT_META_MARK
			})
			expression("cmp", func(ae *attrs) {
				ae.Uint32(1, register) // NFTA_CMP_SREG
				ae.Uint32(2, 0)        // NFTA_CMP_OP: equal
				nested(ae, 3, func(ae *attrs) {
					ae.Bytes(1, binary.NativeEndian.AppendUint32(nil, mark)) // NFTA_DATA_VALUE
				})
			})
			expression("notrack", func(*attrs) {})
		})
	})
	return append(messages, message(batchEnd, 0, 0, subsystem>>8, nil)), failed
}

// message is a netlink message of netfilter's: struct nfgenmsg, then attributes.
func message(
	kind netlink.HeaderType, flags netlink.HeaderFlags, family uint8, resource uint16, attrs []byte,
) netlink.Message {
	data := append([]byte{family, 0, byte(resource >> 8), byte(resource)}, attrs...)
	header := netlink.Header{Type: kind, Flags: netlink.Request | flags}
	return netlink.Message{Header: header, Data: data}
}
