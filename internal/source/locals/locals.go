// Package locals follows the addresses of this host.
//
// A copier captures only packets that are addressed to its host. Its reader asks a Set for each new
// connection, and the checks at start use one. The package reads the kernel's list and listens for
// changes; it changes nothing.
package locals

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"sync/atomic"
	"time"

	mdnetlink "github.com/mdlayher/netlink"
	"github.com/vishvananda/netlink"
)

const (
	// gather is how long a change waits for others, as they come in bursts.
	gather = 20 * time.Millisecond
	// refresh is how often the list is read without a notification; the kernel may drop some.
	refresh = 30 * time.Second
)

// Set holds the addresses of one network namespace. Any goroutine may call its methods.
type Set struct {
	addrs  atomic.Pointer[map[netip.Addr]struct{}]
	events *mdnetlink.Conn // receives notifications of changes
	handle *netlink.Handle // reads the list
	done   chan struct{}
}

// Watch reads the addresses of the calling thread's network namespace, and follows them with one
// goroutine until Close. It needs no privileges.
func Watch() (*Set, error) {
	const (
		route  = 0            // NETLINK_ROUTE
		groups = 0x10 | 0x100 // RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR
	)
	events, err := mdnetlink.Dial(route, &mdnetlink.Config{Groups: groups})
	if err != nil {
		return nil, fmt.Errorf("watch local addresses: %w", err)
	}
	handle, err := netlink.NewHandle()
	if err != nil {
		events.Close()
		return nil, fmt.Errorf("watch local addresses: %w", err)
	}
	s := &Set{events: events, handle: handle, done: make(chan struct{})}
	if err := s.read(); err != nil {
		events.Close()
		handle.Close()
		return nil, err
	}
	go s.follow()
	return s, nil
}

// Has reports whether packets to the address are for this host: it is the address of an interface,
// or a loopback address. An IPv4-mapped IPv6 address counts as the IPv4 address.
func (s *Set) Has(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	if a.IsLoopback() {
		return true
	}
	_, ok := (*s.addrs.Load())[a]
	return ok
}

// All returns the addresses of the interfaces, sorted.
func (s *Set) All() []netip.Addr {
	m := *s.addrs.Load()
	all := make([]netip.Addr, 0, len(m))
	for a := range m {
		all = append(all, a)
	}
	slices.SortFunc(all, netip.Addr.Compare)
	return all
}

// Close ends the watching. The set keeps its last addresses.
func (s *Set) Close() error {
	err := s.events.Close()
	<-s.done
	s.handle.Close()
	return err
}

// read replaces the set by the kernel's list.
func (s *Set) read() error {
	list, err := s.handle.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return fmt.Errorf("read local addresses: %w", err)
	}
	m := make(map[netip.Addr]struct{}, len(list))
	for i := range list {
		if list[i].IPNet == nil {
			continue
		}
		if a, ok := netip.AddrFromSlice(list[i].IP); ok {
			m[a.Unmap()] = struct{}{}
		}
	}
	s.addrs.Store(&m)
	return nil
}

// follow reads the list after each change. If reading fails, the set stays as it is until the next
// change.
func (s *Set) follow() {
	defer close(s.done)
	for {
		if !s.awaitChange(time.Now().Add(refresh)) {
			return
		}
		for burst := time.Now().Add(gather); time.Now().Before(burst); {
			if !s.awaitChange(burst) {
				return
			}
		}
		_ = s.read()
	}
}

// awaitChange waits for a change or for the deadline. It returns false once the set is closed.
func (s *Set) awaitChange(deadline time.Time) bool {
	if s.events.SetReadDeadline(deadline) != nil {
		return false
	}
	_, err := s.events.Receive()
	// Any other error means that notifications were lost, which counts as a change.
	return err == nil || !errors.Is(err, os.ErrClosed)
}
