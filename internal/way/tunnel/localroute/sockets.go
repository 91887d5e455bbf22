package localroute

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"syscall"

	"github.com/mdlayher/netlink"
)

// From linux/sock_diag.h and linux/inet_diag.h.
const (
	netlinkSockDiag = 4
	byFamily        = 20
	destroy         = 21
	idOffset        = 4
	idLength        = 48
	messageLength   = 72
	diagV6Only      = 11
	diagMark        = 15

	stateTimeWait = 6
	stateListen   = 10
	listening     = 1 << stateListen
	timeWaiting   = 1 << stateTimeWait
	// connected are the states in which a socket may still send by itself.
	connected = 0xfff &^ (listening | timeWaiting | 1<<7)
)

// tcpSocket is an entry of the kernel's table of sockets.
type tcpSocket struct {
	family        byte
	local, remote netip.AddrPort // IPv4 addresses as such
	device        uint32
	mark          uint32
	v6only        bool
	id            [idLength]byte
}

// diag is a netlink connection to the kernel's table of sockets.
type diag struct{ c *netlink.Conn }

func openDiag() (*diag, error) {
	c, err := netlink.Dial(netlinkSockDiag, nil)
	if err != nil {
		return nil, fmt.Errorf("open socket table: %w", err)
	}
	return &diag{c}, nil
}

func (d *diag) close() { d.c.Close() }

func (d *diag) list(states uint32) ([]tcpSocket, error) {
	var all []tcpSocket
	for _, family := range []byte{syscall.AF_INET, syscall.AF_INET6} {
		messages, err := d.c.Execute(netlink.Message{
			Header: netlink.Header{Type: byFamily, Flags: netlink.Request | netlink.Dump},
			Data:   diagRequest(family, states, [idLength]byte{}),
		})
		if errors.Is(err, syscall.ENOENT) && family == syscall.AF_INET6 {
			continue // no IPv6 here
		}
		if err != nil {
			return nil, fmt.Errorf("list sockets: %w", err)
		}
		for _, m := range messages {
			if s, ok := parseSocket(m.Data); ok {
				all = append(all, s)
			}
		}
	}
	return all, nil
}

func diagRequest(family byte, states uint32, id [idLength]byte) []byte {
	b := binary.NativeEndian.AppendUint32([]byte{family, syscall.IPPROTO_TCP, 0, 0}, states)
	return append(b, id[:]...)
}

func parseSocket(b []byte) (s tcpSocket, ok bool) {
	if len(b) < messageLength {
		return s, false
	}
	s.family = b[0]
	s.id = [idLength]byte(b[idOffset:])
	be := binary.BigEndian
	s.local = netip.AddrPortFrom(addrOf(s.family, s.id[4:20]).Unmap(), be.Uint16(s.id[0:]))
	s.remote = netip.AddrPortFrom(addrOf(s.family, s.id[20:36]).Unmap(), be.Uint16(s.id[2:]))
	s.device = binary.NativeEndian.Uint32(s.id[36:])
	attributes(b[messageLength:], func(kind uint16, v []byte) {
		switch {
		case kind == diagMark && len(v) >= 4:
			s.mark = binary.NativeEndian.Uint32(v)
		case kind == diagV6Only && len(v) >= 1:
			s.v6only = v[0] != 0
		}
	})
	return s, true
}

// destroy closes a socket of any process: the process reads ECONNABORTED, the peer receives a
// reset.
func (d *diag) destroy(s *tcpSocket) error {
	_, err := d.c.Execute(netlink.Message{
		Header: netlink.Header{Type: destroy, Flags: netlink.Request | netlink.Acknowledge},
		Data:   diagRequest(s.family, 0, s.id),
	})
	if errors.Is(err, syscall.ENOENT) {
		return nil
	}
	return err
}

// free removes the connection between two ends if it is in TIME-WAIT. Without timestamps the kernel
// would refuse a new one with the same ends (RFC 6191).
func (d *diag) free(local, remote netip.AddrPort) error {
	family := byte(syscall.AF_INET)
	if local.Addr().Is6() {
		family = syscall.AF_INET6
	}
	var id [idLength]byte
	binary.BigEndian.PutUint16(id[0:], local.Port())
	binary.BigEndian.PutUint16(id[2:], remote.Port())
	copy(id[4:20], local.Addr().AsSlice())
	copy(id[20:36], remote.Addr().AsSlice())
	for i := 40; i < idLength; i++ {
		id[i] = 0xff // INET_DIAG_NOCOOKIE
	}
	found, err := d.c.Execute(netlink.Message{
		Header: netlink.Header{Type: byFamily, Flags: netlink.Request},
		Data:   diagRequest(family, 0xfff, id),
	})
	if errors.Is(err, syscall.ENOENT) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("find the connection %s > %s: %w", local, remote, err)
	}
	for _, m := range found {
		if s, ok := parseSocket(m.Data); ok && m.Data[1] == stateTimeWait {
			return d.destroy(&s)
		}
	}
	return nil
}

// destroyRounds bounds how often the table is read: the end of a socket may leave another one,
// such as a connection that was about to be accepted.
const destroyRounds = 5

// destroyOurs closes what is left of connections from clients' addresses, at both ends, so that
// nothing of theirs is sent once the rules are gone. It returns how many sockets there were.
func destroyOurs(ours func(*tcpSocket) bool) (n int, err error) {
	d, err := openDiag()
	if err != nil {
		return 0, err
	}
	defer d.close()
	for range destroyRounds {
		all, err := d.list(connected)
		if err != nil {
			return n, err
		}
		found := 0
		for i := range all {
			if !ours(&all[i]) {
				continue
			}
			found++
			if err := d.destroy(&all[i]); err != nil {
				return n, fmt.Errorf("close the connection %s > %s: %w", all[i].local,
					all[i].remote, err)
			}
		}
		n += found
		if found == 0 {
			return n, nil
		}
	}
	return n, nil
}

// listeners returns the listening TCP sockets of this host.
func listeners() ([]tcpSocket, error) {
	d, err := openDiag()
	if err != nil {
		return nil, err
	}
	defer d.close()
	return d.list(listening)
}
