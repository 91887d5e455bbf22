package collect

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"

	"github.com/mdlayher/netlink"
	vish "github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"tcpcopy/internal/doctor"
)

// From linux/sock_diag.h and linux/inet_diag.h.
const (
	netlinkSockDiag = 4
	byFamily        = 20
	listening       = 1 << 10
	idLength        = 48
	messageLength   = 72
)

// mostNamespaces bounds how many network namespaces are looked into.
const mostNamespaces = 64

// listeners lists the TCP servers of this namespace and, if asked to, of others.
func listeners(others bool) *doctor.Listeners {
	l := &doctor.Listeners{}
	all, err := listen()
	if err != nil {
		l.Err = err.Error()
		return l
	}
	l.All = all
	if others {
		elsewhere(l)
	}
	return l
}

// listen lists the sockets of the thread's namespace that listen.
func listen() (all []doctor.Listener, err error) {
	c, err := netlink.Dial(netlinkSockDiag, nil)
	if err != nil {
		return nil, fmt.Errorf("list sockets: %w", err)
	}
	defer c.Close()
	for _, family := range []byte{syscall.AF_INET, syscall.AF_INET6} {
		request := binary.NativeEndian.AppendUint32([]byte{family, syscall.IPPROTO_TCP, 0, 0},
			listening)
		messages, err := c.Execute(netlink.Message{
			Header: netlink.Header{Type: byFamily, Flags: netlink.Request | netlink.Dump},
			Data:   append(request, make([]byte, idLength)...),
		})
		if errors.Is(err, syscall.ENOENT) && family == syscall.AF_INET6 {
			continue // no IPv6 here
		}
		if err != nil {
			return nil, fmt.Errorf("list sockets: %w", err)
		}
		for _, m := range messages {
			if s, ok := parseListener(m.Data); ok {
				all = append(all, s)
			}
		}
	}
	return all, nil
}

// parseListener reads struct inet_diag_msg.
func parseListener(b []byte) (l doctor.Listener, ok bool) {
	if len(b) < messageLength {
		return l, false
	}
	id := b[4 : 4+idLength]
	var a netip.Addr
	if b[0] == syscall.AF_INET6 {
		a = netip.AddrFrom16([16]byte(id[4:20])).Unmap()
	} else {
		a = netip.AddrFrom4([4]byte(id[4:8]))
	}
	l.Addr = netip.AddrPortFrom(a, binary.BigEndian.Uint16(id))
	if index := binary.NativeEndian.Uint32(id[36:]); index != 0 {
		l.Device = strconv.Itoa(int(index))
		if d, err := vish.LinkByIndex(int(index)); err == nil {
			l.Device = d.Attrs().Name
		}
	}
	l.Queue = int(binary.NativeEndian.Uint32(b[56:]))
	l.Backlog = int(binary.NativeEndian.Uint32(b[60:]))
	return l, true
}

// elsewhere lists the network namespaces of other processes, and the servers there.
func elsewhere(l *doctor.Listeners) {
	own, err := os.Readlink("/proc/thread-self/ns/net")
	if err != nil {
		l.OtherErr = err.Error()
		return
	}
	paths, _ := filepath.Glob("/proc/[0-9]*/ns/net")
	seen := map[string]bool{own: true}
	denied := 0
	for _, path := range paths {
		name, err := os.Readlink(path)
		if errors.Is(err, os.ErrPermission) {
			denied++
		}
		if err != nil || seen[name] || len(seen) > mostNamespaces {
			continue
		}
		seen[name] = true
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(path))))
		some, addrs, err := listenIn(path)
		if err != nil {
			l.OtherErr = err.Error()
			continue
		}
		l.Namespaces = append(l.Namespaces, doctor.Namespace{PID: pid, Addrs: addrs})
		for _, s := range some {
			s.PID = pid
			if len(addrs) > 0 {
				s.Host = addrs[0]
			}
			l.Other = append(l.Other, s)
		}
	}
	if denied == 1 {
		l.OtherErr = "1 process does not show its namespace"
	} else if denied > 0 {
		l.OtherErr = fmt.Sprintf("%d processes do not show their namespaces", denied)
	}
}

// listenIn lists the servers of a network namespace, and its addresses.
func listenIn(path string) (all []doctor.Listener, addrs []netip.Addr, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		var h netns.NsHandle
		if h, err = netns.GetFromPath(path); err != nil {
			return
		}
		defer h.Close()
		if err = netns.Set(h); err == nil {
			addrs = addresses()
			all, err = listen()
		}
	}()
	<-done
	if err != nil {
		return nil, nil, fmt.Errorf("enter network namespace %s: %w", path, err)
	}
	return all, addrs, nil
}

// addresses lists the addresses of the thread's namespace that other hosts may reach, those of IPv4
// first.
func addresses() (found []netip.Addr) {
	for _, family := range []int{vish.FAMILY_V4, vish.FAMILY_V6} {
		all, err := vish.AddrList(nil, family)
		if err != nil {
			continue
		}
		for _, x := range all {
			if a, ok := netip.AddrFromSlice(x.IP); ok && a.Unmap().IsGlobalUnicast() {
				found = append(found, a.Unmap())
			}
		}
	}
	return found
}
